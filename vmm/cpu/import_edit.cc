#include "vmm/cpu/import_edit.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>

#include "vmm/base/text.h"
#include "vmm/cpu/flatten.h"
#include "vmm/cpu/provenance.h"
#include "vmm/cpu/vmx.h"

namespace vmm {
namespace {

// QEMU's names of the models that are here, without their versions.
constexpr std::array<std::string_view, 29> kQemuModels = {"qemu64",
                                                          "kvm64",
                                                          "Nehalem",
                                                          "Westmere",
                                                          "SandyBridge",
                                                          "IvyBridge",
                                                          "Haswell",
                                                          "Broadwell",
                                                          "Skylake-Client",
                                                          "Skylake-Server",
                                                          "Cascadelake-Server",
                                                          "Cooperlake",
                                                          "Icelake-Server",
                                                          "SapphireRapids",
                                                          "GraniteRapids",
                                                          "SierraForest",
                                                          "ClearwaterForest",
                                                          "Denverton",
                                                          "Snowridge",
                                                          "Opteron_G1",
                                                          "Opteron_G2",
                                                          "Opteron_G3",
                                                          "Opteron_G4",
                                                          "Opteron_G5",
                                                          "EPYC",
                                                          "EPYC-Rome",
                                                          "EPYC-Milan",
                                                          "EPYC-Genoa",
                                                          "EPYC-Turin"};

constexpr unsigned kQemuPhysBits = 40;  // TCG_PHYS_ADDR_BITS, for every model

bool is_qemu_model(std::string_view file_name) {
  return std::ranges::any_of(kQemuModels,
                             [&](std::string_view name) { return dashed(name) == file_name; });
}

Error unknown_qemu_model(std::string_view name) {
  std::vector<std::string> names(kQemuModels.begin(), kQemuModels.end());
  for (const std::string_view model : kQemuModels)
    if (const auto file = builtin_cpu_model(model))
      for (const CpuModel& version : file->versions) {
        names.push_back(fmt::format("{}-v{}", model, version.version));
        if (!version.alias.empty()) names.push_back(version.alias);
      }
  Error error =
      Error::usage(fmt::format("no model here has QEMU's name '{}'", printable(name, 60)));
  if (const auto near = nearest_name(name, names))
    return std::move(error).hint(fmt::format("did you mean '{}'?", *near));
  return std::move(error).hint("vmm cpu list shows the models");
}

// QEMU's own rules (feature_dependencies in target/i386/cpu.c): what is in an MSR or in SVM's leaf
// goes with the CPUID bit that announces it; between CPUID bits nothing follows.
bool goes_along(const Feature& dependant) {
  const FeatureWord& word = dependant.place.word;
  return word.is_msr || word.index == 0x8000000a;
}

}  // namespace

Result<CpuModel> find_qemu_model(std::string_view name) {
  const std::string wanted = dashed(name);
  if (is_qemu_model(wanted)) return find_cpu_model(wanted + "@1");
  // "-vN" behind a name; a name may hold "-v" elsewhere.
  if (const std::size_t dash = wanted.rfind("-v"); dash != std::string::npos) {
    const std::string model = wanted.substr(0, dash);
    const auto number = parse_number(wanted.substr(dash + 2));
    if (is_qemu_model(model) && number) return find_cpu_model(fmt::format("{}@{}", model, *number));
  }
  // Another name of one version? The source must not make us read a file.
  if (wanted.find('@') == std::string::npos && !model_file_of(wanted))
    if (const auto file = find_cpu_model_file(wanted); file && is_qemu_model(file->name))
      return version_of(*file, wanted);
  return fail(unknown_qemu_model(name));
}

ModelEdit::ModelEdit(CpuModel base, const std::string& name) {
  imported_.model = base;
  imported_.model.name = name;
  imported_.model.version = 1;
  imported_.model.alias.clear();
  imported_.base = std::move(base);
}

bool ModelEdit::has(FeatureId id) const { return model_has(imported_.model, id); }

void ModelEdit::note(std::string place, std::string text) {
  imported_.notes.push_back({std::move(place), std::move(text)});
}

Result<void> ModelEdit::set(std::string_view name, bool on, const std::string& place) {
  auto found = find_feature(name);
  if (!found) return fail(std::move(found).error().at(place));
  std::vector<FeatureId> ids = {*found};
  // QEMU has one name for two bits here (features.toml).
  if (FeatureCatalog::get(*found).name == "vmx-invept-single-context")
    ids.push_back(feature_id("vmx-invept-single"));
  for (const FeatureId id : ids) {
    const auto [known, first] = wishes_.try_emplace(id, Wish{on, place});
    if (!first && known->second.on != on)
      return fail(Error::usage(fmt::format("'{}' is switched {} here and {} at {}",
                                           FeatureCatalog::get(id).name, on ? "on" : "off",
                                           on ? "off" : "on", known->second.place))
                      .at(place)
                      .hint("take one of them out"));
    set(id, on, place);
  }
  return {};
}

void ModelEdit::set(FeatureId id, bool on, const std::string& place) {
  wishes_[id] = {on, place};
  apply(id, on, place);
}

void ModelEdit::apply(FeatureId id, bool on, const std::string& place) {
  const Feature& feature = FeatureCatalog::get(id);
  const bool amd = imported_.model.vendor != "GenuineIntel";
  if (feature.name == "vmx" || feature.name == "svm") {
    if (on)
      note(place,
           fmt::format("{0} is no part of a model: give --cpu-model FILE,+{0}", feature.name));
    return;
  }
  if (!belongs_in_model(feature, amd)) {
    const bool always = feature.name == "hypervisor" || feature.name == "fdp-excptn-only" ||
                        feature.name == "zero-fcs-fds";
    if (on != always)
      note(place, fmt::format("{}={} is not carried: {}", feature.name, on ? "on" : "off",
                              always                      ? "it is always set"
                              : feature.name == "topoext" ? "no Intel CPU has it"
                              : feature.name == "smx"     ? "KVM gives it to nobody"
                                                          : "it follows from --smp"));
    return;
  }
  std::vector<FeatureId>& list = list_of(imported_.model, feature.place.word);
  if (on) {
    insert_feature(list, id);
  } else {
    std::erase(list, id);
    std::erase(imported_.model.vmx_fixed, id);
    for (const FeatureId other : FeatureCatalog::dependants(id))
      if (goes_along(FeatureCatalog::get(other)) && has(other)) apply(other, false, place);
  }
  if (feature.name == "la57") imported_.model.virt_bits = on ? 57 : 48;
}

void ModelEdit::apply_qemu_defaults(bool phys_bits_known) {
  const FeatureId x2apic = feature_id("x2apic");
  if (!wishes_.contains(x2apic) && !has(x2apic)) {
    apply(x2apic, true, "");
    note("", "x2apic is on: QEMU adds it to every model under KVM");
  }
  if (!phys_bits_known && imported_.model.phys_bits != kQemuPhysBits) {
    note("", fmt::format("phys-bits = {}: QEMU gives that to every model that is not told "
                         "otherwise; {} has {}",
                         kQemuPhysBits, imported_.base->full_name(), imported_.model.phys_bits));
    imported_.model.phys_bits = kQemuPhysBits;
  }
  note("",
       "what QEMU announces of KVM itself (kvmclock, kvm-steal-time and so on) is left out: name "
       "such features in the model if the guest is to use them");
}

void ModelEdit::note_what_stays() {
  for (const auto& [id, wish] : wishes_) {
    std::vector<std::string_view> names;
    if (wish.on && has(id)) {
      for (const FeatureId need : FeatureCatalog::get(id).needs)
        if (!has(need) && need != feature_id("vmx") && need != feature_id("svm"))
          names.push_back(FeatureCatalog::get(need).name);
      if (!names.empty())
        note(wish.place, fmt::format("{} needs what the model lacks: {}",
                                     FeatureCatalog::get(id).name, fmt::join(names, ", ")));
    }
    if (wish.on) continue;
    for (const FeatureId other : FeatureCatalog::dependants(id))
      if (has(other)) names.push_back(FeatureCatalog::get(other).name);
    if (!names.empty())
      note(wish.place, fmt::format("without {} these stay on, and vmm cpu lint names "
                                   "them: {}",
                                   FeatureCatalog::get(id).name, fmt::join(names, ", ")));
  }
}

ImportedModel ModelEdit::finish(const std::string& source) {
  note_what_stays();
  imported_.source = printable(source, 300);
  imported_.model.title = "imported from " + imported_.source;
  if (imported_.model.title.size() > 80)
    imported_.model.title.replace(77, std::string::npos, "...");
  return std::move(imported_);
}

}  // namespace vmm
