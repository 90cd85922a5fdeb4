#include "vmm/core/trace.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <chrono>
#include <fstream>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "vmm/core/apic_message.h"
#include "vmm/core/trace_fake.h"

namespace vmm {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

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

TEST(TraceEventText, says_who_sent_what) {
  EXPECT_EQ((TraceEvent{.vcpu = 1, .other = 0, .kind = "sipi", .value = 0x9a}).text(),
            "sipi 9ah from vCPU 0");
  EXPECT_EQ((TraceEvent{.kind = "ipi", .address = 3, .value = 0x4500}).text(), "ipi init to 3h");
  EXPECT_EQ((TraceEvent{.kind = "inject", .value = 0x28, .device = "pic"}).text(),
            "inject 28h pic");
  EXPECT_EQ((TraceEvent{.vcpu = kNoVcpu, .kind = "line", .address = 4, .value = 1}).text(),
            "line 4 high");
}

TEST(FlightRecorder, keeps_the_newest_oldest_first) {
  FlightRecorder recorder(4);
  EXPECT_THAT(recorder.last(10), IsEmpty());
  for (std::uint64_t value = 1; value <= 6; ++value) recorder.event(out_event(value));
  EXPECT_EQ(recorder.total(), 6u);
  EXPECT_THAT(values_of(recorder.last(10)), ElementsAre(3, 4, 5, 6));
  EXPECT_THAT(values_of(recorder.last(2)), ElementsAre(5, 6));
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

TEST(FlightRecorder, last_exits_are_those_that_tell_something) {
  FlightRecorder recorder(16);
  recorder.event(out_event(1));
  for (const TraceKind kind :
       {TraceKind("interrupted"), TraceKind("irq-window"), TraceKind("inject"), TraceKind("line")})
    recorder.event({.kind = kind});
  recorder.event({.kind = "hlt"});
  const auto exits = recorder.last_exits(8);
  ASSERT_THAT(exits, SizeIs(2));
  EXPECT_EQ(exits[0], out_event(1));
  EXPECT_EQ(exits[1].kind.name(), "hlt");
  EXPECT_THAT(recorder.last_exits(1), SizeIs(1));
}

TEST(FlightRecorder, keeps_who_started_a_processor_for_good) {
  FlightRecorder recorder(4);
  recorder.event({.vcpu = 2, .other = 0, .kind = "init"});
  recorder.event({.vcpu = 2, .other = 0, .kind = "sipi", .value = 0x10});
  recorder.event({.vcpu = 2, .other = 1, .kind = "sipi", .value = 0x9a});
  for (unsigned i = 0; i < 100; ++i) recorder.event(out_event(i));
  ASSERT_TRUE(recorder.start(2).sipi);
  EXPECT_EQ(recorder.start(2).sipi->value, 0x9au) << "the last one counts";
  EXPECT_EQ(recorder.start(2).sipi->other, 1u);
  EXPECT_EQ(recorder.start(2).init->other, 0u);
  EXPECT_FALSE(recorder.start(1).sipi);
  recorder.event({.vcpu = kNoVcpu, .kind = "init"});  // goes nowhere
}

TEST(TraceKind, every_name_is_found_once) {
  for (std::size_t i = 0; i < kTraceKinds.size(); ++i) {
    const auto kind = TraceKind::from_name(kTraceKinds[i].name);
    ASSERT_TRUE(kind) << kTraceKinds[i].name;
    EXPECT_EQ(kind->index(), i) << kTraceKinds[i].name;
  }
  EXPECT_FALSE(TraceKind::from_name("in "));
  EXPECT_FALSE(TraceKind::from_name(""));
}

TEST(TraceKind, every_kind_stands_in_the_table_of_the_documentation_and_nothing_else_does) {
  std::ifstream file("docs/traces.md");
  ASSERT_TRUE(file) << "tests run in the root of the repository";
  std::set<std::string> documented;
  // "| `kind` | fields | user | split | kernel | meaning |", a dot where it is not seen.
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with("| `")) continue;
    std::vector<std::string> cells;
    std::istringstream parts(line.substr(1));
    for (std::string cell; std::getline(parts, cell, '|');) cells.push_back(cell);
    if (cells.size() < 6) continue;
    std::istringstream names(cells[0]);
    for (std::string name; names >> name;) {
      const auto kind = TraceKind::from_name(name.substr(1, name.find('`', 1) - 1));
      ASSERT_TRUE(kind) << line;
      EXPECT_TRUE(documented.emplace(kind->name()).second) << line;
      const std::array chips = {IrqChipKind::User, IrqChipKind::Split, IrqChipKind::Kernel};
      for (std::size_t i = 0; i < chips.size(); ++i)
        EXPECT_EQ(kind->visible_under(chips[i]), cells[2 + i].find("yes") != std::string::npos)
            << line << irqchip_name(chips[i]);
    }
  }
  EXPECT_EQ(documented.size(), kTraceKinds.size());
}

TEST(ApicMessageText, says_mode_vector_and_destination) {
  const auto text = [](const ApicMessage& message, ApicShorthand shorthand = ApicShorthand::None) {
    return message_text(message_bits(message, shorthand), message.destination);
  };
  EXPECT_EQ(text({.destination = 2, .vector = 0x30}), "fixed 30h to 2h");
  EXPECT_EQ(text({.mode = DeliveryMode::Startup, .vector = 0x9a}, ApicShorthand::AllButSelf),
            "sipi 9ah to all-but-self");
  EXPECT_EQ(text({.destination = 1, .logical = true, .mode = DeliveryMode::Nmi}),
            "nmi to logical 1h");
  EXPECT_EQ(text({.destination = kApicBroadcast, .mode = DeliveryMode::Init}), "init to all");
}

}  // namespace
}  // namespace vmm
