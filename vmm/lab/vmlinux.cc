#include "vmm/lab/vmlinux.h"

#include <fmt/format.h>
#include <lz4.h>
#include <zlib.h>

#include <algorithm>
#include <array>
#include <string_view>

#include "loader/elf.h"
#include "vmm/base/bytes.h"
#include "vmm/base/units.h"
#include "vmm/lab/bzimage.h"
#include "vmm/lab/decompress.h"

namespace vmm {
namespace {

using Bytes = std::span<const std::uint8_t>;

constexpr std::size_t kMaxVmlinux = 512_MiB;

namespace spec = bzimage_header;

tl::unexpected<Error> bad(std::string text) { return fail(Error::usage(std::move(text))); }

Result<std::vector<std::uint8_t>> inflate_gzip(Bytes bytes) {
  std::vector<std::uint8_t> out;
  std::vector<std::uint8_t> block(1_MiB);
  z_stream stream{};
  constexpr int kGzip = 16 + MAX_WBITS;
  if (::inflateInit2(&stream, kGzip) != Z_OK)
    return fail(Error::internal("zlib cannot be initialized"));
  stream.next_in = const_cast<Bytef*>(bytes.data());
  stream.avail_in = static_cast<uInt>(bytes.size());
  int status = Z_OK;
  while (status == Z_OK && out.size() <= kMaxVmlinux) {
    stream.next_out = block.data();
    stream.avail_out = static_cast<uInt>(block.size());
    status = ::inflate(&stream, Z_NO_FLUSH);
    out.insert(out.end(), block.begin(),
               block.end() - static_cast<std::ptrdiff_t>(stream.avail_out));
  }
  ::inflateEnd(&stream);
  if (status != Z_STREAM_END || out.size() > kMaxVmlinux)
    return bad("the kernel's gzip payload is damaged, cut off or too large");
  return out;
}

// The "legacy" frame that the kernel's build uses: a magic number, then blocks of at most 8 MiB of
// content, each behind its compressed size.
Result<std::vector<std::uint8_t>> unpack_lz4(Bytes bytes) {
  constexpr std::size_t kBlock = 8_MiB;
  std::vector<std::uint8_t> out;
  Bytes rest = bytes.subspan(4);
  while (rest.size() > 4) {
    const std::size_t size = load<std::uint32_t>(rest);
    rest = rest.subspan(4);
    if (size == 0 || size > rest.size() || out.size() > kMaxVmlinux)
      return bad("the kernel's lz4 payload is damaged, cut off or too large");
    const std::size_t start = out.size();
    out.resize(start + kBlock);
    const int n = ::LZ4_decompress_safe(reinterpret_cast<const char*>(rest.data()),
                                        reinterpret_cast<char*>(out.data() + start),
                                        static_cast<int>(size), static_cast<int>(kBlock));
    if (n <= 0) return bad("the kernel's lz4 payload is damaged");
    out.resize(start + static_cast<std::size_t>(n));
    rest = rest.subspan(size);
  }
  return out;
}

bool begins(Bytes bytes, std::initializer_list<std::uint8_t> magic) {
  return bytes.size() >= magic.size() && std::equal(magic.begin(), magic.end(), bytes.begin());
}

Result<std::vector<std::uint8_t>> unpack(Bytes payload) {
  if (payload.size() < 8) return bad("the kernel's payload is empty");
  if (begins(payload, {0x7f, 'E', 'L', 'F'}))
    return std::vector<std::uint8_t>(payload.begin(), payload.end());
  if (begins(payload, {0x1f, 0x8b})) return inflate_gzip(payload);
  // The kernel's build puts the unpacked size behind all others.
  const Bytes stream = payload.first(payload.size() - 4);
  if (begins(payload, {0x02, 0x21, 0x4c, 0x18})) return unpack_lz4(stream);
  if (begins(payload, {0xfd, '7', 'z', 'X', 'Z', 0})) return decompress_xz(stream, kMaxVmlinux);
  if (begins(payload, {0x28, 0xb5, 0x2f, 0xfd})) return decompress_zstd(stream, kMaxVmlinux);
  return bad(
      fmt::format("the kernel's payload begins with {:02x} {:02x} {:02x} {:02x}: neither "
                  "gzip, xz, zstd nor lz4",
                  payload[0], payload[1], payload[2], payload[3]));
}

}  // namespace

Result<Vmlinux> extract_vmlinux(Bytes bzimage) {
  if (bzimage.size() < spec::kEnd || load<std::uint32_t>(bzimage, spec::kHeader) != spec::kHdrS)
    return bad("no bzImage: it lacks \"HdrS\" at 202h");
  const unsigned version = load<std::uint16_t>(bzimage, spec::kVersion);
  if (version < 0x0208)
    return bad(
        fmt::format("boot protocol {:x}h is older than 208h, which tells the payload", version));
  const std::size_t header_end = spec::kHeader + bzimage[spec::kJump + 1];
  // setup_sects 0 means 4, for very old kernels; such ones are refused above.
  const std::uint64_t start = (std::uint64_t{bzimage[spec::kSetupSects]} + 1) * 512 +
                              load<std::uint32_t>(bzimage, spec::kPayloadOffset);
  const std::uint64_t size = load<std::uint32_t>(bzimage, spec::kPayloadLength);
  if (header_end > bzimage.size() || start > bzimage.size() || size > bzimage.size() - start)
    return bad(fmt::format("its payload ({} bytes at {:x}h) lies outside of the file of {} bytes",
                           size, start, bzimage.size()));
  Vmlinux kernel;
  kernel.setup_header.assign(bzimage.begin() + spec::kSetupSects,
                             bzimage.begin() + static_cast<std::ptrdiff_t>(header_end));
  kernel.elf.path = "vmlinux";
  kernel.elf.bytes = VMM_TRY(unpack(bzimage.subspan(start, size)));
  auto parsed = parse_elf(kernel.elf);
  if (!parsed) return bad(fmt::format("its payload: {}", parsed.error().text()));
  if (kernel.elf.protocol != BootProtocol::Elf64) return bad("its payload is no 64-bit kernel");
  return kernel;
}

}  // namespace vmm
