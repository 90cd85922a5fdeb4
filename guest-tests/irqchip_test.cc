// The three interrupt chips from inside a guest: the same guests, the same claims.
#include <gmock/gmock.h>

#include <algorithm>

#include "guest-tests/run_vmm.h"

namespace vmm {
namespace {

using testing::HasSubstr;
using testing::Not;

class IrqChips : public KvmTest, public testing::WithParamInterface<const char*> {
 protected:
  // The host's own model, less what our LAPIC cannot carry: it has x2APIC and TSC-deadline wherever
  // KVM has.
  RunResult run(const std::string& guest, std::vector<std::string> more = {}) {
    std::vector<std::string> options{"--irqchip", GetParam(), "--cpu-policy", "mask"};
    options.insert(options.end(), more.begin(), more.end());
    return run_guest(guest, options);
  }
  static bool user() { return std::string(GetParam()) == "user"; }
  // kvm_pvm's LAPIC never has a bit in ISR, so an EOI ends nothing and a level-triggered line comes
  // once (seen with Linux 6.18).
  static bool lapic_without_isr() { return !user() && host_backend() == "pvm"; }
  void expect_success(const RunResult& r) {
    EXPECT_EQ(r.code, 0) << r.text();
    EXPECT_THAT(r.out, HasSubstr("ok "));
    EXPECT_THAT(r.out, Not(HasSubstr("FAILED")));
  }
};

TEST_P(IrqChips, the_lapic_serves_by_priority) {
  const RunResult r = run("lapic-priority.elf");
  expect_success(r);
  if (user()) {
    EXPECT_THAT(r.out, HasSubstr("ok      vector 5 is illegal, says the ESR"));
  }
  if (!lapic_without_isr()) {
    EXPECT_THAT(r.out, HasSubstr("ok      the vector being served is in ISR"));
  }
}

// The svm lab's QEMU would die of it (vmm/lab/qemu_lock).
TEST_P(IrqChips, a_handler_writes_cr8_while_an_interrupt_waits) { expect_success(run("cr8.elf")); }

TEST_P(IrqChips, the_lapic_timer_keeps_its_modes_and_its_rate) {
  expect_success(run("lapic-timer.elf"));
}

TEST_P(IrqChips, x2apic_is_there_where_cpuid_says_so) { expect_success(run("x2apic.elf")); }

TEST_P(IrqChips, the_pit_comes_through_the_8259a) { expect_success(run("pic-mode.elf")); }

TEST_P(IrqChips, a_processor_comes_back_from_an_smi) { expect_success(run("smi.elf")); }

TEST_P(IrqChips, the_ioapic_has_levels_edges_and_remote_irr) {
  if (lapic_without_isr()) GTEST_SKIP() << "kvm_pvm's LAPIC has no ISR: an EOI reaches no IOAPIC";
  for (const char* version : {"11", "20"})
    expect_success(run("ioapic.elf", {"--ioapic-version", version}));
}

TEST_P(IrqChips, processors_talk_to_each_other) {
  for (const char* count : {"1", "2", "4"}) {
    const RunResult r = run("ipi.elf", {"--smp", count});
    EXPECT_EQ(r.code, 0) << count << r.text();
    EXPECT_THAT(r.out, Not(HasSubstr("FAILED")));
  }
}

// Apart, for in the svm lab they take longer than any other test of the chips.
TEST_P(IrqChips, three_and_eight_processors_talk_to_each_other) {
  for (const char* count : {"3", "8"}) {
    const RunResult r = run("ipi.elf", {"--smp", count});
    EXPECT_EQ(r.code, 0) << count << r.text();
    EXPECT_THAT(r.out, Not(HasSubstr("FAILED")));
  }
}

TEST_P(IrqChips, every_processor_starts) {
  for (const char* count : {"1", "2", "3", "4", "8"}) {
    const RunResult r = run("smp.elf", {"--smp", count});
    EXPECT_EQ(r.code, 0) << count << r.text();
  }
}

TEST_P(IrqChips, serial_interrupts_arrive) {
  const RunResult r = run_guest("serial-irq.elf", {"--irqchip", GetParam(), "--cpu-policy", "mask"},
                                "a line of text\n");
  EXPECT_EQ(r.code, 0) << r.text();
  EXPECT_THAT(r.out, HasSubstr("a line of text\n"));
}

TEST_P(IrqChips, a_machine_halted_for_ever_is_found_and_an_idle_one_is_not) {
  EXPECT_EQ(run("cli-hlt.elf").code, 82);
  EXPECT_EQ(run("idle.elf", {"--timeout", "1"}).code, 124);
}

INSTANTIATE_TEST_SUITE_P(Each, IrqChips, testing::Values("user", "split", "kernel"),
                         [](const auto& chosen) { return std::string(chosen.param); });

// Where the host scales TSCs the guest counts at the rate that it was given, by the PIT; where not,
// it never starts.
TEST_P(IrqChips, the_tsc_has_the_rate_that_was_asked_for) {
  const RunResult dry = run("tsc-rate.elf", {"--tsc-khz", "1000000", "--dry-run"});
  const RunResult r = run("tsc-rate.elf", {"--tsc-khz", "1000000"});
  EXPECT_EQ(dry.code, r.code) << dry.text();
  if (r.code == 77) {
    EXPECT_THAT(r.err, HasSubstr("--tsc-khz 1000000: this host's TSC has "));
    EXPECT_THAT(r.err, HasSubstr("cannot be scaled (KVM_CAP_TSC_CONTROL)"));
    EXPECT_EQ(r.out, "");
    return;
  }
  ASSERT_EQ(r.code, 0) << r.text();
  ASSERT_NE(host_backend(), "pvm") << "kvm_pvm has no TSC scaling";
  EXPECT_THAT(r.err, HasSubstr("TSC 1000000 kHz"));
  ASSERT_THAT(r.out, HasSubstr("TSC "));
  const double khz = std::stod(r.out.substr(r.out.find("TSC ") + 4));
  EXPECT_GT(khz, 0.9e6) << "slower than the PIT says";
  EXPECT_LT(khz, 2e6) << r.out;
}

TEST_F(KvmTest, the_outcome_has_the_rate_of_the_tsc) {
  const TempFolder folder;
  const std::string path = folder.file("outcome.json");
  ASSERT_EQ(run_guest("minimal.elf", {"--outcome-json", path}).code, 0);
  const auto khz = read_json_file(path)["machine"]["tsc_khz"];
  ASSERT_TRUE(khz.is_number()) << khz;
  // The host's own rate is no other one.
  const RunResult same =
      run_guest("minimal.elf", {"--tsc-khz", std::to_string(khz.get<std::uint32_t>())});
  EXPECT_EQ(same.code, 0) << same.text();
  EXPECT_THAT(same.err, HasSubstr(", TSC "));
}

TEST_F(KvmTest, a_user_chip_that_cannot_carry_the_model_is_refused_under_strict) {
  const std::vector<std::string> model{"--cpu-model", "host,+kvm-pv-unhalt", "--dry-run"};
  if (run_guest("hello.elf", model).code != 0) GTEST_SKIP() << "this KVM has no PV unhalt";
  std::vector<std::string> options{"--irqchip", "user"};
  options.insert(options.end(), model.begin(), model.end());
  const RunResult r = run_guest("hello.elf", options);
  EXPECT_EQ(r.code, 77) << r.text();
  EXPECT_THAT(r.err, HasSubstr("--irqchip user cannot carry"));
  EXPECT_THAT(r.err, HasSubstr("--irqchip split"));
}

TEST_F(KvmTest, the_start_line_names_the_chip_and_why) {
  const RunResult masked =
      run_guest("minimal.elf", {"--cpu-model", "haswell", "--cpu-policy", "mask"});
  EXPECT_THAT(masked.err, HasSubstr("irqchip user,"));
  const RunResult paravirtual =
      run_guest("minimal.elf", {"--cpu-model", "host,+kvm-pv-unhalt", "--cpu-policy", "mask"});
  if (host_backend() != "none") {
    EXPECT_THAT(paravirtual.err,
                HasSubstr("irqchip split (host,+kvm-pv-unhalt has kvm-pv-unhalt)"));
  }
  const RunResult asked = run_guest("minimal.elf", {"--irqchip", "kernel"});
  EXPECT_THAT(asked.err, HasSubstr("irqchip kernel,"));
}

}  // namespace
}  // namespace vmm
