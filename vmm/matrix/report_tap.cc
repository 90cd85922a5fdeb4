#include "vmm/matrix/report_tap.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <unordered_map>

#include "vmm/matrix/clean_text.h"
#include "vmm/matrix/summary.h"

namespace vmm {
namespace {

// A '#' in a name begins no directive.
std::string escaped(std::string_view text) {
  std::string result;
  for (const char c : clean_line(text)) {
    if (c == '#' || c == '\\') result += '\\';
    result += c;
  }
  return result;
}

// A string of JSON is one of YAML.
std::string yaml_string(std::string_view text) { return nlohmann::json(clean_line(text)).dump(); }

class SubTests {
 public:
  void add(bool ok, std::string_view name, std::string_view directive = {}) {
    text_ += fmt::format("    {} {} - {}{}{}\n", ok ? "ok" : "not ok", ++count_, escaped(name),
                         directive.empty() ? "" : " # ", directive);
  }
  std::string text(std::string_view name) const {
    return fmt::format("# Subtest: {}\n{}    1..{}\n", escaped(name), text_, count_);
  }

 private:
  std::string text_;
  std::size_t count_ = 0;
};

// Only what failed is known by name.
std::string sub_tests(const CellRecord& cell) {
  const SubResults& results = cell.last().results;
  if (!results.any()) return {};
  SubTests tests;
  if (results.passed != 0) tests.add(true, fmt::format("{} passed", results.passed));
  for (const std::string& name : results.failures) tests.add(false, name);
  if (results.failed > results.failures.size())
    tests.add(false, fmt::format("{} more failed", results.failed - results.failures.size()));
  if (results.expected_failures != 0)
    tests.add(false, fmt::format("{} failed", results.expected_failures), "TODO");
  if (results.skipped != 0) tests.add(true, fmt::format("{} skipped", results.skipped), "SKIP");
  if (!results.problem.empty()) tests.add(false, results.problem);
  return tests.text(cell.id);
}

std::string test_point(std::size_t number, const CellRecord& cell) {
  const CellVerdict verdict = cell.verdict;
  const bool ok =
      verdict == CellVerdict::Pass || verdict == CellVerdict::Flaky || verdict == CellVerdict::Skip;
  std::string directive;
  if (verdict == CellVerdict::XFail) directive = " # TODO " + escaped(cell.reason);
  if (verdict == CellVerdict::Skip) directive = " # SKIP " + escaped(cell.reason);
  std::string text = fmt::format("{}{} {} - {}{}\n", sub_tests(cell), ok ? "ok" : "not ok", number,
                                 escaped(cell.id), directive);
  if (verdict == CellVerdict::Pass) return text;
  text += fmt::format("  ---\n  verdict: {}\n", verdict_word(verdict));
  if (!cell.reason.empty()) text += fmt::format("  reason: {}\n", yaml_string(cell.reason));
  if (!cell.expected.empty()) text += fmt::format("  expected: {}\n", yaml_string(cell.expected));
  if (!cell.link.empty()) text += fmt::format("  link: {}\n", yaml_string(cell.link));
  text += fmt::format("  attempts: {}\n  seconds: {:.3f}\n", cell.attempts.size(), cell.seconds);
  if (!cell.command.empty()) text += fmt::format("  command: {}\n", yaml_string(cell.command));
  return text + "  ...\n";
}

}  // namespace

std::string tap_report(const RunRecord& run) {
  std::unordered_map<std::string_view, const CellRecord*> cells;
  for (const CellRecord& cell : run.cells) cells.emplace(cell.id, &cell);
  std::string text =
      fmt::format("TAP version 14\n1..{}\n# {} on {}: {}\n", run.header.cells.size(),
                  escaped(run.header.matrix), escaped(run.header.host), counts_line(run));
  std::size_t number = 0;
  for (const std::string& id : run.header.cells) {
    const auto cell = cells.find(id);
    ++number;
    if (cell != cells.end())
      text += test_point(number, *cell->second);
    else
      text +=
          fmt::format("not ok {} - {}\n  ---\n  reason: \"not run\"\n  ...\n", number, escaped(id));
  }
  return text;
}

}  // namespace vmm
