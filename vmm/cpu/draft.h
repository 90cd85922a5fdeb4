// A CPU on its way from a selection to a guest: the model's words, then the overrides, then what
// follows from them. What the host says comes after (wishes.h, resolve.h).
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/cpu/cpu_model.h"
#include "vmm/cpu/resolve.h"
#include "vmm/cpu/selection.h"
#include "vmm/cpu/words.h"

namespace vmm {

struct Draft {
  std::string name;  // "haswell@4", "host"
  std::string text;  // with the overrides, canonical: "haswell@4,+pdpe1gb"
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
  std::map<std::uint32_t, std::uint64_t> vmx_msrs;  // under the rule `host` instead of the names
  // What holds for one feature, or for the width, whatever the policy says: the last word of each.
  std::map<FeatureId, CpuOverride::Kind> wishes;
  std::map<FeatureId, std::string> groups;  // of a wish that is the model file's: "simd"
  std::optional<CpuOverride::Kind> width_wish;
  std::uint32_t quirks_off = 0;  // KVM's quirks that it wants to be without
  std::vector<std::string> notes;

  // What follows from the features, then what numbers a model has, over it.
  void finish();
  void set_width(unsigned phys_bits);
  // Takes a refused bit away, out of the raw words too, which would bring it back.
  void drop(const FeaturePlace& place);
  // The leaves and bits that --smp decides.
  void shape(const Topology& topology);
  // The lines that the model digest is made over.
  std::string digest_text() const;
};

// Model and overrides, finished. `host` counts for the rule `host` only. Errors as resolve_cpu().
Result<Draft> draft_selection(std::string_view selection, const HostGrant& host);

}  // namespace vmm
