// The verdict on a cell of a matrix: the words that every report uses.
#pragma once

#include <array>
#include <optional>
#include <string_view>

namespace vmm {

enum class Verdict {
  Pass,     // ended as expected
  Fail,     // ended otherwise, or a line is missing, forbidden, or a sub-result failed
  XFail,    // failed, as the matrix says it would
  XPass,    // passed although the matrix says that it fails
  Skip,     // this host cannot provide what the cell asks for
  Timeout,  // a time limit struck
  Crash,    // the guest died: triple fault, KVM internal error, every vCPU halted for good
  Flaky,    // failed at first, passed when repeated
  Infra,    // no verdict on the guest: a lab died, memory ran out, a fault of vmm's
};

inline constexpr std::array kVerdicts = {Verdict::Pass,  Verdict::Fail,  Verdict::XFail,
                                         Verdict::XPass, Verdict::Skip,  Verdict::Timeout,
                                         Verdict::Crash, Verdict::Flaky, Verdict::Infra};

// "PASS", "FAIL", "XFAIL", "XPASS", "SKIP", "TIMEOUT", "CRASH", "FLAKY", "INFRA".
std::string_view verdict_word(Verdict verdict);
std::optional<Verdict> verdict_of(std::string_view word);
// What makes `vmm matrix run` end with 1: FAIL, XPASS, TIMEOUT and CRASH. FLAKY does so on request,
// INFRA has a code of its own.
bool is_failure(Verdict verdict);

}  // namespace vmm
