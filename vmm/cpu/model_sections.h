// The parts of a model file that say more than which features are on: what holds for a feature
// whatever the policy says.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/base/result.h"
#include "vmm/cpu/cpu_model.h"
#include "vmm/cpu/toml_table.h"

namespace vmm {

// Bits that follow from other things and are therefore never written in a model, with the reason.
std::optional<std::string_view> why_not_in_model(std::string_view feature);

// [require], [optional] and [forbid] of a model file: tables of named groups of features. One that
// stands in a version takes the place of the one before, like everything else in a version.
class PolicySections {
 public:
  static constexpr std::string_view kNames[] = {"require", "optional", "forbid"};

  Result<void> read(const TomlTable& table);
  // Into a model whose lists have been read: what is required or optional is on, what is forbidden
  // is off with what needs it. `before` is the version before; an error where this version itself
  // says otherwise.
  Result<void> apply(const CpuModel& before, CpuModel& model) const;

 private:
  struct Entry {
    CpuWish wish;
    std::string place;
  };
  Result<void> read_groups(const TomlTable& table, CpuOverride::Kind kind);
  Result<void> forbid(const Entry& entry, const CpuModel& before, CpuModel& model) const;

  std::vector<Entry> entries_;
};

// The features that a section of a model holds, by group, as the text of its table; "" where none.
std::string policy_sections_text(const std::vector<CpuWish>& wishes);
// The same of those sections alone that are not as in `others`, empty ones included.
std::string policy_changes_text(const std::vector<CpuWish>& wishes,
                                const std::vector<CpuWish>& others);

// "require", "optional" or "forbid".
std::string_view section_of(CpuOverride::Kind kind);

}  // namespace vmm
