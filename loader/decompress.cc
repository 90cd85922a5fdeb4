#include "loader/decompress.h"

#include <fmt/format.h>
#include <lz4.h>
#include <lzma.h>
#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <array>
#include <memory>

#include "vmm/base/bytes.h"
#include "vmm/base/fd.h"
#include "vmm/base/text.h"
#include "vmm/base/units.h"

namespace vmm {
namespace {

using Bytes = std::span<const std::uint8_t>;
using Content = std::vector<std::uint8_t>;

constexpr std::size_t kStep = 256_KiB;
// xz and zstd let a file ask for a dictionary of gigabytes; kernels and modules ask for at most 64
// MiB.
constexpr std::uint64_t kMaxDecoderMemory = 256_MiB;
constexpr int kMaxWindowLog = 27;

tl::unexpected<Error> damaged(Compression compression, std::string_view why) {
  return fail(
      Error::image(fmt::format("the {} data is damaged: {}", compression_name(compression), why)));
}

tl::unexpected<Error> too_large(std::size_t max_size) {
  return fail(Error::image(fmt::format("it unpacks to more than {}", format_size(max_size))));
}

// Room for the next piece of the content: one byte more than allowed, so that a content of exactly
// max_size bytes can end.
std::span<std::uint8_t> next_room(Content& content, std::size_t max_size) {
  const std::size_t done = content.size();
  // In steps that grow, or a large content would be copied too often; not beyond what is reserved.
  const std::size_t reserved = content.capacity() - done;
  const std::size_t step = std::max(kStep, done / 2);
  const std::size_t room =
      std::min(reserved == 0 ? step : std::min(step, reserved), max_size - done + 1);
  content.resize(done + room);
  return std::span(content).subspan(done);
}

const char* lzma_reason(lzma_ret result) {
  switch (result) {
    case LZMA_FORMAT_ERROR:
      return "no .xz file";
    case LZMA_OPTIONS_ERROR:
      return "a filter that liblzma does not know";
    case LZMA_MEMLIMIT_ERROR:
      return "its dictionary is too large";
    case LZMA_BUF_ERROR:
      return "it is cut off";
    case LZMA_MEM_ERROR:
      return "no memory for its dictionary";
    default:
      return "its checksum or structure is wrong";
  }
}

Result<Content> decompress_xz(Bytes bytes, std::size_t max_size, Content content) {
  lzma_stream stream = LZMA_STREAM_INIT;
  const std::unique_ptr<lzma_stream, void (*)(lzma_stream*)> end(&stream, lzma_end);
  if (lzma_stream_decoder(&stream, kMaxDecoderMemory, LZMA_CONCATENATED) != LZMA_OK)
    return fail(Error::internal("liblzma cannot start a decoder"));
  stream.next_in = bytes.data();
  stream.avail_in = bytes.size();
  while (true) {
    const std::span<std::uint8_t> room = next_room(content, max_size);
    stream.next_out = room.data();
    stream.avail_out = room.size();
    const lzma_ret result = lzma_code(&stream, LZMA_FINISH);
    content.resize(content.size() - stream.avail_out);
    if (content.size() > max_size) return too_large(max_size);
    if (result == LZMA_STREAM_END) return content;
    if (result != LZMA_OK) return damaged(Compression::Xz, lzma_reason(result));
  }
}

Result<Content> decompress_zstd(Bytes bytes, std::size_t max_size, Content content) {
  const std::unique_ptr<ZSTD_DCtx, std::size_t (*)(ZSTD_DCtx*)> context(ZSTD_createDCtx(),
                                                                        ZSTD_freeDCtx);
  if (!context) return fail(Error::internal("libzstd cannot start a decoder"));
  ZSTD_DCtx_setParameter(context.get(), ZSTD_d_windowLogMax, kMaxWindowLog);
  ZSTD_inBuffer input{.src = bytes.data(), .size = bytes.size(), .pos = 0};
  while (true) {
    const std::span<std::uint8_t> room = next_room(content, max_size);
    ZSTD_outBuffer output{.dst = room.data(), .size = room.size(), .pos = 0};
    const std::size_t result = ZSTD_decompressStream(context.get(), &output, &input);
    content.resize(content.size() - (room.size() - output.pos));
    if (ZSTD_isError(result) != 0) return damaged(Compression::Zstd, ZSTD_getErrorName(result));
    if (content.size() > max_size) return too_large(max_size);
    if (input.pos < input.size || output.pos == output.size) continue;
    if (result != 0) return damaged(Compression::Zstd, "it is cut off");
    return content;
  }
}

// Members one after the other; zeroes behind the last one are padding (RFC 1952 section 2.2, and
// what gzip itself ignores).
Result<Content> decompress_gzip(Bytes bytes, std::size_t max_size, Content content) {
  z_stream stream{};
  constexpr int kGzip = 16 + MAX_WBITS;
  if (::inflateInit2(&stream, kGzip) != Z_OK)
    return fail(Error::internal("zlib cannot start a decoder"));
  const std::unique_ptr<z_stream, int (*)(z_stream*)> end(&stream, ::inflateEnd);
  Bytes rest = bytes;
  while (true) {
    const std::span<std::uint8_t> room = next_room(content, max_size);
    const std::size_t offered = std::min<std::size_t>(rest.size(), 1_GiB);
    stream.next_in = const_cast<Bytef*>(rest.data());
    stream.avail_in = static_cast<uInt>(offered);
    stream.next_out = room.data();
    stream.avail_out = static_cast<uInt>(room.size());
    const int result = ::inflate(&stream, Z_NO_FLUSH);
    content.resize(content.size() - stream.avail_out);
    rest = rest.subspan(offered - stream.avail_in);
    if (content.size() > max_size) return too_large(max_size);
    if (result == Z_STREAM_END) {
      while (!rest.empty() && rest[0] == 0) rest = rest.subspan(1);
      if (rest.empty()) return content;
      if (compression_of(rest) != Compression::Gzip)
        return damaged(Compression::Gzip,
                       fmt::format("{} bytes behind its end are something else", rest.size()));
      ::inflateReset(&stream);
    } else if (result == Z_BUF_ERROR || (result == Z_OK && rest.empty() && stream.avail_out != 0)) {
      return damaged(Compression::Gzip, "it is cut off");
    } else if (result != Z_OK) {
      return damaged(Compression::Gzip,
                     stream.msg != nullptr ? stream.msg : "its checksum or structure is wrong");
    }
  }
}

// A magic number, then blocks of at most 8 MiB of content, each behind its compressed size.
Result<Content> decompress_lz4(Bytes bytes, std::size_t max_size, Content content) {
  constexpr std::size_t kBlock = 8_MiB;
  Bytes rest = bytes.subspan(4);
  while (!rest.empty()) {
    if (rest.size() < 4) return damaged(Compression::Lz4, "it is cut off");
    const std::size_t size = load<std::uint32_t>(rest);
    rest = rest.subspan(4);
    if (size == 0 || size > rest.size())
      return damaged(Compression::Lz4,
                     fmt::format("a block of {} bytes where {} are left", size, rest.size()));
    const std::size_t done = content.size();
    // A byte of a block stands for 255 bytes of content at most.
    const std::size_t room = std::min({kBlock, size * 255, max_size - done + 1});
    const auto decode = [&](std::size_t into) {
      content.resize(done + into);
      return ::LZ4_decompress_safe(reinterpret_cast<const char*>(rest.data()),
                                   reinterpret_cast<char*>(content.data() + done),
                                   static_cast<int>(size), static_cast<int>(into));
    };
    // The last block is smaller; what was expected may be too little.
    int n = decode(std::min(room, std::max<std::size_t>(content.capacity() - done, 1)));
    if (n < 0) n = decode(room);
    // The library does not tell a full buffer from damaged data.
    if (n < 0 && room == max_size - done + 1) return too_large(max_size);
    if (n < 0) return damaged(Compression::Lz4, "a block does not decode");
    content.resize(done + static_cast<std::size_t>(n));
    if (content.size() > max_size) return too_large(max_size);
    rest = rest.subspan(size);
  }
  return content;
}

struct Magic {
  Compression compression;
  std::string_view name;
  std::array<std::uint8_t, 6> bytes;
  std::size_t size;
};
constexpr std::array<Magic, 4> kMagics = {{
    {Compression::Gzip, "gzip", {0x1f, 0x8b}, 2},
    {Compression::Xz, "xz", {0xfd, '7', 'z', 'X', 'Z', 0}, 6},
    {Compression::Zstd, "zstd", {0x28, 0xb5, 0x2f, 0xfd}, 4},
    {Compression::Lz4, "lz4", {0x02, 0x21, 0x4c, 0x18}, 4},
}};

}  // namespace

std::string_view compression_name(Compression compression) {
  return kMagics[static_cast<std::size_t>(compression)].name;
}

std::optional<Compression> compression_of(Bytes bytes) {
  for (const Magic& magic : kMagics)
    if (bytes.size() >= magic.size &&
        std::equal(magic.bytes.begin(), magic.bytes.begin() + magic.size, bytes.begin()))
      return magic.compression;
  return std::nullopt;
}

Result<Content> decompress(Compression compression, Bytes bytes, std::size_t max_size,
                           std::size_t expected) {
  Content content;
  // Reserved memory costs nothing before it is written; a content that grows is copied, page fault
  // by page fault.
  if (expected != 0) {
    const std::size_t room = std::min(expected, max_size) + 1;
    content.reserve(room);
    prefer_huge_pages({content.data(), room});
  }
  switch (compression) {
    case Compression::Gzip:
      return decompress_gzip(bytes, max_size, std::move(content));
    case Compression::Xz:
      return decompress_xz(bytes, max_size, std::move(content));
    case Compression::Zstd:
      return decompress_zstd(bytes, max_size, std::move(content));
    case Compression::Lz4:
      return decompress_lz4(bytes, max_size, std::move(content));
  }
  return fail(Error::internal("no such compression"));
}

Content unpack_lzma_start(Bytes bytes, std::size_t most) {
  lzma_stream stream = LZMA_STREAM_INIT;
  const std::unique_ptr<lzma_stream, void (*)(lzma_stream*)> end(&stream, lzma_end);
  if (lzma_alone_decoder(&stream, kMaxDecoderMemory / 4) != LZMA_OK) return {};
  Content content(most);
  stream.next_in = bytes.data();
  stream.avail_in = bytes.size();
  stream.next_out = content.data();
  stream.avail_out = content.size();
  while (stream.avail_out != 0 && lzma_code(&stream, LZMA_RUN) == LZMA_OK) continue;
  content.resize(most - stream.avail_out);
  return content;
}

std::size_t most_content(std::size_t size) {
  constexpr std::size_t kAlways = 64_MiB;
  constexpr std::size_t kFactor = 32;
  constexpr std::size_t kNever = 1_GiB;
  return std::min(kNever, kAlways + std::min(size, kNever) / 1_MiB * 1_MiB * kFactor);
}

}  // namespace vmm
