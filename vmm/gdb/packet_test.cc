#include "vmm/gdb/packet.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace vmm::gdb {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::span<const std::uint8_t> bytes_of(std::string_view text) {
  return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}
std::vector<Event> read(std::string_view text) { return PacketReader().push(bytes_of(text)); }

TEST(PacketReader, packets_acks_and_interrupts_come_in_their_order) {
  EXPECT_THAT(read("+$g#67-\x03$?#3f"), ElementsAre(Event{Ack{}}, Event{Packet{"g"}}, Event{Nack{}},
                                                    Event{Interrupt{}}, Event{Packet{"?"}}));
}

TEST(PacketReader, a_packet_may_come_in_any_pieces) {
  const std::string text = frame("X1000,3:a}#$*\x03");
  for (std::size_t cut = 0; cut <= text.size(); ++cut) {
    PacketReader reader;
    auto events = reader.push(bytes_of(text).first(cut));
    for (const Event& event : reader.push(bytes_of(text).subspan(cut))) events.push_back(event);
    EXPECT_THAT(events, ElementsAre(Event{Packet{"X1000,3:a}#$*\x03"}})) << cut;
  }
}

TEST(PacketReader, every_byte_survives_the_escapes) {
  std::string payload;
  for (int i = 0; i < 256; ++i) payload += static_cast<char>(i);
  EXPECT_THAT(read(frame(payload)), ElementsAre(Event{Packet{payload}}));
}

TEST(PacketReader, a_wrong_checksum_is_told_until_checksums_are_ignored) {
  const auto events = read("$g#68");
  ASSERT_EQ(events.size(), 1U);
  EXPECT_THAT(std::get<Damaged>(events[0]).why, HasSubstr("checksum 68, but the bytes give 67"));
  EXPECT_TRUE(std::holds_alternative<Damaged>(read("$g#zz").at(0)));
  PacketReader reader;
  reader.ignore_checksums();
  EXPECT_THAT(reader.push(bytes_of("$g#zz")), ElementsAre(Event{Packet{"g"}}));
}

TEST(PacketReader, a_packet_cut_off_by_another_is_dropped) {
  EXPECT_THAT(read("$qSuppo$g#67"), ElementsAre(Event{Packet{"g"}}));
  EXPECT_THAT(read("$g#6$g#67"), ElementsAre(Event{Packet{"g"}}));
  EXPECT_THAT(read("garbage"), IsEmpty());
  EXPECT_THAT(read("$never ends"), IsEmpty());
}

TEST(PacketReader, longest_packet_is_taken_and_a_longer_one_is_damaged) {
  EXPECT_EQ(read(frame(std::string(kPacketSize, 'a'))).at(0),
            Event{Packet{std::string(kPacketSize, 'a')}});
  PacketReader reader;
  const auto events = reader.push(bytes_of(frame(std::string(kPacketSize + 1, 'a'))));
  EXPECT_THAT(std::get<Damaged>(events.at(0)).why, HasSubstr("more than"));
  EXPECT_THAT(reader.push(bytes_of("$g#67")), ElementsAre(Event{Packet{"g"}}));
}

TEST(Hex, goes_there_and_back) {
  EXPECT_EQ(to_hex(std::string_view("\x00\x7f\xff", 3)), "007fff");
  EXPECT_EQ(from_hex("007fFF").value(), (std::vector<std::uint8_t>{0, 0x7f, 0xff}));
  EXPECT_EQ(from_hex("").value(), std::vector<std::uint8_t>());
  EXPECT_FALSE(from_hex("0"));
  EXPECT_FALSE(from_hex("0g"));
}

TEST(Number, is_one_to_sixteen_digits) {
  EXPECT_EQ(parse_number("ffffffffffffffff"), 0xffff'ffff'ffff'ffffU);
  EXPECT_EQ(parse_number("0"), 0U);
  EXPECT_FALSE(parse_number(""));
  EXPECT_FALSE(parse_number("10000000000000000"));
  EXPECT_FALSE(parse_number("-1"));
}

TEST(ArgumentsTest, are_read_from_the_left) {
  Arguments a("1000,10:rest;more");
  EXPECT_EQ(a.number(), 0x1000U);
  a.expect(',');
  EXPECT_EQ(a.number(), 0x10U);
  EXPECT_FALSE(a.accept(';'));
  EXPECT_TRUE(a.accept(':'));
  EXPECT_EQ(a.until(';'), "rest");
  EXPECT_EQ(a.rest(), ";more");
  EXPECT_TRUE(a.good());
}

TEST(ArgumentsTest, what_does_not_fit_fails_for_good) {
  for (const char* text : {",", "x", "", "11112222333344445,"}) {
    Arguments a(text);
    a.number();
    a.accept(',');
    EXPECT_FALSE(a.good()) << text;
  }
  Arguments a("1;2");
  a.number();
  a.expect(',');
  EXPECT_FALSE(a.good());
}

TEST(Frame, of_any_length_is_read_back_as_it_was) {
  // Every byte, at every place of a word and of a piece.
  std::string payload;
  for (unsigned size = 0; size < 3000; size = size * 5 / 4 + 1) {
    while (payload.size() < size) payload += static_cast<char>(payload.size() * 7 + size);
    const std::string bytes = frame(payload);
    PacketReader reader;
    EXPECT_EQ(reader.push({reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size()}),
              (std::vector<Event>{Packet{payload}}))
        << size;
  }
  const std::string most(64 * 1024, '\xff');
  const std::string bytes = frame(most);
  PacketReader reader;
  EXPECT_EQ(reader.push({reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size()}),
            (std::vector<Event>{Packet{most}}));
}

}  // namespace
}  // namespace vmm::gdb
