// KVM's interface as Debian 12's headers (6.1) have it, and what is newer. Every newer constant names
// the kernel that introduced it; whether the running kernel has it is asked at run time.
#pragma once

#include <linux/kvm.h>

// Linux 6.2: the notify-VM-exit reason's name is in 6.0; listed for the decoder.
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
