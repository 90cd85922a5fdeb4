// The names of CPU features: which bit of which CPUID register or capability MSR each one is.
//
// The table comes from cpu-models/features.toml, turned into constants at build time.
#pragma once

#include <compare>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/base/result.h"
#include "vmm/core/cpuid_table.h"

namespace vmm {

// A CPUID register or a capability MSR.
struct FeatureWord {
  bool is_msr = false;
  std::uint32_t index = 0;       // CPUID leaf, or MSR index
  std::uint32_t subleaf = 0;     // CPUID only
  CpuidReg reg = CpuidReg::Eax;  // CPUID only
  // clang-tidy 14 takes a 0 in what the compiler writes here for a null pointer.
  auto operator<=>(const FeatureWord&) const = default;  // NOLINT(modernize-use-nullptr)

  std::string text() const;  // "7.0.EBX", "MSR 10A"
};

// One bit of a word: 0 to 31 of a CPUID register, 0 to 63 of an MSR.
struct FeaturePlace {
  FeatureWord word;
  unsigned bit = 0;
  auto operator<=>(const FeaturePlace&) const = default;  // NOLINT(modernize-use-nullptr)

  std::string text() const;  // "7.0.EBX[5]", "MSR 10A[0]"
};

// Index into the catalog: stable within one build only.
using FeatureId = std::uint16_t;

struct Feature {
  std::string_view name;
  std::string_view what;  // a few words for people; may be empty
  FeaturePlace place;
  std::span<const FeatureId> needs;  // what must be there for this one to work (direct only)
  // The first Linux whose KVM offers it to guests: "6.8"; "<=5.10" where 5.10 has it and an older
  // one may; "never"; empty where it is not known.
  std::string_view kvm_since;
};

// The features of features.toml, in the order of their words and bits.
class FeatureCatalog {
 public:
  static std::span<const Feature> all();
  static const Feature& get(FeatureId id) { return all()[id]; }

  // By name or alias; case does not count and '_' is '-'. "vmx.ept" and "svm.npt" are understood.
  static std::optional<FeatureId> find(std::string_view name);
  // The closest name or alias to a misspelt one.
  static std::optional<std::string> nearest(std::string_view name);
  static std::optional<FeatureId> at(const FeaturePlace& place);
  // Every word with a named bit, in order.
  static std::vector<FeatureWord> words();
  // The named bits of one word, lowest first.
  static std::vector<FeatureId> in_word(const FeatureWord& word);
  // Whether `id` needs `other`, directly or through others.
  static bool needs(FeatureId id, FeatureId other);
  // Features that need `id`, directly or through others, in catalog order. `id` is not among them.
  static std::vector<FeatureId> dependants(FeatureId id);
};

// "since Linux 6.8", "since Linux 5.10 or before", "up to Linux 6.18 never"; empty where it is not
// known.
std::string kvm_since_text(const Feature& feature);
// Whether `kernel` (uname -r) comes before the first that is known to offer the feature.
bool is_too_old(std::string_view kernel, const Feature& feature);
constexpr std::string_view kNewestKnownKernel = "6.18";  // of features.toml

// By name or alias; a Usage error with the nearest one for what is misspelt.
Result<FeatureId> find_feature(std::string_view name);

// A known feature's id; a check for names that this source spells itself.
FeatureId feature_id(std::string_view name);

// "pdpe1gb", or "7.0.EBX[13]" for a bit without a name.
std::string bit_name(const FeaturePlace& place);

// "pdpe1gb" for leaf 80000001h, EDX, 26; nothing for a bit without a name.
std::optional<std::string> feature_name(CpuidKey key, CpuidReg reg, unsigned bit);

// True when the named CPUID feature is set in `table`; false for unknown names and MSR bits.
bool has_feature(const CpuidTable& table, std::string_view name);

}  // namespace vmm
