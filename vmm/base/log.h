// Logging: one level meaning each. error: what the user asked did not happen; warn: odd but
// handled; info: rare changes of state; debug: for us; trace: per event. Everything goes to stderr.
// VMM_LOG=debug sets the level (default warn). Guests cannot make us log without bound: what they
// trigger is counted and reported once at the end.
#pragma once

#include <fmt/format.h>

#include <string_view>

namespace vmm {

enum class LogLevel { Trace, Debug, Info, Warn, Error };

// Reads VMM_LOG once; an unknown level is warned of.
void init_log();
bool log_enabled(LogLevel level);
void log_line(LogLevel level, std::string_view text);

template <typename... Args>
void log_at(LogLevel level, fmt::format_string<Args...> format, Args&&... args) {
  if (log_enabled(level)) log_line(level, fmt::format(format, std::forward<Args>(args)...));
}
template <typename... Args>
void log_warn(fmt::format_string<Args...> format, Args&&... args) {
  log_at(LogLevel::Warn, format, std::forward<Args>(args)...);
}
template <typename... Args>
void log_info(fmt::format_string<Args...> format, Args&&... args) {
  log_at(LogLevel::Info, format, std::forward<Args>(args)...);
}
template <typename... Args>
void log_debug(fmt::format_string<Args...> format, Args&&... args) {
  log_at(LogLevel::Debug, format, std::forward<Args>(args)...);
}

}  // namespace vmm
