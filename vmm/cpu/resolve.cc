#include "vmm/cpu/resolve.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>
#include <set>

#include "vmm/base/bytes.h"
#include "vmm/base/sha256.h"
#include "vmm/base/text.h"
#include "vmm/cpu/cpu_model.h"
#include "vmm/cpu/model_values.h"
#include "vmm/cpu/refusal.h"
#include "vmm/cpu/selection.h"
#include "vmm/cpu/topology.h"
#include "vmm/cpu/vmx.h"
#include "vmm/cpu/words.h"

namespace vmm {
namespace {

// IA32_BIOS_SIGN_ID: a number and not a set of bits, of which KVM takes any.
constexpr std::uint32_t kMicrocodeRevision = 0x8b;

// A CPU on its way through the layers.
struct Draft {
  bool own = false;  // the rule `host`
  CpuWords words;
  std::vector<CpuRawWord> raw;          // of the model
  std::vector<std::uint32_t> own_msrs;  // that the model file gives a value
  CpuidTable given;                     // the host's table under the rule `host`, else empty
  std::vector<CpuCache> caches;
  // What +svm and +vmx bring.
  std::vector<FeatureId> svm;
  std::vector<FeatureId> vmx;
  std::vector<FeatureId> vmx_fixed;
  MsrValues vmx_msrs;  // under the rule `host` instead of the names
  // What holds for one feature, or for the width, whatever the policy says: the last word of each.
  std::map<FeatureId, CpuOverride::Kind> wishes;
  std::map<FeatureId, std::string> groups;  // of a wish that is the model file's: "group simd"
  std::optional<CpuOverride::Kind> width_wish;
  std::vector<std::string> notes;
};

Draft draft_of(const CpuModel& model) {
  std::map<FeatureId, CpuOverride::Kind> wishes;
  std::map<FeatureId, std::string> groups;
  for (const CpuWish& wish : model.wishes) {
    wishes[wish.feature] = wish.kind;
    groups[wish.feature] = fmt::format(" (group {})", wish.group);
  }
  std::vector<std::uint32_t> own_msrs;
  for (const auto& [index, value] : model.msrs) own_msrs.push_back(index);
  return {.own = false,
          .words = model_words(model),
          .raw = model.raw,
          .own_msrs = std::move(own_msrs),
          .given = {},
          .caches = model.caches,
          .svm = model.svm,
          .vmx = model.vmx,
          .vmx_fixed = model.vmx_fixed,
          .vmx_msrs = {},
          .wishes = std::move(wishes),
          .groups = std::move(groups),
          .width_wish = model.width_wish,
          .notes = {}};
}

// The rule `host`: what KVM supports here, so a function of silicon, microcode, kernel and module
// parameters, and never the same CPU twice. +svm and +vmx bring what KVM offers.
Draft draft_of(const HostGrant& host) {
  Draft draft;
  draft.own = true;
  draft.words = host_words(host.supported);
  draft.given = host.supported;
  // Some KVMs leave the brand string out.
  if (host.supported.brand().empty())
    for (const std::uint32_t leaf : {0x80000002U, 0x80000003U, 0x80000004U})
      if (const CpuidRegs* regs = host.silicon.find(leaf)) draft.words.cpuid.at(leaf) = *regs;
  draft.caches = caches_of(host.supported);
  // Written although KVM would stuff the same value: kernels with that quirk off give 0.
  const auto capabilities = host.feature_msrs.find(0x10a);
  if (host.backend != KvmBackend::Pvm && capabilities != host.feature_msrs.end() &&
      has_feature(host.supported, "arch-capabilities"))
    draft.words.msrs.insert(*capabilities);
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

void set_width(Draft& draft, unsigned phys_bits) {
  CpuidRegs& widths = draft.words.cpuid.at(0x80000008);
  widths.eax = (widths.eax & ~0xffU) | phys_bits;
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
      set_width(draft, change.phys_bits);
      break;
    case CpuOverride::Kind::PhysExact:
    case CpuOverride::Kind::PhysAtMost:
      draft.width_wish = change.kind;
      break;
  }
}

void shape(Draft& draft, const Topology& topology) {
  CpuWords& words = draft.words;
  const bool amd = is_amd(words.cpuid);
  const unsigned per_package = topology.cores * topology.threads;
  words.set(feature_id("ht"), per_package > 1);
  words.set(feature_id("cmp-legacy"), amd && per_package > 1);
  const ShapeWish wish{.max_leaf = words.cpuid.get(0).eax,
                       .max_ext_leaf = words.cpuid.get(0x80000000).eax,
                       .amd = amd,
                       .topoext = words.has("topoext")};
  apply_shape(shape_leaves(topology, draft.caches, wish), words.cpuid);
  if (amd) {
    // The copy of HTT's neighbours in 80000001.EDX leaves HTT itself out (APM Vol. 3, E.4.2).
    words.cpuid.at(0x80000001).edx &= ~(1U << 28);
  }
}

// What numbers a model has come after what is derived of names, and over it.
void finish(Draft& draft) {
  derive(draft.words, draft.given);
  apply_raw(draft.raw, draft.words.cpuid);
}

// Takes a refused bit away, out of the raw words too, which would bring it back.
void drop(Draft& draft, const FeaturePlace& place) {
  draft.words.set(place, false);
  for (CpuRawWord& raw : draft.raw)
    if (raw.word == place.word) raw.value &= ~(std::uint32_t{1} << place.bit);
}

// The model's values of MSRs that have no bit with a name: of the others each bit is looked at like
// every feature. `mask` takes what is refused away.
void refuse_msrs(Draft& draft, const HostGrant& host, CpuPolicy policy,
                 std::vector<MissingBit>& missing) {
  for (const std::uint32_t index : draft.own_msrs) {
    const auto mine = draft.words.msrs.find(index);
    if (mine == draft.words.msrs.end() || !FeatureCatalog::in_word({true, index}).empty()) continue;
    const auto theirs = host.feature_msrs.find(index);
    const std::uint64_t value = mine->second;
    std::string reason;
    if (theirs == host.feature_msrs.end())
      reason = "its KVM has no such feature MSR (KVM_GET_MSR_FEATURE_INDEX_LIST)";
    else if (index != kMicrocodeRevision && (value & ~theirs->second) != 0)
      reason = fmt::format("{:x}h is wanted, its KVM gives at most {:x}h", value, theirs->second);
    if (reason.empty()) continue;
    missing.push_back({.name = msr_name(index),
                       .word = fmt::format("MSR {:X}", index),
                       .refused_by = "host kernel",
                       .reason = std::move(reason),
                       .remedy = "--cpu-policy mask, or a value of this host (vmm host --json)"});
    if (policy == CpuPolicy::Mask) draft.words.msrs.erase(mine);
  }
}

// 0 where it is not known.
unsigned width_of(const HostGrant& host) {
  const CpuidRegs* leaf = host.supported.find(0x80000008);
  return leaf != nullptr ? leaf->eax & 0xff : 0;
}

Result<void> apply_width_wish(Draft& draft, const HostGrant& host) {
  const unsigned theirs = width_of(host);
  const unsigned mine = draft.words.cpuid.phys_bits();
  if (theirs == 0 || mine == theirs || !draft.width_wish) return {};
  if (*draft.width_wish == CpuOverride::Kind::PhysExact)
    return fail(
        Error::host(fmt::format("{} physical address bits are wanted exactly, and this host has {}",
                                mine, theirs))
            .hint(fmt::format("phys-bits={} is this host's width; without phys-bits=host-exact the "
                              "run goes on and says what follows",
                              theirs)));
  if (mine < theirs) return {};
  set_width(draft, theirs);
  draft.notes.push_back(fmt::format("phys-bits=at-most-host: {} in place of {}", theirs, mine));
  return {};
}

// What is wanted of single features: `refusals` are what the host cannot give, and change with the
// optional ones. A host that is not known refuses nothing.
Result<void> apply_wishes(Draft& draft, const HostGrant& host, CpuPolicy policy,
                          std::vector<Refusal>& refusals) {
  if (host.supported.entries().empty()) return {};
  VMM_TRY(apply_width_wish(draft, host));
  const auto wish_of = [&](FeatureId id) {
    const auto it = draft.wishes.find(id);
    return it == draft.wishes.end() ? CpuOverride::Kind::Add : it->second;
  };
  const auto group_of = [&](FeatureId id) {
    const auto it = draft.groups.find(id);
    return it == draft.groups.end() ? std::string() : it->second;
  };
  for (const auto& [id, wish] : draft.wishes)
    if (wish == CpuOverride::Kind::Forbid && granted_words(host, draft.own).has(id))
      return fail(Error::host(fmt::format("{} is forbidden{}, and this host gives it",
                                          FeatureCatalog::get(id).name, group_of(id)))
                      .hint(fmt::format("-{} hides it and lets the guest run",
                                        FeatureCatalog::get(id).name)));
  bool left_out = false;
  for (const Refusal& refusal : refusals) {
    const auto id = FeatureCatalog::at(refusal.place);
    if (!id || wish_of(*id) != CpuOverride::Kind::Optional) continue;
    drop(draft, refusal.place);
    draft.notes.push_back(fmt::format("optional {} is left out: refused by {}: {}",
                                      refusal.bit.name, refusal.bit.refused_by,
                                      refusal.bit.reason));
    left_out = true;
  }
  if (left_out) {
    finish(draft);
    refusals = find_refusals(draft.words, host, draft.own);
  }
  // Strict refuses them with all the others.
  for (const Refusal& refusal : refusals)
    if (const auto id = FeatureCatalog::at(refusal.place);
        policy != CpuPolicy::Strict && id && wish_of(*id) == CpuOverride::Kind::Require)
      return fail(
          Error::host(fmt::format("{} is required{}, and refused by {}: {}", refusal.bit.name,
                                  group_of(*id), refusal.bit.refused_by, refusal.bit.reason))
              .hint(fmt::format("optional:{} runs without it", refusal.bit.name)));
  return {};
}

void note_widths(Draft& draft, const HostGrant& host, std::string_view name) {
  const unsigned theirs = width_of(host);
  const unsigned mine = draft.words.cpuid.phys_bits();
  if (theirs == 0 || mine == theirs) return;
  const std::string widths =
      fmt::format("{} has {} physical address bits, the host {}", name, mine, theirs);
  if (mine > theirs)
    draft.notes.push_back(
        fmt::format("{}: bit {} and up in a page table is a reserved-bit fault", widths, theirs));
  else if (theirs - mine == 1)
    draft.notes.push_back(
        fmt::format("{}: bit {} in a page table is no reserved bit there", widths, mine));
  else
    draft.notes.push_back(fmt::format("{}: page-table bits {} to {} are no reserved bits there",
                                      widths, mine, theirs - 1));
}

bool valid(const Topology& t) {
  return t.vcpus >= 1 && t.vcpus <= 64 && t.sockets >= 1 && t.sockets <= 64 && t.cores >= 1 &&
         t.cores <= 64 && t.threads >= 1 && t.threads <= 64 &&
         t.sockets * t.cores * t.threads == t.vcpus;
}

// Model and overrides, derived; `cpu` gets its name and text.
Result<Draft> draft_selection(std::string_view text, const HostGrant& host, ResolvedCpu& cpu) {
  const CpuSelection selection = VMM_TRY(parse_cpu_selection(text));
  Draft draft;
  if (is_rule_host(selection)) {
    cpu.name = "host";
    draft = draft_of(host);
  } else {
    const CpuModel model = VMM_TRY(find_cpu_model(selection.model));
    cpu.name = model.full_name();
    draft = draft_of(model);
  }
  cpu.text = cpu.name;
  for (const CpuOverride& change : selection.overrides) {
    apply_override(draft, change);
    cpu.text += "," + change.text();
  }
  VMM_TRY_CONTEXT(check_nesting(draft, selection.overrides), "--cpu-model " + cpu.text);
  finish(draft);
  return draft;
}

}  // namespace

std::string_view policy_name(CpuPolicy policy) {
  switch (policy) {
    case CpuPolicy::Strict:
      return "strict";
    case CpuPolicy::Mask:
      return "mask";
    case CpuPolicy::Force:
      return "force";
  }
  return "?";
}

std::string_view backend_name(KvmBackend backend) {
  switch (backend) {
    case KvmBackend::None:
      return "none";
    case KvmBackend::Vmx:
      return "vmx";
    case KvmBackend::Svm:
      return "svm";
    case KvmBackend::Pvm:
      return "pvm";
    case KvmBackend::Unknown:
      break;
  }
  return "unknown";
}

std::vector<std::string> model_names() {
  std::vector<std::string> names = builtin_cpu_models();
  names.emplace_back("host");
  std::sort(names.begin(), names.end());
  return names;
}

Result<ResolvedCpu> resolve_cpu(std::string_view selection_text, CpuPolicy policy,
                                const Topology& topology, const HostGrant& host) {
  if (!valid(topology))
    return fail(Error::usage(
        fmt::format("{} sockets * {} cores * {} threads do not make {} vCPUs (1 to 64)",
                    topology.sockets, topology.cores, topology.threads, topology.vcpus)));
  ResolvedCpu cpu;
  Draft draft = VMM_TRY(draft_selection(selection_text, host, cpu));
  cpu.model_digest = sha256_hex(canonical_text(draft.words, draft.caches));

  std::vector<Refusal> refusals = find_refusals(draft.words, host, draft.own);
  VMM_TRY_CONTEXT(apply_wishes(draft, host, policy, refusals), "--cpu-model " + cpu.text);
  if (policy == CpuPolicy::Mask && !refusals.empty()) {
    for (const Refusal& refusal : refusals) drop(draft, refusal.place);
    finish(draft);
  }
  shape(draft, topology);
  note_widths(draft, host, cpu.name);
  take_fixed_by_kvm(draft.words.msrs, host.feature_msrs);

  for (const Refusal& refusal : refusals) cpu.missing.push_back(refusal.bit);
  refuse_msrs(draft, host, policy, cpu.missing);
  for (const auto& [index, value] : draft.words.msrs)
    if (index != kFeatureControl) cpu.msrs.push_back({index, value});
  // It locks what comes before.
  if (const auto it = draft.words.msrs.find(kFeatureControl); it != draft.words.msrs.end())
    cpu.msrs.push_back({it->first, it->second});
  cpu.policy = policy;
  cpu.cpuid = std::move(draft.words.cpuid);
  cpu.notes = std::move(draft.notes);
  return cpu;
}

Result<std::string> digest_text(std::string_view selection, const HostGrant& host) {
  ResolvedCpu cpu;
  const Draft draft = VMM_TRY(draft_selection(selection, host, cpu));
  return canonical_text(draft.words, draft.caches);
}

Result<WholeCpu> resolve_whole(std::string_view selection, const HostGrant& host) {
  WholeCpu whole;
  whole.cpu = VMM_TRY(resolve_cpu(selection, CpuPolicy::Force, Topology{}, host));
  whole.max_leaf = whole.cpu.cpuid.get(0).eax;
  whole.max_ext_leaf = whole.cpu.cpuid.get(0x80000000).eax;
  if (has_feature(whole.cpu.cpuid, "vmx") || has_feature(whole.cpu.cpuid, "svm")) return whole;
  whole.nesting = is_amd(whole.cpu.cpuid) ? "svm" : "vmx";
  ResolvedCpu nested = VMM_TRY(resolve_cpu(fmt::format("{},+{}", selection, whole.nesting),
                                           CpuPolicy::Force, Topology{}, host));
  nested.text = std::move(whole.cpu.text);
  nested.model_digest = std::move(whole.cpu.model_digest);
  whole.cpu = std::move(nested);
  return whole;
}

std::vector<std::string> describe(const std::vector<MissingBit>& missing) {
  std::size_t name = 0;
  std::size_t word = 0;
  for (const MissingBit& bit : missing) {
    name = std::max(name, bit.name.size());
    word = std::max(word, bit.word.size());
  }
  std::vector<std::string> lines;
  for (const MissingBit& bit : missing)
    lines.push_back(fmt::format("{:<{}}  {:<{}}  refused by {}: {}; try {}", bit.name, name,
                                bit.word, word, bit.refused_by, bit.reason, bit.remedy));
  return lines;
}

CpuidTable without_runtime_bits(const CpuidTable& table) {
  CpuidTable result = table;
  for (const auto& [key, unused] : table.entries()) {
    CpuidRegs& regs = result.at(key.leaf, key.subleaf);
    if (key.leaf == 1) {
      regs.ecx &= ~(1U << 27);  // OSXSAVE follows CR4
      regs.edx &= ~(1U << 9);   // APIC follows IA32_APIC_BASE
    } else if (key == CpuidKey{7, 0}) {
      regs.ecx &= ~(1U << 4);  // OSPKE follows CR4
    } else if (key == CpuidKey{0xd, 0} || key == CpuidKey{0xd, 1}) {
      regs.ebx = 0;  // sizes for the XCR0, and IA32_XSS, of the moment
    }
  }
  return result;
}

std::vector<CpuidDifference> unexpected_differences(const CpuidTable& set, const CpuidTable& read) {
  return diff(without_runtime_bits(set), without_runtime_bits(read));
}

}  // namespace vmm
