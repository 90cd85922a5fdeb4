// The [kvm] section of a model file: what of KVM itself a guest sees. KVM's paravirtual features,
// which no silicon has, and which of KVM's quirks the guest does without.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "vmm/base/result.h"
#include "vmm/cpu/cpu_model.h"
#include "vmm/cpu/toml_table.h"

namespace vmm {

// Whether it is a bit of KVM's own leaves: "kvmclock".
bool is_pv_feature(FeatureId id);
// A model's list without them.
std::vector<FeatureId> without_pv_features(const std::vector<FeatureId>& features);

struct KvmSection {
  std::vector<FeatureId> pv_features;  // sorted
  std::uint32_t quirks_off = 0;
};

// [kvm] of `table`: pv-features, disable-quirks and keep-quirks, each as empty where it is absent.
Result<KvmSection> read_kvm_section(const TomlTable& table);
// Like everything else in a version it takes the place of what was before.
void apply_kvm_section(const KvmSection& section, CpuModel& model);

// The lines that read as the same, without a heading; "" where a model says nothing of its own.
std::string kvm_section_text(const CpuModel& model);
// The same even where it says nothing.
std::string whole_kvm_section_text(const CpuModel& model);
bool same_kvm_section(const CpuModel& a, const CpuModel& b);

}  // namespace vmm
