#include "vmm/cpu/words.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "vmm/base/bytes.h"
#include "vmm/cpu/vmx.h"
#include "vmm/cpu/xsave.h"

namespace vmm {
namespace {

struct Announced {
  std::string_view feature;
  std::uint32_t msr;
};
constexpr Announced kAnnounced[] = {
    {"arch-capabilities", 0x10a}, {"core-capability", 0xcf}, {"pdcm", 0x345}};

constexpr std::uint32_t kKvmLeaf = 0x40000000;
constexpr std::uint32_t kKvmFeatures = 0x40000001;

std::uint32_t four(std::string_view text, std::size_t offset) {
  std::uint32_t word = 0;
  for (std::size_t i = 0; i < 4 && offset + i < text.size(); ++i)
    word |= std::uint32_t{static_cast<unsigned char>(text[offset + i])} << (8 * i);
  return word;
}

// Family, model and stepping as leaf 1 EAX spells them (SDM Vol. 2A, CPUID, figure 3-6).
std::uint32_t signature(const CpuModel& model) {
  const unsigned family = std::min(model.family, 15U);
  const unsigned extended_family = model.family - family;
  return extended_family << 20 | (model.model >> 4) << 16 | family << 8 | (model.model & 15) << 4 |
         model.stepping;
}

// The largest leaf of `table` from `first` on, or `first`.
std::uint32_t highest_leaf(const CpuidTable& table, std::uint32_t first) {
  std::uint32_t highest = first;
  for (const auto& [key, regs] : table.entries())
    if (key.leaf >= first && key.leaf <= first + 0xffff && regs != CpuidRegs{})
      highest = std::max(highest, key.leaf);
  return highest;
}

// Numbers that a feature comes with, in words that hold no features or not only: a guest that finds
// the bit reads them next. Under `host` they are the host's.
void derive_numbers(CpuWords& words, const CpuidTable& given) {
  CpuidTable& t = words.cpuid;
  if (!words.has("amx-tile")) {
    t.erase(0x1d);
    t.erase(0x1e);
  } else if (given.entries().empty()) {
    // One palette: 8 tiles of 16 rows of 64 bytes, 8 KiB in all; the unit multiplies 16 rows by 64
    // columns (SDM Vol. 2A, CPUID, leaves 1Dh and 1Eh; all silicon so far).
    t.at(0x1d, 0) = {1, 0, 0, 0};
    t.at(0x1d, 1) = {0x04002000, 0x00080040, 16, 0};
    t.at(0x1e, 0) = {0, 0x4010, 0, 0};
  }
  // AVX10 has a version, of which 1 is the first (Intel AVX10 specification, 3.1), and version 2 of
  // performance monitoring has a number of core counters: the six that perfctr-core stands for (APM
  // Vol. 3, E.4.21).
  const auto number = [&](const char* feature, std::uint32_t leaf, std::uint32_t mask,
                          std::uint32_t value) {
    if (!words.has(feature) && t.find(leaf) == nullptr) return;
    std::uint32_t& ebx = t.at(leaf).ebx;
    if (!words.has(feature))
      ebx &= ~mask;
    else if ((ebx & mask) == 0)
      ebx |= value;
  };
  number("avx10", 0x24, 0xff, 1);
  number("perfmon-v2", 0x80000022, 0xf, 6);
}

}  // namespace

std::uint64_t CpuWords::word(const FeatureWord& word) const {
  if (!word.is_msr) return cpuid.get(word.index, word.subleaf)[word.reg];
  const auto it = msrs.find(word.index);
  if (it == msrs.end()) return 0;
  return is_vmx_word(word) ? vmx_features(word.index, it->second) : it->second;
}

bool CpuWords::has(const FeaturePlace& place) const { return bit(word(place.word), place.bit); }

void CpuWords::set(const FeaturePlace& place, bool on) {
  if (place.word.is_msr) {
    if (!on && !msrs.contains(place.word.index)) return;
    if (is_vmx_word(place.word)) complete_vmx(msrs, has("lm"));
    std::uint64_t& value = msrs[place.word.index];
    value = with_vmx_feature(place.word.index, value, place.bit, on);
    return;
  }
  // Clearing must not bring an absent leaf into being.
  if (!on && cpuid.find(place.word.index, place.word.subleaf) == nullptr) return;
  std::uint32_t& reg = cpuid.at(place.word.index, place.word.subleaf)[place.word.reg];
  const std::uint32_t mask = std::uint32_t{1} << place.bit;
  reg = on ? reg | mask : reg & ~mask;
}

void CpuWords::fix(FeatureId vmx_control) {
  set(vmx_control, true);
  const FeaturePlace& place = FeatureCatalog::get(vmx_control).place;
  std::uint64_t& value = msrs[place.word.index];
  value = with_vmx_control_fixed(place.word.index, value, place.bit);
}

bool is_amd(const CpuidTable& table) {
  const std::string vendor = table.vendor();
  return vendor == "AuthenticAMD" || vendor == "HygonGenuine";
}

CpuIdentity identity_of(const CpuidTable& table) {
  const std::uint32_t eax = table.get(1).eax;
  auto family = static_cast<unsigned>(bits(eax, 11, 8));
  auto model = static_cast<unsigned>(bits(eax, 7, 4));
  if (family == 6 || family == 15) model |= static_cast<unsigned>(bits(eax, 19, 16)) << 4;
  if (family == 15) family += static_cast<unsigned>(bits(eax, 27, 20));
  return {family, model, static_cast<unsigned>(bits(eax, 3, 0))};
}

CpuWords words_of(const ResolvedCpu& cpu) {
  CpuWords words{cpu.cpuid, {}};
  for (const CpuMsr& msr : cpu.msrs) words.msrs[msr.index] = msr.value;
  return words;
}

CpuWords model_words(const CpuModel& model) {
  CpuWords words;
  CpuidTable& t = words.cpuid;
  t.at(0) = {model.max_leaf, four(model.vendor, 0), four(model.vendor, 8), four(model.vendor, 4)};
  // 64-byte CLFLUSH lines; the rest of EBX is topology's.
  t.at(1) = {signature(model), 8U << 8, 0, 0};
  t.at(0x80000000) = {model.max_ext_leaf, 0, 0, 0};
  t.at(0x80000001) = {};
  if (is_amd(t)) {
    t.at(0x80000000) = {model.max_ext_leaf, t.at(0).ebx, t.at(0).ecx, t.at(0).edx};
    t.at(0x80000001).eax = signature(model);
  } else if (!model.caches.empty() && model.max_leaf >= 4) {
    t.at(2) = {0x0000ff01, 0, 0, 0};  // descriptor FFh: the caches are in leaf 4
  }
  for (std::uint32_t i = 0; i < 3; ++i)
    t.at(0x80000002 + i) = {four(model.brand, i * 16), four(model.brand, i * 16 + 4),
                            four(model.brand, i * 16 + 8), four(model.brand, i * 16 + 12)};
  t.at(0x80000008) = {model.phys_bits | model.virt_bits << 8, 0, 0, 0};
  for (const FeatureId id : model.features) words.set(id, true);
  for (const auto& [index, value] : model.msrs) words.msrs[index] |= value;
  apply_raw(model.raw, t);
  return words;
}

void apply_raw(const std::vector<CpuRawWord>& raw, CpuidTable& table) {
  for (const CpuRawWord& word : raw) {
    std::uint32_t& reg = table.at(word.word.index, word.word.subleaf)[word.word.reg];
    reg = (reg & ~word.mask) | word.value;
  }
}

std::optional<FeatureId> announced_by(std::uint32_t msr) {
  for (const Announced& known : kAnnounced)
    if (known.msr == msr) return feature_id(known.feature);
  return std::nullopt;
}

CpuWords host_words(const CpuidTable& supported) {
  CpuWords words{supported, {}};
  CpuidTable& t = words.cpuid;
  std::vector<std::uint32_t> foreign;
  for (const auto& [key, regs] : supported.entries())
    if ((key.leaf >= 0x40000000 && key.leaf <= 0x4fffffff) || key.leaf >= 0xc0000000)
      foreign.push_back(key.leaf);
  // KVM answers an absent leaf within the limits with zeroes, so empty ones only take room.
  for (const auto& [key, regs] : supported.entries())
    if (regs == CpuidRegs{} && key.subleaf == 0 && !has_subleaves(key.leaf))
      foreign.push_back(key.leaf);
  for (const std::uint32_t leaf : foreign) t.erase(leaf);
  // Topology as this machine has it; ours replaces it.
  for (const std::uint32_t leaf : {0x4U, 0xbU, 0x1fU, 0x8000001dU, 0x8000001eU, 0x80000026U})
    t.erase(leaf);
  t.erase(0x8000000a);
  t.at(0);
  CpuidRegs& one = t.at(1);
  one.ebx &= 0xff00;
  for (const std::string_view name : {"vmx", "smx", "svm", "ht", "cmp-legacy"})
    words.set(feature_id(name), false);
  // Run-time bits: OSXSAVE and OSPKE follow the guest's CR4.
  words.set({{false, 1, 0, CpuidReg::Ecx}, 27}, false);
  words.set({{false, 7, 0, CpuidReg::Ecx}, 4}, false);
  if (t.find(0x80000000) == nullptr) t.at(0x80000000) = {0x80000008, 0, 0, 0};
  // A host without leaf 80000008h has the widths of SDM 4.1.4.
  CpuidRegs& widths = t.at(0x80000008);
  const std::uint32_t virt = (widths.eax >> 8) & 0xff;
  if (virt != 48 && virt != 57) widths.eax = (widths.eax & 0xff) | 48U << 8;
  if ((widths.eax & 0xff) < 32) widths.eax = (widths.eax & ~0xffU) | 36;
  widths.eax &= 0xffff;  // the guest-physical field is KVM's report to us
  return words;
}

void derive(CpuWords& words, const CpuidTable& given) {
  CpuidTable& t = words.cpuid;
  const bool amd = is_amd(t);
  words.set(feature_id("hypervisor"), true);
  // These two mean "absent" when set. A guest told so relies on nothing; a guest told otherwise
  // would rely on something that newer silicon lacks. AMD does not define them.
  if (!amd && t.get(0).eax >= 7) {
    words.set(feature_id("fdp-excptn-only"), true);
    words.set(feature_id("zero-fcs-fds"), true);
  }
  if (amd) {
    CpuidRegs& extended = t.at(0x80000001);
    extended.edx = (extended.edx & ~kAmdAliasBits) | (t.get(1).edx & kAmdAliasBits);
  }
  build_xsave(t, amd, given);
  derive_numbers(words, given);
  CpuidRegs& widths = t.at(0x80000008);
  const std::uint32_t virt = words.has("la57") ? 57 : 48;
  widths.eax = (widths.eax & ~0xff00U) | virt << 8;

  t.erase(kKvmLeaf);
  const CpuidRegs pv = t.get(kKvmFeatures);
  t.erase(kKvmFeatures);
  if (pv != CpuidRegs{}) {
    t.at(kKvmLeaf) = {kKvmFeatures, 0x4b4d564b, 0x564b4d56, 0x4d};  // "KVMKVMKVM"
    t.at(kKvmFeatures) = pv;
  } else {
    // Without this entry KVM answers 40000000h with the highest basic leaf on Intel. Zeroes say
    // that there is no paravirtual interface.
    t.at(kKvmLeaf) = {kKvmLeaf, 0, 0, 0};
  }

  // SVM: revision 1 and 16 ASIDs beside the features.
  if (words.has("svm")) {
    CpuidRegs& svm = t.at(0x8000000a);
    svm.eax = 1;
    svm.ebx = 16;
  } else {
    t.erase(0x8000000a);
  }
  // IA32_FEATURE_CONTROL as firmware leaves it: locked, VMX outside SMX on (SDM Vol. 3C, 24.7).
  if (words.has("vmx")) {
    words.msrs[kFeatureControl] = 5;
    complete_vmx(words.msrs, words.has("lm"));
  } else {
    words.msrs.erase(kFeatureControl);
    words.msrs.erase(words.msrs.lower_bound(kVmxBasic), words.msrs.upper_bound(kVmxLast));
  }
  // The MSR that a CPUID bit announces is the model's too: without a value of ours the guest would
  // read the host's. Under `host` it is KVM's unless it is written there.
  for (const auto& [feature, index] : kAnnounced) {
    if (!words.has(feature))
      words.msrs.erase(index);
    else if (given.entries().empty())
      words.msrs.try_emplace(index, 0);
  }

  // Limits grow with what was added; they never shrink.
  if (t.get(7, 1) != CpuidRegs{}) t.at(7).eax = std::max(t.get(7).eax, 1U);
  if (t.get(7, 2) != CpuidRegs{}) t.at(7).eax = std::max(t.get(7).eax, 2U);
  t.at(0).eax = std::max(t.get(0).eax, highest_leaf(t, 1));
  t.at(0x80000000).eax = std::max(t.get(0x80000000).eax, highest_leaf(t, 0x80000001));
}

std::string canonical_text(const CpuWords& words, const std::vector<CpuCache>& caches) {
  std::vector<std::string> lines;
  for (const auto& [key, regs] : words.cpuid.entries())
    for (const auto& [name, value] :
         {std::pair{"eax", regs.eax}, {"ebx", regs.ebx}, {"ecx", regs.ecx}, {"edx", regs.edx}})
      lines.push_back(fmt::format("{:08x}.{:02x}.{}={:08x}", key.leaf, key.subleaf, name, value));
  for (const auto& [index, value] : words.msrs)
    if (!is_vmx_word({true, index}))
      lines.push_back(fmt::format("msr.{:08x}={:016x}", index, value));
  for (const FeatureWord& word : FeatureCatalog::words()) {
    if (!is_vmx_word(word) || !words.msrs.contains(word.index)) continue;
    const std::uint64_t fixed = vmx_controls_fixed(word.index, words.msrs.at(word.index));
    for (const FeatureId id : FeatureCatalog::in_word(word))
      if (words.has(id))
        lines.push_back(fmt::format("{}={}", FeatureCatalog::get(id).name,
                                    bit(fixed, FeatureCatalog::get(id).place.bit) ? "fixed" : "1"));
  }
  for (const CpuCache& c : caches)
    lines.push_back(fmt::format("cache.{}.{}={} KiB {} ways {} bytes per {}", c.level,
                                static_cast<int>(c.type), c.kib, c.ways, c.line,
                                c.shared_by == CpuCache::SharedBy::Core ? "core" : "socket"));
  std::sort(lines.begin(), lines.end());
  std::string text;
  for (const std::string& line : lines) text += line + "\n";
  return text;
}

}  // namespace vmm
