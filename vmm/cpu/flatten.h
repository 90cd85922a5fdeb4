// A model with its overrides as a model of one version: what `vmm cpu export` writes as a file.
#pragma once

#include <string>
#include <vector>

#include "vmm/base/result.h"
#include "vmm/cpu/cpu_model.h"
#include "vmm/cpu/resolve.h"
#include "vmm/cpu/selection.h"
#include "vmm/cpu/vmx.h"

namespace vmm {

// Whether a model's lists may hold the feature: not the bits that others set, nesting itself, nor
// on Intel a leaf that vmm gives on AMD only.
bool belongs_in_model(const Feature& feature, bool amd);

// The list of a model that holds features of the word: `features`, `svm` or `vmx`.
template <typename Model>
auto& list_of(Model& model, const FeatureWord& word) {
  if (is_vmx_word(word)) return model.vmx;
  return !word.is_msr && word.index == 0x8000000a ? model.svm : model.features;
}

// Takes a feature into a list of a model, which rises, unless it is there.
void insert_feature(std::vector<FeatureId>& list, FeatureId id);

// A model called `name`, version 1, that resolves to the same CPU as `selection`, nested
// capabilities included: under +vmx and +svm too. Its digests are those of the selection, of which
// `whole` is what resolve_whole() made. Usage errors for the rule `host`, which is no model.
Result<CpuModel> flatten(const CpuSelection& selection, const WholeCpu& whole,
                         const std::string& name);

}  // namespace vmm
