// For tests: packed content in each format, and a bzImage around it.
#pragma once

#include <gtest/gtest.h>
#include <lz4.h>
#include <lzma.h>
#include <zlib.h>
#include <zstd.h>

#include <cstdint>
#include <vector>

#include "loader/bzimage_header.h"
#include "loader/decompress.h"
#include "vmm/base/bytes.h"

namespace vmm::testing_packed {

using ByteVector = std::vector<std::uint8_t>;

inline ByteVector gzip(const ByteVector& content) {
  z_stream stream{};
  EXPECT_EQ(::deflateInit2(&stream, 9, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY), Z_OK);
  ByteVector out(::deflateBound(&stream, content.size()) + 32);
  stream.next_in = const_cast<Bytef*>(content.data());
  stream.avail_in = static_cast<uInt>(content.size());
  stream.next_out = out.data();
  stream.avail_out = static_cast<uInt>(out.size());
  EXPECT_EQ(::deflate(&stream, Z_FINISH), Z_STREAM_END);
  out.resize(stream.total_out);
  ::deflateEnd(&stream);
  return out;
}

inline ByteVector xz(const ByteVector& content) {
  ByteVector out(lzma_stream_buffer_bound(content.size()));
  std::size_t size = 0;
  EXPECT_EQ(lzma_easy_buffer_encode(1, LZMA_CHECK_CRC32, nullptr, content.data(), content.size(),
                                    out.data(), &size, out.size()),
            LZMA_OK);
  out.resize(size);
  return out;
}

inline ByteVector zst(const ByteVector& content) {
  ByteVector out(ZSTD_compressBound(content.size()));
  const std::size_t size = ZSTD_compress(out.data(), out.size(), content.data(), content.size(), 1);
  EXPECT_EQ(ZSTD_isError(size), 0U);
  out.resize(size);
  return out;
}

// Blocks of 8 MiB, as lz4 -l writes them.
inline ByteVector lz4(const ByteVector& content) {
  constexpr std::size_t kBlock = 8U << 20;
  ByteVector out = {0x02, 0x21, 0x4c, 0x18};
  for (std::size_t at = 0; at < content.size(); at += kBlock) {
    const auto part = static_cast<int>(std::min(kBlock, content.size() - at));
    ByteVector block(4 + static_cast<std::size_t>(::LZ4_compressBound(part)));
    const int size = ::LZ4_compress_default(reinterpret_cast<const char*>(content.data() + at),
                                            reinterpret_cast<char*>(block.data()) + 4, part,
                                            static_cast<int>(block.size()) - 4);
    EXPECT_GT(size, 0);
    store<std::uint32_t>(block, 0, static_cast<std::uint32_t>(size));
    block.resize(4 + static_cast<std::size_t>(size));
    out.insert(out.end(), block.begin(), block.end());
  }
  return out;
}

inline ByteVector pack(Compression compression, const ByteVector& content) {
  switch (compression) {
    case Compression::Gzip:
      return gzip(content);
    case Compression::Xz:
      return xz(content);
    case Compression::Zstd:
      return zst(content);
    case Compression::Lz4:
      return lz4(content);
  }
  return {};
}

inline constexpr Compression kCompressions[] = {Compression::Gzip, Compression::Xz,
                                                Compression::Zstd, Compression::Lz4};

// The payload of a bzImage: its size behind all but gzip.
inline ByteVector payload(Compression compression, const ByteVector& content) {
  ByteVector packed = pack(compression, content);
  if (compression == Compression::Gzip) return packed;
  packed.resize(packed.size() + 4);
  store(packed, packed.size() - 4, static_cast<std::uint32_t>(content.size()));
  return packed;
}

// A bzImage with `payload` at the begin of its code: boot sector and one sector of set-up, protocol
// 20Fh, linked for 16 MiB.
inline ByteVector bzimage(const ByteVector& payload) {
  namespace spec = bzimage_header;
  ByteVector image(1024);
  image[spec::kSetupSects] = 1;
  store(image, spec::kBootFlag, spec::kBootMark);
  image[spec::kJump] = 0xeb;
  image[spec::kJump + 1] = 0x66;
  store(image, spec::kHeader, spec::kHdrS);
  store<std::uint16_t>(image, spec::kVersion, 0x020f);
  image[spec::kLoadFlags] = spec::kLoadedHigh;
  store<std::uint32_t>(image, spec::kCode32Start, 0x10'0000);
  store<std::uint32_t>(image, spec::kInitrdAddrMax, 0x7fff'ffff);
  image[spec::kRelocatableKernel] = 1;
  store(image, spec::kXLoadFlags, spec::kXlfKernel64);
  store<std::uint32_t>(image, spec::kCmdLineSize, 2047);
  store<std::uint32_t>(image, spec::kPayloadOffset, 0);
  store<std::uint32_t>(image, spec::kPayloadLength, static_cast<std::uint32_t>(payload.size()));
  store<std::uint64_t>(image, spec::kPrefAddress, 0x100'0000);
  store<std::uint32_t>(image, spec::kInitSize, 0x10'0000);
  image.insert(image.end(), payload.begin(), payload.end());
  return image;
}

}  // namespace vmm::testing_packed
