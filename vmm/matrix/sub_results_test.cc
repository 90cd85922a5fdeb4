#include "vmm/matrix/sub_results.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "vmm/base/text.h"

namespace vmm {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

SubResults read(ResultFormat format, std::string_view console) {
  SubResultReader reader(format);
  for (const std::string_view line : split(console, '\n')) reader.line(line);
  return reader.finish();
}

SubResults tap(std::string_view console) { return read(ResultFormat::Tap, console); }
SubResults ktap(std::string_view console) { return read(ResultFormat::Ktap, console); }

TEST(ResultFormats, have_names) {
  for (const auto format :
       {ResultFormat::None, ResultFormat::Tap, ResultFormat::Ktap, ResultFormat::KvmUnitTests})
    EXPECT_EQ(parse_result_format(result_format_name(format)), format);
  EXPECT_EQ(parse_result_format("junit"), std::nullopt);
}

TEST(SubResultsText, says_what_there_is) {
  EXPECT_EQ(SubResults{}.text(), "");
  EXPECT_EQ(tap("1..5\nok 1\nnot ok 2\nok 3 # skip\nnot ok 4 # TODO").text(),
            "1 passed, 1 failed, 1 failed as expected, 1 skipped: plan 1..5, 4 results");
}

TEST(Tap, counts_by_directive) {
  const SubResults results =
      tap("Booting...\r\n"
          "TAP version 14\r\n"
          "1..8\r\n"
          "ok 1 - paging\r\n"
          "not ok 2 - interrupts\r\n"
          "  ---\r\n"
          "  message: ok 5 - no result\r\n"
          "ok 9 - neither\r\n"
          "  ...\r\n"
          "ok 3 - timers # SKIP no HPET\r\n"
          "not ok 4 - apic # TODO not yet\r\n"
          "ok 5 # todo works already\r\n"
          "ok\r\n"
          "okay, that is enough\r\n");
  EXPECT_EQ(results.passed, 4u);
  EXPECT_EQ(results.failed, 1u);
  EXPECT_EQ(results.skipped, 1u);
  EXPECT_EQ(results.expected_failures, 1u);
  EXPECT_THAT(results.failures, ElementsAre("interrupts"));
  // The unindented "ok 9" ended the YAML block, so it counts.
  EXPECT_EQ(results.problem, "plan 1..8, 7 results");
}

TEST(Tap, a_hash_belongs_to_the_name_unless_it_begins_a_directive) {
  const SubResults results =
      tap("1..4\nnot ok 1 - C# code\nnot ok 2 a \\# SKIP b\n"
          "not ok 3 # because\nnot ok 4 x # SKIPPED y");
  EXPECT_EQ(results.failed, 4u);
  EXPECT_THAT(results.failures, ElementsAre("C# code", "a \\# SKIP b", "(no name)", "x"));
}

TEST(Tap, a_plan_is_kept_or_a_problem) {
  EXPECT_EQ(tap("1..2\nok 1\nok 2").problem, "");
  EXPECT_EQ(tap("ok 1\nok 2\n1..2").problem, "");
  EXPECT_EQ(tap("1..3\nok 1\nok 2").problem, "plan 1..3, 2 results");
  EXPECT_EQ(tap("1..1\nok 1\nok 2").problem, "plan 1..1, 2 results");
  EXPECT_EQ(tap("ok 1\nok 2").problem, "no plan");
  EXPECT_EQ(tap("hello, world").problem, "no line of tap");
  EXPECT_EQ(tap("").problem, "no line of tap");
}

TEST(Tap, a_plan_of_nothing_is_a_skip) {
  const SubResults results = tap("1..0 # SKIP no KVM here");
  EXPECT_EQ(results.skipped, 1u);
  EXPECT_EQ(results.problem, "");
}

TEST(Tap, bailing_out_is_a_problem_whatever_else_is) {
  const SubResults results = tap("1..3\nok 1\nBail out! no \x1b[31mmemory");
  EXPECT_EQ(results.passed, 1u);
  EXPECT_EQ(results.problem, "Bail out! no ^[[31mmemory");
  EXPECT_EQ(tap("1..1\n    1..9\n    Bail out!\nok 1").problem, "Bail out!");
}

TEST(Tap, of_subtests_the_innermost_count) {
  const SubResults results =
      tap("TAP version 14\n1..4\n"
          "# Subtest: a\n"
          "    ok 1 - a1\n"
          "        not ok 1 - a2x\n"
          "        1..1\n"
          "    not ok 2 - a2\n"
          "    1..2\n"
          "not ok 1 - a\n"
          "    1..2\n"
          "    ok 1 - b1\n"
          "    ok 2 - b2\n"
          "not ok 2 - b\n"
          "    1..1\n"
          "    not ok 1 - c1\n"
          "not ok 3 - c # TODO c\n"
          "    1..0 # SKIP none\n"
          "ok 4 - d # SKIP none\n");
  EXPECT_EQ(results.passed, 3u);
  EXPECT_EQ(results.failed, 2u);
  EXPECT_EQ(results.expected_failures, 1u);
  EXPECT_EQ(results.skipped, 1u);
  EXPECT_THAT(results.failures, ElementsAre("a2x", "b"));
  EXPECT_EQ(results.problem, "");
}

TEST(Tap, an_inner_plan_that_was_not_kept_is_a_problem) {
  EXPECT_EQ(tap("1..1\n    1..3\n    ok 1\nok 1 - outer").problem, "plan 1..3, 1 result");
}

TEST(Tap, programs_one_after_the_other_each_have_a_plan) {
  EXPECT_EQ(tap("TAP version 13\n1..1\nok 1\nTAP version 13\n1..2\nok 1\nok 2").problem, "");
  EXPECT_EQ(tap("1..1\nok 1\n1..2\nok 1\nok 2").problem, "");
  EXPECT_EQ(tap("TAP version 13\n1..2\nok 1\nTAP version 13\n1..1\nok 1").problem,
            "plan 1..2, 1 result");
}

TEST(Ktap, reads_what_kunit_prints) {
  const SubResults results = ktap(
      "[    0.412345] KTAP version 1\n"
      "[    0.412399] 1..2\n"
      "[    0.413000]     KTAP version 1\n"
      "[    0.413001]     # Subtest: list-kunit-test\n"
      "[    0.413002]     1..3\n"
      "[    0.414000][    T1]     ok 1 list_test_list_init\n"
      "<6>[    0.415000]     # list_test_list_add: EXPECTATION FAILED at lib/list-test.c:60\n"
      "[    0.415001]     not ok 2 list_test_list_add\n"
      "[    0.416000]         KTAP version 1\n"
      "[    0.416001]         # Subtest: parameters\n"
      "[    0.416002]         ok 1 len=1\n"
      "[    0.416003]         ok 2 len=2 # SKIP too long\n"
      "[    0.416004]     ok 3 list_test_list_del\n"
      "[    0.417000] # list-kunit-test: pass:2 fail:1 skip:0 total:3\n"
      "[    0.417001] not ok 1 list-kunit-test\n"
      "[   12.417001] ok 2 empty # SKIP nothing to do\n"
      "[   12.5] ok then, no number\n");
  EXPECT_EQ(results.passed, 2u);
  EXPECT_EQ(results.failed, 1u);
  EXPECT_EQ(results.skipped, 2u);
  EXPECT_THAT(results.failures, ElementsAre("list_test_list_add"));
  EXPECT_EQ(results.problem, "");
}

TEST(Ktap, reads_what_the_selftests_print) {
  const SubResults results = ktap(
      "TAP version 13\n"
      "1..3\n"
      "# selftests: kvm: cpuid_test\n"
      "# TAP version 13\n"
      "# 1..2\n"
      "# ok 1 leaves\n"
      "# not ok 2 brands # SKIP no brand\n"
      "# # Totals: pass:1 fail:0 xfail:0 xpass:0 skip:1 error:0\n"
      "ok 1 selftests: kvm: cpuid_test\n"
      "not ok 2 selftests: kvm: hyperv # TIMEOUT 45 seconds\n"
      "ok 3 selftests: kvm: smm # XFAIL known\n");
  EXPECT_EQ(results.passed, 1u);
  EXPECT_EQ(results.failed, 1u);
  EXPECT_EQ(results.skipped, 1u);
  EXPECT_EQ(results.expected_failures, 1u);
  EXPECT_THAT(results.failures, ElementsAre("selftests: kvm: hyperv"));
  EXPECT_EQ(results.problem, "");
}

TEST(Ktap, needs_no_plan_but_some_line) {
  EXPECT_EQ(ktap("KTAP version 1\nok 1 a").problem, "");
  EXPECT_EQ(ktap("[    0.000000] Linux version 6.18").problem, "no line of ktap");
}

TEST(KvmUnitTests, counts_by_the_word) {
  const SubResults results = read(ResultFormat::KvmUnitTests,
                                  "enabling apic\n"
                                  "PASS: x2apic id\n"
                                  "FAIL: tmict: 0x12\n"
                                  "XFAIL: known\n"
                                  "XPASS: surprise\n"
                                  "SKIP: no pv-ipi\n"
                                  "INFO: PASS: no\n"
                                  "  PASS: indented\n"
                                  "SUMMARY: 5 tests, 2 unexpected failures, 1 expected failures, "
                                  "1 skipped\n");
  EXPECT_EQ(results.passed, 1u);
  EXPECT_EQ(results.failed, 2u);
  EXPECT_EQ(results.skipped, 1u);
  EXPECT_EQ(results.expected_failures, 1u);
  EXPECT_THAT(results.failures, ElementsAre("tmict: 0x12", "XPASS: surprise"));
  EXPECT_EQ(results.problem, "");
}

TEST(KvmUnitTests, lost_lines_and_aborts_are_problems) {
  EXPECT_EQ(read(ResultFormat::KvmUnitTests, "PASS: a\nSUMMARY: 3 tests\n").problem,
            "SUMMARY of 3 tests, 1 result");
  EXPECT_EQ(read(ResultFormat::KvmUnitTests, "ABORT: out of pages\n").problem,
            "ABORT: out of pages");
  EXPECT_FALSE(read(ResultFormat::KvmUnitTests, "only timings here\n").any());
}

TEST(SubResultReaderLimits, names_are_few_and_short) {
  std::string console;
  for (int i = 0; i < 1000; ++i) console += "FAIL: " + std::string(1000, 'x') + "\n";
  const SubResults results = read(ResultFormat::KvmUnitTests, console);
  EXPECT_EQ(results.failed, 1000u);
  EXPECT_THAT(results.failures, SizeIs(SubResults::kMaxNames));
  for (const std::string& name : results.failures) EXPECT_THAT(name, SizeIs(200));
}

TEST(SubResultReaderLimits, no_depth_and_no_number_is_too_much) {
  std::string console = "1..99999999999999999999\n1..18446744073709551615\n";
  for (std::size_t indent = 0; indent < 3000; ++indent)
    console += std::string(indent, ' ') + "not ok 1\n";
  for (const auto format : {ResultFormat::Tap, ResultFormat::Ktap})
    EXPECT_EQ(read(format, console).failed, 65u) << "the limit of the indentation";
}

TEST(SubResultReaderLimits, without_a_format_nothing_counts) {
  EXPECT_FALSE(read(ResultFormat::None, "1..1\nnot ok 1\nFAIL: x").any());
}

}  // namespace
}  // namespace vmm
