#include "vmm/cpu/draft.h"

#include <fmt/format.h>

#include "vmm/base/bytes.h"
#include "vmm/core/quirks.h"
#include "vmm/cpu/topology.h"
#include "vmm/cpu/vmx.h"

namespace vmm {
namespace {

Draft draft_of(const CpuModel& model) {
  Draft draft;
  draft.name = model.full_name();
  draft.words = model_words(model);
  draft.raw = model.raw;
  for (const auto& [index, value] : model.msrs) draft.own_msrs.push_back(index);
  draft.caches = model.caches;
  draft.svm = model.svm;
  draft.vmx = model.vmx;
  draft.vmx_fixed = model.vmx_fixed;
  for (const CpuWish& wish : model.wishes) {
    draft.wishes[wish.feature] = wish.kind;
    draft.groups[wish.feature] = wish.group;
  }
  draft.width_wish = model.width_wish;
  draft.quirks_off = model.quirks_off;
  return draft;
}

// Feature MSRs are the model's alone where KVM's quirk is off, and read as 0 until they are set.
void take_capability_msrs(const HostGrant& host, CpuWords& words) {
  // kvm_pvm reports IA32_ARCH_CAPABILITIES, and refuses every value that is written to it.
  const auto capabilities = host.feature_msrs.find(0x10a);
  if (host.backend != KvmBackend::Pvm && capabilities != host.feature_msrs.end() &&
      has_feature(host.supported, "arch-capabilities"))
    words.msrs.insert(*capabilities);
  // Of IA32_PERF_CAPABILITIES the bit that needs nothing else: KVM takes those of LBR and PEBS only
  // together with CPUID bits and counters.
  const auto performance = host.feature_msrs.find(0x345);
  const std::uint64_t full_width = std::uint64_t{1} << 13;
  const KvmQuirk* stuffed = find_quirk("stuff-feature-msrs");
  if ((host.quirks & stuffed->bit) != 0 && performance != host.feature_msrs.end() &&
      has_feature(host.supported, "pdcm"))
    words.msrs[0x345] = performance->second & full_width;
}

// The rule `host`: what KVM supports here, so a function of silicon, microcode, kernel and module
// parameters, and never the same CPU twice. +svm and +vmx bring what KVM offers.
Draft draft_of(const HostGrant& host) {
  Draft draft;
  draft.name = "host";
  draft.own = true;
  draft.quirks_off = usual_quirks_off();
  draft.words = host_words(host.supported);
  draft.given = host.supported;
  // Some KVMs leave the brand string out.
  if (host.supported.brand().empty())
    for (const std::uint32_t leaf : {0x80000002U, 0x80000003U, 0x80000004U})
      if (const CpuidRegs* regs = host.silicon.find(leaf)) draft.words.cpuid.at(leaf) = *regs;
  draft.caches = caches_of(host.supported);
  take_capability_msrs(host, draft.words);
  if (host.tsc_deadline_timer) draft.words.set(feature_id("tsc-deadline"), true);
  for (const FeatureId id : FeatureCatalog::in_word({false, 0x8000000a, 0, CpuidReg::Edx}))
    if (has_feature(host.supported, FeatureCatalog::get(id).name)) draft.svm.push_back(id);
  draft.vmx_msrs = vmx_to_set(host.feature_msrs);
  // Of KVM's own features the clock, and nothing else: with it Linux starts in a tenth of the time,
  // for it has no timer to calibrate, and it asks nothing of whose LAPIC there is.
  for (const std::string_view name : {"kvmclock", "kvmclock-stable-bit"})
    if (has_feature(host.supported, name)) draft.words.set(feature_id(name), true);
  return draft;
}

void remove_feature(Draft& draft, FeatureId id) {
  std::vector<std::string_view> also;
  for (const FeatureId dependant : FeatureCatalog::dependants(id)) {
    if (!draft.words.has(dependant)) continue;
    draft.words.set(dependant, false);
    also.push_back(FeatureCatalog::get(dependant).name);
  }
  draft.words.set(id, false);
  const std::string_view name = FeatureCatalog::get(id).name;
  // The SVM features have no life of their own.
  if (!also.empty() && name != "svm")
    draft.notes.push_back(
        fmt::format("-{} also takes away what needs it: {}", name, fmt::join(also, ", ")));
}

void add_vmx(Draft& draft) {
  for (const auto& [index, value] : draft.vmx_msrs) draft.words.msrs[index] = value;
  for (const FeatureId id : draft.vmx) draft.words.set(id, true);
  for (const FeatureId id : draft.vmx_fixed) draft.words.fix(id);
}

// A capability of nesting without +vmx or +svm would be lost without a word.
Result<void> check_nesting(const Draft& draft, const std::vector<CpuOverride>& overrides) {
  for (const CpuOverride& change : overrides) {
    if (!change.switches_on()) continue;
    const Feature& feature = FeatureCatalog::get(change.feature);
    const char* needed = is_vmx_word(feature.place.word)          ? "vmx"
                         : feature.place.word.index == 0x8000000a ? "svm"
                                                                  : nullptr;
    if (needed != nullptr && !draft.words.has(needed))
      return fail(Error::usage(fmt::format("{} means nothing without {}", change.text(), needed))
                      .hint(fmt::format("add +{}", needed)));
  }
  return {};
}

void apply_override(Draft& draft, const CpuOverride& change) {
  if (!change.is_width()) {
    draft.wishes[change.feature] = change.kind;
    draft.groups.erase(change.feature);
  }
  switch (change.kind) {
    case CpuOverride::Kind::Add:
    case CpuOverride::Kind::Require:
    case CpuOverride::Kind::Optional:
      draft.words.set(change.feature, true);
      if (change.feature == feature_id("svm"))
        for (const FeatureId id : draft.svm) draft.words.set(id, true);
      if (change.feature == feature_id("vmx")) add_vmx(draft);
      break;
    case CpuOverride::Kind::Fix:
      draft.words.fix(change.feature);
      break;
    case CpuOverride::Kind::Remove:
    case CpuOverride::Kind::Forbid:
      remove_feature(draft, change.feature);
      break;
    case CpuOverride::Kind::PhysBits:
      draft.set_width(change.phys_bits);
      break;
    case CpuOverride::Kind::PhysExact:
    case CpuOverride::Kind::PhysAtMost:
      draft.width_wish = change.kind;
      break;
  }
}

}  // namespace

void Draft::finish() {
  derive(words, given);
  apply_raw(raw, words.cpuid);
}

void Draft::set_width(unsigned phys_bits) {
  CpuidRegs& widths = words.cpuid.at(0x80000008);
  widths.eax = (widths.eax & ~0xffU) | phys_bits;
}

void Draft::drop(const FeaturePlace& place) {
  words.set(place, false);
  for (CpuRawWord& word : raw)
    if (word.word == place.word) word.value &= ~(std::uint32_t{1} << place.bit);
}

void Draft::shape(const Topology& topology) {
  const bool amd = is_amd(words.cpuid);
  const unsigned per_package = topology.cores * topology.threads;
  words.set(feature_id("ht"), per_package > 1);
  words.set(feature_id("cmp-legacy"), amd && per_package > 1);
  const ShapeWish wish{.max_leaf = words.cpuid.get(0).eax,
                       .max_ext_leaf = words.cpuid.get(0x80000000).eax,
                       .amd = amd,
                       .topoext = words.has("topoext")};
  apply_shape(shape_leaves(topology, caches, wish), words.cpuid);
  if (amd) {
    // The copy of HTT's neighbours in 80000001.EDX leaves HTT itself out (APM Vol. 3, E.4.2).
    words.cpuid.at(0x80000001).edx &= ~(1U << 28);
  }
}

std::string Draft::digest_text() const {
  std::string result = canonical_text(words, caches);
  // What vmm does for every CPU says nothing about this one.
  const std::uint32_t usual = usual_quirks_off();
  for (const std::string& quirk : quirk_names(quirks_off & ~usual))
    result += fmt::format("quirk.{}=off\n", quirk);
  for (const std::string& quirk : quirk_names(usual & ~quirks_off))
    result += fmt::format("quirk.{}=on\n", quirk);
  return result;
}

Result<Draft> draft_selection(std::string_view selection_text, const HostGrant& host) {
  const CpuSelection selection = VMM_TRY(parse_cpu_selection(selection_text));
  Draft draft =
      is_rule_host(selection) ? draft_of(host) : draft_of(VMM_TRY(find_cpu_model(selection.model)));
  draft.text = draft.name;
  for (const CpuOverride& change : selection.overrides) {
    apply_override(draft, change);
    draft.text += "," + change.text();
  }
  VMM_TRY_CONTEXT(check_nesting(draft, selection.overrides), "--cpu-model " + draft.text);
  draft.finish();
  return draft;
}

}  // namespace vmm
