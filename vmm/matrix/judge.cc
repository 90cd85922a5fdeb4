#include "vmm/matrix/judge.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "vmm/base/text.h"

namespace vmm {
namespace {

using nlohmann::json;

constexpr std::size_t kMaxString = 4096;
constexpr std::size_t kMaxList = 1000;

std::string string_of(const json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string()
             ? found->get<std::string>().substr(0, kMaxString)
             : std::string();
}

const json& object_of(const json& object, const char* key) {
  static const json kNone = json::object();
  const auto found = object.find(key);
  return found != object.end() && found->is_object() ? *found : kNone;
}

CellCpu cpu_of(const json& cpu) {
  CellCpu result;
  result.model = string_of(cpu, "model");
  result.model_digest = string_of(cpu, "model_digest");
  result.guest_digest = string_of(cpu, "guest_digest");
  const auto missing = cpu.find("missing");
  if (missing == cpu.end() || !missing->is_array()) return result;
  for (const json& bit : *missing) {
    if (!bit.is_object() || result.missing.size() == kMaxList) continue;
    std::string name = string_of(bit, "name");
    if (!name.empty()) result.missing.push_back(std::move(name));
  }
  return result;
}

// How the run ended in one line.
std::string ending_text(const CellOutcome& outcome) {
  std::string text = outcome.headline.empty() ? outcome.kind : outcome.headline;
  if (!outcome.cause.empty() && outcome.cause != outcome.headline) text += ": " + outcome.cause;
  return text;
}

bool is_crash(std::string_view kind) {
  return kind == "triple-fault" || kind == "internal-error" || kind == "entry-failure" ||
         kind == "caught" || kind == "halted";
}

// No verdict on the guest is possible, or this host cannot run it.
std::optional<Judgement> not_the_guests(const AttemptFacts& facts) {
  constexpr int kNoLab = 76;
  constexpr int kNoHost = 77;
  if (!facts.fault.empty()) return Judgement{CellVerdict::Infra, facts.fault};
  if (!facts.outcome && !facts.phase.empty()) return std::nullopt;
  if (!facts.outcome) {
    // The backend of a lab, or /dev/kvm, is missing before there is an outcome.
    if (facts.exit_code == kNoLab || facts.exit_code == kNoHost)
      return Judgement{CellVerdict::Skip, facts.last_lines};
    return Judgement{CellVerdict::Infra,
                     facts.exit_code > 128
                         ? fmt::format("vmm was ended by signal {} and left no outcome: {}",
                                       facts.exit_code - 128, facts.last_lines)
                         : fmt::format("vmm ended with {} and left no outcome: {}", facts.exit_code,
                                       facts.last_lines)};
  }
  const CellOutcome& outcome = *facts.outcome;
  if (outcome.kind == "not-started") {
    if (outcome.exit_code == kNoHost || outcome.exit_code == kNoLab) {
      std::string reason = ending_text(outcome);
      if (!outcome.cpu.missing.empty()) {
        const std::size_t count = std::min<std::size_t>(outcome.cpu.missing.size(), 12);
        reason = fmt::format(
            "this host cannot give {}{}",
            fmt::join(outcome.cpu.missing.begin(),
                      outcome.cpu.missing.begin() + static_cast<std::ptrdiff_t>(count), ", "),
            count < outcome.cpu.missing.size()
                ? fmt::format(" and {} more", outcome.cpu.missing.size() - count)
                : "");
      }
      return Judgement{CellVerdict::Skip, std::move(reason)};
    }
    // An image that no loader takes is the guest's own fault.
    if (outcome.exit_code == 65) return std::nullopt;
    return Judgement{CellVerdict::Infra, ending_text(outcome)};
  }
  if (outcome.kind == "monitor-failure" || outcome.layer == "lab")
    return Judgement{CellVerdict::Infra, ending_text(outcome)};
  if (outcome.kind == "signal" && facts.phase.empty())
    return Judgement{CellVerdict::Infra, ending_text(outcome)};
  // --compat kvm-unit-tests: an image that found nothing here to test says so by this code.
  if (outcome.kind == "guest-exit" && outcome.exit_code == kNoHost)
    return Judgement{CellVerdict::Skip, "the guest found nothing here to test"};
  return std::nullopt;
}

// The limit that ended the run; empty for a run that ended otherwise.
std::string_view time_out(const AttemptFacts& facts) {
  if (!facts.phase.empty()) return facts.phase;
  if (facts.outcome->kind == "timeout") return "test";
  if (facts.outcome->kind == "stalled") return "stall";
  return {};
}

Judgement timed_out(const Settings& settings, std::string_view phase, const AttemptFacts& facts) {
  const auto seconds = [](const std::optional<double>& value) {
    return fmt::format("{:g} s", value.value_or(0));
  };
  const double boot = settings.boot_limit();
  std::string reason;
  if (phase == "boot")
    reason = fmt::format("boot: no line matched the landmark within {}", seconds(boot));
  else if (phase == "silence")
    reason = fmt::format("silence: no output for {}", seconds(settings.silence));
  else if (phase == "noise")
    reason = fmt::format("noise: output without progress for {}", seconds(settings.noise));
  else if (phase == "stall")
    reason = facts.outcome->headline;
  else
    reason = fmt::format("test: still running after {:g} s", settings.limit());
  return {CellVerdict::Timeout, std::move(reason)};
}

// What is wrong with the ending that the matrix names; empty when it is that one.
std::string unlike_named(const Settings& settings, const AttemptFacts& facts) {
  const CellOutcome outcome = facts.outcome.value_or(CellOutcome{});
  const std::string kind = time_out(facts).empty() ? outcome.kind : "timeout";
  if (settings.outcome && kind != *settings.outcome)
    return fmt::format("ended by {}, expected was {}", kind, *settings.outcome);
  if (settings.rule && !glob_matches(*settings.rule, outcome.rule))
    return fmt::format("the rule is '{}', expected was '{}'", outcome.rule, *settings.rule);
  if (settings.exit_code && outcome.exit_code != *settings.exit_code)
    return fmt::format("exit code {}, expected was {}", outcome.exit_code, *settings.exit_code);
  return {};
}

bool names_an_ending(const Settings& settings) {
  return settings.outcome || settings.rule || settings.exit_code;
}

// The guest's end by itself: passed, or how it failed.
Judgement plain_end(const Settings& settings, const AttemptFacts& facts) {
  if (const std::string_view phase = time_out(facts); !phase.empty())
    return timed_out(settings, phase, facts);
  const CellOutcome& outcome = *facts.outcome;
  if (is_crash(outcome.kind)) {
    std::string reason = outcome.kind;
    if (!outcome.rule.empty()) reason += fmt::format(" ({})", outcome.rule);
    return {CellVerdict::Crash, fmt::format("{}: {}", reason, ending_text(outcome))};
  }
  if (outcome.kind == "power-off" || (outcome.kind == "guest-exit" && outcome.exit_code == 0))
    return {CellVerdict::Pass, {}};
  // Above 63 the code says less than the value that the guest wrote.
  if (outcome.kind == "guest-exit")
    return {CellVerdict::Fail, fmt::format("exit code {}{}", outcome.exit_code,
                                           outcome.exit_code == 63 ? ": " + outcome.headline : "")};
  return {CellVerdict::Fail, ending_text(outcome)};
}

// What the lines say against a pass; empty when nothing.
std::string wrong_lines(const Settings& settings, const AttemptFacts& facts) {
  for (const LinesSeen* seen : {&facts.console, &facts.screen})
    if (seen->forbidden)
      return fmt::format("the line '{}' is forbidden by '{}'", printable(*seen->forbidden, 120),
                         seen->forbidden_by);
  if (facts.results.failed > 0) {
    std::string names = fmt::format("{}", fmt::join(facts.results.failures, ", "));
    if (names.size() > 200) names = names.substr(0, 200) + "...";
    return fmt::format("{} of {} sub-results failed{}", facts.results.failed,
                       facts.results.passed + facts.results.failed + facts.results.skipped +
                           facts.results.expected_failures,
                       names.empty() ? "" : ": " + printable(names, 300));
  }
  if (!facts.results.problem.empty()) return "sub-results: " + printable(facts.results.problem);
  for (std::size_t i = 0; i < settings.output.size(); ++i)
    if (i >= facts.console.output.size() || !facts.console.output[i])
      return fmt::format("no line of the console matched '{}'", settings.output[i].text());
  for (std::size_t i = 0; i < settings.screen.size(); ++i)
    if (i >= facts.screen.output.size() || !facts.screen.output[i])
      return fmt::format("no line of the screen matched '{}'", settings.screen[i].text());
  return {};
}

// As if a pass were expected: the named ending, or a plain one, and the lines.
Judgement as_a_pass(const Settings& settings, const AttemptFacts& facts, bool named) {
  Judgement end = plain_end(settings, facts);
  if (named) {
    const std::string unlike = unlike_named(settings, facts);
    if (unlike.empty())
      end = {CellVerdict::Pass, {}};
    else if (end.verdict == CellVerdict::Pass || end.verdict == CellVerdict::Fail)
      end = {CellVerdict::Fail, unlike};
  }
  if (end.verdict != CellVerdict::Pass) return end;
  if (std::string wrong = wrong_lines(settings, facts); !wrong.empty())
    return {CellVerdict::Fail, std::move(wrong)};
  return end;
}

}  // namespace

Result<CellOutcome> parse_cell_outcome(std::string_view document) {
  const json outcome = json::parse(document, nullptr, false);
  if (!outcome.is_object() || string_of(outcome, "schema") != "vmm-outcome")
    return fail(Error::internal("the outcome of vmm run is no document of ours"));
  const json& ending = object_of(outcome, "ending");
  const auto code = ending.find("exit_code");
  CellOutcome result;
  result.kind = string_of(ending, "kind");
  if (result.kind.empty() || code == ending.end() || !code->is_number_integer())
    return fail(Error::internal("the outcome of vmm run has no ending"));
  result.exit_code = static_cast<int>(std::clamp<std::int64_t>(code->get<std::int64_t>(), 0, 255));
  result.headline = string_of(ending, "headline");
  result.layer = string_of(outcome, "layer");
  const json& cause = object_of(outcome, "cause");
  result.rule = string_of(cause, "rule");
  result.cause = string_of(cause, "text");
  const auto screen = outcome.find("screen");
  if (screen != outcome.end() && screen->is_array())
    for (const json& line : *screen)
      if (line.is_string()) result.screen += line.get<std::string>() + "\n";
  result.cpu = cpu_of(object_of(outcome, "cpu"));
  const json& host = object_of(outcome, "host");
  result.host = string_of(host, "backend");
  if (const std::string kernel = string_of(host, "kernel"); !kernel.empty())
    result.host += (result.host.empty() ? "" : " ") + kernel;
  return result;
}

Judgement judge(const Settings& settings, const AttemptFacts& facts) {
  if (auto other = not_the_guests(facts)) return std::move(*other);
  const Expect expect = settings.expect.value_or(Expect::Pass);
  if (expect == Expect::Pass) return as_a_pass(settings, facts, names_an_ending(settings));

  // A named ending is how it is expected to fail.
  const Judgement plain = as_a_pass(settings, facts, false);
  if (plain.verdict == CellVerdict::Pass) {
    if (expect == Expect::XFail)
      return {CellVerdict::XPass,
              fmt::format("passed, although it is known to fail{}{}", settings.reason ? ": " : "",
                          settings.reason.value_or(""))};
    return {CellVerdict::Fail, "passed, a failure was expected"};
  }
  if (names_an_ending(settings)) {
    const std::string unlike = unlike_named(settings, facts);
    if (!unlike.empty())
      return {plain.verdict,
              fmt::format("failed, but otherwise than expected: {}; {}", unlike, plain.reason)};
  }
  return {expect == Expect::XFail ? CellVerdict::XFail : CellVerdict::Pass,
          expect == Expect::XFail ? settings.reason.value_or(plain.reason) : std::string()};
}

}  // namespace vmm
