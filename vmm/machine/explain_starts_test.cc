#include "vmm/machine/explain_starts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>

#include "vmm/base/units.h"
#include "vmm/core/memory_fake.h"
#include "vmm/core/uapi.h"

namespace vmm {
namespace {

using testing::AllOf;
using testing::Contains;
using testing::HasSubstr;
using testing::Not;

constexpr Gpa kPage = 0x70000;

struct Ram final : FakeRam {
  Ram() { vga_is_trapped = true; }
};

CpuState real_mode(std::uint16_t selector, std::uint64_t rip) {
  CpuState cpu;
  cpu.regs.rip = rip;
  cpu.regs.rflags = 2;
  cpu.sregs.cr0 = spec::CR0_ET;
  cpu.sregs.cs.selector = selector;
  cpu.sregs.cs.base = std::uint64_t{selector} << 4;
  cpu.sregs.cs.limit = 0xffff;
  return cpu;
}

// Some processors, of which the first waits for the others, which were sent to kPage.
class Starts : public testing::Test {
 protected:
  Starts() {
    scene_.outcome = ending::TimedOut{1};
    scene_.memory = &ram_;
    scene_.symbols = &symbols_;
    symbols_.add("start_aps", 0x100000, 0x40);
    set_vcpus(2);
  }
  void set_vcpus(unsigned count) {
    scene_.vcpus.assign(1, real_mode(0x1000, 0));
    scene_.vcpus[0].sregs.cr0 |= spec::CR0_PE;
    scene_.vcpus[0].sregs.cs.base = 0;
    scene_.starts.assign(1, {});
    for (unsigned i = 1; i < count; ++i) {
      scene_.vcpus.push_back(real_mode(kPage >> 4, 0x1234));
      scene_.starts.push_back({.init = TraceEvent{.vcpu = i, .other = 0, .kind = "init"},
                               .sipi = TraceEvent{.time = std::chrono::microseconds(1234),
                                                  .vcpu = i,
                                                  .other = 0,
                                                  .rip = 0x100010,
                                                  .kind = "sipi",
                                                  .value = kPage >> 12}});
    }
  }
  void fill(Gpa page, std::uint8_t byte) { ram_.put(page, std::vector<std::uint8_t>(4096, byte)); }
  CrashCard card() const {
    CrashCard made = explain(scene_);
    EXPECT_LE(made.lines.size(), kMaxCardLines);
    for (const std::string& line : made.lines) EXPECT_LE(line.size(), 120u) << line;
    return made;
  }

  Ram ram_;
  SymbolTable symbols_;
  CrashScene scene_;
};

TEST_F(Starts, a_page_of_zeroes_is_named_in_one_line_with_sender_vector_and_time) {
  const CrashCard made = card();
  EXPECT_EQ(made.rule, "processor-started-in-zeroes");
  EXPECT_EQ(made.layer, "guest");
  EXPECT_EQ(
      made.lines.front(),
      "vCPU 1 started at 70000h, where only zeroes lie: SIPI 70h from vCPU 0 at 1.234 ms, RIP "
      "start_aps+10h");
  EXPECT_THAT(made.text(), HasSubstr("still running after 1 s"));
}

TEST_F(Starts, ffs_and_holes_have_rules_of_their_own) {
  fill(kPage, 0xff);
  EXPECT_EQ(card().rule, "processor-started-in-ffs");
  EXPECT_THAT(card().cause, HasSubstr("where only ffs lie"));
  scene_.starts[1].sipi->value = 0xa1;
  EXPECT_EQ(card().rule, "processor-started-in-hole");
  EXPECT_THAT(card().cause, HasSubstr("a1000h, which is the VGA window, not RAM"));
}

TEST_F(Starts, zeroes_before_something_else_are_no_code_either) {
  ram_.put(kPage + 0x100, {0xfa});
  EXPECT_THAT(card().cause, HasSubstr("where zeroes (up to 70100h) lie"));
  ram_.put(kPage + 8, {0xfa});
  EXPECT_EQ(card().rule, "timed-out") << "eight bytes may be what a trampoline begins with";
}

TEST_F(Starts, several_are_one_line) {
  set_vcpus(4);
  EXPECT_THAT(card().cause, HasSubstr("vCPUs 1-3 started at 70000h"));
  scene_.vcpus[2].sregs.cr0 |= spec::CR0_PE;  // got away
  EXPECT_THAT(card().cause, HasSubstr("vCPUs 1 and 3 started"));
  set_vcpus(64);
  EXPECT_THAT(card().cause, HasSubstr("vCPUs 1-63 started"));
}

TEST_F(Starts, each_ending_that_leaves_a_processor_lost_says_so) {
  const InternalError emulation{.suberror = KVM_INTERNAL_ERROR_EMULATION};
  for (const RunOutcome& outcome :
       std::vector<RunOutcome>{ending::TimedOut{1}, ending::Stalled{1}, ending::HaltedForever{},
                               ending::TripleFault{1}, ending::InternalFailure{1, emulation}}) {
    scene_.outcome = outcome;
    scene_.vcpu = 1;
    EXPECT_EQ(card().rule, "processor-started-in-zeroes") << kind_name(outcome);
  }
  scene_.outcome = ending::TripleFault{0};
  scene_.vcpu = 0;
  EXPECT_THAT(card().rule, Not(HasSubstr("processor-started"))) << "another one died";
}

TEST_F(Starts, one_that_found_code_is_not_blamed_when_the_page_is_wiped_later) {
  scene_.vcpus[1].sregs.cr0 |= spec::CR0_PE;
  EXPECT_EQ(card().rule, "timed-out");
}

TEST_F(Starts, where_code_lies_the_card_shows_the_start_and_the_first_instructions) {
  ram_.put(kPage, {0xfa, 0xfc, 0xeb, 0xfe});  // cli; cld; jmp $
  const CrashCard made = card();
  EXPECT_EQ(made.rule, "timed-out");
  EXPECT_THAT(made.lines, Contains(AllOf(HasSubstr("start"),
                                         HasSubstr("vCPU 1: SIPI 70h from vCPU 0 at 1.234 ms"),
                                         HasSubstr("at 70000h: code: cli; cld; jmp"))));
}

TEST_F(Starts, with_kvm_s_lapic_the_page_follows_from_cs) {
  scene_.starts.clear();
  EXPECT_EQ(card().rule, "processor-started-in-zeroes");
  EXPECT_THAT(card().cause, HasSubstr("vCPU 1 started at 70000h, where only zeroes lie: "
                                      "KVM's LAPIC took the SIPI, unseen"));
  EXPECT_THAT(card().text(), HasSubstr("--irqchip user"));
  // In a handler of the firmware's, which an exception in that page led to.
  CpuState& cpu = scene_.vcpus[1];
  cpu = real_mode(0xf000, 0x15);
  cpu.regs.rsp = 0xfffa;
  ram_.put(0xfffa, {0x00, 0x10, 0x00, 0x70, 0x02, 0x00});
  EXPECT_EQ(card().rule, "processor-started-in-zeroes");
  cpu = real_mode(0x7012, 0);
  EXPECT_EQ(card().rule, "timed-out") << "no SIPI makes that segment";
}

TEST_F(Starts, who_waits_for_a_sipi_is_said_with_what_came_so_far) {
  set_vcpus(3);
  scene_.outcome = ending::TimedOut{1};
  for (unsigned i = 1; i < 3; ++i) {
    scene_.vcpus[i].mp_state = KVM_MP_STATE_UNINITIALIZED;
    scene_.starts[i].sipi.reset();
  }
  scene_.starts[2].init.reset();
  const std::string text = card().text();
  EXPECT_THAT(text,
              HasSubstr("vCPU 1: waits for a SIPI (INIT from vCPU 0 at 0.000 ms, none since)"));
  EXPECT_THAT(text, HasSubstr("vCPU 2: waits for a SIPI (none came)"));
  EXPECT_EQ(card().rule, "timed-out");
}

TEST_F(Starts, memory_that_a_dump_does_not_hold_blames_nobody) {
  scene_.memory_is_partial = true;
  scene_.starts[1].sipi->value = 0xa1;
  EXPECT_EQ(card().rule, "timed-out");
  scene_.memory = nullptr;
  EXPECT_EQ(card().rule, "timed-out");
}

}  // namespace
}  // namespace vmm
