#include "vmm/base/fault.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <string>
#include <thread>
#include <vector>

namespace vmm {
namespace {

using testing::HasSubstr;

// Each test leaves the process without a plan.
class FaultPlan : public testing::Test {
 protected:
  ~FaultPlan() override { set_faults({}); }
};

std::string refusal_of(std::string_view text) {
  const auto result = parse_faults(text);
  if (result.has_value()) return "";
  EXPECT_EQ(result.error().kind(), ErrorKind::Usage);
  return result.error().text();
}

TEST(ParseFaults, reads_name_errno_and_count) {
  const auto faults = parse_faults("KVM_SET_CPUID2:E2BIG:1,KVM_RUN:EFAULT:3,KVM_GET_REGS:EIO:0");
  ASSERT_TRUE(faults.has_value());
  ASSERT_EQ(faults->size(), 3u);
  EXPECT_EQ((*faults)[0].name, "KVM_SET_CPUID2");
  EXPECT_EQ((*faults)[0].errno_value, E2BIG);
  EXPECT_EQ((*faults)[1].nth, 3u);
  EXPECT_EQ((*faults)[2].nth, 0u);
}

TEST(ParseFaults, a_count_left_out_is_the_first_call) {
  const auto faults = parse_faults("KVM_CREATE_VM:EBUSY");
  ASSERT_TRUE(faults.has_value());
  ASSERT_EQ(faults->size(), 1u);
  EXPECT_EQ(faults->front().nth, 1u);
}

TEST(ParseFaults, nothing_and_empty_words_plan_nothing) {
  EXPECT_TRUE(parse_faults("").value().empty());
  EXPECT_EQ(parse_faults(",KVM_RUN:EINTR,,").value().size(), 1u);
}

TEST(ParseFaults, each_mistake_is_named) {
  EXPECT_THAT(refusal_of("KVM_RUN"), HasSubstr("'KVM_RUN' is not IOCTL:ERRNO[:NTH]"));
  EXPECT_THAT(refusal_of("KVM_RUN:EIO:1:2"), HasSubstr("'KVM_RUN:EIO:1:2'"));
  EXPECT_THAT(refusal_of(":EIO"), HasSubstr("':EIO'"));
  EXPECT_THAT(refusal_of("KVM_RUN:"), HasSubstr("'' is not the name of an errno"));
  EXPECT_THAT(refusal_of("KVM_RUN:eio"), HasSubstr("'eio'"));
  EXPECT_THAT(refusal_of("KVM_RUN:5"), HasSubstr("'5'"));
  for (const char* count : {"", "-1", "x", "1x", "4294967296"})
    EXPECT_THAT(refusal_of(std::string("KVM_RUN:EIO:") + count), HasSubstr("is not a count"))
        << count;
}

TEST(ParseFaults, hostile_words_are_shown_without_control_characters) {
  EXPECT_THAT(refusal_of("\x1b[2J"), HasSubstr("'\\x1b[2J'"));
  EXPECT_THAT(refusal_of("A:\x07"), HasSubstr("'\\x07'"));
  EXPECT_THAT(refusal_of("A:EIO:\n"), HasSubstr("'\\x0a'"));
}

TEST_F(FaultPlan, without_a_plan_every_call_goes_ahead) { EXPECT_EQ(planned_fault("KVM_RUN"), 0); }

TEST_F(FaultPlan, the_nth_call_fails_and_no_other) {
  set_faults({{"KVM_RUN", EFAULT, 3}});
  EXPECT_EQ(planned_fault("KVM_RUN"), 0);
  EXPECT_EQ(planned_fault("KVM_GET_REGS"), 0);
  EXPECT_EQ(planned_fault("KVM_RUN"), 0);
  EXPECT_EQ(planned_fault("KVM_RUN"), EFAULT);
  EXPECT_EQ(planned_fault("KVM_RUN"), 0);
}

TEST_F(FaultPlan, nth_0_fails_each_call) {
  set_faults({{"KVM_GET_REGS", EIO, 0}});
  for (int i = 0; i < 5; ++i) EXPECT_EQ(planned_fault("KVM_GET_REGS"), EIO);
}

TEST_F(FaultPlan, one_name_may_fail_in_several_ways) {
  set_faults({{"KVM_RUN", EINTR, 1}, {"KVM_RUN", EIO, 2}});
  EXPECT_EQ(planned_fault("KVM_RUN"), EINTR);
  EXPECT_EQ(planned_fault("KVM_RUN"), EIO);
  EXPECT_EQ(planned_fault("KVM_RUN"), 0);
}

TEST_F(FaultPlan, a_new_plan_counts_from_the_start) {
  set_faults({{"KVM_RUN", EIO, 2}});
  EXPECT_EQ(planned_fault("KVM_RUN"), 0);
  set_faults({{"KVM_RUN", EIO, 2}});
  EXPECT_EQ(planned_fault("KVM_RUN"), 0);
  EXPECT_EQ(planned_fault("KVM_RUN"), EIO);
  set_faults({});
  EXPECT_EQ(planned_fault("KVM_RUN"), 0);
}

TEST_F(FaultPlan, threads_share_one_count) {
  constexpr unsigned kThreads = 4, kCalls = 100;
  set_faults({{"KVM_RUN", EIO, kThreads * kCalls}});
  std::vector<unsigned> failed(kThreads, 0);
  {
    std::vector<std::jthread> threads;
    for (unsigned& count : failed)
      threads.emplace_back([&count] {
        for (unsigned i = 0; i < kCalls; ++i) count += planned_fault("KVM_RUN") != 0 ? 1 : 0;
      });
  }
  unsigned total = 0;
  for (const unsigned count : failed) total += count;
  EXPECT_EQ(total, 1u);
}

}  // namespace
}  // namespace vmm
