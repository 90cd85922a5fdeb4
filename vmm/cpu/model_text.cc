#include "vmm/cpu/model_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "vmm/base/text.h"
#include "vmm/cpu/model_kvm.h"
#include "vmm/cpu/model_sections.h"
#include "vmm/cpu/model_values.h"

namespace vmm {
namespace {

constexpr std::size_t kColumns = 100;

// A basic string of TOML; what stands in models is printable ASCII.
std::string quoted(std::string_view text) {
  std::string result = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') result += '\\';
    result += c;
  }
  return result + '"';
}

std::string cache_text(const CpuCache& cache) {
  constexpr const char* kTypes[] = {"", "data", "instruction", "unified"};
  return fmt::format(
      "  {{ level = {}, type = \"{}\", kib = {}, ways = {}, line = {}, shared-by = \"{}\" }},\n",
      cache.level, kTypes[static_cast<std::size_t>(cache.type)], cache.kib, cache.ways, cache.line,
      cache.shared_by == CpuCache::SharedBy::Core ? "core" : "socket");
}

// Sorted by word: each word is named, and its features stand below it.
std::string list_text(std::string_view key, const std::vector<FeatureId>& ids) {
  std::string text = fmt::format("{} = [\n", key);
  for (std::size_t i = 0; i < ids.size();) {
    const FeatureWord word = FeatureCatalog::get(ids[i]).place.word;
    std::string names;
    for (; i < ids.size() && FeatureCatalog::get(ids[i]).place.word == word; ++i)
      names += fmt::format("{}\"{}\",", names.empty() ? "" : " ", FeatureCatalog::get(ids[i]).name);
    text += fmt::format("  # {}\n{}", word.text(), wrap_text("  ", names, kColumns));
  }
  return text + "]\n";
}

std::string comment_text(std::string_view comment) {
  std::string text;
  if (!comment.empty())
    for (const std::string_view line : split(comment, '\n'))
      text += line.empty() ? "#\n" : fmt::format("# {}\n", line);
  return text;
}

std::string caches_text(const std::vector<CpuCache>& caches) {
  if (caches.empty()) return "caches = []\n";
  std::string text = "caches = [\n";
  for (const CpuCache& cache : caches) text += cache_text(cache);
  return text + "]\n";
}

std::string width_wish_text(const std::optional<CpuOverride::Kind>& wish) {
  return fmt::format("phys-bits-policy = \"{}\"\n", !wish ? "model"
                                                    : *wish == CpuOverride::Kind::PhysExact
                                                        ? "host-exact"
                                                        : "at-most-host");
}

std::vector<FeatureId> without(const std::vector<FeatureId>& ids,
                               const std::vector<FeatureId>& others) {
  std::vector<FeatureId> result;
  std::ranges::set_difference(ids, others, std::back_inserter(result));
  return result;
}

}  // namespace

std::string cpu_model_text(const CpuModel& model, std::string_view comment) {
  std::string text = comment_text(comment);
  text += fmt::format(
      "schema = 1\nname = {}\ntitle = {}\ndefault = {}\nvendor = {}\nfamily = {}\nmodel = {}\n"
      "stepping = {}\nmax-leaf = 0x{:X}\nmax-ext-leaf = 0x{:X}\nphys-bits = {}\nvirt-bits = {}\n",
      quoted(model.name), quoted(model.title), model.version, quoted(model.vendor), model.family,
      model.model, model.stepping, model.max_leaf, model.max_ext_leaf, model.phys_bits,
      model.virt_bits);
  if (model.width_wish) text += width_wish_text(model.width_wish);
  if (!model.caches.empty()) text += caches_text(model.caches);
  if (!model.raw.empty()) text += raw_words_text(model.raw);
  if (const std::string kvm = kvm_section_text(model); !kvm.empty()) text += "\n[kvm]\n" + kvm;
  text += fmt::format("\n[[version]]\nnumber = {}\n", model.version);
  if (!model.alias.empty()) text += fmt::format("alias = {}\n", quoted(model.alias));
  text += fmt::format("brand = {}\n", quoted(model.brand));
  text += list_text("features", without_pv_features(model.features));
  if (!model.svm.empty()) text += "# Come with +svm only.\n" + list_text("svm", model.svm);
  if (!model.vmx.empty()) text += "# Come with +vmx only.\n" + list_text("vmx", model.vmx);
  if (!model.vmx_fixed.empty()) text += list_text("vmx-fixed", model.vmx_fixed);
  if (!model.msrs.empty()) text += msrs_text(model.msrs);
  return text + policy_sections_text(model.wishes);
}

std::string cpu_model_changes(const CpuModel& model, const CpuModel& base) {
  std::string text;
  if (model.brand != base.brand) text += fmt::format("brand = {}\n", quoted(model.brand));
  const auto number = [&](std::string_view key, unsigned value, unsigned other) {
    if (value != other) text += fmt::format("{} = {}\n", key, value);
  };
  const auto leaf = [&](std::string_view key, std::uint32_t value, std::uint32_t other) {
    if (value != other) text += fmt::format("{} = 0x{:X}\n", key, value);
  };
  number("family", model.family, base.family);
  number("model", model.model, base.model);
  number("stepping", model.stepping, base.stepping);
  leaf("max-leaf", model.max_leaf, base.max_leaf);
  leaf("max-ext-leaf", model.max_ext_leaf, base.max_ext_leaf);
  number("phys-bits", model.phys_bits, base.phys_bits);
  number("virt-bits", model.virt_bits, base.virt_bits);
  if (model.width_wish != base.width_wish) text += width_wish_text(model.width_wish);
  if (model.caches != base.caches) text += caches_text(model.caches);
  if (model.raw != base.raw) text += raw_words_text(model.raw);
  const auto lists = [&](std::string_view prefix, const std::vector<FeatureId>& mine,
                         const std::vector<FeatureId>& theirs) {
    if (const auto more = without(mine, theirs); !more.empty())
      text += list_text(fmt::format("{}add", prefix), more);
    if (const auto less = without(theirs, mine); !less.empty())
      text += list_text(fmt::format("{}remove", prefix), less);
  };
  lists("", without_pv_features(model.features), without_pv_features(base.features));
  lists("svm-", model.svm, base.svm);
  lists("vmx-", model.vmx, base.vmx);
  if (model.vmx_fixed != base.vmx_fixed)
    text += model.vmx_fixed.empty() ? "vmx-fixed = []\n" : list_text("vmx-fixed", model.vmx_fixed);
  if (model.msrs != base.msrs) text += msrs_text(model.msrs);
  if (!same_kvm_section(model, base)) text += "\n[version.kvm]\n" + whole_kvm_section_text(model);
  return text + policy_changes_text(model.wishes, base.wishes);
}

std::string cpu_model_text(const CpuModel& model, const CpuModel& base, std::string_view comment) {
  std::string text = comment_text(comment);
  text +=
      fmt::format("schema = 1\nname = {}\ntitle = {}\ndefault = {}\ninherits = {}\n",
                  quoted(model.name), quoted(model.title), model.version, quoted(base.full_name()));
  if (model.vendor != base.vendor) text += fmt::format("vendor = {}\n", quoted(model.vendor));
  return text + fmt::format("\n[[version]]\nnumber = {}\n{}", model.version,
                            cpu_model_changes(model, base));
}

}  // namespace vmm
