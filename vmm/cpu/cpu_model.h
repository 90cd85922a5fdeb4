// A CPU model: what a file under cpu-models/ (or a user's own) says, as values. Pure: no host.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/base/result.h"
#include "vmm/core/quirks.h"
#include "vmm/cpu/features.h"
#include "vmm/cpu/selection.h"

namespace vmm {

struct CpuCache {
  enum class Type { Data = 1, Instruction = 2, Unified = 3 };  // as in leaf 4 EAX[4:0]
  enum class SharedBy { Core, Socket };
  unsigned level = 1;  // 1 to 4
  Type type = Type::Unified;
  unsigned kib = 0;    // 1 to 1048576
  unsigned ways = 0;   // 1 to 1024
  unsigned line = 64;  // bytes
  SharedBy shared_by = SharedBy::Core;
  bool operator==(const CpuCache&) const = default;
};

// What holds for a feature whatever --cpu-policy says, as require:, optional: and forbid: of a
// selection.
struct CpuWish {
  FeatureId feature = 0;
  CpuOverride::Kind kind = CpuOverride::Kind::Require;  // or Optional, Forbid
  std::string group;                                    // what the file calls it: "simd"
  bool operator==(const CpuWish&) const = default;
};

// Bits of a CPUID register that no name stands for.
struct CpuRawWord {
  FeatureWord word;
  std::uint32_t mask = 0xffffffff;
  std::uint32_t value = 0;  // within the mask
  bool operator==(const CpuRawWord&) const = default;
};

// One version of a model. Feature lists are sorted and hold nothing twice.
struct CpuModel {
  std::string name;  // "haswell"
  unsigned version = 0;
  std::string alias;      // another name of this very version: "haswell-notsx"; may be empty
  std::string title;      // what it is, in words
  std::string vendor;     // 12 characters of leaf 0
  std::string brand;      // at most 48 characters, leaves 80000002h-4
  unsigned family = 0;    // display family, 0 to 270
  unsigned model = 0;     // display model, 0 to 255
  unsigned stepping = 0;  // 0 to 15
  std::uint32_t max_leaf = 0;
  std::uint32_t max_ext_leaf = 0;
  unsigned phys_bits = 0;  // 32 to 52
  unsigned virt_bits = 0;  // 48 or 57
  std::vector<CpuCache> caches;
  std::vector<FeatureId> features;
  std::vector<FeatureId> svm;        // bits of 8000000A.EDX that come with +svm
  std::vector<FeatureId> vmx;        // controls that come with +vmx
  std::vector<FeatureId> vmx_fixed;  // those of them that a guest hypervisor cannot clear
  std::vector<CpuRawWord> raw;       // by register, each once
  std::map<std::uint32_t, std::uint64_t> msrs;  // feature MSRs, less the bits that have a name
  // By feature, each once. What is required or optional is in the lists above, what is forbidden is
  // not.
  std::vector<CpuWish> wishes;
  std::optional<CpuOverride::Kind> width_wish;  // PhysExact, PhysAtMost
  // KVM's quirks that a guest is to be without (vmm/core/quirks.h).
  std::uint32_t quirks_off = usual_quirks_off();

  bool operator==(const CpuModel&) const = default;

  std::string full_name() const;  // "haswell@4"
};

struct CpuModelFile {
  std::string name;
  std::string title;
  std::string inherits;  // "haswell@4", of which the versions say the differences; may be empty
  unsigned default_version = 0;
  std::vector<CpuModel> versions;  // at least one, numbers rising

  const CpuModel* find(unsigned version) const;
};

// Reads a model file. Usage errors carry FILE:LINE:COLUMN and the nearest name for what is
// misspelt. `file` is only used in messages.
Result<CpuModelFile> parse_cpu_model(std::string_view text, std::string_view file);

// A file of at most 1 MiB from disk.
Result<CpuModelFile> read_cpu_model(const std::string& path);

// The names of the models that are built in, sorted ("host" is a rule and not among them).
std::vector<std::string> builtin_cpu_models();
// One of them, by name (case does not count); Usage error with the nearest name.
Result<CpuModelFile> builtin_cpu_model(std::string_view name);

// The path in a selection that names a file (it has a '/' or ends in .toml, "@VERSION" aside).
std::optional<std::string> model_file_of(std::string_view selection);

// "haswell", "Haswell@2", "haswell-notsx", "./my.toml", "my.toml@3": the version that is meant. A
// name with a '/' or ending in .toml is a file.
Result<CpuModel> find_cpu_model(std::string_view selection);
// The same of a file that find_cpu_model_file() gave for the selection.
Result<CpuModel> version_of(const CpuModelFile& file, std::string_view selection);
// The file it is in; for an alias `default_version` is the version that the alias means.
Result<CpuModelFile> find_cpu_model_file(std::string_view selection);

}  // namespace vmm
