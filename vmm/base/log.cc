#include "vmm/base/log.h"

#include <cstdlib>

// spdlog's header-only mode is not clean under -Wconversion and friends.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wshadow"
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#pragma GCC diagnostic pop

namespace vmm {
namespace {

spdlog::logger& logger() {
  static const std::shared_ptr<spdlog::logger> instance = [] {
    auto made =
        std::make_shared<spdlog::logger>("vmm", std::make_shared<spdlog::sinks::stderr_sink_mt>());
    made->set_pattern("vmm: %l: %v");
    made->set_level(spdlog::level::warn);
    return made;
  }();
  return *instance;
}

spdlog::level::level_enum to_spdlog(LogLevel level) {
  switch (level) {
    case LogLevel::Trace:
      return spdlog::level::trace;
    case LogLevel::Debug:
      return spdlog::level::debug;
    case LogLevel::Info:
      return spdlog::level::info;
    case LogLevel::Warn:
      return spdlog::level::warn;
    case LogLevel::Error:
      return spdlog::level::err;
  }
  return spdlog::level::err;
}

}  // namespace

void init_log() {
  const char* wanted = std::getenv("VMM_LOG");
  if (wanted == nullptr || *wanted == '\0') return;
  const auto level = spdlog::level::from_str(wanted);
  if (level == spdlog::level::off && std::string_view(wanted) != "off") {
    log_warn("VMM_LOG={} is not a level; write trace, debug, info, warn, error or off", wanted);
    return;
  }
  logger().set_level(level);
}

bool log_enabled(LogLevel level) { return logger().should_log(to_spdlog(level)); }

void log_line(LogLevel level, std::string_view text) { logger().log(to_spdlog(level), "{}", text); }

}  // namespace vmm
