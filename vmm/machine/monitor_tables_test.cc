// The monitor's tables, and where a guest stands that handles an exception.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "vmm/machine/monitor_rig.h"

namespace vmm {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using Status = MonitorAnswer::Status;

class MonitorTables : public testing::Test, public MonitorRig {};

TEST_F(MonitorTables, gates_with_their_handlers_and_gaps_as_one_line) {
  set_gate(14, kHandler, 1);
  const std::string text = say("idt");
  EXPECT_THAT(
      text, AllOf(HasSubstr("IDT at 3000h, limit 1ffh: 32 gates of 16 bytes"),
                  HasSubstr("  0 to 13: zero\n"), HasSubstr("  15 to 31: zero\n"),
                  HasSubstr("14 (0eh) #PF   interrupt           8h:11000h (on_page_fault)  DPL 0  "
                            "IST1")));
  EXPECT_LE(widest(text), 120U);
}

TEST_F(MonitorTables, one_gate_with_all_that_the_processor_needs_for_it) {
  set_gate(14, kHandler, 1);
  EXPECT_EQ(say("idt 14"), "gate 14 (#PF): handler 11000h (on_page_fault), IST1\n");
  EXPECT_EQ(say("idt 0eh"), say("idt 14"));
  EXPECT_THAT(say("idt 13"), HasSubstr("all zero  <-- cannot be taken"));
  EXPECT_THAT(say("idt 200"), HasSubstr("too small"));
  set_gate(13, 0x4000'0000);
  EXPECT_THAT(say("idt 13"), HasSubstr("not mapped for a fetch"));
}

TEST_F(MonitorTables, an_idt_that_is_not_mapped_says_so) {
  target.states[0].sregs.idt.base = 0x4000'0000;
  EXPECT_THAT(say("idt"), HasSubstr("0 to 31: cannot be read: 40000000h is not mapped"));
}

TEST_F(MonitorTables, vectors_of_real_mode) {
  CpuState& cpu = target.states[0];
  cpu = {};
  cpu.sregs.idt = table(0, 0x3ff);
  target.ram.put32(0x10 * 4, 0xf0001234);
  EXPECT_THAT(say("idt"), AllOf(HasSubstr("0 to 15: 0000:0000"),
                                HasSubstr("16 (10h) #MF   f000:1234 = f1234h")));
}

TEST_F(MonitorTables, descriptors_with_the_registers_that_use_them) {
  const std::string text = say("gdt");
  EXPECT_THAT(text, AllOf(HasSubstr("GDT at 4000h, limit 1fh"),
                          HasSubstr("     8h  base                0h  limit ffffffffh  DPL 0  code "
                                    "64-bit, readable  CS\n"),
                          HasSubstr("    10h  base             4100h  limit       67h  DPL 0  busy "
                                    "64-bit TSS  TR\n")));
  EXPECT_LE(widest(text), 120U);
  target.states[0].sregs.gdt = table(0x4000'0000, 0xffff);
  EXPECT_THAT(say("gdt"), HasSubstr("cannot be read"));
}

TEST_F(MonitorTables, a_large_gdt_is_cut) {
  for (unsigned i = 1; i < 512; ++i) target.ram.put64(0x100000 + i * 8, 0x00cf93000000ffff);
  target.states[0].sregs.gdt = table(0x100000, 0xffff);
  EXPECT_THAT(say("gdt"), HasSubstr("more than 128 entries"));
}

TEST_F(MonitorTables, the_stacks_of_the_tss) {
  EXPECT_THAT(say("tss"),
              AllOf(HasSubstr("TR 10h: TSS at 4100h, limit 67h"),
                    HasSubstr("IST1         30000h\n"), HasSubstr("RSP0         0h\n")));
  target.states[0].sregs.tr.limit = 0x30;
  EXPECT_THAT(say("tss"), HasSubstr("IST3         beyond the limit"));
  target.states[0].sregs.tr.selector = 0;
  EXPECT_THAT(say("tss"), HasSubstr("no TSS was loaded"));
}

TEST_F(MonitorTables, at_the_first_instruction_of_a_handler_the_frame_is_read) {
  set_gate(14, kHandler);
  CpuState& cpu = target.states[0];
  cpu.regs.rip = kHandler;
  cpu.regs.rsp = kStack;
  cpu.sregs.cr2 = 0x123000000;
  const std::uint64_t frame[] = {2, kCode, 8, 0x202, 0x2fff0, 0x10};
  for (unsigned i = 0; i < 6; ++i) target.ram.put64(kStack + i * 8, frame[i]);
  const std::string text = say("explain");
  EXPECT_THAT(text, AllOf(HasSubstr("at the first instruction of the handler of #PF"),
                          HasSubstr("error code 2h (W)"), HasSubstr("it came from 8h:10000h"),
                          HasSubstr("CR2, the address of the last page fault, is 123000000h")));
  EXPECT_LE(widest(text), 120U);
}

TEST_F(MonitorTables, behind_it_only_what_is_certain_is_said) {
  set_gate(14, kHandler);
  target.states[0].regs.rip = kHandler + 5;
  EXPECT_THAT(say("explain"), AllOf(HasSubstr("within the symbol of the handler of #PF"),
                                    HasSubstr("CR2"), Not(HasSubstr("error code"))));
  target.states[0].regs.rip = kCode;
  EXPECT_THAT(say("explain"), Not(HasSubstr("of the handler")));
}

TEST_F(MonitorTables, a_handler_of_many_vectors_has_no_frame_that_is_known) {
  for (unsigned vector = 0; vector < 32; ++vector) set_gate(vector, kHandler);
  target.states[0].regs.rip = kHandler;
  EXPECT_THAT(say("explain"),
              AllOf(HasSubstr("and 28 more vectors"), Not(HasSubstr("the frame at"))));
}

TEST_F(MonitorTables, explain_says_what_the_next_instruction_would_raise) {
  target.ram.put(kCode, {0x0f, 0x0b});
  EXPECT_THAT(say("explain"), HasSubstr("next    it would raise #UD"));
  // mov [rax], eax with RAX beyond what is mapped.
  target.ram.put(kCode, {0x89, 0x00});
  target.states[0].regs.rax = 0x40000000;
  EXPECT_THAT(say("explain"),
              AllOf(HasSubstr("it would raise #PF"), HasSubstr("operand 40000000h:")));
}

TEST_F(MonitorTables, explain_says_what_waits_for_the_processor) {
  kvm_vcpu_events& events = target.states[0].events;
  events.exception.injected = 1;
  events.exception.nr = 13;
  events.exception.has_error_code = 1;
  events.exception.error_code = 0x18;
  events.nmi.masked = 1;
  EXPECT_THAT(say("explain"),
              AllOf(HasSubstr("about to take #GP, error code 18h"), HasSubstr("NMIs are blocked")));
}

TEST_F(MonitorTables, explain_says_whether_an_exception_could_be_taken) {
  EXPECT_THAT(say("explain"), HasSubstr("cannot take an exception: gate 8 (#DF)"));
  for (const unsigned vector : {8U, 13U, 14U}) set_gate(vector, kHandler);
  EXPECT_THAT(say("explain"), HasSubstr("takes #DF, #GP and #PF"));
}

}  // namespace
}  // namespace vmm
