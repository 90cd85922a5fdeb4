#include "vmm/cpu/model_sections.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>

#include "vmm/base/text.h"
#include "vmm/cpu/flatten.h"

namespace vmm {
namespace {

constexpr std::size_t kMaxGroups = 64;
constexpr std::size_t kColumns = 100;
constexpr std::array<CpuOverride::Kind, 3> kKinds = {
    CpuOverride::Kind::Require, CpuOverride::Kind::Optional, CpuOverride::Kind::Forbid};

bool is_nesting(FeatureId id) { return id == feature_id("vmx") || id == feature_id("svm"); }

bool has(const std::vector<FeatureId>& list, FeatureId id) {
  return std::ranges::binary_search(list, id);
}

// In any of the lists; a feature is in one of them at most.
bool lists(const CpuModel& model, FeatureId id) {
  return has(list_of(model, FeatureCatalog::get(id).place.word), id);
}

std::string section_text(const std::vector<CpuWish>& wishes, CpuOverride::Kind kind) {
  std::map<std::string, std::string> groups;
  for (const CpuWish& wish : wishes) {
    if (wish.kind != kind) continue;
    std::string& names = groups[wish.group];
    names +=
        fmt::format("{}\"{}\",", names.empty() ? "" : " ", FeatureCatalog::get(wish.feature).name);
  }
  std::string text;
  for (const auto& [group, names] : groups)
    text += fmt::format("{} = [\n{}]\n", group, wrap_text("  ", names, kColumns));
  return text;
}

}  // namespace

std::string_view section_of(CpuOverride::Kind kind) {
  const auto at = std::ranges::find(kKinds, kind);
  return PolicySections::kNames[at == kKinds.end() ? 0 : at - kKinds.begin()];
}

std::optional<std::string_view> why_not_in_model(std::string_view feature) {
  if (feature == "hypervisor") return "is always set";
  if (feature == "ht" || feature == "cmp-legacy") return "comes from --smp";
  if (feature == "vmx" || feature == "svm") return "is opt-in: only +vmx or +svm gives it";
  if (feature == "fdp-excptn-only" || feature == "zero-fcs-fds")
    return "means 'absent' and is always set";
  if (feature == "xss-cet-u" || feature == "xss-cet-s") return "follows from shstk and ibt";
  return std::nullopt;
}

Result<void> PolicySections::read(const TomlTable& table) {
  for (std::size_t i = 0; i < kKinds.size(); ++i) {
    if (!table.has(kNames[i])) continue;
    std::erase_if(entries_, [&](const Entry& entry) { return entry.wish.kind == kKinds[i]; });
    const TomlTable groups = VMM_TRY(table.table(kNames[i]));
    VMM_TRY(read_groups(groups, kKinds[i]));
  }
  std::ranges::sort(entries_, {}, [](const Entry& entry) { return entry.wish.feature; });
  const auto twice = std::ranges::adjacent_find(
      entries_, {}, [](const Entry& entry) { return entry.wish.feature; });
  if (twice == entries_.end()) return {};
  const auto& [wish, place] = *std::next(twice);
  return fail(
      Error::usage(fmt::format("'{}' is in [{}] {} as well as in [{}] {}",
                               FeatureCatalog::get(wish.feature).name, section_of(wish.kind),
                               wish.group, section_of(twice->wish.kind), twice->wish.group))
          .at(place)
          .hint("of one feature one thing holds: leave it in one group"));
}

Result<void> PolicySections::read_groups(const TomlTable& table, CpuOverride::Kind kind) {
  const std::vector<std::string> groups = table.keys();
  if (groups.size() > kMaxGroups)
    return fail(Error::usage(fmt::format("[{}] has {} groups, at most {} are allowed",
                                         section_of(kind), groups.size(), kMaxGroups))
                    .at(table.place()));
  for (const std::string& group : groups) {
    if (group.empty() || group.size() > 48 ||
        group.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789-") != std::string::npos)
      return fail(Error::usage(fmt::format("a group is named by lower case letters, digits and "
                                           "'-', not '{}'",
                                           printable(group, 60)))
                      .at(table.place(group)));
    for (const TomlString& item : VMM_TRY(table.strings(group, FeatureCatalog::all().size()))) {
      auto id = find_feature(item.text);
      if (!id) return fail(std::move(id).error().at(item.place));
      const std::string_view name = FeatureCatalog::get(*id).name;
      // That a host must not nest can be wished for, since nothing is switched on by it.
      const bool may = is_nesting(*id) && kind == CpuOverride::Kind::Forbid;
      if (const auto why = why_not_in_model(name); why && !may)
        return fail(Error::usage(fmt::format("'{}' {}", name, *why)).at(item.place));
      entries_.push_back({{*id, kind, group}, item.place});
    }
  }
  return {};
}

Result<void> PolicySections::apply(const CpuModel& before, CpuModel& model) const {
  model.wishes.clear();
  for (const Entry& entry : entries_) {
    model.wishes.push_back(entry.wish);
    if (entry.wish.kind == CpuOverride::Kind::Forbid) {
      VMM_TRY(forbid(entry, before, model));
      continue;
    }
    const FeatureId id = entry.wish.feature;
    const std::string_view name = FeatureCatalog::get(id).name;
    for (const Entry& other : entries_)
      if (other.wish.kind == CpuOverride::Kind::Forbid && !is_nesting(other.wish.feature) &&
          FeatureCatalog::needs(id, other.wish.feature))
        return fail(Error::usage(fmt::format("'{}' needs '{}', which [forbid] takes away", name,
                                             FeatureCatalog::get(other.wish.feature).name))
                        .at(entry.place));
    if (lists(before, id) && !lists(model, id))
      return fail(Error::usage(fmt::format("'{}' is in [{}], and version {} removes it", name,
                                           section_of(entry.wish.kind), model.version))
                      .at(entry.place));
    insert_feature(list_of(model, FeatureCatalog::get(id).place.word), id);
  }
  return {};
}

Result<void> PolicySections::forbid(const Entry& entry, const CpuModel& before,
                                    CpuModel& model) const {
  const FeatureId id = entry.wish.feature;
  if (is_nesting(id)) return {};  // no list holds it, and +vmx is to bring the model's own set
  std::vector<FeatureId> gone = FeatureCatalog::dependants(id);
  gone.push_back(id);
  for (const FeatureId other : gone) {
    if (!lists(model, other)) continue;
    // What comes from the version before is taken away; what this one adds contradicts it.
    if (!lists(before, other))
      return fail(
          Error::usage(other == id
                           ? fmt::format("'{}' is in [forbid], and version {} has it",
                                         FeatureCatalog::get(id).name, model.version)
                           : fmt::format("'{}' is in [forbid], and '{}' of version {} needs it",
                                         FeatureCatalog::get(id).name,
                                         FeatureCatalog::get(other).name, model.version))
              .at(entry.place)
              .hint(fmt::format("take '{}' out of the version, or out of [forbid]",
                                FeatureCatalog::get(other).name)));
    std::erase(list_of(model, FeatureCatalog::get(other).place.word), other);
    std::erase(model.vmx_fixed, other);
  }
  return {};
}

std::string policy_sections_text(const std::vector<CpuWish>& wishes) {
  return policy_changes_text(wishes, {});
}

std::string policy_changes_text(const std::vector<CpuWish>& wishes,
                                const std::vector<CpuWish>& others) {
  std::string text;
  for (const CpuOverride::Kind kind : kKinds)
    if (const std::string mine = section_text(wishes, kind); mine != section_text(others, kind))
      text += fmt::format("\n[version.{}]\n{}", section_of(kind), mine);
  return text;
}

}  // namespace vmm
