#include "vmm/cpu/diff.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "vmm/base/bytes.h"
#include "vmm/cpu/show.h"
#include "vmm/cpu/vmx.h"
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
