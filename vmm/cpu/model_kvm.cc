#include "vmm/cpu/model_kvm.h"

#include <fmt/format.h>

#include <algorithm>

#include "vmm/base/text.h"
#include "vmm/core/quirks.h"
#include "vmm/cpu/flatten.h"

namespace vmm {
namespace {

constexpr std::uint32_t kKvmFeatures = 0x40000001;

Result<std::vector<FeatureId>> read_pv_features(const TomlTable& table) {
  std::vector<FeatureId> ids;
  for (const TomlString& item :
       VMM_TRY(table.strings("pv-features", FeatureCatalog::all().size()))) {
    auto id = find_feature(item.text);
    if (!id) return fail(std::move(id).error().at(item.place));
    const Feature& feature = FeatureCatalog::get(*id);
    if (!is_pv_feature(*id))
      return fail(Error::usage(fmt::format("'{}' ({}) is no feature of KVM's own", feature.name,
                                           feature.place.text()))
                      .at(item.place)
                      .hint("it belongs in 'features' of a version"));
    if (std::ranges::find(ids, *id) != ids.end())
      return fail(Error::usage(fmt::format("'{}' is there twice", feature.name)).at(item.place));
    insert_feature(ids, *id);
  }
  return ids;
}

Error unknown_quirk(const TomlString& item) {
  std::vector<std::string> names;
  for (const KvmQuirk& quirk : kvm_quirks()) names.emplace_back(quirk.name);
  Error error = Error::usage(fmt::format("unknown quirk '{}'", printable(item.text, 60)));
  const auto near = nearest_name(item.text, names);
  return std::move(error)
      .at(item.place)
      .hint(near ? fmt::format("did you mean '{}'?", *near)
                 : fmt::format("KVM's quirks are {}", fmt::join(names, ", ")));
}

// The quirks of a list; an error for one that `other` has already.
Result<std::uint32_t> read_quirks(const TomlTable& table, std::string_view key,
                                  std::uint32_t other) {
  std::uint32_t quirks = 0;
  for (const TomlString& item : VMM_TRY(table.strings(key, kvm_quirks().size()))) {
    const KvmQuirk* quirk = find_quirk(item.text);
    if (quirk == nullptr) return fail(unknown_quirk(item));
    const auto twice = [&](std::string_view how) {
      return fail(Error::usage(fmt::format("'{}' is {}", quirk->name, how)).at(item.place));
    };
    if ((quirks & quirk->bit) != 0) return twice("there twice");
    if ((other & quirk->bit) != 0) return twice("in disable-quirks as well as in keep-quirks");
    quirks |= quirk->bit;
  }
  return quirks;
}

std::string list_text(std::string_view key, const std::vector<std::string>& names) {
  if (names.empty()) return {};
  std::string quoted;
  for (const std::string& name : names)
    quoted += fmt::format("{}\"{}\"", quoted.empty() ? "" : ", ", name);
  const std::string line = fmt::format("{} = [{}]\n", key, quoted);
  if (line.size() <= 100) return line;
  return fmt::format("{} = [\n{}]\n", key, wrap_text("  ", quoted + ",", 100));
}

std::vector<FeatureId> pv_features_of(const CpuModel& model) {
  std::vector<FeatureId> ids = model.features;
  std::erase_if(ids, [](FeatureId id) { return !is_pv_feature(id); });
  return ids;
}

}  // namespace

bool is_pv_feature(FeatureId id) {
  const FeatureWord& word = FeatureCatalog::get(id).place.word;
  return !word.is_msr && word.index == kKvmFeatures;
}

std::vector<FeatureId> without_pv_features(const std::vector<FeatureId>& features) {
  std::vector<FeatureId> ids = features;
  std::erase_if(ids, is_pv_feature);
  return ids;
}

Result<KvmSection> read_kvm_section(const TomlTable& root) {
  const TomlTable table = VMM_TRY(root.table("kvm"));
  VMM_TRY(table.only({"pv-features", "disable-quirks", "keep-quirks"}));
  KvmSection section;
  section.pv_features = VMM_TRY(read_pv_features(table));
  const std::uint32_t off = VMM_TRY(read_quirks(table, "disable-quirks", 0));
  const std::uint32_t on = VMM_TRY(read_quirks(table, "keep-quirks", off));
  section.quirks_off = (usual_quirks_off() | off) & ~on;
  return section;
}

void apply_kvm_section(const KvmSection& section, CpuModel& model) {
  model.features = without_pv_features(model.features);
  for (const FeatureId id : section.pv_features) insert_feature(model.features, id);
  model.quirks_off = section.quirks_off;
}

std::string whole_kvm_section_text(const CpuModel& model) {
  std::vector<std::string> pv;
  for (const FeatureId id : pv_features_of(model)) pv.emplace_back(FeatureCatalog::get(id).name);
  const std::uint32_t usual = usual_quirks_off();
  const std::string text = list_text("pv-features", pv) +
                           list_text("disable-quirks", quirk_names(model.quirks_off & ~usual)) +
                           list_text("keep-quirks", quirk_names(usual & ~model.quirks_off));
  return text.empty() ? "pv-features = []\n" : text;
}

std::string kvm_section_text(const CpuModel& model) {
  const bool own = !pv_features_of(model).empty() || model.quirks_off != usual_quirks_off();
  return own ? whole_kvm_section_text(model) : std::string();
}

bool same_kvm_section(const CpuModel& a, const CpuModel& b) {
  return a.quirks_off == b.quirks_off && pv_features_of(a) == pv_features_of(b);
}

}  // namespace vmm
