#include "vmm/matrix/verdict.h"

namespace vmm {

std::string_view verdict_word(Verdict verdict) {
  switch (verdict) {
    case Verdict::Pass:
      return "PASS";
    case Verdict::Fail:
      return "FAIL";
    case Verdict::XFail:
      return "XFAIL";
    case Verdict::XPass:
      return "XPASS";
    case Verdict::Skip:
      return "SKIP";
    case Verdict::Timeout:
      return "TIMEOUT";
    case Verdict::Crash:
      return "CRASH";
    case Verdict::Flaky:
      return "FLAKY";
    case Verdict::Infra:
      return "INFRA";
  }
  return "INFRA";
}

std::optional<Verdict> verdict_of(std::string_view word) {
  for (const Verdict verdict : kVerdicts)
    if (verdict_word(verdict) == word) return verdict;
  return std::nullopt;
}

bool is_failure(Verdict verdict) {
  return verdict == Verdict::Fail || verdict == Verdict::XPass || verdict == Verdict::Timeout ||
         verdict == Verdict::Crash;
}

}  // namespace vmm
