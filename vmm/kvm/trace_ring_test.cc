#include "vmm/kvm/trace_ring.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "vmm/kvm/trace_ring_fake.h"

namespace vmm {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::Pair;

using Told = std::vector<std::pair<std::uint64_t, std::size_t>>;  // times and sizes

Told told_by(std::span<const std::uint8_t> page, const RingPage& layout = {}) {
  Told told;
  layout.each(page, [&](std::uint64_t time, std::span<const std::uint8_t> event) {
    told.emplace_back(time, event.size());
  });
  return told;
}

TEST(EventFormat, gives_numbers_and_texts_by_the_names_of_their_fields) {
  const auto format =
      EventFormat::parse(format_text("kvm_nested_vmenter_failed", 50, kFailedFields));
  ASSERT_TRUE(format) << format.error().text();
  EXPECT_EQ(format->id, 50);
  EventBytes event(50, -7);
  event.put<std::uint32_t>(8, 16 | 9u << 16).put<std::uint32_t>(12, 8).text("CC(a < b)");
  EXPECT_EQ(format->number("err", event.bytes()), 8u);
  EXPECT_EQ(format->number("common_pid", event.bytes()), 0xfffffff9u);
  EXPECT_EQ(format->text("msg", event.bytes(), 100), "CC(a < b)");
  EXPECT_EQ(format->text("msg", event.bytes(), 4), "CC(a");
  EXPECT_FALSE(format->has("never"));
}

TEST(EventFormat, a_field_without_a_size_goes_on_to_the_end) {
  const auto format = EventFormat::parse(format_text("print", 5, kPrintFields));
  ASSERT_TRUE(format) << format.error().text();
  EventBytes event(5, 1);
  event.put<std::uint64_t>(8, 0).text("vmm-vcpu 3\n");
  EXPECT_EQ(format->text("buf", event.bytes(), 100), "vmm-vcpu 3\n");
}

TEST(EventFormat, an_event_that_is_too_short_has_no_such_field) {
  const auto format = EventFormat::parse(format_text("kvm_exit", 3, kExitFields));
  ASSERT_TRUE(format);
  const EventBytes event(3, 1);
  EXPECT_EQ(format->number("exit_reason", event.bytes()), std::nullopt);
  EXPECT_EQ(format->number("common_pid", event.bytes()), 1u);
  const auto failed = EventFormat::parse(format_text("failed", 3, kFailedFields));
  EventBytes wild(3, 1);
  wild.put<std::uint32_t>(8, 0xffff'ffff).put<std::uint32_t>(12, 0);
  EXPECT_EQ(failed->text("msg", wild.bytes(), 100), "");
}

TEST(EventFormat, refuses_what_is_none) {
  EXPECT_FALSE(EventFormat::parse(""));
  EXPECT_FALSE(EventFormat::parse("name: x\nID: 70000\n"));
  EXPECT_FALSE(EventFormat::parse("name: x\nID: 7\n"));
  EXPECT_FALSE(EventFormat::parse(
      "ID: 7\n\tfield:unsigned short common_type;\toffset:4;\tsize:2;\tsigned:0;\n"));
  std::string many;
  for (int i = 0; i < 100; ++i) many += "\tfield:int x;\toffset:8;\tsize:4;\tsigned:1;\n";
  EXPECT_FALSE(EventFormat::parse(format_text("x", 7, many)));
}

TEST(RingPage, is_laid_out_as_the_kernel_says) {
  const auto page = RingPage::parse(kHeaderPageText);
  ASSERT_TRUE(page) << page.error().text();
  EXPECT_EQ(page->size, 4096u);
  EXPECT_EQ(page->commit_offset, 8u);
  EXPECT_EQ(page->data_offset, 16u);
  EXPECT_FALSE(RingPage::parse(""));
  EXPECT_FALSE(RingPage::parse("\tfield: char data;\toffset:16;\tsize:4080;\tsigned:0;\n"));
}

TEST(RingPage, tells_events_with_the_sum_of_their_deltas) {
  PageBuilder builder(1000);
  builder.event(EventBytes(1, 1), 0).event(EventBytes(1, 1), 5);
  EventBytes large(1, 1);
  large.text(std::string(200, 'x'));
  builder.event(large, 10);
  EXPECT_THAT(told_by(builder.page()), ElementsAre(Pair(1000, 8), Pair(1005, 8), Pair(1015, 209)));
}

TEST(RingPage, knows_long_deltas_absolute_times_and_events_that_were_taken_back) {
  PageBuilder builder(1000);
  builder.header(30, 7).word(1);  // 1 << 27 | 7 later
  builder.event(EventBytes(1, 1), 1);
  builder.header(29, 1).word(8).word(0);  // taken back: 12 bytes in all
  builder.event(EventBytes(1, 1), 1);
  builder.header(31, 3).word(2);  // at 2 << 27 | 3
  builder.event(EventBytes(1, 1), 1);
  builder.header(29, 0).word(4000);  // the rest is nothing
  builder.event(EventBytes(1, 1), 1);
  const std::uint64_t later = 1000 + (1u << 27) + 7 + 1;
  EXPECT_THAT(told_by(builder.page()),
              ElementsAre(Pair(later, 8), Pair(later + 1, 8), Pair((2u << 27) + 4, 8)));
}

TEST(RingPage, flags_about_missing_events_are_no_part_of_its_length) {
  PageBuilder builder(1);
  builder.event(EventBytes(1, 1), 0);
  EXPECT_THAT(told_by(builder.page(3u << 30)), ElementsAre(Pair(1, 8)));
}

TEST(RingPage, stops_where_a_page_makes_no_sense) {
  EXPECT_THAT(told_by({}), IsEmpty());
  const std::vector<std::uint8_t> ones(4096, 0xff);
  EXPECT_THAT(told_by(ones), IsEmpty());
  PageBuilder too_long(1), no_length(1), half(1);
  too_long.header(28, 0).word(0);
  no_length.header(0, 0).word(0).word(0);
  half.header(30, 0);
  for (const PageBuilder& builder : {too_long, no_length, half})
    EXPECT_THAT(told_by(builder.page()), IsEmpty());
}

}  // namespace
}  // namespace vmm
