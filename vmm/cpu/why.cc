#include "vmm/cpu/why.h"

#include <fmt/format.h>

#include <algorithm>

#include "vmm/base/text.h"
#include "vmm/cpu/lint.h"
#include "vmm/cpu/provenance.h"
#include "vmm/cpu/refusal.h"
#include "vmm/cpu/vmx.h"
#include "vmm/cpu/words.h"

namespace vmm {
namespace {

// "@1 to @3", "@2, @4": of a file's versions those that have it, or that lack it.
std::string versions(const CpuModelFile& file, FeatureId id, bool having) {
  std::vector<std::string> ranges;
  for (std::size_t i = 0; i < file.versions.size(); ++i) {
    if (model_has(file.versions[i], id) != having) continue;
    std::size_t last = i;
    while (last + 1 < file.versions.size() && model_has(file.versions[last + 1], id) == having)
      ++last;
    ranges.push_back(i == last ? fmt::format("@{}", file.versions[i].version)
                               : fmt::format("@{} to @{}", file.versions[i].version,
                                             file.versions[last].version));
    i = last;
  }
  return fmt::format("{}", fmt::join(ranges, ", "));
}

std::string versions_text(const CpuModelFile& file, FeatureId id) {
  const std::string with = versions(file, id, true);
  const std::string without = versions(file, id, false);
  if (without.empty()) return fmt::format("every version of {} has it", file.name);
  if (with.empty()) return fmt::format("no version of {} has it", file.name);
  const auto several = [](const std::string& list) {
    return list.find_first_of(", ") != std::string::npos;
  };
  return fmt::format("{} of {} {} it, {} {} it", without, file.name,
                     several(without) ? "lack" : "lacks", with, several(with) ? "have" : "has");
}

// The built-in models whose default version has it.
std::string models_with(FeatureId id) {
  std::vector<std::string> names;
  for (const std::string& name : builtin_cpu_models())
    if (const auto file = builtin_cpu_model(name))
      if (model_has(*file->find(file->default_version), id)) names.push_back(name);
  if (names.empty()) return "no model has it";
  constexpr std::size_t kShown = 6;
  const std::size_t more = names.size() > kShown ? names.size() - kShown : 0;
  names.resize(std::min(names.size(), kShown));
  return fmt::format("models with it: {}{}", fmt::join(names, ", "),
                     more == 0 ? "" : fmt::format(" and {} more", more));
}

// The findings of lint about the feature, as one line, worst first; empty where there are none.
std::string wrong_with(FeatureId id, const CpuWords& words) {
  for (const LintFinding& finding : lint_cpu(words))
    if (std::ranges::find(finding.about, id) != finding.about.end())
      return finding.remedy.empty() ? finding.what
                                    : fmt::format("{}; try {}", finding.what, finding.remedy);
  return "";
}

// Where a feature comes from, in a few words: "every version of haswell has it", "+pdpe1gb
// decides".
std::string origin_of(FeatureId id, const CpuSelection& selection, const CpuModelFile* file,
                      const CpuModel* model) {
  const Feature& feature = FeatureCatalog::get(id);
  if (const auto fixed = fixed_origin(feature.name)) return std::string(*fixed);
  const CpuOverride* change =
      deciding_override(id, selection, model == nullptr || model_has(*model, id));
  if (feature.name == "vmx" || feature.name == "svm")
    return change == nullptr ? fmt::format("opt-in for every model; +{} adds it", feature.name)
                             : fmt::format("{} decides; no bare name has it", change->text());
  std::string by_itself =
      file == nullptr ? "host is what KVM offers here" : versions_text(*file, id);
  if (const auto wish = model == nullptr ? std::nullopt : wish_of_model(*model, id))
    by_itself += fmt::format("; {} of the file says so", *wish);
  if (change == nullptr) return by_itself;
  if (change->feature == id) return fmt::format("{} decides; {}", change->text(), by_itself);
  return fmt::format("{} takes it away, for it needs that; {}", change->text(), by_itself);
}

const CpuWish* wish_about(const ResolvedCpu& cpu, FeatureId id) {
  const auto at = std::ranges::find(cpu.wishes, id, &CpuWish::feature);
  return at != cpu.wishes.end() ? &*at : nullptr;
}

// What the host makes of a bit that is off: of no concern, unless it must not have it or would have
// been welcome.
std::string unwanted_line(const WhyInput& input) {
  const CpuWish* wish = wish_about(input.whole->cpu, input.feature);
  const std::string_view name = FeatureCatalog::get(input.feature).name;
  if (wish == nullptr) return {};
  if (wish->kind == CpuOverride::Kind::Forbid &&
      granted_words(*input.host, input.model == nullptr).has(input.feature))
    return fmt::format(
        "  {} gives it, so that a run is refused (77), for it is forbidden{}; -{} only hides it",
        input.where, wish->group.empty() ? "" : fmt::format(" (group {})", wish->group), name);
  const std::string optional = fmt::format("optional {} is left out", name);
  for (const std::string& note : input.whole->cpu.notes)
    if (note.starts_with(optional)) return fmt::format("  on {}: {}", input.where, note);
  return {};
}

}  // namespace

Result<std::vector<std::string>> why_lines(const WhyInput& input) {
  const Feature& feature = FeatureCatalog::get(input.feature);
  const CpuWords words = words_of(input.whole->cpu);
  const std::string& text = input.whole->cpu.text;
  const bool nesting = is_vmx_word(feature.place.word) || feature.place.word.index == 0x8000000a;
  // Looked at with nesting on; the user may have left it off.
  const bool nested_off = nesting && !input.whole->nesting.empty();
  const bool added = feature.name == input.whole->nesting;
  const bool on = words.has(input.feature) && !added;

  std::vector<std::string> lines;
  lines.push_back(
      fmt::format("{}  {}{}: {} in {}", feature.name, feature.place.text(),
                  feature.what.empty() ? "" : fmt::format(", {}", feature.what), on ? "on" : "off",
                  nested_off ? fmt::format("{},+{}", text, input.whole->nesting) : text));
  std::string origin = origin_of(input.feature, *input.selection, input.file, input.model);
  if (!on && input.file != nullptr &&
      origin == fmt::format("no version of {} has it", input.file->name))
    origin += "; " + models_with(input.feature);
  // Of a bit that is wanted the host has the last word, and says the kernel where it is the reason.
  // That every kernel of ten years has it is no news.
  if (!(on && input.host) && !feature.kvm_since.empty() && !feature.kvm_since.starts_with("<="))
    origin += fmt::format("; KVM offers it {}", kvm_since_text(feature));
  lines.push_back("  " + origin);
  if (const std::string wrong = wrong_with(input.feature, words); !wrong.empty())
    lines.push_back("  " + wrong);
  if (!input.host) return lines;
  if (!on) {
    if (const std::string line = unwanted_line(input); !line.empty()) lines.push_back(line);
    return lines;
  }

  const std::string wanted = nested_off ? fmt::format("{},+{}", text, input.whole->nesting) : text;
  const ResolvedCpu here =
      VMM_TRY(resolve_cpu(wanted, CpuPolicy::Strict, Topology{}, *input.host, Unmet::Note));
  for (const MissingBit& bit : here.missing) {
    const bool all_of_nesting = nesting && (bit.name == "vmx" || bit.name == "svm");
    if (bit.name != feature.name && !all_of_nesting) continue;
    lines.push_back(fmt::format("  {} refuses {}: {}: {}; try {}", input.where,
                                all_of_nesting ? bit.name : "it", bit.refused_by, bit.reason,
                                bit.remedy));
    if (const CpuWish* wish = wish_about(here, feature_id(bit.name));
        wish != nullptr && wish->kind == CpuOverride::Kind::Require)
      lines.push_back(fmt::format(
          "  it is required{}, so that mask and force are refused here (77) like strict; "
          "optional:{} runs without it",
          wish->group.empty() ? "" : fmt::format(" (group {})", wish->group), bit.name));
    return lines;
  }
  lines.push_back(fmt::format("  {} gives it", input.where));
  return lines;
}

std::string why_capability_is_off(const ResolvedCpu& cpu, std::uint32_t msr, unsigned bit) {
  // The names of controls are those of the TRUE MSRs.
  constexpr std::uint32_t kPinBased = 0x481, kEntry = 0x484, kTruePinBased = 0x48d;
  const std::uint32_t index =
      msr >= kPinBased && msr <= kEntry ? msr - kPinBased + kTruePinBased : msr;
  const FeatureWord word{.is_msr = true, .index = index};
  const unsigned place = is_vmx_control_msr(index) ? bit % 32 : bit;
  const auto id = FeatureCatalog::at({word, place});
  if (!id) return {};
  const std::string name(FeatureCatalog::get(*id).name);
  for (const MissingBit& missing : cpu.missing)
    if (missing.name == name)
      return fmt::format("{} is {}'s, and {} refuses it here: {}", name, cpu.name,
                         missing.refused_by, missing.reason);
  const auto selection = parse_cpu_selection(cpu.text);
  if (!selection || is_rule_host(*selection)) return {};
  for (const CpuOverride& override : selection->overrides)
    if (!override.is_width() && override.feature == *id && override.switches_off())
      return fmt::format("{}: {}", name, override.text());
  const auto file = find_cpu_model_file(selection->model);
  return file ? fmt::format("{}: {}", name, versions_text(*file, *id)) : std::string();
}

}  // namespace vmm
