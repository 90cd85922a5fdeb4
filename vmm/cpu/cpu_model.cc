#include "vmm/cpu/cpu_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "vmm/base/fd.h"
#include "vmm/base/text.h"
#include "vmm/cpu/model_kvm.h"
#include "vmm/cpu/model_origin.h"
#include "vmm/cpu/model_sections.h"
#include "vmm/cpu/model_values.h"
#include "vmm/cpu/toml_table.h"
#include "vmm/cpu/vmx.h"
#include "vmm/cpu/words.h"

namespace vmm {
namespace {

constexpr std::size_t kMaxFileSize = 1 << 20;
constexpr std::size_t kMaxVersions = 99;
constexpr std::size_t kMaxCaches = 8;

// Names of models go into file names, outcomes and command lines.
bool is_model_name(std::string_view name) {
  constexpr std::string_view kLetters = "abcdefghijklmnopqrstuvwxyz0123456789-.";
  return !name.empty() && name.size() <= 48 && name.front() != '-' && name.front() != '.' &&
         name.find_first_not_of(kLetters) == std::string_view::npos;
}

enum class ListKind { Features, Svm, Vmx };

bool belongs(const FeatureWord& word, ListKind kind) {
  const bool svm = !word.is_msr && word.index == 0x8000000a;
  if (kind == ListKind::Svm) return svm;
  if (kind == ListKind::Vmx) return is_vmx_word(word);
  return !svm && !is_vmx_word(word);
}

Result<std::vector<FeatureId>> read_list(const TomlTable& table, std::string_view key,
                                         ListKind kind) {
  std::vector<FeatureId> ids;
  for (const TomlString& item : VMM_TRY(table.strings(key, FeatureCatalog::all().size()))) {
    auto id = find_feature(item.text);
    if (!id) return fail(std::move(id).error().at(item.place));
    const Feature& feature = FeatureCatalog::get(*id);
    if (const auto why = why_not_in_model(feature.name))
      return fail(Error::usage(fmt::format("'{}' {}", feature.name, *why)).at(item.place));
    if (kind == ListKind::Features && is_pv_feature(*id))
      return fail(Error::usage(fmt::format("'{}' ({}) is KVM's own, and no silicon's", feature.name,
                                           feature.place.text()))
                      .at(item.place)
                      .hint(fmt::format("[kvm] pv-features = [\"{}\"], before the versions, or "
                                        "[version.kvm]",
                                        feature.name)));
    if (!belongs(feature.place.word, kind))
      return fail(Error::usage(fmt::format("'{}' ({}) does not belong in '{}'", feature.name,
                                           feature.place.text(), key))
                      .at(item.place));
    if (std::find(ids.begin(), ids.end(), *id) != ids.end())
      return fail(Error::usage(fmt::format("'{}' is there twice", feature.name)).at(item.place));
    ids.push_back(*id);
  }
  std::sort(ids.begin(), ids.end());
  return ids;
}

// The difference between two versions. What is added must be new and what is removed must be there,
// so that a file says what it means.
Result<void> change_list(const TomlTable& table, std::string_view add, std::string_view remove,
                         ListKind kind, std::vector<FeatureId>& ids) {
  for (const FeatureId id : VMM_TRY(read_list(table, add, kind))) {
    if (std::binary_search(ids.begin(), ids.end(), id))
      return fail(Error::usage(fmt::format("'{}' adds '{}', which the version before has", add,
                                           FeatureCatalog::get(id).name))
                      .at(table.place(add)));
    ids.insert(std::upper_bound(ids.begin(), ids.end(), id), id);
  }
  for (const FeatureId id : VMM_TRY(read_list(table, remove, kind))) {
    const auto it = std::lower_bound(ids.begin(), ids.end(), id);
    if (it == ids.end() || *it != id)
      return fail(Error::usage(fmt::format("'{}' removes '{}', which the version before lacks",
                                           remove, FeatureCatalog::get(id).name))
                      .at(table.place(remove)));
    ids.erase(it);
  }
  return {};
}

Result<CpuCache> read_cache(const TomlTable& table) {
  VMM_TRY(table.only({"level", "type", "kib", "ways", "line", "shared-by"}));
  CpuCache cache;
  cache.level = static_cast<unsigned>(VMM_TRY(table.number("level", 1, 4)));
  cache.kib = static_cast<unsigned>(VMM_TRY(table.number("kib", 1, 1 << 20)));
  cache.ways = static_cast<unsigned>(VMM_TRY(table.number("ways", 1, 1024)));
  cache.line = static_cast<unsigned>(VMM_TRY(table.number("line", 16, 256)));
  const std::size_t type = VMM_TRY(table.choice("type", {"data", "instruction", "unified"}));
  cache.type = static_cast<CpuCache::Type>(type + 1);
  cache.shared_by = VMM_TRY(table.choice("shared-by", {"core", "socket"})) == 0
                        ? CpuCache::SharedBy::Core
                        : CpuCache::SharedBy::Socket;
  if (std::uint64_t{cache.kib} * 1024 % (std::uint64_t{cache.ways} * cache.line) != 0)
    return fail(Error::usage("the size is not a multiple of ways * line").at(table.place()));
  return cache;
}

// What may stand at the top and again in a version, from which on it holds.
Result<void> read_identity(const TomlTable& table, bool required, CpuModel& model) {
  const auto read = [&](std::string_view key, std::uint64_t low, std::uint64_t high,
                        auto& value) -> Result<void> {
    if (!required && !table.has(key)) return {};
    value = static_cast<std::remove_reference_t<decltype(value)>>(
        VMM_TRY(table.number(key, low, high)));
    return {};
  };
  VMM_TRY(read("family", 0, 15 + 255, model.family));
  VMM_TRY(read("model", 0, 255, model.model));
  VMM_TRY(read("stepping", 0, 15, model.stepping));
  VMM_TRY(read("max-leaf", 1, 0xff, model.max_leaf));
  VMM_TRY(read("max-ext-leaf", 0x80000008, 0x800000ff, model.max_ext_leaf));
  VMM_TRY(read("phys-bits", 32, 52, model.phys_bits));
  VMM_TRY(read("virt-bits", 48, 57, model.virt_bits));
  if (model.virt_bits != 48 && model.virt_bits != 57)
    return fail(Error::usage("'virt-bits' is 48 or 57: KVM accepts nothing else")
                    .at(table.place("virt-bits")));
  // 1.EAX spells families above 15 and models above 15 with its extended fields, which only family
  // 6 (Intel) and 15 up have.
  if (model.model > 15 && model.family != 6 && model.family < 15)
    return fail(Error::usage(fmt::format("model {} needs family 6 or 15 and more", model.model))
                    .at(table.place(table.has("model") ? "model" : "family")));
  if (table.has("phys-bits-policy")) {
    constexpr std::optional<CpuOverride::Kind> kWishes[] = {
        std::nullopt, CpuOverride::Kind::PhysExact, CpuOverride::Kind::PhysAtMost};
    model.width_wish =
        kWishes[VMM_TRY(table.choice("phys-bits-policy", {"model", "host-exact", "at-most-host"}))];
  }
  if (table.has("words")) model.raw = VMM_TRY(read_raw_words(table));
  if (table.has("msr")) model.msrs = VMM_TRY(read_msrs(table));
  if (table.has("caches")) {
    model.caches.clear();
    for (const TomlTable& cache : VMM_TRY(table.tables("caches", kMaxCaches)))
      model.caches.push_back(VMM_TRY(read_cache(cache)));
  }
  return {};
}

// `complete`: a first version that inherits nothing, and so has to say everything. `kvm`: the [kvm]
// before the versions, which is the first one's.
Result<void> read_version(const TomlTable& table, bool complete, std::optional<KvmSection> kvm,
                          PolicySections& policies, CpuModel& model) {
  VMM_TRY(table.only({"number",    "alias",
                      "brand",     "family",
                      "model",     "stepping",
                      "max-leaf",  "max-ext-leaf",
                      "phys-bits", "virt-bits",
                      "caches",    "features",
                      "svm",       "vmx",
                      "add",       "remove",
                      "svm-add",   "svm-remove",
                      "vmx-add",   "vmx-remove",
                      "vmx-fixed", "phys-bits-policy",
                      "words",     "msr",
                      "require",   "optional",
                      "forbid",    "kvm"}));
  const CpuModel before = model;
  const auto number = static_cast<unsigned>(VMM_TRY(table.number("number", 1, 999)));
  if (number <= model.version)
    return fail(
        Error::usage(fmt::format("version {} comes after version {}", number, model.version))
            .at(table.place("number")));
  model.version = number;
  model.alias.clear();
  if (table.has("alias")) {
    model.alias = VMM_TRY(table.string("alias", 48));
    if (!is_model_name(model.alias))
      return fail(Error::usage("an alias is lower case letters, digits, '-' and '.'")
                      .at(table.place("alias")));
  }
  if (complete || table.has("brand")) model.brand = VMM_TRY(table.string("brand", 48));
  VMM_TRY(read_identity(table, false, model));
  for (const std::string_view key : {"features", "svm", "vmx"})
    if (!complete && table.has(key))
      return fail(Error::usage(fmt::format("'{}' belongs to the first version of a model that "
                                           "inherits nothing; others say what they add and remove",
                                           key))
                      .at(table.place(key)));
  if (complete) {
    if (!table.has("features"))
      return fail(Error::usage("the first version needs 'features'").at(table.place()));
    model.features = VMM_TRY(read_list(table, "features", ListKind::Features));
    model.svm = VMM_TRY(read_list(table, "svm", ListKind::Svm));
    model.vmx = VMM_TRY(read_list(table, "vmx", ListKind::Vmx));
  }
  VMM_TRY(change_list(table, "add", "remove", ListKind::Features, model.features));
  VMM_TRY(change_list(table, "svm-add", "svm-remove", ListKind::Svm, model.svm));
  VMM_TRY(change_list(table, "vmx-add", "vmx-remove", ListKind::Vmx, model.vmx));
  if (table.has("kvm")) kvm = VMM_TRY(read_kvm_section(table));
  if (kvm) apply_kvm_section(*kvm, model);
  VMM_TRY(policies.read(table));
  VMM_TRY(policies.apply(before, model));
  for (const auto& [index, value] : model.msrs)
    if (const auto feature = announced_by(index);
        feature && !std::ranges::binary_search(model.features, *feature))
      return fail(
          Error::usage(fmt::format("{} means nothing without {}", fmt::format("MSR {:X}h", index),
                                   FeatureCatalog::get(*feature).name))
              .at(table.place(table.has("msr") ? "msr" : "number"))
              .hint(
                  fmt::format("put \"{}\" into the features", FeatureCatalog::get(*feature).name)));
  // 5-level paging is what makes linear addresses 57 bits wide (SDM Vol. 3A, 4.5).
  const FeatureId la57 = feature_id("la57");
  const bool wide = std::binary_search(model.features.begin(), model.features.end(), la57);
  if (wide != (model.virt_bits == 57))
    return fail(Error::usage(fmt::format("'virt-bits' is {} {} la57", model.virt_bits,
                                         wide ? "with" : "without"))
                    .at(table.place("virt-bits")));
  if (table.has("vmx-fixed"))
    model.vmx_fixed = VMM_TRY(read_list(table, "vmx-fixed", ListKind::Vmx));
  for (const FeatureId id : model.vmx_fixed) {
    const Feature& feature = FeatureCatalog::get(id);
    if (!is_vmx_control_msr(feature.place.word.index))
      return fail(Error::usage(fmt::format("'{}' ({}) is no control, so it cannot be fixed",
                                           feature.name, feature.place.text()))
                      .at(table.place("vmx-fixed")));
    if (!std::binary_search(model.vmx.begin(), model.vmx.end(), id))
      return fail(Error::usage(fmt::format("'vmx-fixed' has '{}', which 'vmx' lacks", feature.name))
                      .at(table.place("vmx-fixed")));
  }
  return {};
}

// What `inherits` names: one version of a built-in model, so that there is no chain to follow and
// the file means the same wherever it lies.
Result<CpuModel> read_base(const TomlTable& root, std::string_view name, ModelOrigin origin) {
  const std::string base = VMM_TRY(root.string("inherits", 60));
  const auto refuse = [&](std::string message, std::string hint) {
    return fail(Error::usage(std::move(message)).at(root.place("inherits")).hint(std::move(hint)));
  };
  if (origin == ModelOrigin::BuiltIn)
    return refuse("a built-in model says everything itself", "write its features out");
  if (model_file_of(base))
    return refuse(fmt::format("'inherits' names a built-in model, and '{}' is a file", base),
                  "vmm cpu list shows the models");
  if (base == name || base.starts_with(fmt::format("{}@", name)))
    return refuse(fmt::format("'{}' inherits itself", name),
                  "give the model a name that no built-in model has");
  if (lower(base) == "host")
    return refuse("'inherits' names the rule host, which is another CPU on each machine",
                  "vmm cpu dump-host, then vmm cpu baseline, makes a model of a host");
  auto model = find_cpu_model(base);
  if (!model) return fail(std::move(model).error().at(root.place("inherits")));
  // A bare name means one version for ever, but a reader of the file should see which.
  if (base.find('@') == std::string::npos)
    return refuse(fmt::format("'inherits' needs the version as well"),
                  fmt::format("write \"{}\"", model->full_name()));
  return model;
}

}  // namespace

std::string CpuModel::full_name() const { return fmt::format("{}@{}", name, version); }

const CpuModel* CpuModelFile::find(unsigned version) const {
  for (const CpuModel& model : versions)
    if (model.version == version) return &model;
  return nullptr;
}

Result<CpuModelFile> parse_cpu_model(std::string_view text, std::string_view file,
                                     ModelOrigin origin) {
  if (text.size() > kMaxFileSize)
    return fail(Error::usage("larger than 1 MiB, no CPU model").at(std::string(file)));
  const TomlDocument document = VMM_TRY(TomlDocument::parse(text, file));
  const TomlTable root = document.root();
  VMM_TRY(root.only({"schema",           "name",      "title",     "default",  "inherits",
                     "vendor",           "family",    "model",     "stepping", "max-leaf",
                     "max-ext-leaf",     "phys-bits", "virt-bits", "caches",   "version",
                     "phys-bits-policy", "words",     "msr",       "require",  "optional",
                     "forbid",           "kvm"}));
  VMM_TRY(root.number("schema", 1, 1));
  CpuModelFile result;
  result.name = VMM_TRY(root.string("name", 48));
  if (!is_model_name(result.name) || result.name == "host")
    return fail(Error::usage("'name' is lower case letters, digits, '-' and '.', and not 'host'")
                    .at(root.place("name")));
  CpuModel model;
  const bool inherits = root.has("inherits");
  if (inherits) {
    model = VMM_TRY(read_base(root, result.name, origin));
    result.inherits = model.full_name();
    model.version = 0;
  }
  model.name = result.name;
  model.title = result.title = VMM_TRY(root.string("title", 80));
  if (!inherits || root.has("vendor")) model.vendor = VMM_TRY(root.string("vendor", 12));
  if (model.vendor.size() != 12)
    return fail(Error::usage("'vendor' has 12 characters, as in leaf 0").at(root.place("vendor")));
  VMM_TRY(read_identity(root, !inherits, model));
  PolicySections policies;
  VMM_TRY(policies.read(root));
  result.default_version = static_cast<unsigned>(VMM_TRY(root.number("default", 1, 999)));
  std::optional<KvmSection> kvm;
  if (root.has("kvm")) kvm = VMM_TRY(read_kvm_section(root));
  for (const TomlTable& version : VMM_TRY(root.tables("version", kMaxVersions))) {
    VMM_TRY(read_version(version, result.versions.empty() && !inherits, kvm, policies, model));
    kvm.reset();
    result.versions.push_back(model);
  }
  if (result.versions.empty()) return fail(Error::usage("no [[version]]").at(root.place()));
  if (result.find(result.default_version) == nullptr)
    return fail(Error::usage(fmt::format("'default' names version {}, which is not there",
                                         result.default_version))
                    .at(root.place("default")));
  return result;
}

Result<CpuModelFile> parse_cpu_model(std::string_view text, std::string_view file) {
  return parse_cpu_model(text, file, ModelOrigin::File);
}

Result<CpuModelFile> read_cpu_model(const std::string& path) {
  const auto bytes = VMM_TRY(read_file(path, kMaxFileSize, ErrorKind::Usage));
  return parse_cpu_model({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, path);
}

}  // namespace vmm
