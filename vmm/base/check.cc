#include "vmm/base/check.h"

#include <fmt/format.h>

#include <cstdio>
#include <cstdlib>

namespace vmm {

void check_failed(const char* expression, const char* file, int line, std::string_view message) {
  fmt::print(stderr, "vmm: internal error: {} ({}) at {}:{}\n", message, expression, file, line);
  std::abort();
}

}  // namespace vmm
