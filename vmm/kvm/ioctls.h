// Every ioctl we make, with its name.
#pragma once

#include "vmm/base/fd.h"
#include "vmm/core/uapi.h"

namespace vmm::request {

// On /dev/kvm.
inline constexpr IoctlRequest GET_API_VERSION{KVM_GET_API_VERSION, "KVM_GET_API_VERSION"};
inline constexpr IoctlRequest CHECK_EXTENSION{KVM_CHECK_EXTENSION, "KVM_CHECK_EXTENSION"};
inline constexpr IoctlRequest GET_VCPU_MMAP_SIZE{KVM_GET_VCPU_MMAP_SIZE, "KVM_GET_VCPU_MMAP_SIZE"};
inline constexpr IoctlRequest GET_SUPPORTED_CPUID{KVM_GET_SUPPORTED_CPUID,
                                                  "KVM_GET_SUPPORTED_CPUID"};
inline constexpr IoctlRequest GET_MSR_FEATURE_INDEX_LIST{KVM_GET_MSR_FEATURE_INDEX_LIST,
                                                         "KVM_GET_MSR_FEATURE_INDEX_LIST"};
inline constexpr IoctlRequest GET_MSRS{KVM_GET_MSRS, "KVM_GET_MSRS"};
inline constexpr IoctlRequest GET_MSR_INDEX_LIST{KVM_GET_MSR_INDEX_LIST, "KVM_GET_MSR_INDEX_LIST"};
inline constexpr IoctlRequest CREATE_VM{KVM_CREATE_VM, "KVM_CREATE_VM"};
// On a VM.
inline constexpr IoctlRequest ENABLE_CAP{KVM_ENABLE_CAP, "KVM_ENABLE_CAP"};
inline constexpr IoctlRequest SET_USER_MEMORY_REGION{KVM_SET_USER_MEMORY_REGION,
                                                     "KVM_SET_USER_MEMORY_REGION"};
inline constexpr IoctlRequest SET_TSS_ADDR{KVM_SET_TSS_ADDR, "KVM_SET_TSS_ADDR"};
inline constexpr IoctlRequest SET_IDENTITY_MAP_ADDR{KVM_SET_IDENTITY_MAP_ADDR,
                                                    "KVM_SET_IDENTITY_MAP_ADDR"};
inline constexpr IoctlRequest CREATE_IRQCHIP{KVM_CREATE_IRQCHIP, "KVM_CREATE_IRQCHIP"};
inline constexpr IoctlRequest CREATE_PIT2{KVM_CREATE_PIT2, "KVM_CREATE_PIT2"};
inline constexpr IoctlRequest GET_IRQCHIP{KVM_GET_IRQCHIP, "KVM_GET_IRQCHIP"};
inline constexpr IoctlRequest SET_IRQCHIP{KVM_SET_IRQCHIP, "KVM_SET_IRQCHIP"};
inline constexpr IoctlRequest GET_PIT2{KVM_GET_PIT2, "KVM_GET_PIT2"};
inline constexpr IoctlRequest SET_PIT2{KVM_SET_PIT2, "KVM_SET_PIT2"};
inline constexpr IoctlRequest GET_CLOCK{KVM_GET_CLOCK, "KVM_GET_CLOCK"};
inline constexpr IoctlRequest SET_CLOCK{KVM_SET_CLOCK, "KVM_SET_CLOCK"};
inline constexpr IoctlRequest IRQ_LINE{KVM_IRQ_LINE, "KVM_IRQ_LINE"};
inline constexpr IoctlRequest SIGNAL_MSI{KVM_SIGNAL_MSI, "KVM_SIGNAL_MSI"};
inline constexpr IoctlRequest SET_GSI_ROUTING{KVM_SET_GSI_ROUTING, "KVM_SET_GSI_ROUTING"};
inline constexpr IoctlRequest X86_SET_MSR_FILTER{KVM_X86_SET_MSR_FILTER, "KVM_X86_SET_MSR_FILTER"};
inline constexpr IoctlRequest CREATE_VCPU{KVM_CREATE_VCPU, "KVM_CREATE_VCPU"};
// On a vCPU.
inline constexpr IoctlRequest RUN{KVM_RUN, "KVM_RUN"};
inline constexpr IoctlRequest GET_REGS{KVM_GET_REGS, "KVM_GET_REGS"};
inline constexpr IoctlRequest SET_REGS{KVM_SET_REGS, "KVM_SET_REGS"};
inline constexpr IoctlRequest GET_SREGS{KVM_GET_SREGS, "KVM_GET_SREGS"};
inline constexpr IoctlRequest SET_SREGS{KVM_SET_SREGS, "KVM_SET_SREGS"};
inline constexpr IoctlRequest GET_DEBUGREGS{KVM_GET_DEBUGREGS, "KVM_GET_DEBUGREGS"};
inline constexpr IoctlRequest SET_DEBUGREGS{KVM_SET_DEBUGREGS, "KVM_SET_DEBUGREGS"};
inline constexpr IoctlRequest GET_VCPU_EVENTS{KVM_GET_VCPU_EVENTS, "KVM_GET_VCPU_EVENTS"};
inline constexpr IoctlRequest SET_VCPU_EVENTS{KVM_SET_VCPU_EVENTS, "KVM_SET_VCPU_EVENTS"};
inline constexpr IoctlRequest GET_MP_STATE{KVM_GET_MP_STATE, "KVM_GET_MP_STATE"};
inline constexpr IoctlRequest SET_MP_STATE{KVM_SET_MP_STATE, "KVM_SET_MP_STATE"};
inline constexpr IoctlRequest SET_GUEST_DEBUG{KVM_SET_GUEST_DEBUG, "KVM_SET_GUEST_DEBUG"};
inline constexpr IoctlRequest GET_LAPIC{KVM_GET_LAPIC, "KVM_GET_LAPIC"};
inline constexpr IoctlRequest SET_LAPIC{KVM_SET_LAPIC, "KVM_SET_LAPIC"};
inline constexpr IoctlRequest GET_SREGS2{KVM_GET_SREGS2, "KVM_GET_SREGS2"};
inline constexpr IoctlRequest SET_SREGS2{KVM_SET_SREGS2, "KVM_SET_SREGS2"};
inline constexpr IoctlRequest GET_XSAVE{KVM_GET_XSAVE, "KVM_GET_XSAVE"};
inline constexpr IoctlRequest GET_XSAVE2{KVM_GET_XSAVE2, "KVM_GET_XSAVE2"};
inline constexpr IoctlRequest SET_XSAVE{KVM_SET_XSAVE, "KVM_SET_XSAVE"};
inline constexpr IoctlRequest GET_XCRS{KVM_GET_XCRS, "KVM_GET_XCRS"};
inline constexpr IoctlRequest SET_XCRS{KVM_SET_XCRS, "KVM_SET_XCRS"};
inline constexpr IoctlRequest GET_NESTED_STATE{KVM_GET_NESTED_STATE, "KVM_GET_NESTED_STATE"};
inline constexpr IoctlRequest SET_NESTED_STATE{KVM_SET_NESTED_STATE, "KVM_SET_NESTED_STATE"};
inline constexpr IoctlRequest SET_CPUID2{KVM_SET_CPUID2, "KVM_SET_CPUID2"};
inline constexpr IoctlRequest GET_CPUID2{KVM_GET_CPUID2, "KVM_GET_CPUID2"};
inline constexpr IoctlRequest SET_MSRS{KVM_SET_MSRS, "KVM_SET_MSRS"};
inline constexpr IoctlRequest INTERRUPT{KVM_INTERRUPT, "KVM_INTERRUPT"};
inline constexpr IoctlRequest NMI{KVM_NMI, "KVM_NMI"};
inline constexpr IoctlRequest GET_TSC_KHZ{KVM_GET_TSC_KHZ, "KVM_GET_TSC_KHZ"};
inline constexpr IoctlRequest SET_TSC_KHZ{KVM_SET_TSC_KHZ, "KVM_SET_TSC_KHZ"};  // or on a VM
inline constexpr IoctlRequest HAS_DEVICE_ATTR{KVM_HAS_DEVICE_ATTR, "KVM_HAS_DEVICE_ATTR"};
inline constexpr IoctlRequest GET_DEVICE_ATTR{KVM_GET_DEVICE_ATTR, "KVM_GET_DEVICE_ATTR"};
inline constexpr IoctlRequest SET_DEVICE_ATTR{KVM_SET_DEVICE_ATTR, "KVM_SET_DEVICE_ATTR"};
inline constexpr IoctlRequest KVMCLOCK_CTRL{KVM_KVMCLOCK_CTRL, "KVM_KVMCLOCK_CTRL"};
inline constexpr IoctlRequest TRANSLATE{KVM_TRANSLATE, "KVM_TRANSLATE"};
inline constexpr IoctlRequest GET_STATS_FD{KVM_GET_STATS_FD, "KVM_GET_STATS_FD"};

}  // namespace vmm::request
