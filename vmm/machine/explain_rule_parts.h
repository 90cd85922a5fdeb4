// What the files of rules share, and the rules of each, in the order in which they are asked.
#pragma once

#include <fmt/format.h>

#include <span>

#include "vmm/core/uapi.h"
#include "vmm/machine/explain_rules.h"

namespace vmm {

// The ending itself names the cause: a failed entry, a machine at rest, no time left.
std::span<const Rule> ending_rules();
// Where RIP is and what it takes to run on from there: page tables, lost control, KVM's emulator.
std::span<const Rule> code_rules();
// An exception that nobody could take.
std::span<const Rule> fault_rules();

// SVM has reset the registers, and tables in memory give the cause away (explain_rules_lost.cc).
std::optional<Verdict> tables_found(const Facts& facts);

using MaybeVerdict = std::optional<Verdict>;

template <typename Ending>
bool ended_by(const Facts& f) {
  return std::holds_alternative<Ending>(f.scene.outcome);
}
inline bool suberror_is(const Facts& f, std::uint32_t suberror) {
  const auto* failure = std::get_if<ending::InternalFailure>(&f.scene.outcome);
  return failure != nullptr && failure->error.suberror == suberror;
}
// Endings that the instruction at RIP can have caused.
inline bool is_crash(const Facts& f) {
  return f.cpu != nullptr &&
         (ended_by<ending::TripleFault>(f) || suberror_is(f, KVM_INTERNAL_ERROR_EMULATION));
}
inline bool is_pvm(const Facts& f) { return f.scene.kvm_backend == "pvm"; }

inline std::string kvm_name(const Facts& f) {
  return f.scene.kvm_backend.empty() ? "KVM" : fmt::format("KVM ({})", f.scene.kvm_backend);
}
// What to try where L2 lacks an instruction for want of a control.
inline std::vector<std::string> denied_tries() {
  return {"a CPU model that has the control, or one without the instruction",
          "or let the hypervisor hide the CPUID bit from its guest where it lacks the control"};
}
// "PDPTE[0] at 101000h = 83h".
std::string step_text(const WalkStep& step);
// What to try where a model lacks pdpe1gb: the options that give it.
std::string models_with_pdpe1gb(const Facts& f);

}  // namespace vmm
