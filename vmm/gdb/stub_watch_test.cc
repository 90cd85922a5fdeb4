// Watchpoints by the wire, where KVM delivers them and where they are stepped.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "vmm/core/debug_target_fake.h"
#include "vmm/gdb/stub.h"

namespace vmm::gdb {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

struct Rig {
  explicit Rig(bool watchpoints) : target(1) {
    target.support.watchpoints = watchpoints;
    debugger.emplace(target, PagingFeatures());
    stub.emplace(target, *debugger, Stub::Options());
  }
  // What comes for a packet without acks.
  std::string send(std::string_view payload) {
    const std::string bytes = frame(payload);
    stub->receive({reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size()});
    std::string output = stub->take_output();
    if (output.starts_with('+')) output.erase(0, 1);
    return output;
  }

  FakeDebugTarget target;
  std::optional<Debugger> debugger;
  std::optional<Stub> stub;
};

TEST(StubWatch, a_stepped_watchpoint_is_announced_on_the_clients_console_once) {
  Rig rig(false);
  EXPECT_EQ(rig.send("Z2,1000,4"), frame("OK"));
  EXPECT_EQ(rig.stub->take_note(), "");
  const std::string output = rig.send("vCont;c");
  ASSERT_THAT(output, StartsWith("$O"));
  const auto text = from_hex(std::string_view(output).substr(2, output.size() - 5));
  ASSERT_TRUE(text);
  EXPECT_THAT(std::string(text->begin(), text->end()),
              HasSubstr("vmm: this host's KVM delivers no watchpoints"));
  EXPECT_THAT(rig.stub->take_note(), HasSubstr("by single steps"));
  rig.target.ram.bytes()[0x1001] = 1;
  const auto report =
      rig.debugger->stopped(0, {.exception = 1, .pc = 0x10, .dr6 = 1u << 14, .dr7 = 0}).value();
  ASSERT_TRUE(report);
  rig.stub->stopped(*report);
  EXPECT_EQ(rig.stub->take_output(), frame("T05thread:1;watch:1000;"));
  EXPECT_EQ(rig.send("vCont;c"), "");
  // Another client has not heard it.
  ASSERT_TRUE(rig.debugger->interrupted());
  rig.stub->new_client();
  EXPECT_EQ(rig.send("Z2,1000,4"), frame("OK"));
  EXPECT_THAT(rig.send("vCont;c"), StartsWith("$O"));
}

TEST(StubWatch, an_access_that_steps_cannot_show_is_refused_and_the_user_told_why) {
  Rig rig(false);
  EXPECT_THAT(rig.send("Z4,1000,4"), StartsWith("$E."));
  EXPECT_THAT(rig.stub->take_note(), HasSubstr("single steps show writes alone"));
}

TEST(StubWatch, a_real_watchpoint_needs_no_words) {
  Rig rig(true);
  EXPECT_EQ(rig.send("Z2,1000,4"), frame("OK"));
  EXPECT_EQ(rig.send("vCont;c"), "");
  EXPECT_FALSE(rig.target.controls[0].step);
}

}  // namespace
}  // namespace vmm::gdb
