// What the probe's guest is asked about a CPU, and the answers it left, read with distrust.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/base/result.h"
#include "vmm/cpu/features.h"
#include "vmm/cpu/resolve.h"
#include "vmm/probe/exercises.h"
#include "vmm/probe/protocol.h"

namespace vmm {

// One question and what came of it: an answer, or how the guest ended when it tried.
struct ProbeAnswer {
  probe::Question question{};
  std::optional<probe::Answer> answer;
  std::string ending;  // "KVM internal error ..."; empty while not asked, and with an answer

  bool open() const { return !answer && ending.empty(); }
};

// Every question about `cpu`, set-up first: CPUID leaves up to its limits and one subleaf further
// than it has, the capability MSRs, the exercises and, with VMX, each control. At most
// probe::kMaxQuestions.
std::vector<ProbeAnswer> probe_questions(const ResolvedCpu& cpu);

// "vmx" or "svm" for a feature that is a part of it, where `cpu` does not have it: not worth a
// question.
std::optional<std::string_view> missing_parent(const ResolvedCpu& cpu, FeatureId feature);

// The bytes of a mailbox with the open questions of `answers`, and with those of kind Setup that
// did not end a guest. `asked` gets their indices, in the mailbox's order.
std::vector<std::uint8_t> make_mailbox(std::span<const ProbeAnswer> answers,
                                       std::vector<std::size_t>& asked);

// Takes the guest's answers from `mailbox` into `answers`. Gives the index of the question that was
// under way, if one was. Only the answers are read, never the questions; an Internal error for what
// cannot be an answer.
Result<std::optional<std::size_t>> take_answers(std::span<const std::uint8_t> mailbox,
                                                std::span<const std::size_t> asked,
                                                std::vector<ProbeAnswer>& answers);

}  // namespace vmm
