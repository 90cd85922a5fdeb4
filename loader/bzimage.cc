#include "loader/bzimage.h"

#include <fmt/format.h>

#include <algorithm>

#include "loader/bzimage_header.h"
#include "loader/decompress.h"
#include "loader/elf.h"
#include "vmm/base/bytes.h"
#include "vmm/base/text.h"

namespace vmm {
namespace {

namespace spec = bzimage_header;
using Bytes = std::span<const std::uint8_t>;

constexpr std::size_t kSector = 512;
constexpr std::uint64_t kEntry64 = 0x200;  // from the start of the protected-mode code

tl::unexpected<Error> bad(std::string text) {
  return fail(Error::image("bzImage: " + std::move(text)));
}

// The setup header as far as the loader needs it; fields that its version lacks are 0.
struct Header {
  unsigned version = 0;
  std::uint64_t code = 0;  // offset in the file of the protected-mode code
  std::uint8_t load_flags = 0;
  std::uint32_t code32_start = 0;
  bool relocatable = false;
  std::uint16_t x_load_flags = 0;
  std::uint64_t payload_offset = 0;
  std::uint64_t payload_size = 0;
  std::uint64_t pref_address = 0;
  std::uint64_t init_size = 0;
  std::vector<std::uint8_t> bytes;  // from 1f1h to its end
};

Result<Header> read_header(Bytes bytes) {
  if (!is_bzimage(bytes)) return bad("the file lacks the mark AA55h at 1FEh or \"HdrS\" at 202h");
  Header header;
  header.version = load<std::uint16_t>(bytes, spec::kVersion);
  if (header.version < 0x0200)
    return bad(fmt::format("boot protocol {:x}h at 206h is older than 200h", header.version));
  // The jump over the header at 200h says where it ends.
  const std::size_t end = spec::kHeader + bytes[spec::kJump + 1];
  const auto has = [&](unsigned version, std::size_t offset, std::size_t size) {
    return header.version >= version && offset + size <= bytes.size();
  };
  // setup_sects 0 means 4, for very old kernels.
  const unsigned sectors = bytes[spec::kSetupSects] == 0 ? 4 : bytes[spec::kSetupSects];
  header.code = (std::uint64_t{sectors} + 1) * kSector;
  if (end > bytes.size() || header.code >= bytes.size())
    return bad(
        fmt::format("setup_sects {} at 1F1h puts the kernel at offset {:x}h; the file ends at "
                    "{:x}h",
                    bytes[spec::kSetupSects], header.code, bytes.size()));
  // Older kernels have 16 bits of it, and garbage above them.
  const std::uint64_t code_size = header.version >= 0x0204
                                      ? load<std::uint32_t>(bytes, spec::kSysSize) * 16ull
                                      : load<std::uint16_t>(bytes, spec::kSysSize) * 16ull;
  // The last paragraph may be begun only.
  if (code_size > align_up(bytes.size() - header.code, 16))
    return bad(
        fmt::format("the file is cut off: syssize at 1F4h says {:x}h bytes of code from {:x}h on, "
                    "and it ends at {:x}h",
                    code_size, header.code, bytes.size()));
  header.bytes.assign(bytes.begin() + spec::kSetupSects,
                      bytes.begin() + static_cast<std::ptrdiff_t>(end));
  header.load_flags = bytes[spec::kLoadFlags];
  if ((header.load_flags & spec::kLoadedHigh) == 0)
    return bad("loadflags bit 0 at 211h is clear: a zImage, which runs below 1 MiB");
  if (!has(0x200, spec::kCode32Start, 4)) return bad("the header is cut off");
  header.code32_start = load<std::uint32_t>(bytes, spec::kCode32Start);
  if (has(0x205, spec::kRelocatableKernel, 1))
    header.relocatable = bytes[spec::kRelocatableKernel] != 0;
  if (has(0x208, spec::kPayloadOffset, 8)) {
    header.payload_offset = load<std::uint32_t>(bytes, spec::kPayloadOffset);
    header.payload_size = load<std::uint32_t>(bytes, spec::kPayloadLength);
  }
  if (has(0x20a, spec::kPrefAddress, 12)) {
    header.pref_address = load<std::uint64_t>(bytes, spec::kPrefAddress);
    header.init_size = load<std::uint32_t>(bytes, spec::kInitSize);
  }
  if (has(0x20c, spec::kXLoadFlags, 2))
    header.x_load_flags = load<std::uint16_t>(bytes, spec::kXLoadFlags);
  return header;
}

// The file from the end of its setup on, at the address that its header prefers.
Result<void> set_code(LoadedImage& image, const Header& header, BootProtocol protocol) {
  const std::uint64_t size = image.bytes.size() - header.code;
  const std::uint64_t base = header.relocatable && header.pref_address != 0
                                 ? header.pref_address
                                 : std::uint64_t{header.code32_start};
  if (base < 1_MiB || base >= 4_GiB || size > 4_GiB - base)
    return bad(fmt::format("{:x}h bytes of code at {:x}h ({}) do not lie between 1 MiB and 4 GiB",
                           size, base,
                           header.relocatable ? "pref_address at 258h" : "code32_start at 214h"));
  image.protocol = protocol;
  image.segments = {{.gpa = base,
                     .file_offset = header.code,
                     .file_size = size,
                     .memory_size = size,
                     .vaddr = base}};
  image.entry = base + (protocol == BootProtocol::Linux64 ? kEntry64 : 0);
  if (image.entry >= base + size) return bad("the code is too short for an entry at 200h");
  image.room = std::max(header.init_size, size);
  image.setup_header = header.bytes;
  return {};
}

Result<std::vector<std::uint8_t>> unpack(Bytes bzimage, const Header& header) {
  if (header.version < 0x0208)
    return bad(
        fmt::format("boot protocol {:x}h is older than 208h, which tells where the payload "
                    "is",
                    header.version));
  const std::uint64_t start = header.code + header.payload_offset;
  const std::uint64_t size = header.payload_size;
  if (start > bzimage.size() || size > bzimage.size() - start)
    return bad(
        fmt::format("its payload ({:x}h bytes at offset {:x}h) lies outside of the file of {:x}h "
                    "bytes",
                    size, start, bzimage.size()));
  const Bytes payload = bzimage.subspan(start, size);
  if (payload.empty()) return bad("it names no payload (payload_length at 24Ch is 0)");
  if (is_elf(payload)) return std::vector<std::uint8_t>(payload.begin(), payload.end());
  const auto compression = compression_of(payload);
  if (!compression) {
    std::string first;
    for (const std::uint8_t byte : payload.first(std::min<std::size_t>(payload.size(), 4)))
      first += fmt::format(" {:02x}", byte);
    return bad(
        fmt::format("its payload begins with{}: neither gzip, xz, zstd, lz4 nor ELF", first));
  }
  // The kernel's build puts the unpacked size behind all but gzip, which ends with it itself.
  const std::size_t trailer = *compression == Compression::Gzip ? 0 : 4;
  if (payload.size() < trailer + 4) return bad("its payload is cut off");
  const std::size_t expected = load<std::uint32_t>(payload, payload.size() - 4);
  return VMM_TRY_CONTEXT(decompress(*compression, payload.first(payload.size() - trailer),
                                    most_content(payload.size()), expected),
                         "bzImage: its payload");
}

}  // namespace

bool is_bzimage(Bytes bytes) {
  return bytes.size() >= spec::kVersion + 2 &&
         load<std::uint16_t>(bytes, spec::kBootFlag) == spec::kBootMark &&
         load<std::uint32_t>(bytes, spec::kHeader) == spec::kHdrS;
}

Result<void> parse_bzimage64(LoadedImage& image) {
  const Header header = VMM_TRY(read_header(image.bytes));
  if ((header.x_load_flags & spec::kXlfKernel64) == 0)
    return fail(Error::image(fmt::format("bzImage: no 64-bit entry (boot protocol {:x}h, "
                                         "xloadflags {:x}h at 236h, bit 0 clear)",
                                         header.version, header.x_load_flags))
                    .hint("--boot linux32 starts it by the 32-bit protocol"));
  return set_code(image, header, BootProtocol::Linux64);
}

Result<void> parse_bzimage32(LoadedImage& image) {
  const Header header = VMM_TRY(read_header(image.bytes));
  return set_code(image, header, BootProtocol::Linux32);
}

Result<bool> has_known_payload(Bytes bzimage) {
  const Header header = VMM_TRY(read_header(bzimage));
  const std::uint64_t start = header.code + header.payload_offset;
  if (header.version < 0x0208 || header.payload_size == 0) return false;
  if (start >= bzimage.size()) return true;  // and unpack_payload() says what is wrong with it
  const Bytes payload = bzimage.subspan(start);
  return is_elf(payload) || compression_of(payload).has_value();
}

Result<std::vector<std::uint8_t>> unpack_payload(Bytes bzimage) {
  return unpack(bzimage, VMM_TRY(read_header(bzimage)));
}

Result<void> parse_unpacked_bzimage(LoadedImage& image) {
  Header header = VMM_TRY(read_header(image.bytes));
  LoadedImage kernel;
  kernel.bytes = VMM_TRY(unpack(image.bytes, header));
  VMM_TRY_CONTEXT(parse_elf(kernel), "bzImage: its payload");
  if (kernel.protocol != BootProtocol::Elf64) return bad("its payload is no 64-bit kernel");
  image.bytes = std::move(kernel.bytes);
  image.segments = std::move(kernel.segments);
  image.entry = kernel.entry;
  image.symbols = std::move(kernel.symbols);
  image.protocol = BootProtocol::Linux64;
  image.room = std::max(header.init_size, image.highest() - image.lowest());
  image.setup_header = std::move(header.bytes);
  return {};
}

}  // namespace vmm
