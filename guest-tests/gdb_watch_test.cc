// Watchpoints at real guests, in each of the ways that hosts have.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "guest-tests/gdb_rig.h"

namespace vmm {
namespace {

using testing::ContainsRegex;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

class GdbWatch : public Gdb {
 protected:
  void SetUp() override {
    Gdb::SetUp();
    const std::string name = testing::UnitTest::GetInstance()->current_test_info()->name();
    if (!IsSkipped() && only_steps_work() && !name.starts_with("what_the_host_cannot_do"))
      GTEST_SKIP() << "watchpoints are refused here, as what_the_host_cannot_do... sees";
  }
  static bool is_stepped() { return host_backend() == "pvm"; }
};

TEST_F(GdbWatch, gdb_shows_the_old_and_the_new_value) {
  const auto vmm = start("count.elf");
  const std::string text = gdb("count.elf", {"watch *(long *)0x200000", "continue", "p $rbx",
                                             "x/i $pc", "continue", "delete", "continue"});
  EXPECT_THAT(text, HasSubstr("Hardware watchpoint 1: *(long *)0x200000")) << text;
  EXPECT_THAT(text, HasSubstr("Old value = 0\nNew value = 1\n")) << text;
  EXPECT_THAT(text, HasSubstr("$1 = 1\n")) << text;
  EXPECT_THAT(text, ContainsRegex("=> 0x10000d <count\\+11>")) << "behind the write\n" << text;
  EXPECT_THAT(text, HasSubstr("Old value = 1\nNew value = 2\n")) << text;
  EXPECT_THAT(text, HasSubstr("exited normally")) << text;
  const RunResult r = vmm->finish();
  EXPECT_EQ(r.code, 0) << r.text();
  const auto announcement = HasSubstr("this host's KVM delivers no watchpoints");
  if (is_stepped()) {
    EXPECT_THAT(text, announcement);
    EXPECT_THAT(r.err, announcement);
  } else {
    EXPECT_THAT(text, Not(announcement));
  }
}

// In the handler of a timer, and the guest does not suffer from what the steps leave behind.
TEST_F(GdbWatch, a_write_in_an_interrupt_handler_is_seen_and_the_handler_returns) {
  const auto vmm = start("gdb-attach.elf");
  const std::string text =
      gdb("gdb-attach.elf", {"watch ticks", "continue", "bt 1", "continue", "delete", "continue"});
  EXPECT_THAT(text, HasSubstr("Old value = 0\nNew value = 1\n")) << text;
  EXPECT_THAT(text, ContainsRegex("#0 .*on_timer")) << text;
  EXPECT_THAT(text, HasSubstr("Old value = 1\nNew value = 2\n")) << text;
  EXPECT_THAT(text, HasSubstr("exited with code 016")) << text;
  EXPECT_EQ(vmm->finish().code, 14);
}

TEST_F(GdbWatch, the_processor_that_wrote_is_told) {
  for (const char* irqchip : {"user", "kernel"}) {
    const auto vmm = start("smp.elf", {"--smp", "2", "--irqchip", irqchip});
    const std::string text =
        gdb("smp.elf", {"watch *(int *)&started", "continue", "bt 1", "delete", "continue"});
    EXPECT_THAT(text, HasSubstr("Thread 2 \"vCPU 1\" hit Hardware watchpoint 1")) << text;
    EXPECT_THAT(text, HasSubstr("Old value = 0\nNew value = 1\n")) << text;
    EXPECT_THAT(text, ContainsRegex("#0 .*ap_main")) << text;
    EXPECT_THAT(text, HasSubstr("exited normally")) << text;
    EXPECT_EQ(vmm->finish().code, 0) << text;
  }
}

TEST_F(GdbWatch, breakpoints_and_ctrl_c_stop_a_watched_guest) {
  const auto vmm = start("count.elf");
  RspClient client = connect();
  ASSERT_EQ(client.ask("Z2,200800,8"), "OK");
  ASSERT_EQ(client.ask("Z1,10000d,1"), "OK");
  const auto next_stop = [&] {
    std::string packet = client.next();
    return packet.starts_with('O') ? client.next() : packet;
  };
  client.send("vCont;c");
  EXPECT_EQ(next_stop(), "T05thread:1;hwbreak:;");
  client.send("vCont;c");
  EXPECT_EQ(next_stop(), "T05thread:1;hwbreak:;");
  EXPECT_EQ(client.ask("p1"), "0200000000000000");
  ASSERT_EQ(client.ask("z1,10000d,1"), "OK");
  client.send("vCont;c");
  client.send_bytes("\x03");
  EXPECT_THAT(next_stop(), StartsWith("T02"));
  client.send("k");
  EXPECT_EQ(vmm->finish().code, 0);
}

TEST_F(GdbWatch, what_the_host_cannot_do_is_refused_with_the_reason) {
  if (only_steps_work()) {
    // Its steps pass over handlers, so that none may be made of them.
    const std::string why =
        "this host's KVM does not deliver watchpoints to a debugger, and its single steps pass "
        "over "
        "interrupt handlers";
    return expect_refusal("count.elf", "Z2,200000,8", {}, why);
  }
  if (!is_stepped()) GTEST_SKIP() << "this host's KVM delivers watchpoints";
  const auto vmm = start("count.elf");
  RspClient client = connect();
  EXPECT_THAT(client.ask("Z4,200000,8"), HasSubstr("single steps show writes alone"));
  EXPECT_THAT(client.ask("Z2,200000,41"), HasSubstr("at most 64 bytes"));
  client.send("k");
  EXPECT_THAT(vmm->finish().err, HasSubstr("vmm: gdb: this host's KVM does not deliver"));
}

}  // namespace
}  // namespace vmm
