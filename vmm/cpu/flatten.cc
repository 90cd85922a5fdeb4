#include "vmm/cpu/flatten.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "vmm/base/bytes.h"
#include "vmm/base/text.h"
#include "vmm/cpu/resolve.h"
#include "vmm/cpu/words.h"

namespace vmm {
namespace {

// What is wished of single features in the end: the file's word, then the selection's.
void take_wishes(const CpuSelection& selection, const CpuWords& words, CpuModel& model) {
  for (const CpuOverride& change : selection.overrides) {
    if (change.kind == CpuOverride::Kind::PhysBits) continue;
    if (change.is_width()) {
      model.width_wish = change.kind;
      continue;
    }
    std::erase_if(model.wishes,
                  [&](const CpuWish& wish) { return wish.feature == change.feature; });
    if (change.kind >= CpuOverride::Kind::Require && change.kind <= CpuOverride::Kind::Forbid)
      model.wishes.push_back({change.feature, change.kind, "exported"});
  }
  // A wish that something later contradicts says nothing about the CPU; nesting itself is no
  // model's to switch on.
  std::erase_if(model.wishes, [&](const CpuWish& wish) {
    const std::string_view name = FeatureCatalog::get(wish.feature).name;
    if (name == "vmx" || name == "svm") return wish.kind != CpuOverride::Kind::Forbid;
    return words.has(wish.feature) == (wish.kind == CpuOverride::Kind::Forbid);
  });
  std::ranges::sort(model.wishes, {}, &CpuWish::feature);
}

}  // namespace

bool belongs_in_model(const Feature& feature, bool amd) {
  constexpr std::array<std::string_view, 10> kNever = {
      "hypervisor",      "ht",           "cmp-legacy", "vmx",      "svm", "smx",
      "fdp-excptn-only", "zero-fcs-fds", "xss-cet-u",  "xss-cet-s"};
  if (feature.name == "topoext" && !amd) return false;
  return std::ranges::find(kNever, feature.name) == kNever.end();
}

void insert_feature(std::vector<FeatureId>& list, FeatureId id) {
  const auto at = std::ranges::lower_bound(list, id);
  if (at == list.end() || *at != id) list.insert(at, id);
}

Result<CpuModel> flatten(const CpuSelection& selection, const WholeCpu& whole,
                         const std::string& name) {
  if (is_rule_host(selection))
    return fail(Error::usage("host is a rule, and what it gives is another CPU on each host")
                    .hint("vmm cpu dump-host, then vmm cpu baseline, makes a model of a host"));
  CpuModel model = VMM_TRY(find_cpu_model(selection.model));
  const CpuWords words = words_of(whole.cpu);
  model.name = name;
  model.version = 1;
  model.alias.clear();
  model.phys_bits = words.cpuid.phys_bits();
  model.virt_bits = words.has("la57") ? 57 : 48;
  model.max_leaf = whole.max_leaf;
  model.max_ext_leaf = whole.max_ext_leaf;
  take_wishes(selection, words, model);
  std::erase_if(model.msrs, [&](const auto& msr) { return !words.msrs.contains(msr.first); });
  model.features.clear();
  model.svm.clear();
  model.vmx.clear();
  model.vmx_fixed.clear();
  const auto all = FeatureCatalog::all();
  for (std::size_t i = 0; i < all.size(); ++i) {
    const auto id = static_cast<FeatureId>(i);
    const FeatureWord& word = all[i].place.word;
    if (!words.has(id) || !belongs_in_model(all[i], is_amd(words.cpuid))) continue;
    list_of(model, word).push_back(id);
    if (is_vmx_control_msr(word.index) && word.is_msr &&
        bit(vmx_controls_fixed(word.index, words.msrs.at(word.index)), all[i].place.bit))
      model.vmx_fixed.push_back(id);
  }
  return model;
}

}  // namespace vmm
