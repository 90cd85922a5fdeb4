#include "vmm/cpu/refusal.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>
#include <set>

#include "vmm/base/bytes.h"
#include "vmm/base/text.h"
#include "vmm/cpu/vmx.h"
#include "vmm/cpu/xsave.h"

namespace vmm {
namespace {

// Parameters of the KVM modules that take a feature away when they are off.
struct Knob {
  std::string_view feature;
  std::string_view module;
  std::string_view parameter;
};
constexpr std::array<Knob, 24> kKnobs = {{
    {"vmx", "kvm_intel", "nested"},
    {"svm", "kvm_amd", "nested"},
    {"npt", "kvm_amd", "npt"},
    {"nrip-save", "kvm_amd", "nrips"},
    {"vgif", "kvm_amd", "vgif"},
    {"vnmi", "kvm_amd", "vnmi"},
    {"v-vmsave-vmload", "kvm_amd", "vls"},
    {"lbrv", "kvm_amd", "lbrv"},
    {"tsc-scale", "kvm_amd", "tsc_scaling"},
    {"sgx", "kvm_intel", "sgx"},
    {"pdcm", "kvm", "enable_pmu"},
    {"perfctr-core", "kvm", "enable_pmu"},
    {"vmx-ept", "kvm_intel", "ept"},
    {"vmx-vpid", "kvm_intel", "vpid"},
    {"vmx-unrestricted-guest", "kvm_intel", "unrestricted_guest"},
    {"vmx-eptad", "kvm_intel", "eptad"},
    {"vmx-pml", "kvm_intel", "eptad"},
    {"vmx-apicv-register", "kvm_intel", "enable_apicv"},
    {"vmx-apicv-vid", "kvm_intel", "enable_apicv"},
    {"vmx-apicv-x2apic", "kvm_intel", "enable_apicv"},
    {"vmx-posted-intr", "kvm_intel", "enable_apicv"},
    {"vmx-apicv-xapic", "kvm_intel", "flexpriority"},
    {"vmx-exit-load-perf-global-ctrl", "kvm", "enable_pmu"},
    {"vmx-entry-load-perf-global-ctrl", "kvm", "enable_pmu"},
}};

bool is_off(const std::string& value) {
  return value == "N" || value == "n" || value == "0" || value == "-1";
}

std::string module_name(KvmBackend backend) {
  switch (backend) {
    case KvmBackend::Vmx:
      return "kvm_intel";
    case KvmBackend::Svm:
      return "kvm_amd";
    case KvmBackend::Pvm:
      return "kvm_pvm";
    case KvmBackend::None:
    case KvmBackend::Unknown:
      break;
  }
  return "KVM";
}

// Nesting that this backend can never give, whatever the parameters.
std::optional<std::string> wrong_backend(std::string_view feature, KvmBackend backend) {
  const bool vmx = feature == "vmx";
  const bool svm = feature == "svm";
  if (!vmx && !svm) return std::nullopt;
  if (backend == KvmBackend::Pvm)
    return "kvm_pvm has neither VT-x nor SVM underneath, so no nesting";
  if (vmx && backend == KvmBackend::Svm)
    return "VT-x is nested on Intel hosts only; this is kvm_amd";
  if (svm && backend == KvmBackend::Vmx)
    return "SVM is nested on AMD hosts only; this is kvm_intel";
  return std::nullopt;
}

constexpr std::uint32_t kArchCapabilities = 0x10a;

const char* const kMask = "--cpu-policy mask";

// Whether the table says anything about a word: it holds the leaf, or the leaf is past the end.
bool knows(const CpuidTable& silicon, const FeatureWord& word) {
  if (silicon.entries().empty()) return false;
  if (silicon.find(word.index, word.subleaf) != nullptr) return true;
  const CpuidRegs* limit = silicon.find(word.index & 0xffff0000);
  if (limit == nullptr || word.index > limit->eax) return true;
  return word.index == 7 && word.subleaf > silicon.get(7).eax;
}

// What the table of first kernels says: true where it is the answer. A kernel that should offer it
// and does not has another reason.
bool explain_by_kernel(const FeaturePlace& place, const HostGrant& host, bool in_silicon,
                       std::string_view whom, MissingBit& bit) {
  const auto id = FeatureCatalog::at(place);
  if (!id) return false;
  const Feature& feature = FeatureCatalog::get(*id);
  const std::string_view silicon = in_silicon ? "the silicon has it, " : "";
  if (feature.kvm_since == "never") {
    bit.refused_by = "KVM";
    bit.reason =
        fmt::format("{}no KVM up to Linux {} offers it to {}", silicon, kNewestKnownKernel, whom);
    return true;
  }
  if (!is_too_old(host.kernel, feature)) return false;
  bit.refused_by = "host kernel";
  bit.reason = fmt::format("{}KVM offers it to {} {}, this is {}", silicon, whom,
                           kvm_since_text(feature), host.kernel);
  return true;
}

// What the silicon could do is in MSRs that only its kernel sees, so KVM's answer is all there is.
void explain_vmx(const FeaturePlace& place, const HostGrant& host, MissingBit& bit) {
  const std::string name = bit.name.starts_with("vmx-") ? "vmx." + bit.name.substr(4) : bit.name;
  bit.remedy = fmt::format("{}, or leave it out: {}", kMask,
                           bit.name.starts_with("vmx-") ? "vmx.-" + bit.name.substr(4) : name);
  if (explain_by_kernel(place, host, false, "guest hypervisors", bit)) return;
  bit.refused_by = "silicon or host kernel";
  bit.reason = fmt::format(
      "KVM's MSR {:X}h ({:x}h) does not offer it", place.word.index,
      host.feature_msrs.contains(place.word.index) ? host.feature_msrs.at(place.word.index) : 0);
}

// Fills in who refuses `place` and what helps.
void explain(const FeaturePlace& place, const HostGrant& host, MissingBit& bit) {
  const std::string kernel = host.kernel.empty() ? "this kernel" : "Linux " + host.kernel;
  if (const auto why = wrong_backend(bit.name, host.backend)) {
    bit.refused_by = "missing capability";
    bit.reason = *why;
    bit.remedy = fmt::format("without +{}", bit.name);
    return;
  }
  const bool silicon_known = !place.word.is_msr && knows(host.silicon, place.word);
  const bool in_silicon = silicon_known && host.silicon.bit(place.word.index, place.word.subleaf,
                                                            place.word.reg, place.bit);
  // KVM itself switches its parameters off where the CPU cannot do it.
  for (const Knob& knob : kKnobs) {
    if (knob.feature != bit.name || (silicon_known && !in_silicon)) continue;
    const std::string key = fmt::format("{}.{}", knob.module, knob.parameter);
    const auto it = host.module_parameters.find(key);
    if (it == host.module_parameters.end() || !is_off(it->second)) continue;
    bit.refused_by = fmt::format("module parameter {}={}", key, it->second);
    bit.reason =
        fmt::format("/sys/module/{}/parameters/{} is {}", knob.module, knob.parameter, it->second);
    bit.remedy = fmt::format("modprobe {} {}=1", knob.module, knob.parameter);
    return;
  }
  if (host.backend == KvmBackend::Pvm &&
      (bit.name == "arch-capabilities" ||
       (place.word.is_msr && place.word.index == kArchCapabilities))) {
    bit.refused_by = "kvm_pvm";
    bit.reason = "it does not let MSR 10Ah be set";
    bit.remedy = kMask;
    return;
  }
  if (is_vmx_word(place.word)) {
    explain_vmx(place, host, bit);
    return;
  }
  if (place.word.is_msr) {
    bit.remedy = kMask;
    if (explain_by_kernel(place, host, false, "guests", bit)) return;
    bit.refused_by = "host kernel";
    bit.reason =
        fmt::format("{} does not report it for this CPU and microcode", module_name(host.backend));
    return;
  }
  const bool is_pv = place.word.index >= 0x40000000 && place.word.index <= 0x4fffffff;
  if (silicon_known && !in_silicon && !is_pv) {
    bit.refused_by = "silicon";
    // A host that is a guest itself has what its own hypervisor leaves it.
    bit.reason = has_feature(host.silicon, "hypervisor")
                     ? "the CPU lacks it, or a hypervisor hides it"
                     : "the host's CPU lacks it";
    bit.remedy = kMask;
  } else if (host.backend == KvmBackend::Pvm) {
    bit.refused_by = "kvm_pvm";
    bit.reason = bit.name == "pdpe1gb" ? "its shadow paging knows no 1 GiB pages"
                                       : fmt::format("it offers no {}", bit.name);
    bit.remedy = kMask;
  } else if (explain_by_kernel(place, host, in_silicon && !is_pv, "guests", bit)) {
    bit.remedy = bit.refused_by == "KVM" ? kMask : fmt::format("a newer kernel or {}", kMask);
  } else {
    bit.refused_by = "host kernel";
    bit.reason = silicon_known && !is_pv
                     ? fmt::format("the silicon has it, {} of {} does not offer it",
                                   module_name(host.backend), kernel)
                     : fmt::format("{} of {} does not offer it", module_name(host.backend), kernel);
    bit.remedy = fmt::format("a newer kernel or {}", kMask);
  }
}

Refusal refuse(const FeaturePlace& place, const HostGrant& host) {
  Refusal refusal{place, {}};
  refusal.bit.name = bit_name(place);
  refusal.bit.word = place.text();
  explain(place, host, refusal.bit);
  return refusal;
}

// Bits that are ours to set on any host: run-time and topology bits, those always set, and AMD's
// copies of 1.EDX, which go with their originals.
std::uint64_t not_compared(const FeatureWord& word, bool amd) {
  if (word.is_msr) return 0;
  if (word.index == 1 && word.reg == CpuidReg::Ecx) return 1U << 31 | 1U << 27;
  if (word.index == 1 && word.reg == CpuidReg::Edx) return 1U << 28;
  if (word.index == 7 && word.subleaf == 0 && word.reg == CpuidReg::Ebx) return 1U << 6 | 1U << 13;
  if (word.index == 7 && word.subleaf == 0 && word.reg == CpuidReg::Ecx) return 1U << 4;
  if (word.index == 0x80000001 && word.reg == CpuidReg::Ecx) return 1U << 1;
  return repeated_bits(word, amd);
}

// XSAVE is executed by the host's silicon with the host's layout, whatever leaf Dh says.
void refuse_layouts(const CpuWords& wanted, const HostGrant& host,
                    std::map<FeaturePlace, Refusal>& refusals) {
  for (const XsaveComponent& c : xsave_layout(is_amd(wanted.cpuid))) {
    const CpuidRegs* mine = wanted.cpuid.find(0xd, c.number);
    const CpuidRegs* theirs = host.supported.find(0xd, c.number);
    if (mine == nullptr || theirs == nullptr || theirs->eax == 0) continue;
    if (mine->eax == theirs->eax && mine->ebx == theirs->ebx) continue;
    const FeaturePlace place = FeatureCatalog::get(feature_id(c.feature)).place;
    if (refusals.contains(place)) continue;
    Refusal refusal{place, {}};
    refusal.bit = {.name = std::string(c.feature),
                   .word = place.text(),
                   .refused_by = "silicon",
                   .reason = fmt::format("XSAVE here keeps component {} at {:x}h ({} bytes), the "
                                         "model at {:x}h ({} bytes)",
                                         c.number, theirs->ebx, theirs->eax, mine->ebx, mine->eax),
                   .remedy = "--cpu-policy mask, or a model of the host's vendor"};
    refusals.emplace(place, std::move(refusal));
  }
}

// What `id` needs and cannot have, or nothing.
std::optional<FeatureId> unmet_need(FeatureId id, const CpuWords& wanted,
                                    const std::map<FeaturePlace, Refusal>& refusals) {
  for (const FeatureId need : FeatureCatalog::get(id).needs)
    if (!wanted.has(need) || refusals.contains(FeatureCatalog::get(need).place)) return need;
  return std::nullopt;
}

}  // namespace

CpuWords granted_words(const HostGrant& host, bool own) {
  CpuWords granted{host.supported, host.feature_msrs};
  if (host.backend == KvmBackend::Pvm) {
    // Seen on Linux 6.18: kvm_pvm reports MSR 10Ah, and refuses every value that is written to it.
    granted.msrs.erase(kArchCapabilities);
    if (!own) granted.set(feature_id("arch-capabilities"), false);
  }
  // With its own LAPIC KVM always has these.
  granted.set(feature_id("arat"), true);
  if (host.tsc_deadline_timer) granted.set(feature_id("tsc-deadline"), true);
  // Leaves 8000001Dh and 8000001Eh are ours.
  granted.set(feature_id("topoext"), true);
  // Hints and corrected-error reporting need nothing from KVM, but older kernels do not list them.
  for (const char* const name :
       {"erms", "fsrm", "fzrm", "fsrs", "fsrc", "mcdt-no", "overflow-recov", "succor"})
    if (has_feature(host.silicon, name)) granted.set(feature_id(name), true);
  return granted;
}

std::vector<Refusal> find_refusals(const CpuWords& all_wanted, const HostGrant& host, bool own) {
  const CpuWords granted = granted_words(host, own);
  CpuWords wanted = all_wanted;
  // Where nesting is refused as a whole, one line says it.
  if (wanted.has("vmx") && !granted.has("vmx"))
    wanted.msrs.erase(wanted.msrs.lower_bound(kVmxBasic), wanted.msrs.upper_bound(kVmxLast));
  if (wanted.has("svm") && !granted.has("svm")) wanted.cpuid.erase(0x8000000a);
  const bool amd = is_amd(wanted.cpuid);
  std::map<FeaturePlace, Refusal> refusals;
  for (const FeatureWord& word : FeatureCatalog::words()) {
    const std::uint64_t lacking =
        wanted.word(word) & ~granted.word(word) & ~not_compared(word, amd);
    for (unsigned i = 0; i < 64; ++i)
      if (bit(lacking, i)) refusals.emplace(FeaturePlace{word, i}, refuse({word, i}, host));
  }
  if (!own) refuse_layouts(wanted, host, refusals);

  // What needs a refused bit goes with it; each pass follows the chains one link further.
  const auto all = FeatureCatalog::all();
  for (bool changed = true; changed;) {
    changed = false;
    for (std::size_t i = 0; i < all.size(); ++i) {
      const auto id = static_cast<FeatureId>(i);
      const FeaturePlace& place = all[i].place;
      if (!wanted.has(id) || refusals.contains(place)) continue;
      const auto need = unmet_need(id, wanted, refusals);
      if (!need) continue;
      // KVM's own combination is as good as it gets.
      if (own && granted.has(id) && !wanted.has(*need)) continue;
      const std::string_view needed = FeatureCatalog::get(*need).name;
      const bool refused = wanted.has(*need);
      Refusal refusal{place, {}};
      refusal.bit = {
          .name = std::string(all[i].name),
          .word = place.text(),
          .refused_by = "dependency",
          .reason = fmt::format("it needs {}, which {}", needed,
                                refused ? "is refused" : "this CPU does not have"),
          .remedy = refused ? fmt::format("see {}", needed) : fmt::format("add +{}", needed)};
      refusals.emplace(place, std::move(refusal));
      changed = true;
    }
  }
  std::vector<Refusal> result;
  for (auto& [place, refusal] : refusals) result.push_back(std::move(refusal));
  return result;
}

}  // namespace vmm
