// What a guest can read of its CPU, as the text that a guest digest is made over: of what KVM
// reports back, and of what the probe reads inside.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "vmm/core/cpuid_table.h"
#include "vmm/cpu/resolve.h"

namespace vmm {

// A table without what KVM owns at run time, because it follows the guest's registers: OSXSAVE,
// OSPKE, APIC and the sizes in leaf Dh. MONITOR is not among them: its quirk stays on unless a
// model file says otherwise (vmm/core/quirks.h).
CpuidTable without_runtime_bits(const CpuidTable& table);

// What KVM changed between what was set and what is read back, run-time bits left out.
std::vector<CpuidDifference> unexpected_differences(const CpuidTable& set, const CpuidTable& read);

// The MSRs that tell a guest what its CPU can do: those that `cpuid` announces, with VMX its
// capabilities that are no copies of others, and the microcode revision and MSR_PLATFORM_INFO.
std::vector<std::uint32_t> telling_msrs(const CpuidTable& cpuid);

// Sorted lines "leaf.subleaf=eax ebx ecx edx" and "msr.index=value" of vCPU 0: without run-time
// bits, leaves of zeroes and leaves beyond the limits, and of `msrs` only those that tell. What KVM
// lets nobody choose (revision and size of a VMCS, rate of the preemption timer) is masked.
std::string guest_text(const CpuidTable& cpuid, const std::map<std::uint32_t, std::uint64_t>& msrs);
// Its SHA-256, hex.
std::string guest_digest(const CpuidTable& cpuid,
                         const std::map<std::uint32_t, std::uint64_t>& msrs);

}  // namespace vmm
