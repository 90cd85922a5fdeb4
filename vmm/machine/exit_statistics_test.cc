#include "vmm/machine/exit_statistics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace vmm {
namespace {

using testing::HasSubstr;
using testing::Not;
using Kind = KvmEventKind;

constexpr std::uint32_t kCpuid = 10, kVmlaunch = 20, kEpt = 48, kInterrupt = 1;

struct Events {
  ExitStatistics statistics{2};
  void add(Kind kind, std::uint32_t code, unsigned vcpu = 0, bool svm = false) {
    statistics.add({.kind = kind, .vcpu = vcpu, .svm = svm, .code = code});
  }
  ExitStatistics::Reason of(std::uint32_t code, bool svm = false) {
    statistics.finish();
    const auto found = statistics.reasons().find({svm, code});
    return found == statistics.reasons().end() ? ExitStatistics::Reason() : found->second;
  }
};

TEST(ExitStatistics, an_exit_is_of_l1_until_kvm_says_that_it_was_of_l2) {
  Events events;
  events.add(Kind::AnyExit, kCpuid);
  events.add(Kind::AnyExit, kCpuid);
  events.add(Kind::L2Exit, kCpuid);
  events.add(Kind::ExitToL1, kCpuid);
  events.add(Kind::AnyExit, kCpuid);
  const auto cpuid = events.of(kCpuid);
  EXPECT_EQ(cpuid.l1, 2u);
  EXPECT_EQ(cpuid.l2, 1u);
  EXPECT_EQ(cpuid.kept, 0u);
  EXPECT_EQ(cpuid.to_l1, 1u);
}

TEST(ExitStatistics, an_exit_of_l2_that_l1_does_not_get_is_kept) {
  Events events;
  for (int i = 0; i < 3; ++i) {
    events.add(Kind::AnyExit, kEpt);
    events.add(Kind::L2Exit, kEpt);
    events.add(Kind::Entry, 0);
  }
  // An interrupt for L1 that is there when KVM wants to go back is an exit of its own.
  events.add(Kind::AnyExit, kEpt);
  events.add(Kind::L2Exit, kEpt);
  events.add(Kind::ExitToL1, kInterrupt);
  const auto ept = events.of(kEpt);
  EXPECT_EQ(ept.l1, 0u);
  EXPECT_EQ(ept.l2, 4u);
  EXPECT_EQ(ept.kept, 4u);
  EXPECT_EQ(events.of(kInterrupt).to_l1, 1u);
  EXPECT_EQ(events.of(kInterrupt).l2, 0u);
}

TEST(ExitStatistics, processors_do_not_mix) {
  Events events;
  events.add(Kind::AnyExit, kCpuid, 0);
  events.add(Kind::AnyExit, kCpuid, 1);
  events.add(Kind::L2Exit, kCpuid, 1);
  events.add(Kind::AnyExit, kVmlaunch, 2);  // there is none
  const auto cpuid = events.of(kCpuid);
  EXPECT_EQ(cpuid.l1, 1u);
  EXPECT_EQ(cpuid.l2, 1u);
  EXPECT_EQ(events.of(kVmlaunch).l1, 0u);
  EXPECT_EQ(events.statistics.events(), 3u);
}

TEST(ExitStatistics, reasons_and_refusals_are_bounded) {
  Events events;
  for (std::uint32_t i = 0; i < 1000; ++i) {
    events.add(Kind::AnyExit, i);
    events.statistics.add(
        {.kind = Kind::L2EntryFailed, .code = i % 2, .message = std::to_string(i)});
  }
  events.statistics.finish();
  EXPECT_EQ(events.statistics.reasons().size(), ExitStatistics::kMaxReasons);
  EXPECT_EQ(events.statistics.other_exits(), 1000 - ExitStatistics::kMaxReasons);
  EXPECT_EQ(events.statistics.failures().size(), ExitStatistics::kMaxFailures);
  EXPECT_EQ(events.statistics.other_failures(), 1000 - ExitStatistics::kMaxFailures);
}

TEST(ExitStatistics, reasons_are_in_the_words_of_their_vendor) {
  EXPECT_EQ(exit_reason_text(false, kEpt), "EPT violation");
  EXPECT_EQ(exit_reason_text(false, 0x80000021), "VM-entry failure: invalid guest state");
  EXPECT_EQ(exit_reason_text(false, 35), "reason 35");
  EXPECT_EQ(exit_reason_text(true, 0x400), "VMEXIT_NPF");
  EXPECT_EQ(exit_reason_text(true, 0xffffffff), "VMEXIT_INVALID");
  EXPECT_EQ(exit_reason_text(true, 0x777), "exit code 777h");
}

KvmExits two_levels() {
  KvmExits exits;
  exits.statistics = ExitStatistics(1);
  const auto add = [&](Kind kind, std::uint32_t code) {
    exits.statistics.add({.kind = kind, .code = code});
  };
  add(Kind::AnyExit, kVmlaunch);
  add(Kind::L2Entry, 0);
  add(Kind::AnyExit, kCpuid);
  add(Kind::L2Exit, kCpuid);
  add(Kind::ExitToL1, kCpuid);
  exits.statistics.add({.kind = Kind::L2EntryFailed, .code = 8, .message = "error: "});
  exits.statistics.finish();
  exits.entries_traced = true;
  return exits;
}

TEST(KvmExits, the_table_has_the_levels_where_there_are_two) {
  const std::string text = kvm_exits_text(two_levels());
  EXPECT_THAT(text, HasSubstr("of L1        of L2  kept by KVM  given to L1\n"));
  EXPECT_THAT(text, HasSubstr("VMLAUNCH                                      1            0"));
  EXPECT_THAT(text, HasSubstr("CPUID                                         0            1     "
                              "       0            1\n"));
  EXPECT_THAT(text, HasSubstr("vmm: 1 entry into L2\n"));
  EXPECT_THAT(text, HasSubstr("vmm: a VM entry was refused once, as KVM says: error: 8 (VM entry "
                              "with invalid host-state field(s))\n"));
  KvmExits plain;
  plain.statistics = ExitStatistics(1);
  plain.statistics.add({.kind = Kind::AnyExit, .code = kCpuid});
  plain.statistics.finish();
  EXPECT_THAT(kvm_exits_text(plain), Not(HasSubstr("of L2")));
}

TEST(KvmExits, what_was_lost_is_said) {
  KvmExits exits = two_levels();
  exits.lost = 17;
  EXPECT_THAT(kvm_exits_text(exits), HasSubstr("17 of KVM's events came faster"));
  EXPECT_EQ(kvm_exits_json(exits)["lost"], 17);
}

TEST(KvmExits, without_tracefs_there_are_the_counters_and_a_line_that_says_so) {
  KvmExits exits;
  exits.problem = "no tracefs";
  exits.counters = {{"exits", 12}, {"nested_run", 3}};
  const std::string text = kvm_exits_text(exits);
  EXPECT_THAT(text, HasSubstr("3 entries into L2"));
  EXPECT_THAT(text, HasSubstr("need tracefs"));
  EXPECT_THAT(text, HasSubstr("exits 12, nested_run 3"));
  const auto json = kvm_exits_json(exits);
  EXPECT_EQ(json["source"], "counters");
  EXPECT_EQ(json["l2_entries"], 3);
  exits.counters.clear();
  EXPECT_THAT(kvm_exits_text(exits), HasSubstr("or it has none"));
  EXPECT_EQ(kvm_exits_json(exits)["l2_entries"], nullptr);
}

}  // namespace
}  // namespace vmm
