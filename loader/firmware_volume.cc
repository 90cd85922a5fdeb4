#include "loader/firmware_volume.h"

#include <algorithm>

#include "loader/decompress.h"
#include "vmm/base/bytes.h"
#include "vmm/base/units.h"

namespace vmm {
namespace {

using Bytes = std::span<const std::uint8_t>;

namespace spec {

// EFI_FIRMWARE_VOLUME_HEADER.
constexpr std::size_t FileSystemGuid = 0x10;
constexpr std::size_t FvLength = 0x20;
constexpr std::size_t Signature = 0x28;
constexpr std::size_t HeaderLength = 0x30;
constexpr std::size_t ExtHeaderOffset = 0x34;
constexpr std::size_t kLeastHeader = 0x48;  // with one block map entry and the ending one
constexpr std::uint32_t kFvh = 0x4856465f;

// 8C8CE578-8A3D-4F1C-9935-896185C32DD3 and 5473C07A-3DCB-4DCA-BD6F-1E9689E7349A.
constexpr Guid kFfs2 = {0x78, 0xe5, 0x8c, 0x8c, 0x3d, 0x8a, 0x1c, 0x4f,
                        0x99, 0x35, 0x89, 0x61, 0x85, 0xc3, 0x2d, 0xd3};
constexpr Guid kFfs3 = {0x7a, 0xc0, 0x73, 0x54, 0xcb, 0x3d, 0xca, 0x4d,
                        0xbd, 0x6f, 0x1e, 0x96, 0x89, 0xe7, 0x34, 0x9a};

// EFI_FFS_FILE_HEADER.
constexpr std::size_t FileType = 0x12;
constexpr std::size_t FileAttributes = 0x13;
constexpr std::size_t FileSize = 0x14;
constexpr std::size_t kFileHeader = 0x18;
constexpr std::size_t kFileHeader2 = 0x20;
constexpr std::uint8_t FFS_ATTRIB_LARGE_FILE = 0x01;

// EFI_COMMON_SECTION_HEADER.
constexpr std::size_t SectionType = 3;
constexpr std::size_t kSectionHeader = 4;
constexpr std::size_t kSectionHeader2 = 8;
constexpr std::uint32_t kExtendedSize = 0xffffff;
constexpr std::uint8_t EFI_SECTION_GUID_DEFINED = 0x02;
constexpr std::uint8_t EFI_SECTION_FIRMWARE_VOLUME_IMAGE = 0x17;

// EE4E5898-3914-4259-9D6E-DC7BD79403CF, a section packed with LZMA.
constexpr Guid kLzma = {0x98, 0x58, 0x4e, 0xee, 0x14, 0x39, 0x59, 0x42,
                        0x9d, 0x6e, 0xdc, 0x7b, 0xd7, 0x94, 0x03, 0xcf};
// 6C0E75B4-B0B9-44D1-8210-3377D7B4E066, OvmfPkg/SmmAccess/SmmAccessPei.inf: in builds with
// SMM_REQUIRE only.
constexpr Guid kSmmAccessPei = {0xb4, 0x75, 0x0e, 0x6c, 0xb9, 0xb0, 0xd1, 0x44,
                                0x82, 0x10, 0x33, 0x77, 0xd7, 0xb4, 0xe0, 0x66};

}  // namespace spec

std::uint32_t load24(Bytes bytes, std::size_t offset) {
  return static_cast<std::uint32_t>(load_uint(bytes.subspan(offset, 3)));
}

Guid load_guid(Bytes bytes, std::size_t offset) { return load<Guid>(bytes, offset); }

// The PEI volume comes first in what is packed.
constexpr std::size_t kUnpackedStart = 1_MiB;

bool has_smm_module(Bytes volume);

// `attempts` bounds the work that a hostile file can ask for.
bool section_has_smm(const FfsSection& section, int& attempts) {
  if (section.type == spec::EFI_SECTION_FIRMWARE_VOLUME_IMAGE)
    return has_smm_module(section.content);
  if (section.type != spec::EFI_SECTION_GUID_DEFINED || section.content.size() < 20 ||
      load_guid(section.content, 0) != spec::kLzma || attempts == 0)
    return false;
  --attempts;
  const std::size_t offset = load<std::uint16_t>(section.content, 16);
  if (offset > section.whole.size()) return false;
  const auto content = unpack_lzma_start(section.whole.subspan(offset), kUnpackedStart);
  return visit_sections(content, [](const FfsSection& inner) {
    return inner.type == spec::EFI_SECTION_FIRMWARE_VOLUME_IMAGE && has_smm_module(inner.content);
  });
}

// One level only: no build packs its PEI volume twice.
bool has_smm_module(Bytes volume) {
  return visit_files(volume, [](const FfsFile& file) { return file.name == spec::kSmmAccessPei; });
}

}  // namespace

std::optional<FirmwareVolume> find_volume(Bytes bytes) {
  if (bytes.size() < spec::kLeastHeader ||
      load<std::uint32_t>(bytes, spec::Signature) != spec::kFvh)
    return std::nullopt;
  FirmwareVolume volume;
  volume.format = load_guid(bytes, spec::FileSystemGuid);
  volume.size = load<std::uint64_t>(bytes, spec::FvLength);
  const std::size_t header = load<std::uint16_t>(bytes, spec::HeaderLength);
  const std::size_t extension = load<std::uint16_t>(bytes, spec::ExtHeaderOffset);
  if (header < spec::kLeastHeader || header % 2 != 0 || header > bytes.size() ||
      header > volume.size || volume.size % 8 != 0)
    return std::nullopt;
  std::uint16_t sum = 0;
  for (std::size_t at = 0; at < header; at += 2)
    sum = static_cast<std::uint16_t>(sum + load<std::uint16_t>(bytes, at));
  volume.checksum_is_right = sum == 0;
  volume.header_size = header;
  if (extension != 0) {
    // Its name's GUID, then its size.
    if (extension + 20 > bytes.size()) return std::nullopt;
    const std::size_t size = load<std::uint32_t>(bytes, extension + 16);
    if (size < 20 || extension + size > volume.size) return std::nullopt;
    volume.header_size = std::max(header, extension + size);
  }
  return volume;
}

bool has_files(const FirmwareVolume& volume) {
  return volume.format == spec::kFfs2 || volume.format == spec::kFfs3;
}

bool visit_files(Bytes bytes, const std::function<bool(const FfsFile&)>& visit) {
  const auto volume = find_volume(bytes);
  if (!volume || !has_files(*volume)) return false;
  bytes = bytes.first(std::min<std::uint64_t>(bytes.size(), volume->size));
  std::size_t at = volume->header_size;
  while (true) {
    at = align_up(at, 8);
    if (at > bytes.size() || bytes.size() - at < spec::kFileHeader) return false;
    const Bytes rest = bytes.subspan(at);
    std::size_t header = spec::kFileHeader;
    std::uint64_t size = load24(rest, spec::FileSize);
    if ((rest[spec::FileAttributes] & spec::FFS_ATTRIB_LARGE_FILE) != 0 &&
        rest.size() >= spec::kFileHeader2 && size != spec::kExtendedSize) {
      header = spec::kFileHeader2;
      size = load<std::uint64_t>(rest, spec::kFileHeader);
    }
    // Free space reads as ones: a size that no file has.
    if (size < header || size == spec::kExtendedSize || size > volume->size) return false;
    const std::size_t there = std::min<std::uint64_t>(size, rest.size());
    if (visit({.name = load_guid(rest, 0),
               .type = rest[spec::FileType],
               .content = rest.subspan(header, there - header)}))
      return true;
    if (size > rest.size()) return false;
    at += size;
  }
}

bool visit_sections(Bytes bytes, const std::function<bool(const FfsSection&)>& visit) {
  std::size_t at = 0;
  while (true) {
    at = align_up(at, 4);
    if (at > bytes.size() || bytes.size() - at < spec::kSectionHeader) return false;
    const Bytes rest = bytes.subspan(at);
    std::size_t header = spec::kSectionHeader;
    std::uint64_t size = load24(rest, 0);
    if (size == spec::kExtendedSize) {
      if (rest.size() < spec::kSectionHeader2) return false;
      header = spec::kSectionHeader2;
      size = load<std::uint32_t>(rest, spec::kSectionHeader);
    }
    if (size < header) return false;
    const std::size_t there = std::min<std::uint64_t>(size, rest.size());
    if (visit({.type = rest[spec::SectionType],
               .content = rest.subspan(header, there - header),
               .whole = rest.first(there)}))
      return true;
    if (size > rest.size()) return false;
    at += size;
  }
}

bool needs_smm(Bytes volume) {
  int attempts = 4;
  return visit_files(volume, [&attempts](const FfsFile& file) {
    if (file.name == spec::kSmmAccessPei) return true;
    // EFI_FV_FILETYPE_FIRMWARE_VOLUME_IMAGE.
    constexpr std::uint8_t kVolumeImage = 0x0b;
    return file.type == kVolumeImage &&
           visit_sections(file.content, [&](const FfsSection& section) {
             return section_has_smm(section, attempts);
           });
  });
}

}  // namespace vmm
