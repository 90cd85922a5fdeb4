#include "vmm/matrix/report_junit.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <pugixml.hpp>
#include <set>
#include <sstream>
#include <vector>

#include "vmm/matrix/clean_text.h"
#include "vmm/matrix/summary.h"

namespace vmm {
namespace {

struct Counts {
  std::size_t tests = 0;
  std::size_t failures = 0;
  std::size_t errors = 0;
  std::size_t skipped = 0;
  double seconds = 0;

  void add(const Counts& other) {
    tests += other.tests;
    failures += other.failures;
    errors += other.errors;
    skipped += other.skipped;
    seconds += other.seconds;
  }
};

void set(pugi::xml_node node, const char* name, std::string_view value) {
  node.append_attribute(name).set_value(clean_line(value).c_str());
}

void set(pugi::xml_node node, const Counts& counts) {
  node.append_attribute("tests").set_value(static_cast<unsigned long long>(counts.tests));
  node.append_attribute("failures").set_value(static_cast<unsigned long long>(counts.failures));
  node.append_attribute("errors").set_value(static_cast<unsigned long long>(counts.errors));
  node.append_attribute("skipped").set_value(static_cast<unsigned long long>(counts.skipped));
  set(node, "time", fmt::format("{:.3f}", counts.seconds));
}

// Lines of "name: value", for people who look at the case in their CI server.
class Body {
 public:
  void line(std::string_view name, std::string_view value) {
    if (!value.empty()) text_ += fmt::format("{}: {}\n", name, clean_line(value, 4000));
  }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

std::string body_of(const AttemptRecord& attempt) {
  Body body;
  body.line("ending", attempt.kind);
  body.line("exit code", fmt::format("{}", attempt.exit_code));
  body.line("rule", attempt.rule);
  body.line("phase", attempt.phase);
  body.line("own results", attempt.results.text());
  for (const std::string& name : attempt.results.failures) body.line("failed", name);
  body.line("files", attempt.directory);
  return body.text();
}

std::string body_of(const CellRecord& cell) {
  Body body;
  body.line("verdict", verdict_word(cell.verdict));
  body.line("expected", cell.expected);
  body.line("link", cell.link);
  body.line("cpu model", cell.cpu.model);
  body.line("model digest", cell.cpu.model_digest);
  body.line("guest digest", cell.cpu.guest_digest);
  for (const std::string& bit : cell.cpu.missing) body.line("missing", bit);
  body.line("host", cell.host);
  body.line("command", cell.command);
  return body.text();
}

void add_problem(pugi::xml_node test, const char* element, const AttemptRecord& attempt,
                 std::string_view type, std::string_view reason) {
  pugi::xml_node problem = test.append_child(element);
  set(problem, "message", reason.empty() ? attempt.reason : reason);
  set(problem, "type", type);
  const bool is_rerun =
      std::string_view(element) != "failure" && std::string_view(element) != "error";
  // Surefire has the text of repeated tests one level further in.
  pugi::xml_node text = is_rerun ? problem.append_child("stackTrace") : problem;
  text.append_child(pugi::node_pcdata).set_value(body_of(attempt).c_str());
}

void add_skipped(pugi::xml_node test, const CellRecord& cell) {
  pugi::xml_node skipped = test.append_child("skipped");
  set(skipped, "message", cell.reason);
  set(skipped, "type", verdict_word(cell.verdict));
}

// The first attempt is the failure, the later ones are its repetitions.
void add_failures(pugi::xml_node test, const CellRecord& cell) {
  const bool infra = cell.verdict == CellVerdict::Infra;
  bool first = true;
  for (const AttemptRecord& attempt : cell.attempts) {
    if (first)
      add_problem(test, infra ? "error" : "failure", attempt, verdict_word(cell.verdict),
                  cell.reason);
    else
      add_problem(test, infra ? "rerunError" : "rerunFailure", attempt,
                  verdict_word(attempt.verdict), {});
    first = false;
  }
}

void add_flaky(pugi::xml_node test, const CellRecord& cell) {
  for (const AttemptRecord& attempt : cell.attempts)
    if (attempt.verdict != CellVerdict::Pass)
      add_problem(test, attempt.verdict == CellVerdict::Infra ? "flakyError" : "flakyFailure",
                  attempt, verdict_word(attempt.verdict), {});
}

// The cell's name within its suite: its id less the guest.
std::string_view name_in_suite(std::string_view id, std::string_view guest) {
  if (guest.empty() || id.size() <= guest.size() + 1 || !id.starts_with(guest) ||
      id[guest.size()] != ' ')
    return id;
  return id.substr(guest.size() + 1);
}

Counts add_case(pugi::xml_node suite, const RunRecord& run, const CellRecord& cell) {
  const std::string guest = cell.axis("guest");
  pugi::xml_node test = suite.append_child("testcase");
  set(test, "classname", fmt::format("{}.{}", run.header.matrix, guest));
  set(test, "name", name_in_suite(cell.id, guest));
  set(test, "time", fmt::format("{:.3f}", cell.seconds));
  Counts counts{.tests = 1, .seconds = cell.seconds};
  switch (cell.verdict) {
    case CellVerdict::Pass:
      break;
    case CellVerdict::Flaky:
      add_flaky(test, cell);
      break;
    case CellVerdict::Skip:
    case CellVerdict::XFail:
      add_skipped(test, cell);
      counts.skipped = 1;
      break;
    case CellVerdict::Infra:
      add_failures(test, cell);
      counts.errors = 1;
      break;
    case CellVerdict::Fail:
    case CellVerdict::XPass:
    case CellVerdict::Timeout:
    case CellVerdict::Crash:
      add_failures(test, cell);
      counts.failures = 1;
      break;
  }
  test.append_child("system-out").append_child(pugi::node_pcdata).set_value(body_of(cell).c_str());
  return counts;
}

Counts add_not_run(pugi::xml_node suite, const RunRecord& run, const std::string& id) {
  pugi::xml_node test = suite.append_child("testcase");
  set(test, "classname", fmt::format("{}.not run", run.header.matrix));
  set(test, "name", id);
  set(test, "time", "0.000");
  pugi::xml_node error = test.append_child("error");
  set(error, "message", "not run: the run was interrupted");
  set(error, "type", "NOT RUN");
  return {.tests = 1, .errors = 1};
}

class Suites {
 public:
  explicit Suites(const RunRecord& run) : run_(run) {
    root_ = document_.append_child("testsuites");
    set(root_, "name", run.header.matrix);
  }

  template <typename Add>
  void suite(std::string_view name, Add add) {
    pugi::xml_node suite = root_.append_child("testsuite");
    set(suite, "name", name);
    // ISO 8601, as the format's schema wants it: without a zone.
    std::string date = date_text(run_.header.started).substr(0, 19);
    if (date.size() == 19) date[10] = 'T';
    set(suite, "timestamp", date);
    set(suite, "hostname", run_.header.host);
    const Counts counts = add(suite);
    set(suite, counts);
    all_.add(counts);
  }

  std::string text() {
    set(root_, all_);
    std::ostringstream out;
    document_.save(out, "  ", pugi::format_default, pugi::encoding_utf8);
    return out.str();
  }

 private:
  const RunRecord& run_;
  pugi::xml_document document_;
  pugi::xml_node root_;
  Counts all_;
};

}  // namespace

std::string junit_report(const RunRecord& run) {
  std::vector<std::string> guests;  // in the matrix's order
  std::map<std::string, std::vector<const CellRecord*>> cells;
  std::set<std::string_view> known;
  for (const CellRecord& cell : run.cells) {
    const std::string guest = cell.axis("guest");
    auto& of_guest = cells[guest];
    if (of_guest.empty()) guests.push_back(guest);
    of_guest.push_back(&cell);
    known.insert(cell.id);
  }
  Suites suites(run);
  for (const std::string& guest : guests)
    suites.suite(guest, [&](pugi::xml_node suite) {
      Counts counts;
      for (const CellRecord* cell : cells[guest]) counts.add(add_case(suite, run, *cell));
      return counts;
    });
  if (known.size() < run.header.cells.size())
    suites.suite("not run", [&](pugi::xml_node suite) {
      Counts counts;
      for (const std::string& id : run.header.cells)
        if (!known.contains(id)) counts.add(add_not_run(suite, run, id));
      return counts;
    });
  return suites.text();
}

}  // namespace vmm
