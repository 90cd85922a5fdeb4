// KVM's statistics of a VM or a vCPU, as the file of KVM_GET_STATS_FD gives them (Linux
// Documentation/virt/kvm/api.rst 4.133).
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>

#include "vmm/base/result.h"

namespace vmm {

// More than any KVM has.
constexpr std::size_t kMaxCounterBytes = 256 * 1024;

// Those that count one thing since the start, by name, as far as they are not 0. A Host error for
// what is no such file.
Result<std::map<std::string, std::uint64_t>> parse_counters(std::span<const std::uint8_t> bytes);

}  // namespace vmm
