// Every capability of KVM that we ask for, with its name.
#pragma once

#include <string_view>

#include "vmm/core/uapi.h"

namespace vmm {

struct Capability {
  unsigned number;
  std::string_view name;  // without KVM_CAP_
};

namespace capability {

inline constexpr Capability IRQCHIP{KVM_CAP_IRQCHIP, "IRQCHIP"};
inline constexpr Capability SPLIT_IRQCHIP{KVM_CAP_SPLIT_IRQCHIP, "SPLIT_IRQCHIP"};
inline constexpr Capability MULTI_ADDRESS_SPACE{KVM_CAP_MULTI_ADDRESS_SPACE, "MULTI_ADDRESS_SPACE"};
inline constexpr Capability X86_SMM{KVM_CAP_X86_SMM, "X86_SMM"};
inline constexpr Capability MAX_VCPUS{KVM_CAP_MAX_VCPUS, "MAX_VCPUS"};
inline constexpr Capability NESTED_STATE{KVM_CAP_NESTED_STATE, "NESTED_STATE"};
inline constexpr Capability EXIT_ON_EMULATION_FAILURE{KVM_CAP_EXIT_ON_EMULATION_FAILURE,
                                                      "EXIT_ON_EMULATION_FAILURE"};
inline constexpr Capability SYNC_REGS{KVM_CAP_SYNC_REGS, "SYNC_REGS"};
inline constexpr Capability GET_MSR_FEATURES{KVM_CAP_GET_MSR_FEATURES, "GET_MSR_FEATURES"};
inline constexpr Capability X86_USER_SPACE_MSR{KVM_CAP_X86_USER_SPACE_MSR, "X86_USER_SPACE_MSR"};
inline constexpr Capability X86_MSR_FILTER{KVM_CAP_X86_MSR_FILTER, "X86_MSR_FILTER"};
inline constexpr Capability SET_GUEST_DEBUG2{KVM_CAP_SET_GUEST_DEBUG2, "SET_GUEST_DEBUG2"};
inline constexpr Capability READONLY_MEM{KVM_CAP_READONLY_MEM, "READONLY_MEM"};
inline constexpr Capability SREGS2{KVM_CAP_SREGS2, "SREGS2"};
inline constexpr Capability XCRS{KVM_CAP_XCRS, "XCRS"};
inline constexpr Capability XSAVE{KVM_CAP_XSAVE, "XSAVE"};
inline constexpr Capability ADJUST_CLOCK{KVM_CAP_ADJUST_CLOCK, "ADJUST_CLOCK"};
inline constexpr Capability VM_TSC_CONTROL{KVM_CAP_VM_TSC_CONTROL, "VM_TSC_CONTROL"};
inline constexpr Capability TSC_CONTROL{KVM_CAP_TSC_CONTROL, "TSC_CONTROL"};
inline constexpr Capability TSC_DEADLINE_TIMER{KVM_CAP_TSC_DEADLINE_TIMER, "TSC_DEADLINE_TIMER"};
inline constexpr Capability XSAVE2{KVM_CAP_XSAVE2, "XSAVE2"};
inline constexpr Capability ENFORCE_PV_FEATURE_CPUID{KVM_CAP_ENFORCE_PV_FEATURE_CPUID,
                                                     "ENFORCE_PV_FEATURE_CPUID"};
inline constexpr Capability DISABLE_QUIRKS2{KVM_CAP_DISABLE_QUIRKS2, "DISABLE_QUIRKS2"};
inline constexpr Capability TRIPLE_FAULT_EVENT{KVM_CAP_X86_TRIPLE_FAULT_EVENT,
                                               "TRIPLE_FAULT_EVENT"};
inline constexpr Capability DIRTY_LOG_RING{KVM_CAP_DIRTY_LOG_RING, "DIRTY_LOG_RING"};
inline constexpr Capability BINARY_STATS_FD{KVM_CAP_BINARY_STATS_FD, "BINARY_STATS_FD"};

}  // namespace capability
}  // namespace vmm
