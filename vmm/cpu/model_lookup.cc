// Which model a name means: built-in ones, their versions and aliases, and files of the user's.
#include <fmt/format.h>

#include <map>
#include <optional>

#include "vmm/base/guarded.h"
#include "vmm/base/text.h"
#include "vmm/cpu/builtin.h"
#include "vmm/cpu/cpu_model.h"
#include "vmm/cpu/model_origin.h"

namespace vmm {
namespace {

// "name@7" into name and 7; the number is absent without '@'.
struct NameAndVersion {
  std::string_view name;
  std::optional<std::string_view> version;
};

NameAndVersion split_version(std::string_view selection) {
  const std::size_t at = selection.rfind('@');
  if (at == std::string_view::npos) return {selection, std::nullopt};
  // An '@' within the path of a file is a letter like any other.
  if (selection.find('/', at) != std::string_view::npos) return {selection, std::nullopt};
  if (selection.ends_with(".toml")) return {selection, std::nullopt};
  return {selection.substr(0, at), selection.substr(at + 1)};
}

Error unknown_model(std::string_view name) {
  std::vector<std::string> names = builtin_cpu_models();
  names.emplace_back("host");
  for (const builtin::Alias& alias : builtin::model_aliases()) names.emplace_back(alias.name);
  Error error = Error::usage(fmt::format("unknown CPU model '{}'", printable(name, 60)));
  if (const auto near = nearest_name(name, names))
    return std::move(error).hint(fmt::format("did you mean '{}'?", *near));
  return std::move(error).hint("vmm cpu list shows the models; or name a file: ./my-model.toml");
}

// The version after the '@', if there is one.
Result<std::optional<unsigned>> check_version(std::string_view selection) {
  const std::optional<std::string_view> text = split_version(selection).version;
  if (!text) return std::optional<unsigned>();
  const auto number = parse_number(*text);
  if (!number || *number == 0 || *number > 999)
    return fail(Error::usage(fmt::format("'{}': the version after '@' is a number from 1 to 999",
                                         printable(selection, 80))));
  return std::optional<unsigned>(static_cast<unsigned>(*number));
}

const builtin::TextFile* builtin_file(std::string_view name) {
  const std::string wanted = dashed(name);
  for (const builtin::TextFile& file : builtin::model_files())
    if (file.name == wanted) return &file;
  return nullptr;
}

// A file that is built in is a constant: it is parsed when it is first asked for, and never again.
Result<CpuModelFile> parse_builtin(const builtin::TextFile& file) {
  static Guarded<std::map<std::string_view, CpuModelFile>> parsed;
  auto known = parsed.lock();
  if (const auto it = known->find(file.name); it != known->end()) return it->second;
  CpuModelFile model = VMM_TRY(parse_cpu_model(file.text, file.path, ModelOrigin::BuiltIn));
  return known->emplace(file.name, std::move(model)).first->second;
}

}  // namespace

std::optional<std::string> model_file_of(std::string_view selection) {
  const std::string_view name = split_version(selection).name;
  if (name.find('/') == std::string_view::npos && !name.ends_with(".toml")) return std::nullopt;
  return std::string(name);
}

std::vector<std::string> builtin_cpu_models() {
  std::vector<std::string> names;
  for (const builtin::TextFile& file : builtin::model_files()) names.emplace_back(file.name);
  return names;
}

Result<CpuModelFile> builtin_cpu_model(std::string_view name) {
  const builtin::TextFile* file = builtin_file(name);
  if (file == nullptr) return fail(unknown_model(name));
  return parse_builtin(*file);
}

Result<CpuModelFile> find_cpu_model_file(std::string_view selection) {
  const std::string_view name = split_version(selection).name;
  if (const auto path = model_file_of(selection)) return read_cpu_model(*path);
  if (builtin_file(name) != nullptr) return builtin_cpu_model(name);
  // Not a model of its own: another name of one version?
  const std::string wanted = dashed(name);
  for (const builtin::Alias& alias : builtin::model_aliases()) {
    if (alias.name != wanted) continue;
    CpuModelFile parsed = VMM_TRY(builtin_cpu_model(alias.model));
    for (const CpuModel& model : parsed.versions)
      if (model.alias == alias.name) parsed.default_version = model.version;
    return parsed;
  }
  return fail(unknown_model(name));
}

Result<CpuModel> find_cpu_model(std::string_view selection) {
  VMM_TRY(check_version(selection));
  return version_of(VMM_TRY(find_cpu_model_file(selection)), selection);
}

Result<CpuModel> version_of(const CpuModelFile& file, std::string_view selection) {
  const std::optional<unsigned> wanted = VMM_TRY(check_version(selection));
  const std::string_view name = split_version(selection).name;
  // An alias is one version already.
  const bool alias = !model_file_of(name) && builtin_file(name) == nullptr;
  if (alias && wanted)
    return fail(Error::usage(fmt::format("'{}' is another name of {}@{} and has no versions",
                                         dashed(name), file.name, file.default_version)));
  const CpuModel* model = file.find(wanted.value_or(file.default_version));
  if (model == nullptr) {
    std::vector<unsigned> numbers;
    for (const CpuModel& version : file.versions) numbers.push_back(version.version);
    return fail(Error::usage(fmt::format("{} has no version {}", file.name, *wanted))
                    .hint(fmt::format("there are {}", fmt::join(numbers, ", "))));
  }
  return *model;
}

}  // namespace vmm
