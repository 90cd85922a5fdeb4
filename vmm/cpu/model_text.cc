#include "vmm/cpu/model_text.h"

#include <fmt/format.h>

#include "vmm/base/text.h"

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

}  // namespace

std::string cpu_model_text(const CpuModel& model, std::string_view comment) {
  std::string text;
  if (!comment.empty())
    for (const std::string_view line : split(comment, '\n'))
      text += line.empty() ? "#\n" : fmt::format("# {}\n", line);
  text += fmt::format(
      "schema = 1\nname = {}\ntitle = {}\ndefault = {}\nvendor = {}\nfamily = {}\nmodel = {}\n"
      "stepping = {}\nmax-leaf = 0x{:X}\nmax-ext-leaf = 0x{:X}\nphys-bits = {}\nvirt-bits = {}\n",
      quoted(model.name), quoted(model.title), model.version, quoted(model.vendor), model.family,
      model.model, model.stepping, model.max_leaf, model.max_ext_leaf, model.phys_bits,
      model.virt_bits);
  if (!model.caches.empty()) {
    text += "caches = [\n";
    for (const CpuCache& cache : model.caches) text += cache_text(cache);
    text += "]\n";
  }
  text += fmt::format("\n[[version]]\nnumber = {}\n", model.version);
  if (!model.alias.empty()) text += fmt::format("alias = {}\n", quoted(model.alias));
  text += fmt::format("brand = {}\n", quoted(model.brand));
  text += list_text("features", model.features);
  if (!model.svm.empty()) text += "# Come with +svm only.\n" + list_text("svm", model.svm);
  if (!model.vmx.empty()) text += "# Come with +vmx only.\n" + list_text("vmx", model.vmx);
  if (!model.vmx_fixed.empty()) text += list_text("vmx-fixed", model.vmx_fixed);
  return text;
}

}  // namespace vmm
