#include "vmm/matrix/sub_results.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "vmm/base/text.h"
#include "vmm/matrix/clean_text.h"

namespace vmm {
namespace {

constexpr std::array<std::string_view, 4> kFormats = {"none", "tap", "ktap", "kvm-unit-tests"};
constexpr std::size_t kMaxLine = 4096;
constexpr unsigned kMaxIndent = 64;

bool is_digit(char c) { return c >= '0' && c <= '9'; }

// Takes the decimal number off the front of `text`.
std::optional<std::uint64_t> take_number(std::string_view& text) {
  const auto end = std::find_if_not(text.begin(), text.end(), is_digit);
  const auto size = static_cast<std::size_t>(end - text.begin());
  if (size == 0 || size > 18) return std::nullopt;
  const auto number = parse_number(text.substr(0, size));
  text.remove_prefix(size);
  return number;
}

bool take(std::string_view& text, std::string_view prefix) {
  if (!text.starts_with(prefix)) return false;
  text.remove_prefix(prefix.size());
  return true;
}

// "<6>[    1.234567][    T1] " of the kernel's log.
void take_log_prefix(std::string_view& text) {
  std::string_view rest = text;
  if (rest.size() > 3 && rest[0] == '<' && is_digit(rest[1]) && rest[2] == '>')
    rest.remove_prefix(3);
  if (!rest.starts_with('[')) return;
  const std::size_t end = rest.find(']');
  if (end == rest.npos || end > 24) return;
  const std::string_view stamp = trim(rest.substr(1, end - 1));
  if (stamp.find('.') == stamp.npos || stamp.find_first_not_of("0123456789.") != stamp.npos) return;
  rest.remove_prefix(end + 1);
  if (rest.starts_with('[')) {
    const std::size_t caller = rest.find(']');
    if (caller != rest.npos && caller <= 24) rest.remove_prefix(caller + 1);
  }
  take(rest, " ");
  text = rest;
}

// How far in the text stands; takes that off.
unsigned take_indent(std::string_view& text) {
  unsigned indent = 0;
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) {
    indent += text.front() == '\t' ? 4 : 1;
    text.remove_prefix(1);
  }
  return indent;
}

// Where " # " or "#" begins what is no longer the name; a "\#" belongs to it.
std::size_t find_directive(std::string_view text) {
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\')
      ++i;
    else if (text[i] == '#' && (i == 0 || text[i - 1] == ' '))
      return i;
  }
  return text.npos;
}

std::string results_text(std::uint64_t count) {
  return fmt::format("{} result{}", count, count == 1 ? "" : "s");
}

bool begins_with_word(std::string_view text, std::string_view word) {
  return lower(text.substr(0, word.size())) == word;
}

}  // namespace

std::string_view result_format_name(ResultFormat format) {
  return kFormats[static_cast<std::size_t>(format)];
}

std::optional<ResultFormat> parse_result_format(std::string_view name) {
  const auto it = std::find(kFormats.begin(), kFormats.end(), name);
  if (it == kFormats.end()) return std::nullopt;
  return static_cast<ResultFormat>(it - kFormats.begin());
}

std::string SubResults::text() const {
  std::string result;
  const auto add = [&](std::uint64_t count, std::string_view what) {
    if (count != 0) result += fmt::format("{}{} {}", result.empty() ? "" : ", ", count, what);
  };
  add(passed, "passed");
  add(failed, "failed");
  add(expected_failures, "failed as expected");
  add(skipped, "skipped");
  if (!problem.empty()) result += (result.empty() ? "" : ": ") + problem;
  return result;
}

void SubResultReader::line(std::string_view text) {
  text = text.substr(0, kMaxLine);
  while (text.ends_with('\r')) text.remove_suffix(1);
  switch (format_) {
    case ResultFormat::None:
      break;
    case ResultFormat::Tap:
    case ResultFormat::Ktap:
      tap_line(text);
      break;
    case ResultFormat::KvmUnitTests:
      kvm_unit_tests_line(text);
      break;
  }
}

void SubResultReader::tap_line(std::string_view text) {
  take_log_prefix(text);
  unsigned indent = take_indent(text);
  if (yaml_) {
    if (indent >= *yaml_) {
      if (indent == *yaml_ && text == "...") yaml_.reset();
      return;
    }
    yaml_.reset();  // it was never ended
  }
  if (text == "---" && indent != 0) {
    yaml_ = indent;
    return;
  }
  // The kernel's selftests nest by comments.
  if (format_ == ResultFormat::Ktap)
    while (take(text, "# ")) indent += 2 + take_indent(text);
  if (indent > kMaxIndent) return;

  if (text.starts_with("TAP version ") || text.starts_with("KTAP version ")) {
    spoke_ = true;
    close(indent);
    return;
  }
  if (begins_with_word(text, "bail out!")) {
    spoke_ = true;
    results_.problem = clean_line(trim(text), SubResults::kMaxNameSize);
    return;
  }
  if (std::string_view rest = text; take(rest, "1..")) {
    const auto count = take_number(rest);
    rest = trim(rest);
    if (!count || (!rest.empty() && rest.front() != '#')) return;
    plan_line(indent, *count, begins_with_word(trim(rest.substr(rest.empty() ? 0 : 1)), "skip"));
    return;
  }
  if (const auto result = parse_result(text)) add_result(indent, *result);
}

// "not ok 2 - name # TODO reason"
std::optional<SubResultReader::TapResult> SubResultReader::parse_result(
    std::string_view text) const {
  TapResult result;
  result.ok = !take(text, "not ");
  if (!take(text, "ok") || (!text.empty() && text.front() != ' ')) return std::nullopt;
  text = trim(text);
  if (!take_number(text) && format_ == ResultFormat::Ktap) return std::nullopt;
  const std::size_t hash = find_directive(text);
  result.name = trim(text.substr(0, hash));
  take(result.name, "- ");
  if (hash == text.npos) return result;
  const std::string_view directive = trim(text.substr(hash + 1));
  // Only KTAP takes a test that failed for one that was skipped.
  if (begins_with_word(directive, "skip") && (result.ok || format_ == ResultFormat::Ktap))
    result.directive = Directive::Skip;
  if (begins_with_word(directive, "todo") ||
      (format_ == ResultFormat::Ktap && begins_with_word(directive, "xfail")))
    result.directive = Directive::Todo;
  // KTAP has "ok 1 name # XFAIL": the failure that was expected.
  if (format_ == ResultFormat::Ktap && begins_with_word(directive, "xfail")) result.ok = false;
  return result;
}

SubResultReader::Level& SubResultReader::level(unsigned indent) {
  const auto [it, is_new] = levels_.try_emplace(indent);
  if (is_new) it->second.first_name = results_.failures.size();
  return it->second;
}

SubResultReader::Level SubResultReader::close(unsigned indent) {
  Level sum;
  sum.first_name = results_.failures.size();
  for (auto it = levels_.lower_bound(indent); it != levels_.end(); it = levels_.erase(it)) {
    const Level& inner = it->second;
    if (inner.plan && *inner.plan != inner.results)
      set_problem(fmt::format("plan 1..{}, {}", *inner.plan, results_text(inner.results)));
    sum.results += inner.results;
    sum.failed += inner.failed;
    sum.first_name = std::min(sum.first_name, inner.first_name);
  }
  return sum;
}

void SubResultReader::plan_line(unsigned indent, std::uint64_t count, bool skip) {
  spoke_ = true;
  // Another program's plan, with no version line before it.
  if (const auto it = levels_.find(indent); it != levels_.end() && it->second.plan) close(indent);
  if (indent == 0) had_plan_ = true;
  // Further in, the outer result says so once more.
  if (indent == 0 && count == 0 && skip) ++results_.skipped;
  level(indent).plan = count;
}

void SubResultReader::add_result(unsigned indent, const TapResult& result) {
  spoke_ = true;
  const Level inner = close(indent + 1);
  Level& here = level(indent);
  here.first_name = std::min(here.first_name, inner.first_name);
  ++here.results;
  if (inner.results != 0) {
    if (!result.ok && result.directive == Directive::Todo) {
      // What failed in it was expected to.
      results_.failed -= inner.failed;
      results_.expected_failures += inner.failed;
      results_.failures.resize(std::min(results_.failures.size(), inner.first_name));
      return;
    }
    here.failed += inner.failed;
    if (result.ok || inner.failed != 0 || result.directive != Directive::None) return;
  }
  if (result.directive == Directive::Skip) {
    ++results_.skipped;
  } else if (result.ok) {
    ++results_.passed;
  } else if (result.directive == Directive::Todo) {
    ++results_.expected_failures;
  } else {
    ++here.failed;
    add_failure(result.name);
  }
}

// lib/report.c of kvm-unit-tests: "XPASS" counts among its unexpected failures.
void SubResultReader::kvm_unit_tests_line(std::string_view text) {
  if (take(text, "SUMMARY: ")) return summary_line(text);
  if (text.starts_with("ABORT: ")) return set_problem(clean_line(text, SubResults::kMaxNameSize));
  const std::string_view line = text;
  if (take(text, "PASS: "))
    ++results_.passed;
  else if (take(text, "FAIL: "))
    add_failure(text);
  else if (text.starts_with("XPASS: "))
    add_failure(line);
  else if (take(text, "XFAIL: ") || take(text, "KFAIL: "))
    ++results_.expected_failures;
  else if (take(text, "SKIP: "))
    ++results_.skipped;
  else
    return;
  ++since_summary_;
}

// "12 tests, 1 unexpected failures, 2 skipped"
void SubResultReader::summary_line(std::string_view text) {
  const auto tests = take_number(text);
  if (!tests || !text.starts_with(" test")) return;
  if (*tests > since_summary_)
    set_problem(fmt::format("SUMMARY of {} tests, {}", *tests, results_text(since_summary_)));
  since_summary_ = 0;
}

void SubResultReader::add_failure(std::string_view name) {
  ++results_.failed;
  if (results_.failures.size() < SubResults::kMaxNames)
    results_.failures.push_back(name.empty() ? "(no name)"
                                             : clean_line(name, SubResults::kMaxNameSize));
}

void SubResultReader::set_problem(std::string text) {
  if (results_.problem.empty()) results_.problem = std::move(text);
}

SubResults SubResultReader::finish() const {
  if (format_ != ResultFormat::Tap && format_ != ResultFormat::Ktap) return results_;
  SubResultReader last = *this;
  last.close(0);
  if (!spoke_) last.set_problem(fmt::format("no line of {}", lower(result_format_name(format_))));
  if (format_ == ResultFormat::Tap && !had_plan_) last.set_problem("no plan");
  return last.results_;
}

}  // namespace vmm
