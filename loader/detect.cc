#include "loader/detect.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string_view>
#include <vector>

#include "loader/boot.h"
#include "loader/bzimage.h"
#include "loader/decompress.h"
#include "loader/elf.h"
#include "loader/flat.h"
#include "loader/multiboot1.h"
#include "loader/multiboot2.h"
#include "loader/pe_image.h"
#include "loader/pvh.h"
#include "vmm/base/bytes.h"
#include "vmm/base/text.h"

namespace vmm {
namespace {

using Bytes = std::span<const std::uint8_t>;
using namespace std::string_view_literals;

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
constexpr std::array<Signature, 18> kSignatures = {{
    {0x202, "HdrS", "a Linux bzImage", "--boot linux64 and linux32 start it by its own entries"},
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
    {0, "MZ", "a PE image, but no UEFI one that is whole", nullptr},
    {0, "!<arch>\n", "an archive of object files", "link it to an executable first"},
    {0, "!<thin>\n", "an archive of object files", "link it to an executable first"},
    {0, "\xcf\xfa\xed\xfe", "a Mach-O image",
     "build with an ELF target, such as x86_64-unknown-none"},
    {0, "\xce\xfa\xed\xfe", "a Mach-O image",
     "build with an ELF target, such as x86_64-unknown-none"},
    {0, "070701", "a cpio archive", "an initramfs is given as --initrd beside its kernel"},
    {0, "QFI\xfb", "a qcow2 disk image", nullptr},
    {257, "ustar", "a tar archive", kUnpack},
    {0x8001, "CD001", "a CD image", "give the kernel on it"},
    {0x1fe, "\x55\xaa", "a boot sector or a disk image",
     "--boot flat loads it at 7C00h in real mode"},
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

constexpr std::array<std::string_view, 7> kWords = {"multiboot1", "multiboot2", "pvh", "linux64",
                                                    "linux32",    "elf",        "flat"};

// The word of --boot in lower case; empty for none.
Result<std::string> protocol_of(const BootOptions& options) {
  if (!options.protocol) return std::string(options.flat_address ? "flat" : "");
  std::string word = lower(*options.protocol);
  if (std::ranges::find(kWords, word) == kWords.end()) {
    const auto nearest = nearest_name(word, std::vector<std::string>(kWords.begin(), kWords.end()));
    return fail(Error::usage(fmt::format("--boot {}: no such protocol; there are {}",
                                         printable(*options.protocol), fmt::join(kWords, ", ")))
                    .hint(nearest ? fmt::format("did you mean {}?", *nearest)
                                  : "without --boot the file's content decides"));
  }
  if (options.flat_address && word != "flat")
    return fail(
        Error::usage(fmt::format("--flat gives the address of a flat image, and --boot {} "
                                 "is no flat image",
                                 word)));
  return word;
}

// A kernel that is a packed file as a whole is unpacked first, as boot loaders do.
Result<void> unpack_whole(LoadedImage& image) {
  const auto compression = compression_of(image.bytes);
  if (!compression) return {};
  const std::size_t packed = image.bytes.size();
  image.bytes = VMM_TRY(decompress(*compression, image.bytes, most_content(packed)));
  image.detection.push_back(fmt::format("{}: unpacked from {} to {} bytes",
                                        compression_name(*compression), packed,
                                        image.bytes.size()));
  return {};
}

// Each look_for_...() says whether the image is of its kind, and has parsed it then; a line of
// image.detection tells what was seen. A header that was meant but cannot be used is an error, not
// a reason to start the kernel in some other way than its author thought.
Error refusal(const LoadedImage& image, std::string text) {
  Error error = Error::image(std::move(text));
  if (is_elf(image.bytes)) return std::move(error).hint(kPlainElf);
  return error;
}

Result<bool> look_for_multiboot2(LoadedImage& image) {
  const MultibootSearch search = find_multiboot2(image.bytes);
  if (search.header) {
    image.detection.push_back(fmt::format("multiboot2: header at offset {:x}h", *search.header));
    VMM_TRY(parse_multiboot2(image, *search.header));
    return true;
  }
  if (search.bad_checksum)
    return fail(refusal(
        image, fmt::format("the multiboot2 header at offset {:x}h has a bad checksum: its four "
                           "words must sum up to 0 and give {:x}h",
                           *search.bad_checksum, search.bad_sum)));
  image.detection.push_back(
      fmt::format("multiboot2: no header in the first {} bytes", kMultiboot2Window));
  return false;
}

Result<bool> look_for_multiboot1(LoadedImage& image) {
  const Multiboot1Search search = find_multiboot1(image.bytes);
  if (search.header) {
    image.detection.push_back(fmt::format("multiboot1: header at offset {:x}h, flags {:x}h",
                                          *search.header, search.flags));
    VMM_TRY(parse_multiboot1(image, *search.header));
    return true;
  }
  if (search.bad_checksum)
    return fail(refusal(
        image, fmt::format("the multiboot1 header at offset {:x}h has a bad checksum: magic, flags "
                           "and checksum must sum up to 0 and give {:x}h",
                           *search.bad_checksum, search.bad_sum)));
  image.detection.push_back(
      fmt::format("multiboot1: no header in the first {} bytes", kMultiboot1Window));
  return false;
}

Result<bool> look_for_pvh(LoadedImage& image) {
  const auto entry = is_elf(image.bytes) ? find_pvh_entry(image.bytes) : std::nullopt;
  if (!entry) {
    image.detection.emplace_back("pvh: no ELF note of type 18 named Xen");
    return false;
  }
  image.detection.push_back(fmt::format("pvh: entry {:x}h in an ELF note", *entry));
  VMM_TRY(parse_pvh(image));
  return true;
}

// A PE image has a structure that can be checked, a Multiboot header is a word somewhere: xen.efi
// has both and is meant for firmware. A Linux with an EFI stub starts without it.
Result<bool> look_for_efi(LoadedImage& image) {
  const auto headers = find_pe_headers(image.bytes);
  if (!headers) {
    image.detection.emplace_back("efi: no \"MZ\" with a \"PE\" header behind it");
    return false;
  }
  if (is_bzimage(image.bytes)) {
    image.detection.emplace_back("efi: a PE image, but a bzImage too, which needs no firmware");
    return false;
  }
  if (!is_efi(*headers)) {
    image.detection.push_back(fmt::format("efi: a PE image of subsystem {} ({}), not 10, 11 or 12",
                                          headers->subsystem, subsystem_text(headers->subsystem)));
    return false;
  }
  image.detection.push_back(fmt::format("efi: {} for {}", subsystem_text(headers->subsystem),
                                        machine_text(headers->machine)));
  VMM_TRY(parse_efi(image));
  return true;
}

Result<bool> look_for_bzimage(LoadedImage& image) {
  if (!is_bzimage(image.bytes)) {
    image.detection.emplace_back("bzImage: no AA55h at 1FEh with \"HdrS\" at 202h");
    return false;
  }
  if (VMM_TRY(has_known_payload(image.bytes))) {
    VMM_TRY(parse_unpacked_bzimage(image));
    image.detection.emplace_back("bzImage: vmlinux unpacked here, entered by the 64-bit protocol");
    return true;
  }
  // Kernels without one know how to start.
  image.detection.emplace_back("bzImage: started by its own entry, for it holds no packed kernel");
  if (const auto own = parse_bzimage64(image)) return true;
  VMM_TRY(parse_bzimage32(image));
  return true;
}

Result<bool> look_for_elf(LoadedImage& image) {
  if (!is_elf(image.bytes)) {
    image.detection.emplace_back("elf: no 7f 45 4c 46 at offset 0");
    return false;
  }
  image.detection.emplace_back("elf: 7f 45 4c 46 at offset 0");
  VMM_TRY(parse_elf(image));
  return true;
}

// The fixed order.
Result<void> parse_by_content(LoadedImage& image) {
  VMM_TRY(unpack_whole(image));
  for (const auto look : {look_for_efi, look_for_multiboot2, look_for_multiboot1, look_for_pvh,
                          look_for_bzimage, look_for_elf})
    if (VMM_TRY(look(image))) return {};
  return fail(unrecognised(image.bytes, fmt::format("unknown kind of image; looked for {}",
                                                    fmt::join(image.detection, "; "))));
}

// --boot with one of the words but flat.
Result<void> parse_by_force(LoadedImage& image, std::string_view word) {
  VMM_TRY(unpack_whole(image));
  const auto none = [&](std::string text) -> Result<void> {
    return fail(unrecognised(image.bytes, fmt::format("--boot {}: {}", word, text)));
  };
  if (word == "multiboot2")
    return VMM_TRY(look_for_multiboot2(image))
               ? Result<void>()
               : none(fmt::format("no multiboot2 header (e85250d6h, 8-aligned) in the first {} "
                                  "bytes",
                                  kMultiboot2Window));
  if (word == "multiboot1")
    return VMM_TRY(look_for_multiboot1(image))
               ? Result<void>()
               : none(fmt::format("no multiboot1 header (1badb002h, 4-aligned) in the first {} "
                                  "bytes",
                                  kMultiboot1Window));
  if (word == "elf") return is_elf(image.bytes) ? parse_elf(image) : none("this is no ELF file");
  if (word == "pvh") {
    // The kernel inside of a bzImage may have the note.
    if (is_bzimage(image.bytes)) image.bytes = VMM_TRY(unpack_payload(image.bytes));
    return is_elf(image.bytes) ? parse_pvh(image) : none("this is no ELF file");
  }
  if (!is_bzimage(image.bytes)) return none("this is no bzImage");
  return word == "linux64" ? parse_bzimage64(image) : parse_bzimage32(image);
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
  if (protocol == "flat") return parse_flat(image, options.flat_address.value_or(kBootSector));
  return parse_by_force(image, protocol);
}

}  // namespace

std::span<const std::string_view> boot_protocol_words() { return kWords; }

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
