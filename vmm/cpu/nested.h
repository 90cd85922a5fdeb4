// What a host's KVM lets a guest hypervisor do: the VMX capability MSRs and the SVM features that
// it offers to guests.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "vmm/cpu/resolve.h"

namespace vmm {

// One word of it, as KVM says it.
struct NestedWord {
  std::string name;   // "IA32_VMX_BASIC" (SDM Vol. 3, appendix A), "8000000Ah.EDX"
  std::string place;  // "480h"; "8000000Ah.EDX"
  std::uint64_t value = 0;
  unsigned digits = 16;  // hex digits that it is written with: 16 for an MSR, 8 for a register
  bool operator==(const NestedWord&) const = default;
};

// MSRs 480h to 493h as far as KVM_GET_MSRS knows them, or leaf 8000000Ah when
// KVM_GET_SUPPORTED_CPUID offers SVM. Empty where guests get neither.
std::vector<NestedWord> nested_words(const HostGrant& host);

// The same for people, with a heading; at most 100 columns. For SVM: the revision, the number of
// ASIDs, and the features by name ("bit 19" for one without a name).
std::vector<std::string> nested_lines(const HostGrant& host);

}  // namespace vmm
