// What a model can say of CPUID words and MSRs that somebody has written down as numbers.
#pragma once

#include <string>
#include <vector>

#include "vmm/cpu/import.h"
#include "vmm/cpu/words.h"

namespace vmm {

// Vendor, brand, family, leaf limits, address width, caches of a table, in place of the model's.
// Notes what lies outside of what a model may hold, and the nearest that it got.
void take_identity(const CpuidTable& table, CpuModel& model, std::vector<ImportNote>& notes);

// "1.ECX[3,5-7], 6.EAX[0]": bits of one register or several, in order.
std::string places_text(const std::vector<FeaturePlace>& places);

// Leaves that topology and the guest's state decide.
bool is_shape_leaf(std::uint32_t leaf);

}  // namespace vmm
