#include "vmm/lab/frame.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace vmm {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

using Bytes = std::vector<std::uint8_t>;

std::span<const std::uint8_t> bytes_of(std::string_view text) {
  return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}

// What a reader makes of `bytes`, given in pieces of `piece`: "KIND:STREAM:PAYLOAD" for each frame,
// then the error if there is one.
std::vector<std::string> read_all(const Bytes& bytes, std::size_t piece = 1 << 20,
                                  FrameReader reader = FrameReader("the channel")) {
  std::vector<std::string> seen;
  for (std::size_t at = 0; at < bytes.size();) {
    const auto room = reader.room();
    const std::size_t count = std::min({piece, room.size(), bytes.size() - at});
    std::copy_n(bytes.begin() + static_cast<std::ptrdiff_t>(at), count, room.begin());
    reader.add(count);
    at += count;
    for (;;) {
      const auto frame = reader.next();
      if (!frame) {
        seen.push_back(frame.error().text());
        return seen;
      }
      if (!*frame) break;
      seen.push_back(std::to_string(static_cast<int>((*frame)->kind)) + ":" +
                     std::to_string((*frame)->stream) + ":" + std::string((*frame)->text()));
    }
  }
  return seen;
}

// A greeting and three frames of data, and where each begins.
struct Sample {
  Bytes bytes;
  std::vector<std::size_t> begins;
  Sample() {
    FrameWriter writer;
    const auto add = [&](FrameKind kind, std::uint32_t stream, std::string_view text) {
      begins.push_back(bytes.size());
      writer.append(bytes, kind, stream, bytes_of(text));
    };
    add(FrameKind::Greeting, 0, "{}");
    add(FrameKind::Data, 7, "one");
    add(FrameKind::Data, 7, "two");
    add(FrameKind::Data, 8, "three");
    begins.push_back(bytes.size());
  }
  Bytes frame(std::size_t n) const {
    return {bytes.begin() + static_cast<std::ptrdiff_t>(begins[n]),
            bytes.begin() + static_cast<std::ptrdiff_t>(begins[n + 1])};
  }
};

Bytes joined(std::initializer_list<Bytes> parts) {
  Bytes all;
  for (const Bytes& part : parts) all.insert(all.end(), part.begin(), part.end());
  return all;
}

TEST(FrameReader, gives_back_what_the_writer_wrote_however_it_arrives) {
  const Sample sample;
  const auto expected = ElementsAre("1:0:{}", "4:7:one", "4:7:two", "4:8:three");
  EXPECT_THAT(read_all(sample.bytes), expected);
  EXPECT_THAT(read_all(sample.bytes, 1), expected);
  EXPECT_THAT(read_all(sample.bytes, 25), expected);
}

TEST(FrameReader, names_a_frame_that_was_lost) {
  const Sample s;
  EXPECT_THAT(read_all(joined({s.frame(0), s.frame(1), s.frame(3)})),
              ElementsAre("1:0:{}", "4:7:one", "the channel lost a frame: number 3 after 1"));
}

TEST(FrameReader, names_a_frame_that_came_twice) {
  const Sample s;
  EXPECT_THAT(read_all(joined({s.frame(0), s.frame(1), s.frame(1)})),
              ElementsAre("1:0:{}", "4:7:one", "the channel repeated a frame: number 1 after 1"));
}

TEST(FrameReader, notices_any_changed_bit_and_gives_no_wrong_frame) {
  const Sample s;
  for (std::size_t at = s.begins[1]; at < s.begins[2]; ++at)
    for (int bit = 0; bit < 8; ++bit) {
      Bytes bytes = s.bytes;
      bytes[at] = static_cast<std::uint8_t>(bytes[at] ^ 1 << bit);
      const auto seen = read_all(bytes);
      ASSERT_EQ(seen.size(), 2u) << at << " " << bit;
      EXPECT_THAT(seen[1], HasSubstr("the channel is garbled: the frame after number 0"));
    }
}

TEST(FrameReader, notices_missing_bytes) {
  const Sample s;
  for (std::size_t cut = 1; cut < s.frame(1).size(); ++cut) {
    Bytes bytes = s.bytes;
    bytes.erase(bytes.begin() + static_cast<std::ptrdiff_t>(s.begins[2] - cut),
                bytes.begin() + static_cast<std::ptrdiff_t>(s.begins[2]));
    const auto seen = read_all(bytes);
    ASSERT_EQ(seen.size(), 2u) << cut;
    EXPECT_THAT(seen[1], HasSubstr("garbled"));
  }
}

TEST(FrameReader, skips_a_kernels_words_before_the_greeting) {
  const Sample s;
  const std::string noise = "Linux version 6.1\r\nVlab" + std::string(40, 'x');
  const Bytes words(noise.begin(), noise.end());
  // The second half of an earlier session's frame, and a frame that is no greeting.
  const Bytes rest(s.bytes.begin() + 30, s.bytes.end());
  EXPECT_THAT(read_all(joined({words, rest, s.bytes})),
              ElementsAre("1:0:{}", "4:7:one", "4:7:two", "4:8:three"));
}

TEST(FrameReader, listens_to_noise_only_so_long) {
  const Sample s;
  const Bytes noise(1000, 0x20);
  EXPECT_THAT(read_all(joined({noise, s.bytes}), 100, FrameReader("the channel", 999)),
              ElementsAre("the channel carries something else than frames"));
  EXPECT_EQ(read_all(joined({noise, s.bytes}), 100, FrameReader("the channel", 1000)).size(), 4u);
}

TEST(FrameReader, a_greeting_begins_the_numbers_anew) {
  const Sample s;
  EXPECT_THAT(read_all(joined({s.bytes, s.frame(0), s.frame(1)})),
              ElementsAre("1:0:{}", "4:7:one", "4:7:two", "4:8:three", "1:0:{}", "4:7:one"));
}

TEST(FrameReader, takes_frames_without_payload) {
  FrameWriter writer;
  Bytes bytes;
  writer.append(bytes, FrameKind::Greeting, 0, {});
  writer.append(bytes, FrameKind::Eof, 3, {});
  EXPECT_THAT(read_all(bytes), ElementsAre("1:0:", "5:3:"));
}

TEST(FrameReader, takes_the_longest_payload) {
  FrameWriter writer;
  Bytes bytes;
  writer.append(bytes, FrameKind::Greeting, 0, bytes_of("{}"));
  const Bytes payload(kMaxPayload, 0xa5);
  for (int i = 0; i < 20; ++i) writer.append(bytes, FrameKind::Data, 1, payload);
  EXPECT_EQ(read_all(bytes, 4097).size(), 21u);
}

}  // namespace
}  // namespace vmm
