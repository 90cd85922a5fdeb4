// The monitor's commands at real guests, through gdb's packets.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "guest-tests/gdb_rig.h"

namespace vmm {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::ContainsRegex;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

// A guest that stands at its first instruction.
class Monitor : public KvmTest {
 protected:
  void start(const std::string& guest, std::vector<std::string> options = {}) {
    RunSetup setup;
    setup.arguments = {"run", "-q", "--gdb", "unix:" + folder_.file("gdb.sock")};
    setup.arguments.insert(setup.arguments.end(), options.begin(), options.end());
    setup.arguments.push_back(guest_path(guest));
    vmm_ = std::make_unique<VmmProcess>(setup);
    ASSERT_TRUE(vmm_->wait_until([this] { return client_.connect(folder_.file("gdb.sock")); }));
  }
  std::string say(std::string_view line) {
    const auto bytes = gdb::from_hex(client_.ask("qRcmd," + gdb::to_hex(line)));
    return bytes ? std::string(bytes->begin(), bytes->end()) : "(no text)";
  }
  // Goes on to the symbol by a debug register.
  std::string run_to(std::string_view symbol) {
    const std::string walk = say(fmt::format("walk {}", symbol));
    EXPECT_EQ(client_.ask(fmt::format("Z1,{},1", walk.substr(0, walk.find('h')))), "OK") << walk;
    return client_.ask("vCont;c");
  }
  int end() {
    client_.send("k");
    return vmm_->finish().code;
  }

  const TempFolder folder_;
  std::unique_ptr<VmmProcess> vmm_;
  RspClient client_;
};

constexpr std::string_view kOnGeneralProtection =
    "_ZN12_GLOBAL__N_121on_general_protectionEPN5guest14InterruptFrameEm";

TEST_F(Monitor, a_fault_is_explained_at_the_first_instruction_of_its_handler) {
  start("msr.elf");
  EXPECT_THAT(say("explain"), StartsWith("the guest has not run yet; vCPU 0 of 1:\n"));
  if (only_steps_work()) {
    EXPECT_EQ(client_.ask("Z1,100000,1"), fmt::format("E.{}", kOnlySteps));
    EXPECT_THAT(client_.ask("vCont;s:1"), StartsWith("T05"));
    EXPECT_THAT(say("explain"), StartsWith("vCPU 0 stopped after a step"));
    EXPECT_EQ(end(), 0);
    return;
  }
  ASSERT_THAT(run_to(kOnGeneralProtection), StartsWith("T05"));
  const std::string text = say("explain");
  EXPECT_THAT(text, AllOf(StartsWith("vCPU 0 stopped at the breakpoint at"),
                          HasSubstr("at the first instruction of the handler of #GP"),
                          HasSubstr("error code 0h"), HasSubstr("guest_main")));
  EXPECT_THAT(say("idt 13"),
              AllOf(HasSubstr("gate 13 (#GP): handler"), HasSubstr("on_general_protection")));
  EXPECT_THAT(say("idt"), HasSubstr("0 to 12: zero"));
  EXPECT_EQ(end(), 0);
}

TEST_F(Monitor, tables_and_registers_of_a_guest_in_long_mode) {
  start("hello.elf", {"--smp", "2"});
  EXPECT_THAT(say("regs"), AllOf(HasSubstr("long mode, 64-bit, 4-level paging"),
                                 HasSubstr("RIP 100000h (_start)"), HasSubstr("(LME LMA)")));
  EXPECT_THAT(say("regs all"), HasSubstr("vCPU 1: real mode, paging off, wait-for-sipi"));
  EXPECT_THAT(say("gdt"), ContainsRegex("code 64-bit, readable.* CS\n"));
  EXPECT_THAT(say("tss"), HasSubstr("RSP0"));
  const json regs = json::parse(say("regs --json"));
  EXPECT_EQ(regs[0]["general"]["rip"], "0x100000");
  EXPECT_THAT(say("model"), AllOf(HasSubstr("host, policy strict"), HasSubstr("kHz")));
  EXPECT_EQ(json::parse(say("cpuid --json 0"))[0]["leaf"], "0x0");
  EXPECT_THAT(say("trace"), HasSubstr("no trace"));
  EXPECT_THAT(say("screen"), HasSubstr("blank"));
  EXPECT_EQ(end(), 0);
}

TEST_F(Monitor, an_msr_is_read_and_written_and_one_that_does_not_exist_is_refused) {
  start("hello.elf");
  EXPECT_THAT(say("msr lstar 0x1234"), HasSubstr("(lstar) = 1234h"));
  EXPECT_THAT(say("msr c0000082h"), HasSubstr("= 1234h"));
  EXPECT_THAT(say("msr 0x99999"), HasSubstr("99999h"));
  EXPECT_EQ(client_.ask("vCont;c"), "W00");
  EXPECT_EQ(vmm_->finish().code, 0);
}

TEST_F(Monitor, the_interrupt_controllers_whoever_has_them) {
  for (const auto& [chip, lapic, ioapic] :
       {std::tuple("user", "vmm", "vmm"), {"split", "kvm", "vmm"}, {"kernel", "kvm", "kvm"}}) {
    start("hello.elf", {"--irqchip", chip, "--smp", "2"});
    for (unsigned i = 0; i < 2; ++i) {
      const json view = json::parse(say(fmt::format("lapic --json {}", i)));
      EXPECT_EQ(view["owner"], lapic) << chip;
      EXPECT_EQ(view["id"], i) << chip;
      EXPECT_EQ(view["base"], i == 0 ? "0xfee00900" : "0xfee00800") << chip;
      EXPECT_EQ(view["svr"], "0xff") << chip;
    }
    EXPECT_THAT(say("lapic"), HasSubstr("xAPIC, BSP")) << chip;
    const json pins = json::parse(say("ioapic --json"));
    EXPECT_EQ(pins["owner"], ioapic) << chip;
    EXPECT_EQ(pins["pins"].size(), 24U) << chip;
    EXPECT_EQ(pins["pins"][4]["masked"], true) << chip;
    EXPECT_EQ(end(), 0) << chip;
  }
}

TEST_F(Monitor, devices_by_mmio_and_memory_by_phys) {
  start("hello.elf", {"--irqchip", "user"});
  EXPECT_THAT(say("phys _start 16"), StartsWith("000000100000: "));
  EXPECT_THAT(say("phys 0xfee00000"), HasSubstr("the local APIC's page"));
  // The IOAPIC's version register, behind its index.
  EXPECT_EQ(say("mmio write 0xfec00000 4 1"), "fec00000h <- 1h: ioapic\n");
  EXPECT_EQ(say("mmio read 0xfec00010 4"), "fec00010h -> 170020h: ioapic\n");
  EXPECT_EQ(say("mmio write 0xfee00080 4 20h"), "fee00080h <- 20h: lapic0\n");
  EXPECT_THAT(say("lapic"), HasSubstr("TPR 20h, PPR 20h"));
  // KVM hears of it when the guest goes on.
  EXPECT_THAT(client_.ask("vCont;s:1"), StartsWith("T05"));
  EXPECT_THAT(say("regs"), HasSubstr("CR8 2h"));
  EXPECT_THAT(say("mmio read 0x100000 4"), HasSubstr("RAM is there"));
  EXPECT_THAT(say("mmio read 0xd0000000 4"), HasSubstr("nothing of vmm's is there"));
  EXPECT_EQ(end(), 0);
}

TEST_F(Monitor, exits_and_the_screen_of_a_guest_that_runs) {
  start("vga-busy.elf", {"--smp", "2", "--vga", "none,trap"});
  std::string exits = say("exits");
  // However slow the host is.
  for (int i = 0; i < 200 && exits.find("mmio-write") == std::string::npos; ++i) {
    client_.send("vCont;c");
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    client_.send_bytes("\x03");
    ASSERT_THAT(client_.next(), StartsWith("T02"));
    exits = say("exits 4");
  }
  EXPECT_THAT(exits, AllOf(ContainsRegex("vCPU 0:\n +[0-9.]+ s  at [0-9a-f]+h"),
                           HasSubstr("vCPU 1: none that is still known")));
  EXPECT_EQ(json::parse(say("exits --json 4"))[0]["exits"].size(), 4U);
  EXPECT_THAT(say("explain"), StartsWith("the guest was stopped because it was asked to"));
  EXPECT_THAT(say("screen"), Not(HasSubstr("blank")));
  EXPECT_EQ(end(), 0);
}

TEST_F(Monitor, the_trace_tells_how_far_it_is) {
  start("hello.elf", {"--trace", folder_.file("t.txt")});
  EXPECT_THAT(say("trace"), ContainsRegex("t.txt: [0-9]+ events written, 0 dropped"));
  EXPECT_EQ(end(), 0);
}

TEST_F(Monitor, of_a_guest_that_died_the_card_is_the_explanation) {
  start("triple-fault.elf", {"--on-crash", "gdb", "--ctl", "unix:" + folder_.file("ctl.sock")});
  EXPECT_THAT(client_.ask("vCont;c"), StartsWith("T0b"));
  // SVM resets the registers of such a death; the card says so.
  const char* known = host_backend() == "svm" ? "SVM has reset the vCPU" : "#DF";
  EXPECT_THAT(say("explain"), AllOf(HasSubstr(known), HasSubstr("shutdown")));
  // The control socket too.
  EXPECT_EQ(run_vmm({.arguments = {"ctl", folder_.file("ctl.sock"), "explain"}, .here = true}).out,
            say("explain"));
  EXPECT_EQ(say("quit"), "the run ends\n");
  EXPECT_EQ(vmm_->finish().code, 80);
}

TEST_F(Monitor, quit_ends_the_run_as_a_kill_does) {
  start("exit-1.elf");
  EXPECT_EQ(say("quit"), "the run ends\n");
  EXPECT_EQ(client_.next(), "W00");
  EXPECT_EQ(vmm_->finish().code, 0);
}

}  // namespace
}  // namespace vmm
