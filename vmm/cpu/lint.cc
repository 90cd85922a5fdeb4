#include "vmm/cpu/lint.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string_view>

#include "vmm/base/bytes.h"
#include "vmm/base/check.h"
#include "vmm/cpu/vmx.h"
#include "vmm/cpu/xsave.h"

namespace vmm {
namespace {

using Level = LintFinding::Level;

// An instruction that a guest of the guest may only execute through a control, or that a hypervisor
// can only intercept by one (SDM Vol. 3C, 25.6 and 26.1.3).
struct Pair {
  std::string_view feature;
  std::string_view control;
  bool undefined;                // without the control it is #UD in the guest's guest
  std::string_view consequence;  // of the feature without the control
};
constexpr std::array<Pair, 9> kPairs = {{
    {"xsaves", "vmx-xsaves", true,
     "a hypervisor here has XSAVES, and its own guest gets #UD for it"},
    {"invpcid", "vmx-invpcid-exit", true,
     "a hypervisor here has INVPCID, and its own guest gets #UD for it"},
    {"rdtscp", "vmx-rdtscp-exit", true,
     "a hypervisor here has RDTSCP, and its own guest gets #UD for it"},
    {"waitpkg", "vmx-enable-user-wait-pause", true,
     "a hypervisor here has TPAUSE, and its own guest gets #UD for it"},
    {"rdrand", "vmx-rdrand-exit", false, "a hypervisor here cannot intercept its guest's RDRAND"},
    {"rdseed", "vmx-rdseed-exit", false, "a hypervisor here cannot intercept its guest's RDSEED"},
    {"sgx", "vmx-encls-exit", false, "a hypervisor here cannot intercept its guest's ENCLS"},
    {"mpx", "vmx-entry-load-bndcfgs", false,
     "a hypervisor here cannot switch IA32_BNDCFGS on entry"},
    {"mpx", "vmx-exit-clear-bndcfgs", false, "a hypervisor here cannot clear IA32_BNDCFGS on exit"},
}};

// Only one vendor has these words.
constexpr std::array<std::string_view, 19> kAmdOnly = {
    "svm",    "cr8legacy", "sse4a", "misalignsse", "osvw",  "ibs",     "xop",
    "skinit", "wdt",       "lwp",   "fma4",        "tce",   "topoext", "perfctr-core",
    "mmxext", "fxsr-opt",  "3dnow", "3dnowext",    "clzero"};
constexpr std::array<std::string_view, 6> kIntelOnly = {
    "vmx", "arch-capabilities", "core-capability", "sgx", "intel-pt", "amx-tile"};

// Instructions that execute wherever the silicon has them: neither a control register nor a VMX or
// SVM control stands before them (SDM Vol. 2; "virtualization holes").
constexpr std::array<std::string_view, 27> kHoles = {
    "pclmulqdq", "ssse3",  "cx16",  "sse4.1",        "sse4.2",    "movbe",      "popcnt",
    "aes",       "pni",    "bmi1",  "bmi2",          "erms",      "adx",        "clflushopt",
    "clwb",      "sha-ni", "gfni",  "movdiri",       "movdir64b", "cldemote",   "serialize",
    "lahf-lm",   "abm",    "sse4a", "3dnowprefetch", "mmxext",    "prefetchiti"};

struct Lint {
  const CpuWords& words;
  std::vector<LintFinding> found;

  bool has(std::string_view name) const {
    const auto id = FeatureCatalog::find(name);
    VMM_CHECK(id.has_value(), name);
    return words.has(*id);
  }
  void add(Level level, std::string_view rule, std::string what, std::string remedy,
           std::vector<FeatureId> about) {
    found.push_back(
        {level, std::string(rule), std::move(what), std::move(remedy), std::move(about)});
  }
};

void lint_pairs(Lint& lint, bool only_undefined = false) {
  // Without secondary controls no hypervisor expects the ones that are there.
  if (!lint.has("vmx") || !lint.has("vmx-secondary-ctls")) return;
  for (const Pair& pair : kPairs) {
    if (!lint.has(pair.feature) || lint.has(pair.control)) continue;
    if (only_undefined && !pair.undefined) continue;
    lint.add(
        Level::Warning, "vmx-pair",
        fmt::format("{} without {} ({}): {}", pair.feature, pair.control,
                    FeatureCatalog::get(feature_id(pair.control)).place.text(), pair.consequence),
        fmt::format("vmx.+{}, or -{}", pair.control.substr(4), pair.feature),
        {feature_id(pair.feature), feature_id(pair.control)});
  }
}

// CET has one pair of controls for two features, so that either of those is enough for it.
void lint_cet(Lint& lint) {
  const bool cet = lint.has("shstk") || lint.has("ibt");
  const std::string_view feature = lint.has("shstk") ? "shstk" : "ibt";
  if (!lint.has("vmx") || !lint.has("vmx-secondary-ctls")) return;
  for (const std::string_view control : {"vmx-entry-load-cet", "vmx-exit-load-cet"}) {
    const std::string place = FeatureCatalog::get(feature_id(control)).place.text();
    if (cet && !lint.has(control))
      lint.add(Level::Warning, "vmx-pair",
               fmt::format("{} without {} ({}): a hypervisor here cannot keep its CET state apart "
                           "from its guest's",
                           feature, control, place),
               fmt::format("vmx.+{}, or -{}", control.substr(4), feature),
               {feature_id(feature), feature_id(control)});
    if (!cet && lint.has(control))
      lint.add(Level::Error, "needs",
               fmt::format("{} ({}) without shstk or ibt, of which it needs one", control, place),
               fmt::format("vmx.-{}, or +shstk", control.substr(4)),
               {feature_id(control), feature_id("shstk"), feature_id("ibt")});
  }
}

void lint_needs(Lint& lint) {
  const auto all = FeatureCatalog::all();
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (!lint.words.has(static_cast<FeatureId>(i))) continue;
    for (const FeatureId need : all[i].needs) {
      if (lint.words.has(need)) continue;
      const Feature& needed = FeatureCatalog::get(need);
      lint.add(Level::Error, "needs",
               fmt::format("{} ({}) without {} ({}), which it needs", all[i].name,
                           all[i].place.text(), needed.name, needed.place.text()),
               is_vmx_word(all[i].place.word)
                   ? fmt::format("vmx.-{}, or +{}", all[i].name.substr(4), needed.name)
                   : fmt::format("-{}, or +{}", all[i].name, needed.name),
               {static_cast<FeatureId>(i), need});
    }
  }
}

void lint_vendor(Lint& lint) {
  const bool amd = is_amd(lint.words.cpuid);
  const auto foreign = [&](std::string_view name) {
    if (lint.has(name))
      lint.add(
          Level::Warning, "vendor",
          fmt::format("{} on {}: that vendor's silicon has no such bit, and a kernel that goes by "
                      "the vendor does not look for it",
                      name, lint.words.cpuid.vendor()),
          fmt::format("-{}", name), {feature_id(name)});
  };
  if (amd)
    for (const std::string_view name : kIntelOnly) foreign(name);
  else
    for (const std::string_view name : kAmdOnly) foreign(name);
}

void lint_leaves(Lint& lint) {
  const CpuidTable& t = lint.words.cpuid;
  for (const auto& [key, regs] : t.entries()) {
    const bool extended = key.leaf >= 0x80000000 && key.leaf <= 0x8000ffff;
    if (!extended && key.leaf > 0xffff) continue;
    const std::uint32_t limit = t.get(extended ? 0x80000000 : 0).eax;
    if (key.leaf > limit && regs != CpuidRegs{})
      lint.add(
          Level::Error, "leaf-limit",
          fmt::format("leaf {:X}h holds something, and the highest leaf is {:X}h: nobody reads it",
                      key.leaf, limit),
          "", {});
  }
  if (!lint.has("xsave")) return;
  const std::uint64_t components = t.get(0xd).eax | std::uint64_t{t.get(0xd).edx} << 32;
  for (const XsaveComponent& c : xsave_layout(is_amd(t)))
    if (lint.has(c.feature) != bit(components, c.number))
      lint.add(Level::Error, "xsave-components",
               fmt::format("{} is {}, and XSAVE component {} in leaf Dh is {}", c.feature,
                           lint.has(c.feature) ? "on" : "off", c.number,
                           bit(components, c.number) ? "there" : "not"),
               "", {feature_id(c.feature)});
}

void lint_vmx_words(Lint& lint) {
  if (!lint.has("vmx")) return;
  if (!lint.has("vmx-true-ctls"))
    for (const FeatureWord& word : FeatureCatalog::words()) {
      if (!is_vmx_word(word) || !is_vmx_control_msr(word.index)) continue;
      for (const FeatureId id : FeatureCatalog::in_word(word)) {
        const Feature& feature = FeatureCatalog::get(id);
        if (vmx_default1(word.index, feature.place.bit) && lint.words.has(id))
          lint.add(Level::Error, "vmx-true-controls",
                   fmt::format("{} ({}) may be 0, and without vmx-true-ctls (MSR 480[55]) no "
                               "hypervisor can see that",
                               feature.name, feature.place.text()),
                   fmt::format("vmx.+true-ctls, or vmx.-{}", feature.name.substr(4)), {id});
      }
    }
  if (!lint.has("vmx-ept")) return;
  const unsigned width = lint.words.cpuid.phys_bits();
  if (width > 48 && !lint.has("vmx-page-walk-5"))
    lint.add(Level::Warning, "ept-width",
             fmt::format("{} physical address bits, and EPT of 4 levels reaches 48: a guest of the "
                         "guest can be told of memory that cannot be mapped",
                         width),
             "vmx.+page-walk-5, or phys-bits=48", {feature_id("vmx-page-walk-5")});
  if (lint.has("vmx-ept-1gb") && !lint.has("pdpe1gb"))
    lint.add(Level::Note, "ept-1gb",
             "vmx-ept-1gb without pdpe1gb: EPT has 1 GiB pages, and ordinary page tables have not",
             "+pdpe1gb, or vmx.-ept-1gb", {feature_id("vmx-ept-1gb"), feature_id("pdpe1gb")});
  if (lint.has("vmx-page-walk-5") && !lint.has("la57"))
    lint.add(Level::Note, "ept-levels",
             "vmx-page-walk-5 without la57: EPT has 5 levels, and ordinary page tables have not",
             "", {feature_id("vmx-page-walk-5"), feature_id("la57")});
}

}  // namespace

std::string_view lint_level_name(Level level) {
  switch (level) {
    case Level::Error:
      return "error";
    case Level::Warning:
      return "warning";
    case Level::Note:
      break;
  }
  return "note";
}

std::vector<LintFinding> lint_cpu(const CpuWords& words) {
  Lint lint{words, {}};
  lint_pairs(lint);
  lint_cet(lint);
  lint_needs(lint);
  lint_vendor(lint);
  lint_leaves(lint);
  lint_vmx_words(lint);
  std::ranges::stable_sort(lint.found, {}, &LintFinding::level);
  return std::move(lint.found);
}

std::vector<LintFinding> undefined_under_vmx(const CpuWords& words) {
  Lint lint{words, {}};
  lint_pairs(lint, true);
  return std::move(lint.found);
}

std::vector<FeatureId> hidden_not_removed(const CpuWords& words, const CpuidTable& silicon) {
  std::vector<FeatureId> ids;
  for (const std::string_view name : kHoles)
    if (has_feature(silicon, name) && !words.has(name)) ids.push_back(feature_id(name));
  std::ranges::sort(ids);
  return ids;
}

}  // namespace vmm
