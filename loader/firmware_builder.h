// For tests: firmware files, made of volumes, files and sections.
#pragma once

#include <gtest/gtest.h>
#include <lzma.h>

#include <string_view>

#include "loader/firmware_volume.h"
#include "loader/image_builder.h"

namespace vmm::testing_firmware {

using testing_images::append;
using testing_images::ByteVector;

// "8C8CE578-8A3D-4F1C-9935-896185C32DD3" as it stands in memory.
inline Guid guid(std::string_view text) {
  Guid value{};
  std::size_t digits = 0;
  ByteVector bytes;
  unsigned byte = 0;
  for (const char c : text) {
    if (c == '-') continue;
    const unsigned digit =
        c <= '9' ? static_cast<unsigned>(c - '0') : (static_cast<unsigned>(c) & 0x1fU) + 9;
    byte = (byte << 4 | digit) & 0xff;
    if (++digits % 2 == 0) bytes.push_back(static_cast<std::uint8_t>(byte));
  }
  EXPECT_EQ(bytes.size(), 16U);
  constexpr std::array<std::size_t, 16> kOrder = {3, 2, 1,  0,  5,  4,  7,  6,
                                                  8, 9, 10, 11, 12, 13, 14, 15};
  for (std::size_t i = 0; i < 16; ++i) value[i] = bytes.at(kOrder[i]);
  return value;
}

inline const Guid kFfs2 = guid("8c8ce578-8a3d-4f1c-9935-896185c32dd3");
inline const Guid kNvData = guid("fff12b8d-7696-4c8b-a985-2747075b4f50");
inline const Guid kAuthenticated = guid("aaf32c78-947b-439a-a180-2e144ec37792");
inline const Guid kLzma = guid("ee4e5898-3914-4259-9d6e-dc7bd79403cf");
inline const Guid kWorkingBlock = guid("9e58292b-7c68-497d-a0ce-6500fd9f1b95");
inline const Guid kSmmAccessPei = guid("6c0e75b4-b0b9-44d1-8210-3377d7b4e066");
inline const Guid kSomeFile = guid("52c05b14-0b98-496c-bc3b-04b50211d680");

inline void add(ByteVector& to, const ByteVector& what) {
  to.insert(to.end(), what.begin(), what.end());
}

inline void put_24(ByteVector& bytes, std::size_t offset, std::size_t value) {
  store_uint(std::span(bytes).subspan(offset, 3), value);
}

// A volume of `size` bytes, free behind its content.
inline ByteVector volume(const Guid& format, std::size_t size, const ByteVector& content) {
  ByteVector bytes(0x48);
  store(bytes, 0x10, format);
  store<std::uint64_t>(bytes, 0x20, size);
  put_text(bytes, 0x28, "_FVH");
  store<std::uint32_t>(bytes, 0x2c, 0x4feff);
  store<std::uint16_t>(bytes, 0x30, 0x48);
  bytes[0x37] = 2;
  store<std::uint32_t>(bytes, 0x38, static_cast<std::uint32_t>(size / 0x1000));
  store<std::uint32_t>(bytes, 0x3c, 0x1000);
  std::uint16_t sum = 0;
  for (std::size_t at = 0; at < 0x48; at += 2)
    sum = static_cast<std::uint16_t>(sum + load<std::uint16_t>(bytes, at));
  store<std::uint16_t>(bytes, 0x32, static_cast<std::uint16_t>(0x10000 - sum));
  add(bytes, content);
  EXPECT_LE(bytes.size(), size);
  bytes.resize(size, 0xff);
  return bytes;
}

inline ByteVector file(const Guid& name, std::uint8_t type, const ByteVector& content) {
  ByteVector bytes(0x18);
  store(bytes, 0, name);
  bytes[0x12] = type;
  put_24(bytes, 0x14, 0x18 + content.size());
  add(bytes, content);
  bytes.resize(align_up(bytes.size(), 8), 0xff);
  return bytes;
}

inline ByteVector section(std::uint8_t type, const ByteVector& content) {
  ByteVector bytes(4);
  put_24(bytes, 0, 4 + content.size());
  bytes[3] = type;
  add(bytes, content);
  bytes.resize(align_up(bytes.size(), 4));
  return bytes;
}

inline ByteVector lzma_section(const ByteVector& content) {
  lzma_options_lzma options;
  EXPECT_EQ(lzma_lzma_preset(&options, 1), 0);
  lzma_stream stream = LZMA_STREAM_INIT;
  EXPECT_EQ(lzma_alone_encoder(&stream, &options), LZMA_OK);
  ByteVector packed(content.size() + 0x1000);
  stream.next_in = content.data();
  stream.avail_in = content.size();
  stream.next_out = packed.data();
  stream.avail_out = packed.size();
  EXPECT_EQ(lzma_code(&stream, LZMA_FINISH), LZMA_STREAM_END);
  packed.resize(packed.size() - stream.avail_out);
  lzma_end(&stream);
  ByteVector body;
  append(body, kLzma);
  append(body, std::uint16_t{24});  // of the data, from the section's start
  append(body, std::uint16_t{1});
  add(body, packed);
  return section(2, body);
}

// A variable store of `size` bytes, with its working block and spare as OVMF lays them out.
inline ByteVector variables(std::size_t size) {
  ByteVector store_bytes;
  append(store_bytes, kAuthenticated);
  append(store_bytes, static_cast<std::uint32_t>(size / 2 - 0x2000 - 0x48));
  for (const int b : {0x5a, 0xfe, 0, 0, 0, 0, 0, 0})
    store_bytes.push_back(static_cast<std::uint8_t>(b));
  ByteVector bytes = volume(kNvData, size, store_bytes);
  store(bytes, size / 2 - 0x1000, kWorkingBlock);
  return bytes;
}

// Code of `size` bytes: a packed PEI volume with `pei` in it, and the volume with the reset vector.
inline ByteVector code(std::size_t size, const ByteVector& pei = file(kSomeFile, 4, {1, 2, 3})) {
  ByteVector packed = section(0x19, ByteVector(0x78));
  add(packed, section(0x17, volume(kFfs2, 0x8000, pei)));
  add(packed, section(0x17, ByteVector(0x4000, 7)));
  ByteVector bytes = volume(kFfs2, size - 0x4000, file(kSomeFile, 0x0b, lzma_section(packed)));
  ByteVector last = volume(kFfs2, 0x4000, {});
  last[0x3ff0] = 0x90;
  last[0x3ff2] = 0xe9;
  add(bytes, last);
  return bytes;
}

}  // namespace vmm::testing_firmware
