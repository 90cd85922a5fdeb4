// What is wished of single features and of the address width, whatever the policy says of the rest,
// held against a host: require:, optional:, forbid:, phys-bits=host-exact and at-most-host.
#pragma once

#include <vector>

#include "vmm/cpu/draft.h"
#include "vmm/cpu/refusal.h"

namespace vmm {

// `refusals` are what the host cannot give, and change with the optional features, which are taken
// away. A host that is not known refuses nothing. What is not fulfilled is a Host error or, with
// Unmet::Note, a note of the draft.
Result<void> apply_wishes(Draft& draft, const HostGrant& host, CpuPolicy policy, Unmet unmet,
                          std::vector<Refusal>& refusals);

// Notes what follows for the guest where its width is not the host's.
void note_widths(Draft& draft, const HostGrant& host);

// What is wished of features in the end, sorted by feature.
std::vector<CpuWish> wishes_of(const Draft& draft);
// "require avx2 (simd)", "optional pdpe1gb", "phys-bits=host-exact": one text a wish.
std::vector<std::string> wish_texts(const std::vector<CpuWish>& wishes,
                                    const std::optional<CpuOverride::Kind>& width);

}  // namespace vmm
