#include "vmm/machine/uefi_images.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "vmm/base/bytes.h"

namespace vmm {
namespace spec {
namespace {

constexpr std::uint64_t SYSTEM_TABLE_SIGNATURE = 0x5453'5953'2049'4249;  // "IBI SYST"
constexpr Gpa SYSTEM_TABLE_POINTER_ALIGNMENT = 4_MiB;
constexpr std::uint64_t SYSTEM_TABLE_ENTRIES = 104;
constexpr std::uint64_t SYSTEM_TABLE_TABLES = 112;
constexpr std::array<std::uint8_t, 16> DEBUG_IMAGE_INFO_TABLE = {
    0x77, 0x2e, 0x15, 0x49, 0xda, 0x1a, 0x64, 0x47, 0xb7, 0xa2, 0x7a, 0xfe, 0xfe, 0xd9, 0x5e, 0x8b};
constexpr std::uint32_t DEBUG_IMAGE_INFO_NORMAL = 1;

// EFI_LOADED_IMAGE_PROTOCOL.
constexpr std::uint64_t LOADED_IMAGE_FILE_PATH = 32;
constexpr std::uint64_t LOADED_IMAGE_BASE = 64;
constexpr std::uint64_t LOADED_IMAGE_SIZE = 72;

// Device path nodes (10.3.5).
constexpr std::uint8_t MEDIA = 4;
constexpr std::uint8_t FILE_PATH = 4;
constexpr std::uint8_t FIRMWARE_FILE = 6;

// PE32+.
constexpr std::uint16_t DOS_MAGIC = 0x5a4d;
constexpr std::uint32_t PE_SIGNATURE = 0x4550;
constexpr std::uint64_t PE_OFFSET = 0x3c;
constexpr std::uint64_t DEBUG_DIRECTORY = 24 + 112 + 6 * 8;  // from the signature
constexpr std::uint64_t DEBUG_ENTRY_SIZE = 28;
constexpr std::uint32_t CODEVIEW = 2;
constexpr std::uint32_t RSDS = 0x53445352, NB10 = 0x3031424e, MTOC = 0x434f544d;

}  // namespace
}  // namespace spec

namespace {

constexpr std::uint64_t kMaxTables = 256;
constexpr std::size_t kMaxName = 64;
constexpr std::size_t kMaxPath = 260;

// The last part of a path, without what follows its first dot; only what a terminal can show.
std::string stem_of(std::string_view path) {
  const std::size_t slash = path.find_last_of("/\\");
  if (slash != path.npos) path.remove_prefix(slash + 1);
  path = path.substr(0, std::min(path.find('.'), kMaxName));
  std::string stem;
  for (const char c : path) stem += c > ' ' && c < 0x7f ? c : '?';
  return stem;
}

class ImageFinder {
 public:
  explicit ImageFinder(const MemoryReader& memory) : memory_(memory) {}

  std::vector<UefiImage> find(Gpa ram_end) {
    const auto table = debug_table(ram_end);
    if (!table) return {};
    const auto count = number<std::uint32_t>(*table + 4).value_or(0);
    const auto entries = number<std::uint64_t>(*table + 8).value_or(0);
    std::vector<UefiImage> images;
    for (std::uint64_t i = 0; i < count && images.size() < kMaxUefiImages; ++i) {
      const auto entry = number<std::uint64_t>(entries + 8 * i);
      if (!entry) break;
      if (const auto image = read_image(*entry)) images.push_back(*image);
    }
    std::ranges::sort(images, {}, &UefiImage::base);
    return images;
  }

 private:
  template <typename T>
  std::optional<T> number(std::uint64_t address) const {
    return memory_.read_value<T>(address);
  }

  // From the system table, which is pointed to from a page on a multiple of 4 MiB near the end of
  // RAM.
  std::optional<std::uint64_t> debug_table(Gpa ram_end) const {
    for (Gpa at = align_down(ram_end, spec::SYSTEM_TABLE_POINTER_ALIGNMENT);;
         at -= spec::SYSTEM_TABLE_POINTER_ALIGNMENT) {
      if (number<std::uint64_t>(at) == spec::SYSTEM_TABLE_SIGNATURE)
        if (const auto system = number<std::uint64_t>(at + 8))
          if (const auto found = configuration_table(*system)) return found;
      if (at == 0) return std::nullopt;
    }
  }

  std::optional<std::uint64_t> configuration_table(std::uint64_t system) const {
    if (number<std::uint64_t>(system) != spec::SYSTEM_TABLE_SIGNATURE) return std::nullopt;
    const std::uint64_t count = std::min(
        number<std::uint64_t>(system + spec::SYSTEM_TABLE_ENTRIES).value_or(0), kMaxTables);
    const auto tables = number<std::uint64_t>(system + spec::SYSTEM_TABLE_TABLES).value_or(0);
    for (std::uint64_t i = 0; i < count; ++i) {
      std::array<std::uint8_t, 16> guid{};
      if (!memory_.read(tables + 24 * i, guid)) return std::nullopt;
      if (guid == spec::DEBUG_IMAGE_INFO_TABLE)
        return number<std::uint64_t>(tables + 24 * i + guid.size());
    }
    return std::nullopt;
  }

  std::optional<UefiImage> read_image(std::uint64_t info) const {
    if (number<std::uint32_t>(info) != spec::DEBUG_IMAGE_INFO_NORMAL) return std::nullopt;
    const auto loaded = number<std::uint64_t>(info + 8);
    if (!loaded) return std::nullopt;
    const auto base = number<std::uint64_t>(*loaded + spec::LOADED_IMAGE_BASE);
    const auto size = number<std::uint64_t>(*loaded + spec::LOADED_IMAGE_SIZE);
    if (!base || !size || *size == 0 || *size > kMaxImage || *base + *size < *base)
      return std::nullopt;
    std::string name = debug_name(*base);
    if (name.empty())
      name = path_name(number<std::uint64_t>(*loaded + spec::LOADED_IMAGE_FILE_PATH).value_or(0));
    if (name.empty()) name = fmt::format("image@{:x}h", *base);
    return UefiImage{std::move(name), *base, *size};
  }

  // What the image's debug directory says of the file with its symbols.
  std::string debug_name(std::uint64_t base) const {
    if (number<std::uint16_t>(base) != spec::DOS_MAGIC) return {};
    const std::uint64_t pe = base + number<std::uint32_t>(base + spec::PE_OFFSET).value_or(0);
    if (number<std::uint32_t>(pe) != spec::PE_SIGNATURE) return {};
    const auto directory = number<std::uint32_t>(pe + spec::DEBUG_DIRECTORY).value_or(0);
    const auto size = number<std::uint32_t>(pe + spec::DEBUG_DIRECTORY + 4).value_or(0);
    if (directory == 0) return {};
    for (std::uint64_t at = 0; at + spec::DEBUG_ENTRY_SIZE <= std::min(size, 0x1000U);
         at += spec::DEBUG_ENTRY_SIZE) {
      const std::uint64_t entry = base + directory + at;
      if (number<std::uint32_t>(entry + 12) != spec::CODEVIEW) continue;
      const std::uint64_t data = base + number<std::uint32_t>(entry + 20).value_or(0);
      const auto signature = number<std::uint32_t>(data).value_or(0);
      const std::uint64_t path = signature == spec::RSDS   ? 24
                                 : signature == spec::NB10 ? 16
                                 : signature == spec::MTOC ? 20
                                                           : 0;
      if (path != 0) return stem_of(text_at(data + path));
    }
    return {};
  }

  std::string text_at(std::uint64_t address) const {
    std::string text;
    for (std::size_t i = 0; i < kMaxPath; ++i) {
      const auto c = number<std::uint8_t>(address + i);
      if (!c || *c == 0) break;
      text += static_cast<char>(*c);
    }
    return text;
  }

  // Of a device path the last file, or the GUID of a file in a firmware volume.
  std::string path_name(std::uint64_t path) const {
    std::string name;
    for (unsigned nodes = 0; path != 0 && nodes < 32; ++nodes) {
      std::array<std::uint8_t, 4> node{};
      if (!memory_.read(path, node) || node[0] == 0x7f) break;
      const auto length = load<std::uint16_t>(node, 2);
      if (length < node.size()) break;
      if (node[0] == spec::MEDIA && node[1] == spec::FILE_PATH) {
        std::string file;
        for (std::size_t i = node.size(); i + 2 <= std::min<std::size_t>(length, 2 * kMaxPath);
             i += 2) {
          const auto c = number<std::uint16_t>(path + i).value_or(0);
          if (c == 0) break;
          file += c < 0x7f ? static_cast<char>(c) : '?';
        }
        name = stem_of(file);
      } else if (node[0] == spec::MEDIA && node[1] == spec::FIRMWARE_FILE && length == 20) {
        if (const auto start = number<std::uint32_t>(path + 4))
          name = fmt::format("fv-file-{:08x}", *start);
      }
      path += length;
    }
    return name;
  }

  static constexpr std::uint64_t kMaxImage = 1_GiB;
  const MemoryReader& memory_;
};

}  // namespace

std::vector<UefiImage> find_uefi_images(const MemoryReader& memory, Gpa ram_end) {
  return ImageFinder(memory).find(ram_end);
}

SymbolTable uefi_symbols(const std::vector<UefiImage>& images, const SymbolTable& symbols,
                         std::string_view symbols_path) {
  SymbolTable all;
  const std::string stem = stem_of(symbols_path);
  const auto own = std::ranges::find(images, stem, &UefiImage::name);
  const Gva slide = own != images.end() ? own->base : 0;
  symbols.for_each([&](std::string_view name, Gva address, std::uint64_t size) {
    all.add(name, address + slide, size);
  });
  for (const UefiImage& image : images) all.add(image.name, image.base, image.size);
  return all;
}

}  // namespace vmm
