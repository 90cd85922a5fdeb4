#include "vmm/base/fault.h"

#include <fmt/format.h>

#include <atomic>
#include <charconv>
#include <map>
#include <mutex>
#include <string>

#include "vmm/base/text.h"

namespace vmm {
namespace {

std::mutex plan_mutex;
std::vector<Fault> plan;
std::map<std::string, unsigned, std::less<>> calls;
std::atomic<bool> plan_active{false};

Result<int> errno_from_name(std::string_view name) {
  for (int value = 1; value < 134; ++value)
    if (errno_name(value) == name) return value;
  return fail(Error::usage(fmt::format("'{}' is not the name of an errno", printable(name)))
                  .hint("write for instance EINVAL, ENOMEM or E2BIG"));
}

}  // namespace

Result<std::vector<Fault>> parse_faults(std::string_view text) {
  std::vector<Fault> faults;
  for (std::string_view word : split(text, ',')) {
    if (word.empty()) continue;
    const auto parts = split(word, ':');
    if (parts.size() < 2 || parts.size() > 3 || parts[0].empty())
      return fail(Error::usage(fmt::format("'{}' is not IOCTL:ERRNO[:NTH]", printable(word))));
    Fault fault{std::string(parts[0]), VMM_TRY(errno_from_name(parts[1])), 1};
    if (parts.size() == 3) {
      const auto [end, error] =
          std::from_chars(parts[2].data(), parts[2].data() + parts[2].size(), fault.nth);
      if (error != std::errc{} || end != parts[2].data() + parts[2].size())
        return fail(Error::usage(
            fmt::format("'{}' in '{}' is not a count", printable(parts[2]), printable(word))));
    }
    faults.push_back(std::move(fault));
  }
  return faults;
}

void set_faults(std::vector<Fault> faults) {
  const std::lock_guard lock(plan_mutex);
  plan = std::move(faults);
  calls.clear();
  plan_active = !plan.empty();
}

int planned_fault(std::string_view name) {
  if (!plan_active.load(std::memory_order_relaxed)) [[likely]]
    return 0;
  const std::lock_guard lock(plan_mutex);
  const unsigned call = ++calls.try_emplace(std::string(name), 0).first->second;
  for (const Fault& fault : plan)
    if (fault.name == name && (fault.nth == 0 || fault.nth == call)) return fault.errno_value;
  return 0;
}

}  // namespace vmm
