// Every truncation and every flipped bit of a minimal image of each kind: an Error or an image that
// keeps the promises of image.h, and placing it never leaves RAM.
#include <gtest/gtest.h>

#include <string_view>

#include "loader/compressed_fake.h"
#include "loader/image_builder.h"
#include "loader/pe_builder.h"

namespace vmm {
namespace {

using namespace testing_images;

struct Sample {
  const char* name;
  ByteVector bytes;
  std::optional<std::string> protocol;
};

// One that fits into the memory of these tests.
ByteVector bzimage_of(const ByteVector& payload) {
  ByteVector bytes = testing_packed::bzimage(payload);
  store<std::uint64_t>(bytes, bzimage_header::kPrefAddress, 0x20'0000);
  return bytes;
}

std::vector<Sample> samples() {
  return {
      {"elf32", minimal_elf<Class32>(), std::nullopt},
      {"elf64", minimal_elf<Class64>(), std::nullopt},
      {"multiboot1 elf32", minimal_multiboot1<Class32>(), std::nullopt},
      {"multiboot1 elf64", minimal_multiboot1<Class64>(), std::nullopt},
      {"multiboot1 kludge", minimal_kludge(kKludge), std::nullopt},
      {"multiboot2 elf32", minimal_multiboot2<Class32>(multiboot2_tag(1, {4, 6})), std::nullopt},
      {"multiboot2 relocatable",
       minimal_multiboot2<Class64>(multiboot2_tag(10, {0x100000, 0xffff'ffff, 0x1000, 2})),
       std::nullopt},
      {"pvh elf32", minimal_pvh<Class32>(), std::nullopt},
      {"pvh elf64", minimal_pvh<Class64>(), std::nullopt},
      {"bzimage", bzimage_of(minimal_elf<Class64>()), std::nullopt},
      {"bzimage that enters itself", bzimage_of(pattern(0x300)), std::nullopt},
      {"forced linux32", bzimage_of(pattern(0x300)), "linux32"},
      {"efi", minimal_efi(), std::nullopt},
      {"gzip", testing_packed::gzip(minimal_elf<Class64>()), std::nullopt},
      {"forced multiboot1", minimal_kludge(kKludge), "multiboot1"},
      {"forced elf", minimal_multiboot1<Class64>(), "elf"},
      {"forced flat", minimal_elf<Class32>(), "flat"}};
}

struct Tally {
  unsigned placed = 0;
  unsigned refused = 0;
};

void expect_promises(const LoadedImage& image) {
  if (image.protocol == BootProtocol::Efi) {
    ASSERT_TRUE(image.segments.empty());
    return;
  }
  ASSERT_FALSE(image.segments.empty());
  bool entry_covered = false;
  Gpa free_from = 0;
  for (const Segment& s : image.segments) {
    ASSERT_GE(s.gpa, free_from);
    ASSERT_GT(s.end(), s.gpa);
    ASSERT_LE(s.file_size, s.memory_size);
    ASSERT_LE(s.file_offset, image.bytes.size());
    ASSERT_LE(s.file_size, image.bytes.size() - s.file_offset);
    entry_covered = entry_covered || (image.entry >= s.gpa && image.entry < s.end());
    free_from = s.end();
  }
  ASSERT_TRUE(entry_covered);
}

void try_image(const ByteVector& bytes, const Sample& sample, GuestMemory& memory, Tally& tally) {
  BootOptions options;
  options.protocol = sample.protocol;
  const auto image = parse(bytes, options);
  if (!image) {
    ASSERT_EQ(image.error().kind(), ErrorKind::Image);
    ASSERT_FALSE(image.error().text().empty());
    ++tally.refused;
    return;
  }
  expect_promises(*image);
  const auto state = place_image(*image, options, memory);
  if (image->protocol == BootProtocol::Efi) {
    ASSERT_FALSE(state);
    ++tally.placed;
    return;
  }
  if (!state) {
    ASSERT_EQ(state.error().kind(), ErrorKind::Image);
    ++tally.refused;
    return;
  }
  ASSERT_TRUE(memory.is_ram(state->sregs.cs.base + state->regs.rip));
  ++tally.placed;
}

TEST(Damage, every_truncation_is_refused_or_loads) {
  for (const Sample& sample : samples()) {
    SCOPED_TRACE(sample.name);
    GuestMemory memory = std::move(GuestMemory::create(16_MiB)).value();
    Tally tally;
    for (std::size_t size = 0; size < sample.bytes.size(); ++size) {
      SCOPED_TRACE(size);
      const ByteVector cut(sample.bytes.begin(),
                           sample.bytes.begin() + static_cast<std::ptrdiff_t>(size));
      ASSERT_NO_FATAL_FAILURE(try_image(cut, sample, memory, tally));
    }
    EXPECT_GT(tally.refused, 0U);
  }
}

TEST(Damage, every_flipped_bit_is_refused_or_loads) {
  for (const Sample& sample : samples()) {
    SCOPED_TRACE(sample.name);
    GuestMemory memory = std::move(GuestMemory::create(16_MiB)).value();
    Tally tally;
    ByteVector bytes = sample.bytes;
    for (std::size_t i = 0; i < bytes.size() * 8; ++i) {
      SCOPED_TRACE(i);
      const auto mask = static_cast<std::uint8_t>(1U << i % 8);
      bytes[i / 8] ^= mask;
      ASSERT_NO_FATAL_FAILURE(try_image(bytes, sample, memory, tally));
      bytes[i / 8] ^= mask;
    }
    // What is packed has a checksum over every bit.
    if (std::string_view(sample.name) != "gzip") {
      EXPECT_GT(tally.placed, 0U);
    }
    if (sample.protocol != "flat") {
      EXPECT_GT(tally.refused, 0U);
    }
  }
}

// Whole bytes set to the extremes, where sums and products go wrong.
TEST(Damage, every_byte_at_its_extremes_is_refused_or_loads) {
  for (const Sample& sample : samples()) {
    SCOPED_TRACE(sample.name);
    GuestMemory memory = std::move(GuestMemory::create(16_MiB)).value();
    Tally tally;
    for (std::size_t width : {1U, 2U, 4U, 8U}) {
      for (std::size_t at = 0; at + width <= sample.bytes.size(); at += width) {
        for (const std::uint8_t value : {std::uint8_t{0}, std::uint8_t{0x7f}, std::uint8_t{0xff}}) {
          SCOPED_TRACE(at);
          ByteVector bytes = sample.bytes;
          std::fill_n(bytes.begin() + static_cast<std::ptrdiff_t>(at), width, value);
          ASSERT_NO_FATAL_FAILURE(try_image(bytes, sample, memory, tally));
        }
      }
    }
    EXPECT_GT(tally.placed, 0U);
  }
}

}  // namespace
}  // namespace vmm
