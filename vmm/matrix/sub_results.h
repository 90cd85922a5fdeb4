// What a guest says of its own tests: lines of TAP, KTAP or kvm-unit-tests on its console, counted
// one by one as they arrive.
//
// TAP 13 and 14 (testanything.org) and KTAP (Linux, Documentation/dev-tools/ktap.rst) nest: results
// that stand further in belong to the next one that stands further out. What counts are the
// innermost; an outer one is counted only when it failed and nothing in it did.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace vmm {

enum class ResultFormat { None, Tap, Ktap, KvmUnitTests };

// "none", "tap", "ktap", "kvm-unit-tests".
std::string_view result_format_name(ResultFormat format);
std::optional<ResultFormat> parse_result_format(std::string_view name);

struct SubResults {
  static constexpr std::size_t kMaxNames = 20;
  static constexpr std::size_t kMaxNameSize = 200;

  std::uint64_t passed = 0;
  std::uint64_t failed = 0;  // without those that the guest itself calls expected (XFAIL, TODO)
  std::uint64_t skipped = 0;
  std::uint64_t expected_failures = 0;
  std::vector<std::string>
      failures;         // names of the first kMaxNames that failed, at most 200 bytes each
  std::string problem;  // "plan 1..5, 3 results", "Bail out! no memory"; empty: none

  bool any() const {
    return passed + failed + skipped + expected_failures != 0 || !problem.empty();
  }
  // "2 passed, 1 failed, 1 skipped: plan 1..5, 4 results"; empty for none.
  std::string text() const;
  bool operator==(const SubResults&) const = default;
};

// Takes a console's lines, without their ends, and keeps the count.
class SubResultReader {
 public:
  explicit SubResultReader(ResultFormat format) : format_(format) {}
  void line(std::string_view text);
  // The guest has ended: a plan that was not kept is a problem, and so is TAP or KTAP without a
  // single line of it, and TAP without a plan.
  SubResults finish() const;
  const SubResults& so_far() const { return results_; }

 private:
  // Results with the same indentation, since the last result that stands further out.
  struct Level {
    std::optional<std::uint64_t> plan;
    std::uint64_t results = 0;
    std::uint64_t failed = 0;    // in the whole of it, outer results included
    std::size_t first_name = 0;  // of its failures
  };
  enum class Directive { None, Skip, Todo };
  struct TapResult {
    bool ok = false;
    Directive directive = Directive::None;
    std::string_view name;
  };

  void tap_line(std::string_view text);
  std::optional<TapResult> parse_result(std::string_view text) const;
  void plan_line(unsigned indent, std::uint64_t count, bool skip);
  void add_result(unsigned indent, const TapResult& result);
  void kvm_unit_tests_line(std::string_view text);
  void summary_line(std::string_view text);
  void add_failure(std::string_view name);
  void set_problem(std::string text);
  Level& level(unsigned indent);
  // Ends the levels from `indent` on; what they were.
  Level close(unsigned indent);

  ResultFormat format_;
  SubResults results_;
  std::map<unsigned, Level> levels_;  // by indentation, which has a limit
  std::optional<unsigned> yaml_;      // inside a YAML block with this indentation
  bool spoke_ = false;                // some line was TAP
  bool had_plan_ = false;             // at the outermost level
  std::uint64_t since_summary_ = 0;
};

}  // namespace vmm
