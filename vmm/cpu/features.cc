#include "vmm/cpu/features.h"

#include <fmt/format.h>

#include <algorithm>

#include "vmm/base/bytes.h"
#include "vmm/base/check.h"
#include "vmm/base/text.h"
#include "vmm/cpu/builtin.h"

namespace vmm {

std::string FeatureWord::text() const {
  return is_msr ? fmt::format("MSR {:X}", index) : cpuid_word_name({index, subleaf}, reg);
}

std::string FeaturePlace::text() const { return fmt::format("{}[{}]", word.text(), bit); }

std::span<const Feature> FeatureCatalog::all() { return builtin::features(); }

std::optional<FeatureId> FeatureCatalog::find(std::string_view name) {
  std::string wanted = dashed(name);
  // "vmx.xsaves" is "vmx-xsaves"; "svm.npt" is "npt".
  if (wanted.starts_with("vmx.")) wanted[3] = '-';
  if (wanted.starts_with("svm.")) wanted.erase(0, 4);
  const auto names = builtin::feature_names();
  const auto it =
      std::lower_bound(names.begin(), names.end(), std::string_view(wanted),
                       [](const auto& entry, std::string_view n) { return entry.name < n; });
  if (it == names.end() || it->name != wanted) return std::nullopt;
  return it->id;
}

std::optional<std::string> FeatureCatalog::nearest(std::string_view name) {
  std::vector<std::string> names;
  for (const auto& entry : builtin::feature_names()) names.emplace_back(entry.name);
  return nearest_name(name, names);
}

std::optional<FeatureId> FeatureCatalog::at(const FeaturePlace& place) {
  const auto features = all();
  const auto it = std::lower_bound(
      features.begin(), features.end(), place,
      [](const Feature& feature, const FeaturePlace& p) { return feature.place < p; });
  if (it == features.end() || it->place != place) return std::nullopt;
  return static_cast<FeatureId>(it - features.begin());
}

std::vector<FeatureWord> FeatureCatalog::words() {
  std::vector<FeatureWord> words;
  for (const Feature& feature : all())
    if (words.empty() || words.back() != feature.place.word) words.push_back(feature.place.word);
  return words;
}

std::vector<FeatureId> FeatureCatalog::in_word(const FeatureWord& word) {
  std::vector<FeatureId> ids;
  const auto features = all();
  for (std::size_t i = 0; i < features.size(); ++i)
    if (features[i].place.word == word) ids.push_back(static_cast<FeatureId>(i));
  return ids;
}

bool FeatureCatalog::needs(FeatureId id, FeatureId other) {
  return std::ranges::any_of(get(id).needs,
                             [&](FeatureId need) { return need == other || needs(need, other); });
}

std::vector<FeatureId> FeatureCatalog::dependants(FeatureId id) {
  const auto features = all();
  std::vector<bool> lost(features.size(), false);
  lost[id] = true;
  // A chain is a handful of links; each pass extends it by at least one, so this ends soon.
  for (bool changed = true; changed;) {
    changed = false;
    for (std::size_t i = 0; i < features.size(); ++i) {
      if (lost[i]) continue;
      if (std::any_of(features[i].needs.begin(), features[i].needs.end(),
                      [&](FeatureId need) { return lost[need]; }))
        lost[i] = changed = true;
    }
  }
  std::vector<FeatureId> ids;
  for (std::size_t i = 0; i < features.size(); ++i)
    if (lost[i] && i != id) ids.push_back(static_cast<FeatureId>(i));
  return ids;
}

std::string kvm_since_text(const Feature& feature) {
  const std::string_view since = feature.kvm_since;
  if (since.empty()) return {};
  if (since == "never") return fmt::format("up to Linux {} never", kNewestKnownKernel);
  if (since.starts_with("<=")) return fmt::format("since Linux {} or before", since.substr(2));
  return fmt::format("since Linux {}", since);
}

bool is_too_old(std::string_view kernel, const Feature& feature) {
  std::string_view since = feature.kvm_since;
  if (since.empty() || since == "never") return false;
  if (since.starts_with("<=")) since.remove_prefix(2);
  // "6.1.0-13-cloud" comes before "6.2"; what is no number comes before nothing.
  const auto number = [](std::string_view text) -> std::uint64_t {
    const std::size_t dot = text.find('.');
    if (dot == std::string_view::npos) return ~0ULL;
    std::string_view minor = text.substr(dot + 1);
    minor = minor.substr(0, minor.find_first_not_of("0123456789"));
    const auto first = parse_number(text.substr(0, dot));
    const auto second = parse_number(minor);
    return first && second ? *first * 100'000 + *second : ~0ULL;
  };
  return number(kernel) < number(since);
}

namespace {

// "avx, avx2, avx512f ...": names that begin as `name` does, for one that is near to none of them.
std::string names_like(std::string_view name) {
  constexpr std::size_t kLeast = 3, kMost = 8;
  const std::string key = lower(name);
  std::vector<std::string_view> names;
  std::size_t shared = kLeast;
  for (const Feature& feature : FeatureCatalog::all()) {
    const auto end = std::ranges::mismatch(key, feature.name).in1;
    const auto length = static_cast<std::size_t>(end - key.begin());
    if (length < shared) continue;
    if (length > shared) names.clear();
    shared = length;
    names.push_back(feature.name);
  }
  if (names.empty()) return {};
  const bool more = names.size() > kMost;
  names.resize(std::min(names.size(), kMost));
  return fmt::format("names that begin so: {}{}", fmt::join(names, ", "), more ? " ..." : "");
}

}  // namespace

Result<FeatureId> find_feature(std::string_view name) {
  if (const auto id = FeatureCatalog::find(name)) return *id;
  Error error = Error::usage(fmt::format("unknown CPU feature '{}'", printable(name, 60)));
  if (const auto near = FeatureCatalog::nearest(name))
    error = std::move(error).hint(fmt::format("did you mean '{}'?", *near));
  else if (const std::string names = names_like(name); !names.empty())
    error = std::move(error).hint(names);
  return fail(std::move(error));
}

FeatureId feature_id(std::string_view name) {
  const auto id = FeatureCatalog::find(name);
  VMM_CHECK(id.has_value(), name);
  return *id;
}

std::string bit_name(const FeaturePlace& place) {
  const auto id = FeatureCatalog::at(place);
  return id ? std::string(FeatureCatalog::get(*id).name) : place.text();
}

std::optional<std::string> feature_name(CpuidKey key, CpuidReg reg, unsigned bit) {
  const auto id = FeatureCatalog::at({{false, key.leaf, key.subleaf, reg}, bit});
  if (!id) return std::nullopt;
  return std::string(FeatureCatalog::get(*id).name);
}

bool has_feature(const CpuidTable& table, std::string_view name) {
  const auto id = FeatureCatalog::find(name);
  if (!id) return false;
  const FeaturePlace& place = FeatureCatalog::get(*id).place;
  if (place.word.is_msr) return false;
  return table.bit(place.word.index, place.word.subleaf, place.word.reg, place.bit);
}

}  // namespace vmm
