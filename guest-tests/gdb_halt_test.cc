// Steps of processors that sleep.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "guest-tests/gdb_rig.h"

namespace vmm {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

class GdbHalt : public Gdb {};

TEST_F(GdbHalt, a_step_of_one_that_waits_for_a_sipi_is_refused_with_the_reason) {
  const auto vmm = start("smp.elf", {"--smp", "2"});
  const std::string text =
      gdb("smp.elf", {"set scheduler-locking on", "thread 2", "stepi", "p 40 + 2", "thread 1",
                      "set scheduler-locking off", "continue"});
  EXPECT_THAT(text, HasSubstr("vCPU 1 waits for a SIPI and has no instruction to step")) << text;
  EXPECT_THAT(text, HasSubstr("$1 = 42")) << text;
  EXPECT_THAT(text, HasSubstr("exited normally")) << text;
  EXPECT_EQ(vmm->finish().code, 0) << text;
}

// After HLT, and `next`, which gdb would repeat for ever if it were answered.
TEST_F(GdbHalt, a_step_of_one_that_is_halted_for_ever_is_refused_with_the_reason) {
  const auto vmm = start("cli-hlt.elf");
  const std::string text =
      gdb("cli-hlt.elf", {"stepi", "stepi", "stepi", "next", "info threads", "kill"});
  EXPECT_THAT(text, HasSubstr("vCPU 0 is halted with interrupts off")) << text;
  EXPECT_THAT(text, HasSubstr("(halted, 64-bit, CPL 0)")) << text;
  EXPECT_EQ(vmm->finish().code, 0) << text;
}

// On kvm_pvm, which reports a HLT that was stepped only behind a later instruction, that one is not
// taken for another HLT.
TEST_F(GdbHalt, a_step_of_one_that_is_halted_waits_for_the_interrupt) {
  if (only_steps_work()) return expect_refusal("pic-mode.elf", "Z1,100000,1");
  const auto vmm = start("pic-mode.elf");
  RspClient client = connect();
  // STI, HLT, CLI.
  std::vector<std::string> places;
  std::uint64_t from = 0x100000;
  while (places.size() < 4) {
    const std::string found =
        client.ask(fmt::format("qSearch:memory:{:x};{:x};\xfb\xf4\xfa", from, 0x110000 - from));
    if (!found.starts_with("1,")) break;
    places.push_back(found.substr(2));
    from = std::stoull(places.back(), nullptr, 16) + 1;
  }
  ASSERT_FALSE(places.empty());
  for (const std::string& place : places) ASSERT_EQ(client.ask("Z1," + place + ",1"), "OK");
  const auto state = [&] {
    const auto bytes = gdb::from_hex(client.ask("qThreadExtraInfo,1"));
    return bytes ? std::string(bytes->begin(), bytes->end()) : "no answer";
  };
  ASSERT_EQ(client.ask("vCont;c"), "T05thread:1;hwbreak:;");
  for (int i = 0; i < 3; ++i) {
    ASSERT_EQ(client.ask("vCont;s:1"), "T05thread:1;") << "STI";
    EXPECT_THAT(state(), testing::Not(HasSubstr("halted")));
    ASSERT_EQ(client.ask("vCont;s:1"), "T05thread:1;") << "HLT";
    EXPECT_THAT(state(), HasSubstr("halted"));
    ASSERT_EQ(client.ask("vCont;s:1"), "T05thread:1;") << "in the handler";
    EXPECT_THAT(state(), testing::Not(HasSubstr("halted")));
    if (client.ask("vCont;c") != "T05thread:1;hwbreak:;") break;
  }
  for (const std::string& place : places) client.ask("z1," + place + ",1");
  EXPECT_THAT(client.ask("vCont;c"), StartsWith("W00"));
  EXPECT_EQ(vmm->finish().code, 0);
}

}  // namespace
}  // namespace vmm
