#include "vmm/matrix/console_watch.h"

#include <algorithm>
#include <array>

namespace vmm {
namespace {

// Lines that are remembered to know a new one by; a guest with more makes progress all the time.
constexpr std::size_t kMaxKnownLines = 100'000;
constexpr std::array<std::string_view, 4> kPhases = {"boot", "test", "silence", "noise"};

void see_line(std::string_view text, const std::vector<LinePattern>& wanted,
              const std::vector<LinePattern>& forbidden, LinesSeen& seen) {
  for (std::size_t i = 0; i < wanted.size(); ++i)
    if (!seen.output[i] && wanted[i].matches(text)) seen.output[i] = true;
  if (seen.forbidden) return;
  for (const LinePattern& pattern : forbidden)
    if (pattern.matches(text)) {
      seen.forbidden = std::string(text);
      seen.forbidden_by = pattern.text();
      return;
    }
}

}  // namespace

WatchTime::duration watch_seconds(double value) {
  return std::chrono::duration_cast<WatchTime::duration>(std::chrono::duration<double>(value));
}

ConsoleWatch::ConsoleWatch(const Settings& settings, double scale, WatchTime start)
    : settings_(settings),
      scale_(scale),
      start_(start),
      last_output_(start),
      last_progress_(start),
      results_(settings.results.value_or(ResultFormat::None)) {
  seen_.output.resize(settings.output.size());
  if (!settings.landmark) booted_ = start;
}

void ConsoleWatch::take(std::span<const std::uint8_t> bytes, WatchTime now) {
  if (bytes.empty()) return;
  last_output_ = now;
  output_since_progress_ = true;
  splitter_.take(bytes, [&](std::string_view text) { line(text, now); });
  // A prompt has no end of line, and may be what one waits for.
  if (!booted_ && settings_.landmark && settings_.landmark->matches(splitter_.unfinished()))
    booted_ = now;
}

void ConsoleWatch::finish() {
  if (!splitter_.unfinished().empty())
    splitter_.end([&](std::string_view text) { line(text, last_output_); });
}

void ConsoleWatch::line(std::string_view text, WatchTime now) {
  if (!booted_ && settings_.landmark && settings_.landmark->matches(text)) booted_ = now;
  see_line(text, settings_.output, settings_.forbid, seen_);
  results_.line(text);
  if (settings_.noise && is_progress(text)) {
    last_progress_ = now;
    output_since_progress_ = false;
  }
}

bool ConsoleWatch::is_progress(std::string_view text) {
  if (settings_.progress) return settings_.progress->matches(text);
  std::string shape;
  for (const char c : text)
    if (c < '0' || c > '9') shape += c;
  if (known_lines_.size() >= kMaxKnownLines) return true;
  return known_lines_.insert(std::hash<std::string>{}(shape)).second;
}

std::optional<WatchTime> ConsoleWatch::limit_of(std::string_view phase) const {
  if (phase == "boot")
    return !booted_ ? std::optional(start_ + watch_seconds(settings_.boot_limit() * scale_))
                    : std::nullopt;
  // The whole run has the limit that the guest's own vmm keeps, so only what follows a boot is
  // counted here.
  if (phase == "test")
    return booted_ && settings_.landmark
               ? std::optional(*booted_ + watch_seconds(settings_.limit() * scale_))
               : std::nullopt;
  if (phase == "silence")
    return settings_.silence
               ? std::optional(last_output_ + watch_seconds(*settings_.silence * scale_))
               : std::nullopt;
  return settings_.noise && output_since_progress_
             ? std::optional(last_progress_ + watch_seconds(*settings_.noise * scale_))
             : std::nullopt;
}

std::string_view ConsoleWatch::expired(WatchTime now) const {
  for (const std::string_view phase : kPhases)
    if (const auto limit = limit_of(phase); limit && now >= *limit) return phase;
  return {};
}

std::optional<WatchTime> ConsoleWatch::next_deadline() const {
  std::optional<WatchTime> next;
  for (const std::string_view phase : kPhases)
    if (const auto limit = limit_of(phase); limit && (!next || *limit < *next)) next = limit;
  return next;
}

void see_lines(std::string_view text, const std::vector<LinePattern>& wanted,
               const std::vector<LinePattern>& forbidden, LinesSeen& seen) {
  seen.output.resize(wanted.size());
  LineSplitter splitter;
  const auto look = [&](std::string_view line) { see_line(line, wanted, forbidden, seen); };
  splitter.take({reinterpret_cast<const std::uint8_t*>(text.data()), text.size()}, look);
  if (!splitter.unfinished().empty()) splitter.end(look);
}

}  // namespace vmm
