// Watches a guest's console as it arrives: which expected lines came, which forbidden one, the
// guest's own sub-results, and whether one of its time limits has passed. Knows no files and no
// clock of its own.
#pragma once

#include <chrono>
#include <optional>
#include <span>
#include <string>
#include <unordered_set>
#include <vector>

#include "vmm/matrix/spec.h"
#include "vmm/matrix/sub_results.h"

namespace vmm {

using WatchTime = std::chrono::steady_clock::time_point;
WatchTime::duration watch_seconds(double value);

// What the lines of a console or of a screen have come to.
struct LinesSeen {
  std::vector<bool> output;              // of each pattern: some line matched
  std::optional<std::string> forbidden;  // the first line that a `forbid` matches
  std::string forbidden_by;              // that pattern
};

// Takes bytes, gives lines without their ends; what is beyond the limit of a line is dropped.
class LineSplitter {
 public:
  static constexpr std::size_t kMaxLine = 4096;

  // Calls `line` for each that `bytes` ends.
  template <typename F>
  void take(std::span<const std::uint8_t> bytes, F&& line) {
    for (const std::uint8_t byte : bytes) {
      if (byte == '\n') {
        end(line);
      } else if (current_.size() < kMaxLine) {
        current_ += static_cast<char>(byte);
      }
    }
  }
  // The line that has no end yet, if there is one.
  template <typename F>
  void end(F&& line) {
    while (!current_.empty() && current_.back() == '\r') current_.pop_back();
    line(std::string_view(current_));
    current_.clear();
  }
  std::string_view unfinished() const { return current_; }

 private:
  std::string current_;
};

class ConsoleWatch {
 public:
  // `scale`: how many times longer all limits but the guest's own clock are (a lab's slowness).
  ConsoleWatch(const Settings& settings, double scale, WatchTime start);

  void take(std::span<const std::uint8_t> bytes, WatchTime now);
  // The guest has ended: its last line may have no end.
  void finish();

  // "boot", "test", "silence" or "noise" once that limit has passed; empty until then.
  std::string_view expired(WatchTime now) const;
  // The next time at which expired() may change by itself.
  std::optional<WatchTime> next_deadline() const;

  const LinesSeen& seen() const { return seen_; }
  SubResults results() const { return results_.finish(); }
  bool booted() const { return booted_.has_value(); }

 private:
  void line(std::string_view text, WatchTime now);
  bool is_progress(std::string_view text);
  std::optional<WatchTime> limit_of(std::string_view phase) const;

  const Settings& settings_;
  double scale_;
  WatchTime start_;
  std::optional<WatchTime> booted_;
  WatchTime last_output_;
  WatchTime last_progress_;
  bool output_since_progress_ = false;
  LineSplitter splitter_;
  LinesSeen seen_;
  SubResultReader results_;
  std::unordered_set<std::size_t> known_lines_;  // digests, numbers aside
};

// The lines of a whole text, a screen for one.
void see_lines(std::string_view text, const std::vector<LinePattern>& wanted,
               const std::vector<LinePattern>& forbidden, LinesSeen& seen);

}  // namespace vmm
