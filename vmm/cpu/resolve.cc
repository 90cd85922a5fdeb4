#include "vmm/cpu/resolve.h"

#include <fmt/format.h>

#include <algorithm>

#include "vmm/base/sha256.h"
#include "vmm/core/quirks.h"
#include "vmm/cpu/cpu_model.h"
#include "vmm/cpu/draft.h"
#include "vmm/cpu/lint.h"
#include "vmm/cpu/model_values.h"
#include "vmm/cpu/refusal.h"
#include "vmm/cpu/vmx.h"
#include "vmm/cpu/wishes.h"
#include "vmm/cpu/words.h"

namespace vmm {
namespace {

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
    // A number and not a set of bits, of which KVM takes any.
    const bool any = index == kMicrocodeRevision;
    if (theirs == host.feature_msrs.end())
      reason = "its KVM has no such feature MSR (KVM_GET_MSR_FEATURE_INDEX_LIST)";
    else if (!any && (value & ~theirs->second) != 0)
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

// What a model file wants to be without and this host's KVM cannot do without. Of the usual ones
// quirk_lines() tells.
void note_quirks(Draft& draft, const HostGrant& host) {
  if (host.supported.entries().empty()) return;
  const std::uint32_t kept = draft.quirks_off & ~usual_quirks_off() & ~host.quirks;
  for (const KvmQuirk& quirk : kvm_quirks())
    if ((kept & quirk.bit) != 0)
      draft.notes.push_back(
          fmt::format("the quirk {} stays on, for this host's KVM cannot switch "
                      "it off: {}",
                      quirk.name, quirk.with_it));
}

bool valid(const Topology& t) {
  return t.vcpus >= 1 && t.vcpus <= 64 && t.sockets >= 1 && t.sockets <= 64 && t.cores >= 1 &&
         t.cores <= 64 && t.threads >= 1 && t.threads <= 64 &&
         t.sockets * t.cores * t.threads == t.vcpus;
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
                                const Topology& topology, const HostGrant& host, Unmet unmet) {
  if (!valid(topology))
    return fail(Error::usage(
        fmt::format("{} sockets * {} cores * {} threads do not make {} vCPUs (1 to 64)",
                    topology.sockets, topology.cores, topology.threads, topology.vcpus)));
  Draft draft = VMM_TRY(draft_selection(selection_text, host));
  ResolvedCpu cpu;
  cpu.name = draft.name;
  cpu.text = draft.text;
  cpu.policy = policy;
  cpu.model_digest = sha256_hex(draft.digest_text());
  cpu.raw = draft.raw;
  cpu.wishes = wishes_of(draft);
  cpu.width_wish = draft.width_wish;
  cpu.quirks_off = draft.quirks_off;

  std::vector<Refusal> refusals = find_refusals(draft.words, host, draft.own);
  VMM_TRY_CONTEXT(apply_wishes(draft, host, policy, unmet, refusals), "--cpu-model " + cpu.text);
  if (policy == CpuPolicy::Mask && !refusals.empty()) {
    for (const Refusal& refusal : refusals) draft.drop(refusal.place);
    draft.finish();
  }
  draft.shape(topology);
  note_widths(draft, host);
  for (const LintFinding& finding : undefined_under_vmx(draft.words))
    draft.notes.push_back(fmt::format("{}: {}; try {}", draft.name, finding.what, finding.remedy));
  note_quirks(draft, host);
  take_fixed_by_kvm(draft.words.msrs, host.feature_msrs);

  for (const Refusal& refusal : refusals) cpu.missing.push_back(refusal.bit);
  refuse_msrs(draft, host, policy, cpu.missing);
  for (const auto& [index, value] : draft.words.msrs)
    if (index != kFeatureControl) cpu.msrs.push_back({index, value});
  // It locks what comes before.
  if (const auto it = draft.words.msrs.find(kFeatureControl); it != draft.words.msrs.end())
    cpu.msrs.push_back({it->first, it->second});
  cpu.cpuid = std::move(draft.words.cpuid);
  cpu.notes = std::move(draft.notes);
  return cpu;
}

Result<std::string> digest_text(std::string_view selection, const HostGrant& host) {
  return VMM_TRY(draft_selection(selection, host)).digest_text();
}

Result<WholeCpu> resolve_whole(std::string_view selection, const HostGrant& host) {
  const auto look = [&](const std::string& text) {
    return resolve_cpu(text, CpuPolicy::Force, Topology{}, host, Unmet::Note);
  };
  WholeCpu whole;
  whole.cpu = VMM_TRY(look(std::string(selection)));
  whole.max_leaf = whole.cpu.cpuid.get(0).eax;
  whole.max_ext_leaf = whole.cpu.cpuid.get(0x80000000).eax;
  if (has_feature(whole.cpu.cpuid, "vmx") || has_feature(whole.cpu.cpuid, "svm")) return whole;
  whole.nesting = is_amd(whole.cpu.cpuid) ? "svm" : "vmx";
  ResolvedCpu nested = VMM_TRY(look(fmt::format("{},+{}", selection, whole.nesting)));
  nested.text = std::move(whole.cpu.text);
  nested.model_digest = std::move(whole.cpu.model_digest);
  // What is wished of nesting itself, a forbid:vmx, is the selection's own.
  nested.wishes = std::move(whole.cpu.wishes);
  whole.cpu = std::move(nested);
  return whole;
}

std::vector<CpuMsr> msrs_of_vcpu(const ResolvedCpu& cpu) {
  const auto has = [&](std::uint32_t index) {
    return std::ranges::find(cpu.msrs, index, &CpuMsr::index) != cpu.msrs.end();
  };
  std::vector<CpuMsr> msrs;
  const bool amd = is_amd(cpu.cpuid);
  if (!has(kMicrocodeRevision))
    msrs.push_back({kMicrocodeRevision, amd ? 0x01000065U : std::uint64_t{1} << 32});
  // CPUID faulting, which KVM does for every guest and AMD's processors do not announce here.
  if (!has(kPlatformInfo)) msrs.push_back({kPlatformInfo, amd ? 0 : std::uint64_t{1} << 31});
  msrs.insert(msrs.end(), cpu.msrs.begin(), cpu.msrs.end());
  return msrs;
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

std::vector<std::string> quirk_lines(const ResolvedCpu& cpu, const HostGrant& host) {
  if (host.quirks == 0)
    return {"KVM's quirks all stay on, for this KVM can switch none off (KVM_CAP_DISABLE_QUIRKS2)"};
  std::vector<std::string> lines;
  const auto off = quirk_names(cpu.quirks_off & host.quirks);
  lines.push_back(fmt::format("KVM's quirks that are switched off: {}",
                              off.empty() ? "none" : fmt::format("{}", fmt::join(off, ", "))));
  for (const KvmQuirk& quirk : kvm_quirks())
    if ((cpu.quirks_off & ~host.quirks & quirk.bit) != 0)
      lines.push_back(fmt::format(
          "the quirk {} stays on, for this KVM cannot switch it off{}: {}", quirk.name,
          quirk.since.empty() ? "" : fmt::format(" (Linux {} can)", quirk.since), quirk.with_it));
  return lines;
}

}  // namespace vmm
