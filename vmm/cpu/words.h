// A CPU as words: its CPUID and capability MSRs, with features switched by name.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "vmm/core/cpuid_table.h"
#include "vmm/cpu/cpu_model.h"
#include "vmm/cpu/features.h"
#include "vmm/cpu/resolve.h"
#include "vmm/cpu/topology.h"

namespace vmm {

struct CpuWords {
  CpuidTable cpuid;
  std::map<std::uint32_t, std::uint64_t> msrs;

  // The features of a word: its value, but for VMX controls (see vmx.h). 0 where absent.
  std::uint64_t word(const FeatureWord& word) const;
  bool has(const FeaturePlace& place) const;
  bool has(FeatureId id) const { return has(FeatureCatalog::get(id).place); }
  bool has(std::string_view feature) const { return has(feature_id(feature)); }
  void set(const FeaturePlace& place, bool on);
  void set(FeatureId id, bool on) { set(FeatureCatalog::get(id).place, on); }
  // Offers a VMX control and fixes it to 1.
  void fix(FeatureId vmx_control);
};

// Family, model and stepping as they are displayed, out of leaf 1 EAX (SDM Vol. 2A, CPUID).
struct CpuIdentity {
  unsigned family = 0;
  unsigned model = 0;
  unsigned stepping = 0;
  // As in cpuid_table.h: clang-tidy 14 takes a 0 of the compiler's for a null pointer.
  auto operator<=>(const CpuIdentity&) const = default;  // NOLINT(modernize-use-nullptr)
};
CpuIdentity identity_of(const CpuidTable& table);

// AMD or Hygon: which of the two ways of counting, naming and laying out applies.
bool is_amd(const CpuidTable& table);

// Bits of 80000001.EDX that repeat 1.EDX on AMD (APM Vol. 3, E.4.2).
constexpr std::uint32_t kAmdAliasBits = 0x0183f3ff;

// The bits of `word` that only repeat others: those of kAmdAliasBits on AMD.
constexpr std::uint64_t repeated_bits(const FeatureWord& word, bool amd) {
  return amd && word == FeatureWord{false, 0x80000001, 0, CpuidReg::Edx} ? kAmdAliasBits : 0;
}

// The words of a resolved CPU, of vCPU 0.
CpuWords words_of(const ResolvedCpu& cpu);

// Words of a model alone: no overrides, no topology, nothing of a host, and not yet derived.
CpuWords model_words(const CpuModel& model);

// Puts raw words into a table, over what is there.
void apply_raw(const std::vector<CpuRawWord>& raw, CpuidTable& table);

// The feature that announces a feature MSR, without which derive() takes the MSR away.
std::optional<FeatureId> announced_by(std::uint32_t msr);

// Words of the rule `host`: what KVM supports, without what KVM or we own (topology, run-time
// bits), without KVM's own leaves and without nesting.
CpuWords host_words(const CpuidTable& supported);

// Makes the words whole after features were switched: the bits that are always set, AMD's repeated
// bits, leaf Dh, the limits in leaves 0, 7 and 80000000h, the linear address width for la57, KVM's
// signature leaf. `given` is the host's table under the rule `host`, else empty.
void derive(CpuWords& words, const CpuidTable& given);

// The sorted lines "leaf.subleaf.reg=value", "msr.index=value", "cache..." and "vmx-...=1" (or
// "=fixed") that a digest is made over. VMX is in it by name, since a part of its MSRs is KVM's.
std::string canonical_text(const CpuWords& words, const std::vector<CpuCache>& caches);

}  // namespace vmm
