// What is wrong with a CPU by itself, before any host is asked: bits that contradict each other,
// VMX controls without their instructions and instructions without their controls.
#pragma once

#include <string>
#include <vector>

#include "vmm/cpu/words.h"

namespace vmm {

struct LintFinding {
  // Error: no such CPU can be, or what it says cannot be used. Warning: what it says leads astray.
  // Note: worth knowing, and usual.
  enum class Level { Error, Warning, Note };
  Level level = Level::Note;
  std::string rule;    // "vmx-pair", "needs", ...: stable
  std::string what;    // the fact, then its consequence
  std::string remedy;  // may be empty
  std::vector<FeatureId> about;
  bool operator==(const LintFinding&) const = default;
};
std::string_view lint_level_name(LintFinding::Level level);  // "error", "warning", "note"

// `words` are resolved (derive() has run) and have the nested capabilities on that are to be
// judged. Errors first, then warnings, then notes.
std::vector<LintFinding> lint_cpu(const CpuWords& words);

// Of those, what gives a hypervisor's guest #UD where the hypervisor itself has the instruction:
// easily taken for a bug of its own. Nothing where `words` have no VMX.
std::vector<LintFinding> undefined_under_vmx(const CpuWords& words);

// What a model file says beside its words: wishes that contradict each other, quirks of KVM that go
// against the features, and, as notes, numbers that nobody can judge. Errors and warnings first.
std::vector<LintFinding> lint_sections(const ResolvedCpu& cpu);

// What `words` hide that this silicon executes all the same: instructions that no control can take
// away (SDM and APM know none), so that a guest that tries them instead of asking CPUID finds them.
std::vector<FeatureId> hidden_not_removed(const CpuWords& words, const CpuidTable& silicon);

}  // namespace vmm
