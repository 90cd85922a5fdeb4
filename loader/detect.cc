#include "loader/detect.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string_view>

#include "loader/boot.h"
#include "loader/elf.h"
#include "loader/flat.h"
#include "loader/multiboot1.h"
#include "vmm/base/bytes.h"
#include "vmm/base/text.h"

namespace vmm {
namespace {

using Bytes = std::span<const std::uint8_t>;
using namespace std::string_view_literals;

constexpr std::string_view kMultiboot1 = "multiboot1";
constexpr std::string_view kElf = "elf";
constexpr std::string_view kFlat = "flat";

bool has_at(Bytes bytes, std::size_t offset, std::string_view text) {
  if (offset > bytes.size() || text.size() > bytes.size() - offset) return false;
  const Bytes part = bytes.subspan(offset, text.size());
  return std::equal(part.begin(), part.end(), text.begin(),
                    [](std::uint8_t a, char b) { return a == static_cast<std::uint8_t>(b); });
}

struct Signature {
  std::size_t offset;
  std::string_view text;
  const char* name;
  const char* hint;  // nullptr: none
};

constexpr const char* kPlainElf = "--boot elf starts it as a plain ELF image";
constexpr const char* kUnpack = "unpack it and give the kernel inside";

// The first match wins: a bzImage with an EFI stub is also a PE image, a boot CD also has a boot
// sector's mark.
constexpr std::array<Signature, 19> kSignatures = {{
    {0x202, "HdrS", "a Linux bzImage (not supported yet)", nullptr},
    {0, "\x1f\x8b", "a gzip file", kUnpack},
    {0,
     "\xfd"
     "7zXZ",
     "an xz file", kUnpack},
    {0, "\x28\xb5\x2f\xfd", "a zstd file", kUnpack},
    {0, "BZh", "a bzip2 file", kUnpack},
    {0, "\x04\x22\x4d\x18", "an lz4 file", kUnpack},
    {0, "PK\x03\x04", "a zip archive", kUnpack},
    {0, "#!", "a script", "give the kernel that the script builds or starts"},
    {0, "MZ", "a PE image (Windows or UEFI)", nullptr},
    {0, "!<arch>\n", "an archive of object files", "link it to an executable first"},
    {0, "!<thin>\n", "an archive of object files", "link it to an executable first"},
    {0, "\xcf\xfa\xed\xfe", "a Mach-O image",
     "build with an ELF target, such as x86_64-unknown-none"},
    {0, "\xce\xfa\xed\xfe", "a Mach-O image",
     "build with an ELF target, such as x86_64-unknown-none"},
    {0, "070701", "a cpio archive", "an initramfs is a --module, not a kernel"},
    {0, "QFI\xfb", "a qcow2 disk image", nullptr},
    {257, "ustar", "a tar archive", kUnpack},
    {0x8001, "CD001", "a CD image", "give the kernel on it"},
    {0x1fe, "\x55\xaa", "a boot sector or a disk image",
     "--boot flat loads it at 7C00h in real mode"},
    {0, "\xd6\x50\x52\xe8", "a multiboot2 header (not supported yet)", nullptr},
}};

const Signature* recognise(Bytes bytes) {
  if (is_elf(bytes)) return nullptr;
  for (const Signature& signature : kSignatures)
    if (has_at(bytes, signature.offset, signature.text)) return &signature;
  return nullptr;
}

bool is_text(Bytes bytes) {
  const Bytes start = bytes.first(std::min<std::size_t>(bytes.size(), 256));
  return std::all_of(start.begin(), start.end(), [](std::uint8_t byte) {
    return byte == '\t' || byte == '\n' || byte == '\r' || (byte >= 0x20 && byte < 0x7f);
  });
}

Error unrecognised(Bytes bytes, std::string text) {
  Error error = Error::image(fmt::format("{}; {}", text, describe_content(bytes)));
  const Signature* signature = recognise(bytes);
  if (signature != nullptr && signature->hint != nullptr)
    return std::move(error).hint(signature->hint);
  if (is_elf(bytes)) return std::move(error).hint(kPlainElf);
  if (signature == nullptr && !is_text(bytes))
    return std::move(error).hint("--flat ADDR loads any file as it is and starts it in real mode");
  return error;
}

// Offset of a Multiboot 2 header with a good checksum (specification 2.0, section 3.1.1).
std::optional<std::size_t> find_multiboot2(Bytes bytes) {
  const std::size_t window = std::min<std::size_t>(bytes.size(), 32768);
  for (std::size_t at = 0; at + 16 <= window; at += 8) {
    if (load<std::uint32_t>(bytes, at) != 0xe852'50d6) continue;
    std::uint32_t sum = 0;
    for (std::size_t i = 0; i < 16; i += 4) sum += load<std::uint32_t>(bytes, at + i);
    if (sum == 0) return at;
  }
  return std::nullopt;
}

// The word of --boot in lower case; empty for none.
Result<std::string> protocol_of(const BootOptions& options) {
  if (!options.protocol) return options.flat_address ? std::string(kFlat) : std::string();
  std::string word = lower(*options.protocol);
  const std::array<std::string, 3> known = {std::string(kMultiboot1), std::string(kElf),
                                            std::string(kFlat)};
  if (std::find(known.begin(), known.end(), word) == known.end()) {
    const auto nearest = nearest_name(word, known);
    return fail(
        Error::usage(fmt::format("--boot {}: no such protocol; there are multiboot1, elf and flat",
                                 printable(*options.protocol)))
            .hint(nearest ? fmt::format("did you mean {}?", *nearest)
                          : "without --boot the file's content decides"));
  }
  if (options.flat_address && word != kFlat)
    return fail(
        Error::usage(fmt::format("--flat gives the address of a flat image, and --boot {} "
                                 "is no flat image",
                                 word)));
  return word;
}

std::string bad_checksum_text(const Multiboot1Search& search) {
  return fmt::format(
      "the multiboot1 header at offset {:x}h has a bad checksum: magic, flags and "
      "checksum must sum up to 0 and give {:x}h",
      *search.bad_checksum, search.bad_sum);
}

Result<void> parse_multiboot1_by_force(LoadedImage& image) {
  const Multiboot1Search search = find_multiboot1(image.bytes);
  if (search.header) return parse_multiboot1(image, *search.header);
  if (search.bad_checksum) return fail(Error::image(bad_checksum_text(search)));
  return fail(
      unrecognised(image.bytes, fmt::format("--boot multiboot1: no multiboot1 header (1badb002h, "
                                            "4-aligned) in the first {} bytes",
                                            kMultiboot1Window)));
}

Result<void> parse_elf_by_force(LoadedImage& image) {
  if (is_elf(image.bytes)) return parse_elf(image);
  return fail(unrecognised(image.bytes, "--boot elf: this is no ELF file"));
}

// The fixed order: multiboot1, then ELF. A header that was meant but cannot be used is an error,
// not a reason to start the kernel in some other way than its author thought.
Result<void> parse_by_content(LoadedImage& image) {
  const Multiboot1Search search = find_multiboot1(image.bytes);
  if (search.header) {
    image.detection.push_back(fmt::format("multiboot1: header at offset {:x}h, flags {:x}h",
                                          *search.header, search.flags));
    return parse_multiboot1(image, *search.header);
  }
  const bool elf = is_elf(image.bytes);
  const auto refuse = [elf](std::string text) -> Result<void> {
    Error error = Error::image(std::move(text));
    if (elf) return fail(std::move(error).hint(kPlainElf));
    return fail(std::move(error));
  };
  if (search.bad_checksum) return refuse(bad_checksum_text(search));
  image.detection.push_back(
      fmt::format("multiboot1: no header in the first {} bytes", kMultiboot1Window));
  if (const auto header = find_multiboot2(image.bytes))
    return refuse(
        fmt::format("there is a multiboot2 header at offset {:x}h and none for "
                    "multiboot1; multiboot2 is not supported yet",
                    *header));
  if (elf) {
    image.detection.push_back("elf: 7f 45 4c 46 at offset 0");
    return parse_elf(image);
  }
  image.detection.push_back("elf: no 7f 45 4c 46 at offset 0");
  return fail(unrecognised(image.bytes, fmt::format("unknown kind of image; looked for {}",
                                                    fmt::join(image.detection, "; "))));
}

Result<void> parse_into(LoadedImage& image, const BootOptions& options) {
  const std::string protocol = VMM_TRY(protocol_of(options));
  if (image.bytes.empty()) return fail(Error::image("the file is empty"));
  if (image.bytes.size() > kMaxImageSize)
    return fail(
        Error::image(fmt::format("the file has {}; the limit is {}",
                                 format_size(image.bytes.size()), format_size(kMaxImageSize))));
  if (protocol.empty()) return parse_by_content(image);
  image.detection.push_back(fmt::format("{}: asked for on the command line", protocol));
  if (protocol == kMultiboot1) return parse_multiboot1_by_force(image);
  if (protocol == kElf) return parse_elf_by_force(image);
  return parse_flat(image, options.flat_address.value_or(kBootSector));
}

}  // namespace

std::string describe_content(Bytes bytes) {
  std::string text = "it starts with";
  for (const std::uint8_t byte : bytes.first(std::min<std::size_t>(bytes.size(), 8)))
    text += fmt::format(" {:02x}", byte);
  if (const Signature* signature = recognise(bytes))
    text += fmt::format(" (looks like {})", signature->name);
  else if (is_elf(bytes))
    text += " (looks like an ELF file)";
  else if (is_text(bytes))
    text += " (looks like text)";
  return text;
}

Result<LoadedImage> parse_image(std::string path, std::vector<std::uint8_t> bytes,
                                const BootOptions& options) {
  LoadedImage image;
  image.path = std::move(path);
  image.bytes = std::move(bytes);
  if (auto parsed = parse_into(image, options); !parsed) {
    Error error = std::move(parsed).error();
    if (error.kind() != ErrorKind::Image) return fail(std::move(error));
    return fail(std::move(error).at(printable(image.path)));
  }
  return image;
}

Result<LoadedImage> load_image(const std::string& path, const BootOptions& options) {
  return parse_image(path, VMM_TRY(read_file(path, kMaxImageSize, ErrorKind::Image)), options);
}

}  // namespace vmm
