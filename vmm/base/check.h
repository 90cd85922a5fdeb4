// Impossible things: a check that stays on in release builds, says what was wrong and aborts.
#pragma once

#include <string_view>

namespace vmm {

[[noreturn]] void check_failed(const char* expression, const char* file, int line,
                               std::string_view message);

}  // namespace vmm

#define VMM_CHECK(condition, message)                               \
  do {                                                              \
    if (!(condition)) [[unlikely]]                                  \
      ::vmm::check_failed(#condition, __FILE__, __LINE__, message); \
  } while (false)
