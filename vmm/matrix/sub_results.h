// What a guest says of its own tests: lines of TAP, KTAP or kvm-unit-tests on its console, counted
// one by one as they arrive.
#pragma once

#include <cstdint>
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
  bool operator==(const SubResults&) const = default;
};

// Takes a console's lines, without their ends, and keeps the count.
class SubResultReader {
 public:
  explicit SubResultReader(ResultFormat format) : format_(format) {}
  void line(std::string_view text);
  // The guest has ended: a plan that was not kept is a problem.
  SubResults finish() const;
  const SubResults& so_far() const { return results_; }

 private:
  ResultFormat format_;
  SubResults results_;
  std::optional<std::uint64_t> plan_;  // of the outermost level
  std::uint64_t numbered_ = 0;         // results of the outermost level
};

}  // namespace vmm
