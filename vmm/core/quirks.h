// KVM's quirks (KVM_CAP_DISABLE_QUIRKS2): where KVM departs from hardware by default, for guests of
// long ago, and what vmm does about each unless a CPU model says otherwise.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace vmm {

struct KvmQuirk {
  std::uint32_t bit;
  std::string_view name;     // "stuff-feature-msrs": KVM's constant without KVM_X86_QUIRK_
  std::string_view with_it;  // what a guest meets where KVM keeps it
  std::string_view since;    // the first Linux that can do without it; empty: before 6.1
  bool off;                  // vmm does without it wherever KVM can
  bool guest_tells;          // a guest under vmm can tell whether it is on
};

// By bit.
std::span<const KvmQuirk> kvm_quirks();
// By name; case does not count and '_' is '-'. Null for what is none.
const KvmQuirk* find_quirk(std::string_view name);
// Those that vmm does without wherever KVM can.
std::uint32_t usual_quirks_off();

// "lapic-mmio-hole", by bit; "bit 20" for one without a name.
std::vector<std::string> quirk_names(std::uint32_t quirks);
// "LAPIC_MMIO_HOLE": as KVM's header has it.
std::vector<std::string> quirk_constants(std::uint32_t quirks);

}  // namespace vmm
