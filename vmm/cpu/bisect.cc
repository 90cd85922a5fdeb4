#include "vmm/cpu/bisect.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <numeric>

#include "vmm/cpu/flatten.h"
#include "vmm/cpu/vmx.h"

namespace vmm {
namespace {

using Kind = CpuDelta::Kind;

bool has(const std::vector<FeatureId>& ids, FeatureId id) {
  return std::ranges::binary_search(ids, id);
}

bool is_nested_word(const FeatureWord& word) {
  return is_vmx_word(word) || (!word.is_msr && word.index == 0x8000000a);
}

std::string_view nesting_of(const CpuModel& model) {
  return model.vendor == "GenuineIntel" ? "vmx" : "svm";
}

using Set = std::vector<std::size_t>;

// Those of `set` that are not in `part`; both rise.
Set without(const Set& set, const Set& part) {
  Set result;
  std::ranges::set_difference(set, part, std::back_inserter(result));
  return result;
}

// `count` parts of sizes that differ by one at most.
std::vector<Set> parts_of(const Set& set, std::size_t count) {
  std::vector<Set> parts;
  for (std::size_t i = 0; i < count; ++i)
    parts.emplace_back(set.begin() + static_cast<std::ptrdiff_t>(set.size() * i / count),
                       set.begin() + static_cast<std::ptrdiff_t>(set.size() * (i + 1) / count));
  return parts;
}

}  // namespace

std::vector<CpuDelta> deltas_between(const BisectCpu& good, const BisectCpu& bad) {
  std::vector<CpuDelta> deltas;
  const CpuModel& a = good.model;
  const CpuModel& b = bad.model;
  const auto value = [&](Kind kind, bool differs, std::string text) {
    if (differs) deltas.push_back({kind, 0, std::move(text)});
  };
  value(Kind::Vendor, a.vendor != b.vendor, "vendor=" + b.vendor);
  value(Kind::Brand, a.brand != b.brand, "brand=" + b.brand);
  value(Kind::Family, a.family != b.family, fmt::format("family={}", b.family));
  value(Kind::Model, a.model != b.model, fmt::format("model={}", b.model));
  value(Kind::Stepping, a.stepping != b.stepping, fmt::format("stepping={}", b.stepping));
  value(Kind::MaxLeaf, a.max_leaf != b.max_leaf, fmt::format("max-leaf=0x{:X}", b.max_leaf));
  value(Kind::MaxExtLeaf, a.max_ext_leaf != b.max_ext_leaf,
        fmt::format("max-ext-leaf=0x{:X}", b.max_ext_leaf));
  value(Kind::PhysBits, a.phys_bits != b.phys_bits, fmt::format("phys-bits={}", b.phys_bits));
  value(Kind::Caches, a.caches != b.caches, "caches");
  value(Kind::Words, a.raw != b.raw, "words");
  value(Kind::Msrs, a.msrs != b.msrs, "msr");
  value(Kind::Quirks, a.quirks_off != b.quirks_off, "kvm quirks");
  value(Kind::Nesting, good.nested != bad.nested,
        fmt::format("{}{}", bad.nested ? "+" : "-", nesting_of(bad.nested ? b : a)));
  const bool nested = good.nested || bad.nested;
  for (std::size_t i = 0; i < FeatureCatalog::all().size(); ++i) {
    const auto id = static_cast<FeatureId>(i);
    const Feature& feature = FeatureCatalog::get(id);
    if (is_nested_word(feature.place.word) && !nested) continue;
    const bool before = has(list_of(a, feature.place.word), id);
    const bool after = has(list_of(b, feature.place.word), id);
    if (before != after)
      deltas.push_back({after ? Kind::Add : Kind::Remove, id,
                        fmt::format("{}{}", after ? '+' : '-', feature.name)});
    const bool fixed = has(b.vmx_fixed, id);
    if (fixed != has(a.vmx_fixed, id))
      deltas.push_back({fixed ? Kind::Fix : Kind::Unfix, id,
                        fmt::format("{}={}", feature.name, fixed ? "fixed" : "on")});
  }
  return deltas;
}

BisectCpu with_deltas(const BisectCpu& good, const BisectCpu& bad,
                      const std::vector<CpuDelta>& deltas, const std::vector<std::size_t>& chosen) {
  BisectCpu cpu = good;
  CpuModel& model = cpu.model;
  for (const std::size_t index : chosen) {
    const CpuDelta& delta = deltas[index];
    switch (delta.kind) {
      case Kind::Add:
        insert_feature(list_of(model, FeatureCatalog::get(delta.feature).place.word),
                       delta.feature);
        break;
      case Kind::Remove:
        std::erase(list_of(model, FeatureCatalog::get(delta.feature).place.word), delta.feature);
        break;
      case Kind::Fix:
        insert_feature(model.vmx_fixed, delta.feature);
        break;
      case Kind::Unfix:
        std::erase(model.vmx_fixed, delta.feature);
        break;
      case Kind::Nesting:
        cpu.nested = bad.nested;
        break;
      case Kind::Vendor:
        model.vendor = bad.model.vendor;
        break;
      case Kind::Brand:
        model.brand = bad.model.brand;
        break;
      case Kind::Family:
        model.family = bad.model.family;
        break;
      case Kind::Model:
        model.model = bad.model.model;
        break;
      case Kind::Stepping:
        model.stepping = bad.model.stepping;
        break;
      case Kind::MaxLeaf:
        model.max_leaf = bad.model.max_leaf;
        break;
      case Kind::MaxExtLeaf:
        model.max_ext_leaf = bad.model.max_ext_leaf;
        break;
      case Kind::PhysBits:
        model.phys_bits = bad.model.phys_bits;
        break;
      case Kind::Caches:
        model.caches = bad.model.caches;
        break;
      case Kind::Words:
        model.raw = bad.model.raw;
        break;
      case Kind::Msrs:
        model.msrs = bad.model.msrs;
        break;
      case Kind::Quirks:
        model.quirks_off = bad.model.quirks_off;
        break;
    }
  }
  // Both follow from features.
  model.virt_bits = has(model.features, feature_id("la57")) ? 57 : 48;
  std::erase_if(model.vmx_fixed, [&](FeatureId id) { return !has(model.vmx, id); });
  return cpu;
}

bool stands(const BisectCpu& cpu, const BisectCpu& good, const BisectCpu& bad) {
  const auto on = [](const BisectCpu& which, FeatureId id) {
    const Feature& feature = FeatureCatalog::get(id);
    if (feature.name == "vmx" || feature.name == "svm")
      return which.nested && feature.name == nesting_of(which.model);
    return has(list_of(which.model, feature.place.word), id);
  };
  const auto lacks = [&](const BisectCpu& which, FeatureId id, FeatureId need) {
    return on(which, id) && !on(which, need);
  };
  for (std::size_t i = 0; i < FeatureCatalog::all().size(); ++i) {
    const auto id = static_cast<FeatureId>(i);
    // Nested capabilities are in a model that is not nested, and mean nothing there.
    if (is_nested_word(FeatureCatalog::get(id).place.word) && !cpu.nested) continue;
    for (const FeatureId need : FeatureCatalog::get(id).needs)
      if (lacks(cpu, id, need) && !lacks(good, id, need) && !lacks(bad, id, need)) return false;
  }
  return true;
}

Result<BisectResult> bisect(std::size_t count, const BisectAsk& ask, std::size_t max_asked) {
  BisectResult result;
  result.smallest.resize(count);
  std::iota(result.smallest.begin(), result.smallest.end(), std::size_t{0});
  std::map<Set, BisectVerdict> known = {{{}, BisectVerdict::Good},
                                        {result.smallest, BisectVerdict::Bad}};
  const auto is_bad = [&](const Set& set) -> Result<bool> {
    const auto it = known.find(set);
    if (it != known.end()) return it->second == BisectVerdict::Bad;
    if (result.asked == max_asked) {
      result.finished = false;
      return false;
    }
    const BisectVerdict verdict = VMM_TRY(ask(set));
    ++result.asked;
    if (verdict == BisectVerdict::Unresolved) ++result.unresolved;
    known.emplace(set, verdict);
    return verdict == BisectVerdict::Bad;
  };
  std::size_t parts = 2;
  while (result.smallest.size() >= 2 && result.finished) {
    const Set& all = result.smallest;
    parts = std::min(parts, all.size());
    bool smaller = false;
    const std::vector<Set> subsets = parts_of(all, parts);
    for (const Set& part : subsets) {
      if (!VMM_TRY(is_bad(part))) continue;
      result.smallest = part;
      parts = 2;
      smaller = true;
      break;
    }
    if (smaller) continue;
    for (const Set& part : subsets) {
      Set rest = without(all, part);
      if (!VMM_TRY(is_bad(rest))) continue;
      result.smallest = std::move(rest);
      parts = std::max<std::size_t>(parts - 1, 2);
      smaller = true;
      break;
    }
    if (smaller) continue;
    if (parts == all.size()) break;
    parts = std::min(2 * parts, all.size());
  }
  return result;
}

}  // namespace vmm
