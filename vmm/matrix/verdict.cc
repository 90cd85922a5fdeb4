#include "vmm/matrix/verdict.h"

namespace vmm {

std::string_view verdict_word(CellVerdict verdict) {
  switch (verdict) {
    case CellVerdict::Pass:
      return "PASS";
    case CellVerdict::Fail:
      return "FAIL";
    case CellVerdict::XFail:
      return "XFAIL";
    case CellVerdict::XPass:
      return "XPASS";
    case CellVerdict::Skip:
      return "SKIP";
    case CellVerdict::Timeout:
      return "TIMEOUT";
    case CellVerdict::Crash:
      return "CRASH";
    case CellVerdict::Flaky:
      return "FLAKY";
    case CellVerdict::Infra:
      return "INFRA";
  }
  return "INFRA";
}

std::optional<CellVerdict> verdict_of(std::string_view word) {
  for (const CellVerdict verdict : kVerdicts)
    if (verdict_word(verdict) == word) return verdict;
  return std::nullopt;
}

bool is_failure(CellVerdict verdict) {
  return verdict == CellVerdict::Fail || verdict == CellVerdict::XPass ||
         verdict == CellVerdict::Timeout || verdict == CellVerdict::Crash;
}

}  // namespace vmm
