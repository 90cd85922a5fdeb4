#include "guest-tests/tracefs.h"

#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

#include <filesystem>

namespace vmm {

bool see_tracefs() {
  static const bool seen = [] {
    constexpr const char* kTracefs = "/sys/kernel/tracing";
    const auto there = [] {
      return std::filesystem::exists("/sys/kernel/tracing/events/kvm/kvm_exit/format");
    };
    if (::geteuid() != 0) return false;
    return there() || (::unshare(CLONE_NEWNS) == 0 &&
                       ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
                       ::mount("tracefs", kTracefs, "tracefs", MS_NOSUID, nullptr) == 0 && there());
  }();
  return seen;
}

}  // namespace vmm
