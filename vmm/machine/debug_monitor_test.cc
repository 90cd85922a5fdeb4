#include "vmm/machine/debug_monitor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "vmm/machine/monitor_rig.h"

namespace vmm {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::Pair;
using testing::StartsWith;
using Status = MonitorAnswer::Status;

class DebugMonitor : public testing::Test, public MonitorRig {};

TEST_F(DebugMonitor, help_lists_every_command_within_the_columns) {
  const std::string text = "\n" + say("help");
  for (const char* name :
       {"explain", "regs", "idt", "gdt", "tss", "msr", "cpuid", "model", "lapic", "ioapic", "exits",
        "screen", "trace", "phys", "mmio", "quit", "reset", "walk"})
    EXPECT_THAT(text, HasSubstr(std::string("\n") + name)) << name;
  EXPECT_LE(widest(text), 120U);
  EXPECT_EQ("\n" + say(""), text);
  EXPECT_EQ("\n" + say("  \t "), text);
}

TEST_F(DebugMonitor, an_unknown_command_names_the_nearest) {
  const MonitorAnswer answer = ask("explian");
  EXPECT_EQ(answer.status, Status::Usage);
  EXPECT_THAT(answer.text, HasSubstr("did you mean explain?"));
  EXPECT_THAT(say("\x1b[2J"), HasSubstr("\\x1b"));
  EXPECT_EQ(ask("a b c d e f g h i j").status, Status::Usage);
}

TEST_F(DebugMonitor, wrong_arguments_are_answered_with_the_usage_of_the_command) {
  for (const char* line : {"regs everything",
                           "idt 256",
                           "idt x",
                           "lapic 2",
                           "lapic 0 0",
                           "msr",
                           "msr nonsense",
                           "msr 1 2 3",
                           "cpuid 1 2 3",
                           "cpuid 1ffffffff",
                           "exits 0",
                           "exits 257",
                           "phys",
                           "phys nowhere",
                           "phys 0 5000",
                           "phys 0xffffffffffffffff 2",
                           "mmio",
                           "mmio read 0",
                           "mmio read 0 3",
                           "mmio write 0 1",
                           "mmio write 0 1 100h",
                           "mmio peek 0 1",
                           "walk",
                           "walk nowhere",
                           "gdt 1",
                           "tss 1",
                           "model 1",
                           "screen 1",
                           "trace 1",
                           "quit now",
                           "reset 1",
                           "explain it",
                           "step irq",
                           "ioapic 1"}) {
    const MonitorAnswer answer = ask(line);
    EXPECT_EQ(answer.status, Status::Usage) << line << ": " << answer.text;
    EXPECT_THAT(answer.text,
                HasSubstr("usage: " + std::string(line).substr(0, std::string(line).find(' '))))
        << line;
  }
  EXPECT_FALSE(machine.ended);
  EXPECT_THAT(machine.writes, IsEmpty());
}

TEST_F(DebugMonitor, json_is_refused_where_there_is_none) {
  EXPECT_EQ(ask("screen --json").status, Status::Usage);
  EXPECT_THAT(say("screen --json"), HasSubstr("no --json"));
}

TEST_F(DebugMonitor, numbers_are_taken_as_gdb_and_as_manuals_write_them) {
  for (const char* word : {"0x10000", "0X10000", "10000h", "10000", "start"})
    EXPECT_THAT(say(std::string("walk ") + word), StartsWith("10000h on vCPU 0")) << word;
}

TEST_F(DebugMonitor, registers_are_taken_as_gdb_writes_them) {
  target.table.at(0x80000001).edx = 1U << 29;  // long mode, which has LSTAR
  target.states[0].regs.rsp = 0x20008;
  target.states[0].sregs.cr2 = 0x1234;
  target.states[1].regs.rip = 0x10001;
  target.msrs[{0, 0xc0000082}] = 0x11000;
  for (const auto& [word, address] :
       std::initializer_list<std::pair<const char*, const char*>>{{"$rip", "10000h"},
                                                                  {"$pc", "10000h"},
                                                                  {"$eip", "10000h"},
                                                                  {"$rsp", "20008h"},
                                                                  {"$sp", "20008h"},
                                                                  {"$cr2", "1234h"},
                                                                  {"$lstar", "11000h"},
                                                                  {"$cr3", "8000h"}})
    EXPECT_THAT(say(std::string("walk ") + word), StartsWith(std::string(address) + " on vCPU 0"))
        << word;
  EXPECT_THAT(say("walk $rip", 1), StartsWith("10001h on vCPU 1"));
  EXPECT_THAT(say("phys $rip 2"), StartsWith("000000010000:  90 90"));
  for (const char* word : {"$", "$nothing", "$rip8", "$xmm0", "rip"})
    EXPECT_EQ(ask(std::string("walk ") + word).status, Status::Usage) << word;
}

TEST_F(DebugMonitor, a_walk_as_json) {
  const json walk = json::parse(say("walk --json start"));
  EXPECT_EQ(walk["gpa"], "0x10000");
  EXPECT_EQ(walk["page_size"], 0x200000);
  EXPECT_EQ(walk["steps"].size(), 3U);
  const json failed = json::parse(say("walk --json 0x200000"));
  EXPECT_EQ(failed["gpa"], json());
  EXPECT_EQ(failed["failure"]["rule"], "not-present");
}

TEST_F(DebugMonitor, physical_memory_is_dumped_as_far_as_it_is_ram) {
  target.ram.put(0x1000, {'a', 'b', 0, 0xff});
  EXPECT_EQ(say("phys 0x1000 4"),
            "000000001000:  61 62 00 ff                                      ab..\n");
  const std::string end = say("phys 0x1fffff 2");
  EXPECT_THAT(end, HasSubstr("0000001fffff:  00 --"));
  const MonitorAnswer none = ask("phys 0xfee00000");
  EXPECT_EQ(none.status, Status::Failed);
  EXPECT_THAT(none.text, HasSubstr("the local APIC's page"));
}

TEST_F(DebugMonitor, devices_are_reached_by_mmio_alone) {
  EXPECT_EQ(say("mmio read 0xfebf0000 2"), "febf0000h -> 5a5ah: device0\n");
  EXPECT_EQ(say("mmio write febf0000h 4 0x11223344", 1), "febf0000h <- 11223344h: device0\n");
  EXPECT_THAT(machine.writes,
              ElementsAre(Pair(1U, std::vector<std::uint8_t>{0x44, 0x33, 0x22, 0x11})));
  EXPECT_EQ(ask("mmio read 0 4").status, Status::Failed);
}

TEST_F(DebugMonitor, registers_of_one_or_all) {
  target.states[1].regs.rax = 0xabcdef;
  EXPECT_THAT(say("regs"),
              AllOf(HasSubstr("vCPU 0: long mode, 64-bit, 4-level paging, runnable"),
                    HasSubstr("RIP 10000h (start)"), HasSubstr("CR0 80000031h (PE ET NE PG)"),
                    HasSubstr("EFER 500h (LME LMA)"), Not(HasSubstr("vCPU 1"))));
  EXPECT_THAT(say("regs", 1), HasSubstr("RAX 0000000000abcdefh"));
  const std::string all = say("regs all");
  EXPECT_THAT(all, AllOf(HasSubstr("vCPU 0"), HasSubstr("vCPU 1")));
  EXPECT_LE(widest(all), 120U);
  const json document = json::parse(say("regs --json all"));
  ASSERT_EQ(document.size(), 2U);
  EXPECT_EQ(document[1]["general"]["rax"], "0xabcdef");
  EXPECT_EQ(document[1]["vcpu"], 1);
}

TEST_F(DebugMonitor, msrs_by_number_and_by_name) {
  target.table.at(0x80000001).edx = 1U << 29;  // long mode, which has LSTAR
  target.msrs[{0, 0xc0000082}] = 0x1234;
  EXPECT_EQ(say("msr 0xc0000082"), "MSR c0000082h (lstar) = 1234h on vCPU 0\n");
  EXPECT_EQ(say("msr lstar"), say("msr c0000082h"));
  EXPECT_EQ(say("msr lstar 0x77"), "MSR c0000082h (lstar) = 77h on vCPU 0\n");
  EXPECT_EQ(json::parse(say("msr --json lstar"))["value"], "0x77");
  EXPECT_EQ(ask("msr 1234").status, Status::Failed);
  EXPECT_EQ(ask("msr lstar", 1).status, Status::Failed);
}

TEST_F(DebugMonitor, cpuid_by_leaf_and_subleaf) {
  target.table.at(4, 0).eax = 0x11;
  target.table.at(4, 1).eax = 0x22;
  target.table.at(7, 0).ebx = 0x33;
  EXPECT_THAT(say("cpuid"),
              AllOf(HasSubstr("00000011"), HasSubstr("00000022"), HasSubstr("00000033")));
  EXPECT_THAT(say("cpuid 4"),
              AllOf(HasSubstr("00000011"), HasSubstr("00000022"), Not(HasSubstr("00000033"))));
  EXPECT_THAT(say("cpuid 4 1"), AllOf(HasSubstr("00000022"), Not(HasSubstr("00000011"))));
  EXPECT_THAT(say("cpuid 0x15"), HasSubstr("not in the guest's table"));
  EXPECT_EQ(json::parse(say("cpuid --json 7"))[0]["ebx"], "0x33");
  EXPECT_EQ(json::parse(say("cpuid --json 15h")), json::array());
}

TEST_F(DebugMonitor, the_model_and_why_the_interrupt_controllers_are_kvms) {
  machine.about_machine = {.model = "haswell@4,+vmx",
                           .policy = "mask",
                           .missing = {"avx2"},
                           .notes = {},
                           .backend = "vmx",
                           .kernel = "6.1",
                           .irqchip = "split",
                           .irqchip_reason = "vmx needs KVM's LAPIC",
                           .tsc_khz = 2000000,
                           .memory = 256_MiB};
  EXPECT_THAT(say("model"), AllOf(HasSubstr("haswell@4,+vmx, policy mask"), HasSubstr("avx2"),
                                  HasSubstr("2000000 kHz"),
                                  HasSubstr("split: vmx needs KVM's LAPIC"), HasSubstr("256 MiB")));
}

TEST_F(DebugMonitor, symbols_say_how_far_the_kernel_moved_itself) {
  EXPECT_EQ(say("symbols"), "  symbols 2, of the images and --symbols\n");
  EXPECT_EQ(say("symbols 10001h"), "10001h (start+1h)\n");
  EXPECT_EQ(say("symbols on_page_fault"), "11000h (on_page_fault)\n");
  target.names.add("panic", SymbolTable::kMovable + 0x10'0000, 0x100);
  target.names.move_kernel(0x1a00'0000);
  EXPECT_THAT(say("symbols"),
              HasSubstr("by 1a000000h (KASLR); for gdb: symbol-file -o 0x1a000000"));
  EXPECT_EQ(say("symbols panic"), "ffffffff9a100000h (panic)\n");
  EXPECT_EQ(ask("symbols nowhere").status, Status::Usage);
  EXPECT_EQ(ask("symbols 1 2").status, Status::Usage);
}

TEST_F(DebugMonitor, exits_of_each_processor) {
  machine.events = {{.time = std::chrono::milliseconds(1500),
                     .vcpu = 1,
                     .rip = kCode,
                     .kind = "out",
                     .address = 0x3f8,
                     .value = 0x41,
                     .width = 1}};
  EXPECT_EQ(say("exits"),
            "vCPU 0: none that is still known\n"
            "vCPU 1:\n"
            "      1.500000 s  at 10000h (start): out 3f8h <- 41h (nothing there)\n");
  const json document = json::parse(say("exits --json 1"));
  EXPECT_EQ(document[1]["exits"][0]["address"], "0x3f8");
}

TEST_F(DebugMonitor, the_screen_as_lines) {
  EXPECT_THAT(say("screen"), HasSubstr("blank"));
  machine.picture.cells[80] = {.character = 'x', .attribute = 7};
  EXPECT_EQ(say("screen"), "\nx\n");
  machine.picture.text_mode = false;
  EXPECT_EQ(ask("screen").status, Status::Failed);
}

TEST_F(DebugMonitor, the_trace_and_the_end) {
  EXPECT_THAT(say("trace"), HasSubstr("no trace"));
  machine.trace = {.path = "t.json", .events = 12, .dropped = 3, .error = "ENOSPC"};
  EXPECT_EQ(say("trace"), "t.json: 12 events written, 3 dropped, ended by ENOSPC\n");
  EXPECT_EQ(ask("quit").status, Status::Done);
  EXPECT_TRUE(machine.ended);
}

TEST_F(DebugMonitor, reset_says_what_a_debugger_does_not_know_of_it) {
  EXPECT_THAT(say("reset"), HasSubstr("maintenance flush register-cache"));
  EXPECT_EQ(machine.resets, 1U);
  EXPECT_LE(widest(say("reset")), 100U);
  machine.ended = true;
  EXPECT_EQ(ask("reset").status, Status::Failed);
  EXPECT_EQ(machine.resets, 2U);
}

TEST_F(DebugMonitor, steps_take_interrupts_when_told_to) {
  EXPECT_EQ(say("step"), "steps leave interrupts pending\n");
  EXPECT_EQ(say("step irq on"), "steps take interrupts\n");
  EXPECT_TRUE(debugger.steps_into_interrupts());
}

TEST_F(DebugMonitor, explain_says_why_the_guest_stopped) {
  EXPECT_THAT(say("explain"), StartsWith("the guest has not run yet; vCPU 0 of 2:\n"));
  stop = {.kind = StopReason::Kind::Asked};
  EXPECT_THAT(say("explain"), StartsWith("the guest was stopped because it was asked to"));
  stop = {
      .kind = StopReason::Kind::Reported,
      .report = {.why = DebugReport::Why::Breakpoint, .vcpu = 1, .breakpoint = {.address = kCode}}};
  EXPECT_THAT(say("explain", 1),
              StartsWith("vCPU 1 stopped at the breakpoint at 10000h (start); vCPU 1 of 2:\n"));
  stop.report.why = DebugReport::Why::Watch;
  stop.report.breakpoint = {.kind = Breakpoint::Kind::Write, .address = kCode, .length = 4};
  EXPECT_THAT(say("explain"),
              HasSubstr("behind a write to the 4 bytes that are watched at 10000h"));
  stop.report = {.why = DebugReport::Why::Stepped, .vcpu = 1};
  EXPECT_THAT(say("explain"), StartsWith("vCPU 1 stopped after a step"));
  EXPECT_THAT(say("explain"), HasSubstr("insn    10000h (start): 90 nop"));
}

TEST_F(DebugMonitor, of_a_guest_that_died_the_card_is_the_explanation) {
  machine.card = "the card\n";
  EXPECT_EQ(say("explain"), "the card\n");
}

}  // namespace
}  // namespace vmm
