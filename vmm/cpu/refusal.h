// Why a host cannot give a bit: who refuses it and what to change.
#pragma once

#include <vector>

#include "vmm/cpu/resolve.h"
#include "vmm/cpu/words.h"

namespace vmm {

// A bit that is wanted and not to be had.
struct Refusal {
  FeaturePlace place;
  MissingBit bit;
};

// What the host can give: KVM_GET_SUPPORTED_CPUID with what KVM leaves out of it although it can be
// set (hints without instructions, what its LAPIC brings), and the feature MSRs.
// With `own` (the rule `host`) KVM's own IA32_ARCH_CAPABILITIES counts even where it cannot be set.
CpuWords granted_words(const HostGrant& host, bool own);

// Every wanted bit that `host` does not grant, those that cannot work because another one they need
// is refused or absent, and XSAVE components that the host's silicon lays out differently; sorted
// by place. `wanted` has been derived. With `own` (the rule `host`) a bit that the host itself
// grants is never refused for what it needs.
std::vector<Refusal> find_refusals(const CpuWords& wanted, const HostGrant& host, bool own);

}  // namespace vmm
