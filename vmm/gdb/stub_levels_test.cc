// The level of virtualization as a register, and in conditions.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "vmm/core/debug_target_fake.h"
#include "vmm/gdb/stub.h"

namespace vmm::gdb {
namespace {

using ::testing::HasSubstr;

class StubLevels : public ::testing::Test {
 protected:
  StubLevels() : target_(1) {
    target_.table.at(1).ecx = 1u << 5;
    debugger_.emplace(target_, PagingFeatures());
    stub_.emplace(target_, *debugger_, Stub::Options());
  }
  std::string say(const std::string& packet) { return stub_->answer(packet).value_or("(later)"); }
  unsigned number_of(std::string_view name) const {
    return RegisterSet(Arch::X86_64, target_.table).find(name)->number;
  }

  FakeDebugTarget target_;
  std::optional<Debugger> debugger_;
  std::optional<Stub> stub_;
};

TEST_F(StubLevels, it_is_read_and_not_written) {
  const unsigned level = number_of("vmm_level");
  EXPECT_EQ(say(fmt::format("p{:x}", level)), "0100000000000000");
  target_.positions[0] = {.level = 2, .block = 0x106000};
  EXPECT_EQ(say(fmt::format("p{:x}", level)), "0200000000000000");
  EXPECT_EQ(say(fmt::format("p{:x}", number_of("vmm_vmcs"))), "0060100000000000");
  EXPECT_THAT(say(fmt::format("P{:x}=0100000000000000", level)), HasSubstr("only read"));
  EXPECT_EQ(say(fmt::format("P{:x}=0200000000000000", level)), "OK") << "as it is";
  EXPECT_EQ(say(fmt::format("P{:x}=02", level)), "E22");
}

TEST_F(StubLevels, a_breakpoint_stops_in_the_level_that_its_condition_names) {
  // $vmm_level == 2
  ASSERT_EQ(say(fmt::format("Z0,1000,1;X7,26{:04x}22021327", number_of("vmm_level"))), "OK");
  const auto stops = [&] {
    say("c");
    target_.states[0].regs.rip = 0x1000;
    const bool told = debugger_->stopped(0, {.exception = 3, .pc = 0x1000, .dr6 = 0, .dr7 = 0})
                          .value()
                          .has_value();
    if (!told) {
      target_.states[0].regs.rip = 0x1001;
      EXPECT_FALSE(
          debugger_->stopped(0, {.exception = 1, .pc = 0x1001, .dr6 = 1u << 14, .dr7 = 0}).value());
      EXPECT_FALSE(debugger_->interrupted().value());
    }
    target_.states[0].regs.rip = 0x2000;
    return told;
  };
  EXPECT_FALSE(stops());
  target_.positions[0].level = 2;
  EXPECT_TRUE(stops());
  target_.positions[0].level = 1;
  EXPECT_FALSE(stops());
}

}  // namespace
}  // namespace vmm::gdb
