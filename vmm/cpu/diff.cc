#include "vmm/cpu/diff.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "vmm/base/bytes.h"
#include "vmm/core/quirks.h"
#include "vmm/cpu/show.h"
#include "vmm/cpu/vmx.h"
#include "vmm/cpu/wishes.h"
#include "vmm/cpu/words.h"

namespace vmm {
namespace {

constexpr std::size_t kIndent = 18;

// Values of `cpu` that are no bits with a name.
std::vector<std::pair<std::string, std::string>> values_of(const ResolvedCpu& cpu) {
  const CpuidTable& t = cpu.cpuid;
  const std::uint32_t widths = t.get(0x80000008).eax;
  return {{"cpu", identity_text(t)},
          {"brand", t.brand()},
          {"addresses",
           fmt::format("{} bits physical, {} bits linear", widths & 0xff, widths >> 8 & 0xff)},
          {"leaves", fmt::format("up to {:X}h and {:X}h", t.get(0).eax, t.get(0x80000000).eax)},
          {"caches", caches_text(t)}};
}

// MSRs whose bits have no names, or not all of them.
std::map<std::uint32_t, std::uint64_t> nameless_msrs(const CpuWords& words) {
  std::map<std::uint32_t, std::uint64_t> msrs;
  for (const auto& [index, value] : words.msrs) {
    std::uint64_t rest = value;
    if (is_vmx_control_msr(index)) rest = vmx_controls_fixed(index, value);
    for (const FeatureId id : FeatureCatalog::in_word({true, index}))
      if (!is_vmx_control_msr(index))
        rest &= ~(std::uint64_t{1} << FeatureCatalog::get(id).place.bit);
    if (rest != 0) msrs[index] = rest;
  }
  return msrs;
}

// Registers that follow from others, or are told of otherwise.
bool follows(const FeatureWord& word) {
  switch (word.index) {
    case 0:
    case 4:
    case 7:
    case 0xb:
    case 0xd:
    case 0x1d:
    case 0x1e:
    case 0x1f:
    case 0x40000000:
    case 0x80000000:
    case 0x80000002:
    case 0x80000003:
    case 0x80000004:
    case 0x80000005:
    case 0x80000006:
    case 0x8000001d:
    case 0x8000001e:
      return true;
    case 1:
    case 0x80000001:
      return word.reg == CpuidReg::Eax || word.reg == CpuidReg::Ebx;
    case 0x8000000a:
      return word.reg != CpuidReg::Edx;
    default:
      return false;
  }
}

// Registers without a named bit: those of raw words, and what only a host has.
void compare_registers(const CpuWords& a, const CpuWords& b, CpuDiff& diff) {
  const std::vector<FeatureWord> named = FeatureCatalog::words();
  for (const CpuidDifference& d : vmm::diff(a.cpuid, b.cpuid)) {
    const FeatureWord word{false, d.key.leaf, d.key.subleaf, d.reg};
    if (follows(word) || std::ranges::find(named, word) != named.end()) continue;
    std::uint32_t left = d.left;
    std::uint32_t right = d.right;
    if (word == FeatureWord{false, 0x80000008, 0, CpuidReg::Eax}) {
      // The widths have a line of their own.
      left &= ~0xffffU;
      right &= ~0xffffU;
    }
    if (left != right)
      diff.values.push_back(
          {word.text(), fmt::format("{:08x}h", left), fmt::format("{:08x}h", right)});
  }
}

// Of two lists what the other lacks, as values of one line.
void compare_lists(std::string_view what, const std::vector<std::string>& left,
                   const std::vector<std::string>& right, CpuDiff& diff) {
  const auto without = [](const std::vector<std::string>& list,
                          const std::vector<std::string>& other) {
    std::vector<std::string> rest;
    for (const std::string& item : list)
      if (std::ranges::find(other, item) == other.end()) rest.push_back(item);
    return fmt::format("{}", fmt::join(rest, " "));
  };
  const std::string mine = without(left, right);
  const std::string theirs = without(right, left);
  if (mine != theirs) diff.values.push_back({std::string(what), mine, theirs});
}

std::string msr_text(const std::map<std::uint32_t, std::uint64_t>& msrs, std::uint32_t index) {
  const auto it = msrs.find(index);
  return it == msrs.end() ? "-" : fmt::format("{:x}h", it->second);
}

void add_lines(std::vector<std::string>& lines, char sign,
               const std::vector<FeaturePlace>& places) {
  for (auto it = places.begin(); it != places.end();) {
    const FeatureWord word = it->word;
    std::vector<std::string> names;
    for (; it != places.end() && it->word == word; ++it)
      names.push_back(FeatureCatalog::at(*it) ? bit_name(*it) : fmt::format("[{}]", it->bit));
    wrap_words(lines, fmt::format("{} {}", sign, word.text()), kIndent, names);
  }
}

}  // namespace

CpuDiff diff_cpus(const WholeCpu& left, const WholeCpu& right) {
  CpuDiff diff;
  const auto theirs = values_of(right.cpu);
  for (std::size_t i = 0; const auto& [what, value] : values_of(left.cpu)) {
    if (value != theirs[i].second) diff.values.push_back({what, value, theirs[i].second});
    ++i;
  }
  const CpuWords a = words_of(left.cpu);
  const CpuWords b = words_of(right.cpu);
  const bool amd_a = is_amd(a.cpuid);
  const bool amd_b = is_amd(b.cpuid);
  for (const FeatureWord& word : FeatureCatalog::words()) {
    const std::uint64_t x = a.word(word) & ~repeated_bits(word, amd_a);
    const std::uint64_t y = b.word(word) & ~repeated_bits(word, amd_b);
    for (unsigned i = 0; i < 64; ++i) {
      if (!bit(x ^ y, i)) continue;
      const FeaturePlace place{word, i};
      // MSRs with a meaning of their own besides names are compared as values.
      if (word.is_msr && !FeatureCatalog::at(place)) continue;
      const std::string name = bit_name(place);
      if (name == left.nesting || name == right.nesting) continue;
      (bit(x, i) ? diff.left_only : diff.right_only).push_back(place);
    }
  }
  const auto mine = nameless_msrs(a);
  const auto others = nameless_msrs(b);
  std::map<std::uint32_t, std::uint64_t> either = mine;
  either.insert(others.begin(), others.end());
  for (const auto& [index, unused] : either) {
    // IA32_FEATURE_CONTROL and what VMX fixes for itself come with vmx.
    const bool nesting = index == kFeatureControl || is_vmx_word({true, index});
    if (nesting && a.has("vmx") != b.has("vmx")) continue;
    const std::string x = msr_text(mine, index);
    const std::string y = msr_text(others, index);
    if (x != y) diff.values.push_back({fmt::format("MSR {:X}h", index), x, y});
  }
  compare_registers(a, b, diff);
  compare_lists("wishes", wish_texts(left.cpu.wishes, left.cpu.width_wish),
                wish_texts(right.cpu.wishes, right.cpu.width_wish), diff);
  compare_lists("quirks off", quirk_names(left.cpu.quirks_off), quirk_names(right.cpu.quirks_off),
                diff);
  return diff;
}

std::vector<std::string> diff_lines(const CpuDiff& diff) {
  std::vector<std::string> lines;
  for (const CpuDiff::Value& value : diff.values) {
    lines.push_back(fmt::format("  - {:<{}}{}", value.what, kIndent - 4,
                                value.left.empty() ? "none" : value.left));
    lines.push_back(fmt::format("  + {:<{}}{}", value.what, kIndent - 4,
                                value.right.empty() ? "none" : value.right));
  }
  add_lines(lines, '-', diff.left_only);
  add_lines(lines, '+', diff.right_only);
  return lines;
}

}  // namespace vmm
