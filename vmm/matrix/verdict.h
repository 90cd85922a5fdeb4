// The verdict on a cell of a matrix: the words that every report uses.
#pragma once

#include <array>
#include <optional>
#include <string_view>

namespace vmm {

enum class CellVerdict {
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

inline constexpr std::array kVerdicts = {
    CellVerdict::Pass,  CellVerdict::Fail,  CellVerdict::XFail,
    CellVerdict::XPass, CellVerdict::Skip,  CellVerdict::Timeout,
    CellVerdict::Crash, CellVerdict::Flaky, CellVerdict::Infra};

// "PASS", "FAIL", "XFAIL", "XPASS", "SKIP", "TIMEOUT", "CRASH", "FLAKY", "INFRA".
std::string_view verdict_word(CellVerdict verdict);
std::optional<CellVerdict> verdict_of(std::string_view word);
// What makes `vmm matrix run` end with 1: FAIL, XPASS, TIMEOUT and CRASH. FLAKY does so on request,
// INFRA has a code of its own.
bool is_failure(CellVerdict verdict);

}  // namespace vmm
