#include "vmm/core/trace.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <string>
#include <vector>

namespace vmm {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

TraceEvent out_event(std::uint64_t value, unsigned vcpu = 0) {
  return {.vcpu = vcpu,
          .kind = "out",
          .address = 0x3f8,
          .value = value,
          .width = 1,
          .device = "serial0"};
}

std::vector<std::uint64_t> values_of(const std::vector<TraceEvent>& events) {
  std::vector<std::uint64_t> values;
  for (const TraceEvent& event : events) values.push_back(event.value);
  return values;
}

TEST(TraceEventText, shows_the_direction_and_who_answered) {
  EXPECT_EQ(out_event(0x41).text(), "out 3f8h <- 41h serial0");
  EXPECT_EQ(
      (TraceEvent{
           .kind = "mmio-write", .address = 0xb8000, .value = 0x741, .width = 2, .device = "vga0"})
          .text(),
      "mmio-write b8000h <- 741h vga0");
  EXPECT_EQ((TraceEvent{.kind = "in", .address = 0x2e9, .value = 0xff, .width = 1}).text(),
            "in 2e9h -> ffh (nothing there)");
}

TEST(TraceEventText, shows_repetitions) {
  TraceEvent event = out_event(0);
  event.count = 4096;
  EXPECT_EQ(event.text(), "out 3f8h <- 0h x4096 serial0");
}

TEST(TraceEventText, an_event_without_an_access_is_its_kind) {
  EXPECT_EQ(TraceEvent{.kind = "hlt"}.text(), "hlt");
}

TEST(FlightRecorder, keeps_the_newest_oldest_first) {
  FlightRecorder recorder(3);
  EXPECT_THAT(recorder.last(10), IsEmpty());
  for (std::uint64_t value = 1; value <= 5; ++value) recorder.event(out_event(value));
  EXPECT_EQ(recorder.total(), 5u);
  EXPECT_THAT(values_of(recorder.last(10)), ElementsAre(3, 4, 5));
  EXPECT_THAT(values_of(recorder.last(2)), ElementsAre(4, 5));
  EXPECT_THAT(recorder.last(0), IsEmpty());
}

TEST(FlightRecorder, before_it_is_full_shows_what_there_is) {
  FlightRecorder recorder(8);
  recorder.event(out_event(1));
  recorder.event(out_event(2));
  EXPECT_THAT(values_of(recorder.last(8)), ElementsAre(1, 2));
}

TEST(FlightRecorder, can_show_one_vcpu) {
  FlightRecorder recorder(8);
  for (unsigned i = 0; i < 6; ++i) recorder.event(out_event(i, i % 2));
  EXPECT_THAT(values_of(recorder.last(2, 1)), ElementsAre(3, 5));
  EXPECT_THAT(values_of(recorder.last(8, 0)), ElementsAre(0, 2, 4));
  EXPECT_THAT(recorder.last(8, 7), IsEmpty());
}

TEST(FlightRecorderDeathTest, without_room_is_a_check) {
  EXPECT_DEATH(FlightRecorder(0), "needs room");
}

class JsonLines : public testing::Test {
 protected:
  std::string line_of(const TraceEvent& event, const SymbolTable* symbols = nullptr) {
    std::vector<std::string> lines;
    JsonLinesTracer tracer([&](std::string_view text) { lines.emplace_back(text); }, symbols);
    tracer.event(event);
    EXPECT_THAT(lines, SizeIs(1));
    return lines.empty() ? "" : lines.front();
  }
};

TEST_F(JsonLines, an_access_has_all_its_fields) {
  TraceEvent event = out_event(0x41, 1);
  event.time = std::chrono::microseconds(5);
  event.rip = 0x100020;
  EXPECT_EQ(line_of(event),
            R"({"ns":5000,"vcpu":1,"rip":"0x100020","kind":"out","address":"0x3f8","width":1,)"
            R"("count":1,"value":"0x41","device":"serial0"})"
            "\n");
}

TEST_F(JsonLines, nobody_answering_is_null) {
  EXPECT_EQ(line_of({.kind = "in", .address = 0x2e9, .value = 0xff, .width = 1}),
            R"({"ns":0,"vcpu":0,"rip":"0x0","kind":"in","address":"0x2e9","width":1,)"
            R"("count":1,"value":"0xff","device":null})"
            "\n");
}

TEST_F(JsonLines, an_event_without_an_access_is_short) {
  EXPECT_EQ(line_of({.kind = "hlt"}), R"({"ns":0,"vcpu":0,"rip":"0x0","kind":"hlt"})"
                                      "\n");
}

TEST_F(JsonLines, the_symbol_is_named_when_there_is_one) {
  SymbolTable symbols;
  symbols.add("main", 0x100000, 0x40);
  EXPECT_EQ(line_of({.rip = 0x100004, .kind = "hlt"}, &symbols),
            R"({"ns":0,"vcpu":0,"rip":"0x100004","kind":"hlt","symbol":"main+4h"})"
            "\n");
  EXPECT_EQ(line_of({.rip = 0x200000, .kind = "hlt"}, &symbols),
            R"({"ns":0,"vcpu":0,"rip":"0x200000","kind":"hlt"})"
            "\n");
}

TEST_F(JsonLines, a_hostile_symbol_cannot_break_the_line) {
  SymbolTable symbols;
  symbols.add("a\"b\\c\n\x01{", 0x1000, 8);
  EXPECT_EQ(line_of({.rip = 0x1000, .kind = "hlt"}, &symbols),
            R"({"ns":0,"vcpu":0,"rip":"0x1000","kind":"hlt","symbol":"abcx0ax01{"})"
            "\n");
}

}  // namespace
}  // namespace vmm
