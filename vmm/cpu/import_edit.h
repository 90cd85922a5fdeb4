// Changes to a model feature by feature, as QEMU's and libvirt's lists of features mean them.
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "vmm/cpu/import.h"

namespace vmm {

// The model that a name of QEMU's means: "Haswell-v4", "Haswell-noTSX", and a bare "Haswell" as its
// version 1. Usage errors with the nearest name.
Result<CpuModel> find_qemu_model(std::string_view name);

class ModelEdit {
 public:
  // Starts from `base`, as version 1 of a model called `name`.
  ModelEdit(CpuModel base, const std::string& name);

  // Switches a feature by QEMU's name for it. An error, at `place`, for an unknown name and for one
  // that was switched the other way before.
  Result<void> set(std::string_view name, bool on, const std::string& place);
  // The same of one bit, which may be switched again.
  void set(FeatureId id, bool on, const std::string& place);
  void note(std::string place, std::string text);
  CpuModel& model() { return imported_.model; }

  // What QEMU does to every model under KVM, where the source has not said otherwise: x2APIC, and
  // 40 physical address bits unless `phys_bits_known`.
  void apply_qemu_defaults(bool phys_bits_known);

  // `source` says what the model was made of. Features that were left without what they need are
  // noted.
  ImportedModel finish(const std::string& source);

 private:
  bool has(FeatureId id) const;
  void apply(FeatureId id, bool on, const std::string& place);
  void note_what_stays();

  ImportedModel imported_;
  struct Wish {
    bool on = false;
    std::string place;
  };
  std::map<FeatureId, Wish> wishes_;
};

}  // namespace vmm
