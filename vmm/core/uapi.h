// KVM's interface as Debian 12's headers (Linux 6.1) have it, and what is newer. The one place that
// includes <linux/kvm.h>; a newer constant names the kernel that introduced it, and whether the
// running kernel has it is asked at run time.
#pragma once

#include <linux/stddef.h>

// Since 6.1.1xx these headers wrap flexible arrays in a struct that begins with an empty struct,
// whose size is 0 in C and 1 in C++: sizeof(kvm_cpuid2) becomes 12, and KVM_GET_SUPPORTED_CPUID
// another ioctl, which the kernel answers with EINVAL.
#undef __DECLARE_FLEX_ARRAY
#define __DECLARE_FLEX_ARRAY(TYPE, NAME) TYPE NAME[]  // NOLINT(bugprone-reserved-identifier)
#include <linux/kvm.h>

static_assert(sizeof(kvm_cpuid2) == 8 && sizeof(kvm_msrs) == 8 && sizeof(kvm_msr_list) == 4);

// Linux 6.0.
#ifndef KVM_EXIT_NOTIFY
#define KVM_EXIT_NOTIFY 37
#endif
// Linux 6.8.
#ifndef KVM_EXIT_MEMORY_FAULT
#define KVM_EXIT_MEMORY_FAULT 39
#endif
// Linux 6.13 (back-ported to 6.12.y): feature MSRs start at 0 instead of KVM's maxima.
#ifndef KVM_X86_QUIRK_STUFF_FEATURE_MSRS
#define KVM_X86_QUIRK_STUFF_FEATURE_MSRS (1 << 8)
#endif
// Linux 6.12 (offered by Debian's 6.12 kernels like the two below).
#ifndef KVM_X86_QUIRK_SLOT_ZAP_ALL
#define KVM_X86_QUIRK_SLOT_ZAP_ALL (1 << 7)
#endif
#ifndef KVM_X86_QUIRK_IGNORE_GUEST_PAT
#define KVM_X86_QUIRK_IGNORE_GUEST_PAT (1 << 9)
#endif
#ifndef KVM_X86_QUIRK_VMCS12_ALLOW_FREEZE_IN_SMM
#define KVM_X86_QUIRK_VMCS12_ALLOW_FREEZE_IN_SMM (1 << 10)
#endif
