// Which verdict which ending gets.
#include "vmm/matrix/judge.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "vmm/matrix/runner.h"

namespace vmm {
namespace {

using testing::HasSubstr;

// An attempt whose guest ended like that.
AttemptFacts ended(const std::string& kind, int code) {
  AttemptFacts facts;
  facts.outcome = CellOutcome{};
  facts.outcome->kind = kind;
  facts.outcome->exit_code = code;
  facts.outcome->layer = "guest";
  facts.outcome->headline = "it ended by " + kind;
  facts.exit_code = code;
  return facts;
}

LinePattern pattern(const std::string& text) {
  auto compiled = LinePattern::compile(text);
  EXPECT_TRUE(compiled);
  return *compiled;
}

CellVerdict verdict(const Settings& settings, const AttemptFacts& facts) {
  return judge(settings, facts).verdict;
}

TEST(Judge, endings_without_an_expectation) {
  const Settings plain;
  EXPECT_EQ(verdict(plain, ended("guest-exit", 0)), CellVerdict::Pass);
  EXPECT_EQ(verdict(plain, ended("power-off", 0)), CellVerdict::Pass);
  EXPECT_EQ(verdict(plain, ended("guest-exit", 3)), CellVerdict::Fail);
  EXPECT_EQ(verdict(plain, ended("reset", 83)), CellVerdict::Fail);
  EXPECT_EQ(verdict(plain, ended("triple-fault", 80)), CellVerdict::Crash);
  EXPECT_EQ(verdict(plain, ended("internal-error", 81)), CellVerdict::Crash);
  EXPECT_EQ(verdict(plain, ended("entry-failure", 81)), CellVerdict::Crash);
  EXPECT_EQ(verdict(plain, ended("caught", 81)), CellVerdict::Crash);
  EXPECT_EQ(verdict(plain, ended("halted", 82)), CellVerdict::Crash);
  EXPECT_EQ(verdict(plain, ended("stalled", 82)), CellVerdict::Timeout);
  EXPECT_EQ(verdict(plain, ended("timeout", 124)), CellVerdict::Timeout);
  EXPECT_EQ(verdict(plain, ended("monitor-failure", 70)), CellVerdict::Infra);
  EXPECT_EQ(verdict(plain, ended("signal", 143)), CellVerdict::Infra);
  EXPECT_EQ(verdict(plain, ended("not-started", 77)), CellVerdict::Skip);
  EXPECT_EQ(verdict(plain, ended("not-started", 76)), CellVerdict::Skip);
  EXPECT_EQ(verdict(plain, ended("not-started", 65)), CellVerdict::Fail)
      << "an image that cannot be loaded";
  EXPECT_EQ(verdict(plain, ended("not-started", 64)), CellVerdict::Infra);
  EXPECT_EQ(verdict(plain, ended("guest-exit", 77)), CellVerdict::Skip)
      << "--compat kvm-unit-tests";
}

TEST(Judge, a_code_alone_is_no_crash) {
  // qemu's exit protocol can make any code of a guest's own.
  EXPECT_EQ(verdict({}, ended("guest-exit", 80)), CellVerdict::Fail);
}

TEST(Judge, no_outcome_is_no_verdict_on_the_guest) {
  AttemptFacts facts;
  facts.exit_code = 137;
  EXPECT_EQ(verdict({}, facts), CellVerdict::Infra);
  EXPECT_THAT(judge({}, facts).reason, HasSubstr("signal 9"));
  facts.exit_code = 75;
  EXPECT_EQ(verdict({}, facts), CellVerdict::Infra);
  facts.exit_code = 76;
  EXPECT_EQ(verdict({}, facts), CellVerdict::Skip);
  facts = ended("guest-exit", 0);
  facts.fault = "the disk is full";
  EXPECT_EQ(verdict({}, facts), CellVerdict::Infra);
  facts = ended("triple-fault", 80);
  facts.outcome->layer = "lab";
  EXPECT_EQ(verdict({}, facts), CellVerdict::Infra);
}

TEST(Judge, a_skip_names_what_is_missing) {
  AttemptFacts facts = ended("not-started", 77);
  facts.outcome->cpu.missing = {"pdpe1gb", "xsaves"};
  EXPECT_EQ(judge({}, facts).reason, "this host cannot give pdpe1gb, xsaves");
}

TEST(Judge, a_limit_that_the_runner_saw_names_its_phase) {
  Settings settings;
  settings.silence = 5;
  AttemptFacts facts = ended("signal", 143);
  facts.phase = "silence";
  EXPECT_EQ(verdict(settings, facts), CellVerdict::Timeout);
  EXPECT_EQ(judge(settings, facts).reason, "silence: no output for 5 s");
  facts.outcome.reset();  // the report was lost on the way
  EXPECT_EQ(verdict(settings, facts), CellVerdict::Timeout);
}

TEST(Judge, a_guest_that_has_to_die_passes_when_it_dies_so) {
  Settings settings;
  settings.outcome = "triple-fault";
  settings.rule = "pdpte-*";
  AttemptFacts facts = ended("triple-fault", 80);
  facts.outcome->rule = "pdpte-ps-without-pdpe1gb";
  EXPECT_EQ(verdict(settings, facts), CellVerdict::Pass);
  facts.outcome->rule = "idt-gate-not-present";
  EXPECT_EQ(verdict(settings, facts), CellVerdict::Crash) << "another death";
  EXPECT_EQ(verdict(settings, ended("guest-exit", 0)), CellVerdict::Fail);
  EXPECT_EQ(verdict(settings, ended("not-started", 77)), CellVerdict::Skip);
}

TEST(Judge, an_expected_exit_code) {
  Settings settings;
  settings.exit_code = 7;
  EXPECT_EQ(verdict(settings, ended("guest-exit", 7)), CellVerdict::Pass);
  EXPECT_EQ(verdict(settings, ended("guest-exit", 0)), CellVerdict::Fail);
  EXPECT_EQ(verdict(settings, ended("triple-fault", 80)), CellVerdict::Crash);
}

TEST(Judge, xfail_and_fail) {
  Settings settings;
  settings.expect = Expect::XFail;
  settings.reason = "KVM loses it";
  EXPECT_EQ(verdict(settings, ended("guest-exit", 1)), CellVerdict::XFail);
  EXPECT_EQ(verdict(settings, ended("triple-fault", 80)), CellVerdict::XFail);
  EXPECT_EQ(verdict(settings, ended("guest-exit", 0)), CellVerdict::XPass);
  EXPECT_EQ(verdict(settings, ended("not-started", 77)), CellVerdict::Skip);
  EXPECT_EQ(judge(settings, ended("guest-exit", 1)).reason, "KVM loses it");
  settings.outcome = "triple-fault";
  EXPECT_EQ(verdict(settings, ended("triple-fault", 80)), CellVerdict::XFail);
  EXPECT_EQ(verdict(settings, ended("guest-exit", 1)), CellVerdict::Fail)
      << "not the failure that is known";
  EXPECT_EQ(verdict(settings, ended("guest-exit", 0)), CellVerdict::XPass);
  settings = {};
  settings.expect = Expect::Fail;
  EXPECT_EQ(verdict(settings, ended("guest-exit", 1)), CellVerdict::Pass);
  EXPECT_EQ(verdict(settings, ended("guest-exit", 0)), CellVerdict::Fail);
}

TEST(Judge, lines_decide_over_a_good_end) {
  Settings settings;
  settings.output = {pattern("ready"), pattern("done")};
  AttemptFacts facts = ended("guest-exit", 0);
  facts.console.output = {true, true};
  EXPECT_EQ(verdict(settings, facts), CellVerdict::Pass);
  facts.console.output = {true, false};
  EXPECT_EQ(verdict(settings, facts), CellVerdict::Fail);
  EXPECT_THAT(judge(settings, facts).reason, HasSubstr("'done'"));
  facts.console.output = {true, true};
  facts.screen.forbidden = "panic\x1b[2J";
  facts.screen.forbidden_by = "pan.*";
  EXPECT_EQ(verdict(settings, facts), CellVerdict::Fail);
  EXPECT_EQ(judge(settings, facts).reason.find('\x1b'), std::string::npos);
}

TEST(Judge, a_failed_sub_result_fails_the_cell) {
  AttemptFacts facts = ended("guest-exit", 0);
  facts.results.passed = 3;
  facts.results.failed = 1;
  facts.results.failures = {"apic timer"};
  EXPECT_EQ(verdict({}, facts), CellVerdict::Fail);
  EXPECT_EQ(judge({}, facts).reason, "1 of 4 sub-results failed: apic timer");
}

TEST(Judge, reads_no_document_but_an_outcome) {
  for (const char* text : {"", "{}", "[]", "{\"schema\":\"vmm-outcome\"}", "nonsense"})
    EXPECT_FALSE(parse_cell_outcome(text)) << text;
  const auto outcome = parse_cell_outcome(
      R"({"schema":"vmm-outcome","ending":{"kind":"reset","headline":"h","exit_code":83},
          "cause":null,"cpu":{"model":"epyc@3","missing":[{"name":"x"},3]},
          "host":{"backend":"svm","kernel":"6.1"},"layer":"guest"})");
  ASSERT_TRUE(outcome);
  EXPECT_EQ(outcome->kind, "reset");
  EXPECT_EQ(outcome->cpu.missing, std::vector<std::string>{"x"});
  EXPECT_EQ(outcome->host, "svm 6.1");
}

AttemptRecord attempt(CellVerdict verdict) {
  AttemptRecord record;
  record.verdict = verdict;
  return record;
}

TEST(VerdictOver, attempts_that_disagree_are_flaky) {
  EXPECT_EQ(verdict_over({attempt(CellVerdict::Pass)}), CellVerdict::Pass);
  EXPECT_EQ(verdict_over({attempt(CellVerdict::Crash), attempt(CellVerdict::Pass)}),
            CellVerdict::Flaky);
  EXPECT_EQ(verdict_over({attempt(CellVerdict::Fail), attempt(CellVerdict::Crash)}),
            CellVerdict::Crash);
  EXPECT_EQ(verdict_over({attempt(CellVerdict::Infra), attempt(CellVerdict::Pass)}),
            CellVerdict::Pass)
      << "what the lab did says nothing about the guest";
}

Settings watched(std::optional<double> boot, std::optional<double> silence,
                 std::optional<double> noise) {
  Settings settings;
  settings.landmark = pattern("login:");
  settings.boot_timeout = boot;
  settings.timeout = 10;
  settings.silence = silence;
  settings.noise = noise;
  return settings;
}

std::span<const std::uint8_t> bytes(std::string_view text) {
  return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}

TEST(ConsoleWatch, the_boot_ends_at_the_landmark_even_without_an_end_of_line) {
  const Settings settings = watched(3, {}, {});
  const WatchTime start{};
  ConsoleWatch watch(settings, 1, start);
  using std::chrono::seconds;
  EXPECT_EQ(watch.expired(start + seconds(2)), "");
  EXPECT_EQ(watch.expired(start + seconds(3)), "boot");
  watch.take(bytes("starting\nlogin: "), start + seconds(2));
  EXPECT_TRUE(watch.booted());
  EXPECT_EQ(watch.expired(start + seconds(11)), "");
  EXPECT_EQ(watch.expired(start + seconds(12)), "test");
}

TEST(ConsoleWatch, silence_counts_from_the_last_output) {
  const Settings settings = watched(100, 5, {});
  const WatchTime start{};
  ConsoleWatch watch(settings, 1, start);
  using std::chrono::seconds;
  watch.take(bytes("x"), start + seconds(4));
  EXPECT_EQ(watch.expired(start + seconds(8)), "");
  EXPECT_EQ(watch.expired(start + seconds(9)), "silence");
  ConsoleWatch in_lab(settings, 4, start);
  EXPECT_EQ(in_lab.expired(start + seconds(19)), "");
  EXPECT_EQ(in_lab.expired(start + seconds(20)), "silence");
}

TEST(ConsoleWatch, the_same_line_again_is_noise_whatever_its_numbers) {
  const Settings settings = watched(1000, {}, 5);
  const WatchTime start{};
  ConsoleWatch watch(settings, 1, start);
  using std::chrono::seconds;
  for (int i = 0; i < 20; ++i) {
    watch.take(bytes("retry " + std::to_string(i) + "\n"), start + seconds(i));
    if (i == 4) {
      EXPECT_EQ(watch.expired(start + seconds(i)), "");
    }
  }
  EXPECT_EQ(watch.expired(start + seconds(19)), "noise");
  watch.take(bytes("something new\n"), start + seconds(19));
  EXPECT_EQ(watch.expired(start + seconds(23)), "");
  // Without output it is silence, which is not limited here.
  EXPECT_EQ(watch.expired(start + seconds(60)), "");
}

TEST(ConsoleWatch, lines_are_found_across_pieces_and_carriage_returns) {
  Settings settings;
  settings.output = {pattern("^hello, world$")};
  settings.forbid = {pattern("oops")};
  ConsoleWatch watch(settings, 1, {});
  watch.take(bytes("hello, wo"), {});
  watch.take(bytes("rld\r\nooops"), {});
  EXPECT_TRUE(watch.seen().output.at(0));
  EXPECT_FALSE(watch.seen().forbidden);
  watch.finish();
  EXPECT_EQ(watch.seen().forbidden, "ooops") << "the last line need not be ended";
}

TEST(ConsoleWatch, a_line_without_end_is_bounded) {
  Settings settings;
  settings.output = {pattern("needle")};
  ConsoleWatch watch(settings, 1, {});
  watch.take(bytes("needle"), {});
  for (int i = 0; i < 1000; ++i) watch.take(bytes(std::string(1000, 'x')), {});
  watch.finish();
  EXPECT_TRUE(watch.seen().output.at(0));
}

}  // namespace
}  // namespace vmm
