// What the build turns into constants: features.toml as a table, the model files as texts
// (cpu-models/, through embed.cc). Only features.cc and cpu_model.cc look in here.
#pragma once

#include <span>
#include <string_view>

#include "vmm/cpu/features.h"

namespace vmm::builtin {

struct NamedId {
  std::string_view name;
  FeatureId id;
};

struct TextFile {
  std::string_view name;  // "haswell"
  std::string_view path;  // "cpu-models/haswell.toml"
  std::string_view text;
};

struct Alias {
  std::string_view name;   // "haswell-notsx"
  std::string_view model;  // "haswell", one of whose versions it is
};

std::span<const Feature> features();
std::span<const NamedId> feature_names();  // names and aliases, sorted
std::span<const TextFile> model_files();   // sorted by name
std::span<const Alias> model_aliases();    // sorted by name

}  // namespace vmm::builtin
