// Transcripts: what a client sends and what it is answered, without sockets or KVM.
#include "vmm/gdb/stub.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "vmm/core/debug_target_fake.h"

namespace vmm::gdb {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

class StubTest : public ::testing::Test {
 protected:
  explicit StubTest(unsigned vcpus = 2) : target_(vcpus), debugger_(target_, PagingFeatures()) {
    Stub::Options options;
    options.monitor = [](std::string_view command, unsigned vcpu) {
      return fmt::format("{} on {}\n", command, vcpu);
    };
    stub_.emplace(target_, debugger_, std::move(options));
  }
  // The answer to one packet, or "(later)".
  std::string say(std::string_view packet) { return stub_->answer(packet).value_or("(later)"); }
  void send(std::string_view bytes) {
    stub_->receive({reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size()});
  }
  std::vector<bool> last_run() const { return target_.runs.back().who; }
  void stop_at(unsigned vcpu, Gva pc, std::uint32_t exception, std::uint64_t dr6) {
    target_.states[vcpu].regs.rip = pc;
    const auto report =
        debugger_.stopped(vcpu, {.exception = exception, .pc = pc, .dr6 = dr6, .dr7 = 0}).value();
    ASSERT_TRUE(report);
    stub_->stopped(*report);
  }

  FakeDebugTarget target_;
  Debugger debugger_;
  std::optional<Stub> stub_;
};

TEST_F(StubTest, a_session_begins_with_acks_and_goes_on_without) {
  send("+" + frame("qSupported:xmlRegisters=i386"));
  EXPECT_THAT(stub_->take_output(), StartsWith("+$PacketSize=20040;QStartNoAckMode+;"));
  send("+" + frame("QStartNoAckMode"));
  EXPECT_EQ(stub_->take_output(), "+" + frame("OK"));
  send("+$?#00");
  EXPECT_EQ(stub_->take_output(), frame("T05thread:1;"));
}

TEST_F(StubTest, a_damaged_packet_is_asked_for_again_and_a_lost_answer_repeated) {
  send("$qC#00");
  EXPECT_EQ(stub_->take_output(), "-");
  send("$qC#b4");
  EXPECT_EQ(stub_->take_output(), "+" + frame("QC1"));
  send("-");
  EXPECT_EQ(stub_->take_output(), frame("QC1"));
}

TEST_F(StubTest, unknown_packets_get_the_empty_answer) {
  for (const char* packet : {"vMustReplyEmpty", "R00", "QNonStop:1", "", "!", "vCtrlC", "qTStatus"})
    EXPECT_EQ(say(packet), "") << packet;
}

TEST_F(StubTest, malformed_packets_are_errors) {
  for (const char* packet : {"m",
                             "m100",
                             "m100,",
                             "mx,1",
                             "m100,10x",
                             "M100,2:00",
                             "M100,1:0",
                             "X100,3:ab",
                             "p",
                             "pffff",
                             "P0",
                             "P0=0",
                             "Z0",
                             "Z0,1000",
                             "Z0,1000,1;X1,0",
                             "Z0,1000,1;X1,2",
                             "Z0,1000,1;X2,22",
                             "Z0,1000,1;Xffffffffffffffff,22",
                             "Z0,1000,1;X8000000000000001,2201",
                             "Z0,1000,1;X",
                             "Z0,1000,1;X3,220127;cmds:0,X3,220127",
                             "Z0,1000,1;cmds:1,X3,220127",
                             "Z0,1000,1;X2,0d01",
                             "Z2,1000,1;X3,220127",
                             "z0,1000,1;X3,220127",
                             "vCont;",
                             "vCont;x",
                             "vCont;s:9",
                             "vCont;t",
                             "vCont",
                             "Hx1",
                             "Hg7",
                             "T7",
                             "qXfer:features:read:target.xml:0",
                             "qRcmd,0",
                             "qCRC:0",
                             "qSearch:memory:0;10;",
                             "Qqemu.PhyMemMode:2",
                             "G0",
                             "c1000",
                             "qXfer:features:read:target.xml:fffffff,10"})
    EXPECT_THAT(say(packet), StartsWith("E")) << packet;
}

TEST_F(StubTest, memory_is_read_and_written_in_both_forms) {
  EXPECT_EQ(say("M1000,3:01a0ff"), "OK");
  EXPECT_EQ(say("m1000,4"), "01a0ff00");
  EXPECT_EQ(say("x1000,3"), "\x01\xa0\xff");
  EXPECT_EQ(say("x0,0"), "OK");
  EXPECT_EQ(say("X1001,1:}"), "OK");
  EXPECT_EQ(say("m1000,3"), "017dff");
  EXPECT_EQ(say("X1001,0:"), "OK");
}

TEST_F(StubTest, memory_that_is_not_there_is_an_error_and_a_part_of_it_is_read) {
  EXPECT_EQ(say("m4000,4"), "E14");
  EXPECT_EQ(say("m3ffe,4").size(), 4U);
  EXPECT_EQ(say("M3fff,2:aabb"), "E14");
  EXPECT_EQ(say("m3fff,1"), "00") << "nothing of it was written";
  EXPECT_EQ(say("mffffffff,ffffffffffffffff"), "E14");
}

TEST_F(StubTest, physical_memory_is_qemus_packet) {
  // Virtual addresses: paging is on with tables that map nothing.
  for (CpuState& state : target_.states) {
    state.sregs.cr0 |= spec::CR0_PG;
    state.sregs.cr3 = 0x2000;
  }
  EXPECT_EQ(say("m1000,1"), "E14");
  EXPECT_EQ(say("qqemu.PhyMemMode"), "0");
  EXPECT_EQ(say("Qqemu.PhyMemMode:1"), "OK");
  EXPECT_EQ(say("qqemu.PhyMemMode"), "1");
  EXPECT_EQ(say("m1000,1"), "00");
}

TEST_F(StubTest, search_finds_what_lies_across_its_pieces) {
  target_.ram.put(0x1ffe, {1, 2, 3, 4});
  EXPECT_EQ(say(std::string("qSearch:memory:0;4000;") + "\x01\x02\x03\x04"), "1,1ffe");
  EXPECT_EQ(say(std::string("qSearch:memory:0;2001;") + "\x01\x02\x03\x04"), "0");
  EXPECT_EQ(say(std::string("qSearch:memory:0;8000;") + "\x09"), "E14");
}

TEST_F(StubTest, checksum_is_gdbs) {
  target_.ram.put(0x1000, {'1', '2', '3', '4', '5', '6', '7', '8', '9'});
  EXPECT_EQ(say("qCRC:1000,9"), "C376e6e7") << "CRC-32/MPEG-2 of the usual nine digits";
}

TEST_F(StubTest, registers_go_there_and_back) {
  target_.states[0].regs.rax = 0x1122334455667788;
  EXPECT_THAT(say("g"), StartsWith("8877665544332211"));
  EXPECT_EQ(say("p0"), "8877665544332211");
  EXPECT_EQ(say("P0=0100000000000000"), "OK");
  EXPECT_EQ(target_.states[0].regs.rax, 1U);
  std::string all = say("g");
  // What the target lacks (it has no XSAVE area) is passed over.
  std::ranges::replace(all, 'x', '0');
  all[0] = '4';
  EXPECT_EQ(say("G" + all), "OK");
  EXPECT_EQ(target_.states[0].regs.rax, 0x41U);
}

TEST_F(StubTest, threads_are_the_vcpus) {
  target_.states[1].mp_state = KVM_MP_STATE_UNINITIALIZED;
  EXPECT_EQ(say("qfThreadInfo"), "m1,2");
  EXPECT_EQ(say("qsThreadInfo"), "l");
  EXPECT_EQ(say("T2"), "OK");
  EXPECT_EQ(say("qThreadExtraInfo,2"), to_hex(std::string_view("vCPU 1: waits for a SIPI")));
  EXPECT_THAT(say("qXfer:threads:read::0,1000"), HasSubstr("name=\"vCPU 0\">32-bit, CPL 0<"));
  EXPECT_EQ(say("Hg2"), "OK");
  target_.states[1].regs.rax = 0xff;
  EXPECT_THAT(say("g"), StartsWith("ff00000000000000"));
}

TEST_F(StubTest, documents_come_in_pieces) {
  const std::string whole = say("qXfer:features:read:target.xml:0,ffff");
  EXPECT_THAT(whole, StartsWith("l<?xml"));
  EXPECT_EQ(say("qXfer:features:read:target.xml:0,5"), "m<?xml");
  EXPECT_EQ(say("qXfer:features:read:target.xml:5,ffff"), "l" + whole.substr(6));
}

TEST_F(StubTest, vcont_lets_each_thread_have_its_first_action) {
  EXPECT_EQ(say("vCont;s:2;c"), "(later)");
  EXPECT_EQ(last_run(), (std::vector<bool>{true, true}));
  EXPECT_FALSE(target_.controls[0].step);
  EXPECT_TRUE(target_.controls[1].step);
  EXPECT_EQ(say("g"), "E.the guest is running");
  EXPECT_EQ(say("vCont?"), "vCont;c;C;s;S;t;r");
}

TEST_F(StubTest, a_thread_that_is_not_named_is_held) {
  EXPECT_EQ(say("vCont;c:1"), "(later)");
  EXPECT_EQ(last_run(), (std::vector<bool>{true, false}));
}

TEST_F(StubTest, a_range_is_stepped) {
  EXPECT_EQ(say("vCont;r1000,1010:1"), "(later)");
  target_.states[0].regs.rip = 0x1004;
  EXPECT_FALSE(
      debugger_.stopped(0, {.exception = 1, .pc = 0x1004, .dr6 = 1u << 14, .dr7 = 0}).value());
  stop_at(0, 0x1010, 1, 1u << 14);
  EXPECT_EQ(stub_->take_output(), frame("T05thread:1;"));
}

TEST_F(StubTest, a_stop_names_its_reason_and_its_thread) {
  EXPECT_EQ(say("Z0,1000,1"), "OK");
  EXPECT_EQ(say("c"), "(later)");
  stop_at(1, 0x1000, 3, 0);
  EXPECT_EQ(stub_->take_output(), frame("T05thread:2;swbreak:;"));
  EXPECT_EQ(say("?"), "T05thread:2;swbreak:;");
  EXPECT_EQ(say("z0,1000,1"), "OK");
  EXPECT_EQ(say("Z1,2000,1"), "OK");
  EXPECT_EQ(say("Z2,3000,4"), "OK");
  EXPECT_EQ(say("Z3,3000,4"), "") << "the processor has none for reads alone";
  EXPECT_EQ(say("c"), "(later)");
  stop_at(0, 0x2000, 1, 1);
  EXPECT_EQ(stub_->take_output(), frame("T05thread:1;hwbreak:;"));
  EXPECT_EQ(say("c"), "(later)");
  EXPECT_FALSE(
      debugger_.stopped(0, {.exception = 1, .pc = 0x2001, .dr6 = 1u << 14, .dr7 = 0}).value())
      << "it passed the breakpoint";
  stop_at(0, 0x2100, 1, 2);
  EXPECT_EQ(stub_->take_output(), frame("T05thread:1;watch:3000;"));
}

TEST_F(StubTest, a_breakpoint_that_cannot_be_had_is_refused_in_words) {
  for (int i = 0; i < 4; ++i) EXPECT_EQ(say(fmt::format("Z1,{:x},1", 0x1000 + i)), "OK");
  EXPECT_THAT(say("Z1,2000,1"), HasSubstr("no debug register is left"));
}

TEST_F(StubTest, a_breakpoint_stops_where_one_of_its_conditions_is_true) {
  EXPECT_THAT(say("qSupported"), HasSubstr(";ConditionalBreakpoints+"));
  // $rbx == 5, and the byte at 2000h is 1: gdb has no separator between two of them.
  ASSERT_EQ(say("Z0,1000,1;X7,26000122051327X8,2320001722011327"), "OK");
  EXPECT_EQ(say("c"), "(later)");
  const auto hit = [&](unsigned vcpu) {
    target_.states[vcpu].regs.rip = 0x1000;
    const bool told = debugger_.stopped(vcpu, {.exception = 3, .pc = 0x1000, .dr6 = 0, .dr7 = 0})
                          .value()
                          .has_value();
    if (told)
      say("c");
    else
      EXPECT_TRUE(debugger_.running());
    target_.states[vcpu].regs.rip = 0x1001;
    EXPECT_FALSE(
        debugger_.stopped(vcpu, {.exception = 1, .pc = 0x1001, .dr6 = 1u << 14, .dr7 = 0}).value());
    return told;
  };
  EXPECT_FALSE(hit(1));
  target_.states[0].regs.rbx = 5;
  EXPECT_FALSE(hit(1)) << "that is another one's register";
  EXPECT_TRUE(hit(0));
  target_.states[0].regs.rbx = 6;
  EXPECT_FALSE(hit(0));
  target_.ram.put(0x2000, {1});
  EXPECT_TRUE(hit(0));
  EXPECT_TRUE(hit(1));
}

TEST_F(StubTest, a_condition_that_cannot_be_asked_stops) {
  const auto stops = [&](std::string_view condition) {
    EXPECT_EQ(say(fmt::format("Z0,1000,1;X{:x},{}", condition.size() / 2, condition)), "OK");
    target_.states[0].regs.rip = 0x2000;
    EXPECT_EQ(say("c"), "(later)");
    target_.states[0].regs.rip = 0x1000;
    const auto report =
        debugger_.stopped(0, {.exception = 3, .pc = 0x1000, .dr6 = 0, .dr7 = 0}).value();
    if (report) return true;
    EXPECT_TRUE(debugger_.interrupted());
    return false;
  };
  EXPECT_FALSE(stops("220027"));
  EXPECT_TRUE(stops("23ffff1a27")) << "no memory";
  EXPECT_TRUE(stops("26ffff27")) << "no register";
  EXPECT_TRUE(stops("220022000527")) << "0 / 0";
  EXPECT_TRUE(stops("210000")) << "no end";
  EXPECT_TRUE(stops("2200")) << "no value";
  // An SSE register has no value of 64 bits; CR0 is one, and PE is set.
  const RegisterSet set(Arch::X86_64, target_.cpuid());
  const auto reg = [&](std::string_view name) {
    return fmt::format("26{:04x}", set.find(name)->number);
  };
  EXPECT_TRUE(stops(reg("xmm0") + "27"));
  EXPECT_FALSE(stops(reg("cr0") + "0e27"));
  EXPECT_TRUE(stops(reg("cr0") + "27"));
}

// What LLDB 14 says as it connects: what is not known here is optional there.
TEST_F(StubTest, lldb_is_answered) {
  for (const char* packet : {"QThreadSuffixSupported", "QListThreadsInStopReply", "qProcessInfo",
                             "qVAttachOrWaitSupported", "QEnableErrorStrings", "qShlibInfoAddr",
                             "qMemoryRegionInfo:100000", "jThreadsInfo",
                             "jThreadExtendedInfo:", "qStructuredDataPlugins"})
    EXPECT_EQ(say(packet), "") << packet;
  EXPECT_EQ(say("qHostInfo"), "triple:" + to_hex(std::string_view("x86_64-unknown-none")) +
                                  ";ptrsize:8;endian:little;");
  EXPECT_EQ(say("x0,0"), "OK");
  EXPECT_EQ(say("xf0000000,8"), "E14");
  EXPECT_EQ(say("Hg1"), "OK");
  EXPECT_EQ(say("p10"), "0000000000000000");
}

TEST_F(StubTest, ctrl_c_is_a_wish_only_while_the_guest_runs) {
  send("\x03");
  EXPECT_EQ(stub_->take_wish(), Wish::Nothing);
  send(frame("vCont;c"));
  stub_->take_output();
  send("\x03");
  EXPECT_EQ(stub_->take_wish(), Wish::Interrupt);
  ASSERT_TRUE(debugger_.interrupted());
  stub_->interrupted();
  EXPECT_EQ(stub_->take_output(), frame("T02thread:1;"));
}

TEST_F(StubTest, detach_and_kill_are_wishes) {
  ASSERT_EQ(say("Z0,1000,1"), "OK");
  EXPECT_EQ(say("D"), "OK");
  EXPECT_EQ(stub_->take_wish(), Wish::Detach);
  EXPECT_TRUE(debugger_.breakpoints().empty());
  EXPECT_EQ(say("k"), "OK");
  EXPECT_EQ(stub_->take_wish(), Wish::Kill);
}

TEST_F(StubTest, the_end_is_an_exit_and_stays_one) {
  EXPECT_EQ(say("c"), "(later)");
  ASSERT_TRUE(debugger_.interrupted());
  stub_->ended(80);
  EXPECT_EQ(stub_->take_output(), frame("W50"));
  EXPECT_EQ(say("c"), "W50");
}

TEST_F(StubTest, a_dead_guest_is_looked_at_until_it_is_let_go) {
  EXPECT_EQ(say("vCont;c"), "(later)");
  stub_->died(1, 80);
  EXPECT_EQ(stub_->take_output(), frame("T0bthread:2;"));
  ASSERT_TRUE(debugger_.interrupted());
  EXPECT_EQ(say("m0,1"), "00");
  stub_->new_client();
  EXPECT_EQ(say("?"), "T0bthread:2;");
  EXPECT_EQ(stub_->take_wish(), Wish::Nothing);
  EXPECT_EQ(say("vCont;s:2"), "W50");
  EXPECT_EQ(stub_->take_wish(), Wish::Kill);
}

TEST_F(StubTest, a_dead_guest_ends_at_a_detach) {
  stub_->died(0, 80);
  EXPECT_EQ(stub_->take_output(), "") << "nobody waited for a stop";
  EXPECT_EQ(say("D"), "OK");
  EXPECT_EQ(stub_->take_wish(), Wish::Kill);
}

TEST_F(StubTest, monitor_commands_get_the_line_and_the_thread) {
  EXPECT_EQ(say("Hg2"), "OK");
  EXPECT_EQ(say("qRcmd," + to_hex(std::string_view("walk 1"))),
            to_hex(std::string_view("walk 1 on 1\n")));
}

TEST_F(StubTest, a_new_client_finds_no_breakpoints_of_the_last) {
  send(frame("QStartNoAckMode") + frame("Z0,1000,1"));
  stub_->new_client();
  EXPECT_TRUE(debugger_.breakpoints().empty());
  send(frame("qC"));
  EXPECT_EQ(stub_->take_output(), "+" + frame("QC1"));
}

}  // namespace
}  // namespace vmm::gdb
