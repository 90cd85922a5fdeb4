// One run of a bisection: `vmm run` in a child process, and the verdict out of its outcome.
#pragma once

#include <string>
#include <vector>

#include "vmm/base/result.h"

namespace vmm {

// How a run ended, as far as two runs can be told apart by it.
struct RunVerdict {
  std::string kind;  // ending.kind, or "vmm-died" where vmm left no outcome
  int code = 0;      // exit code, or 128 + the signal that vmm died of
  std::string rule;  // the rule that named the cause of a death; may be empty
  std::string headline;
  // "guest-exit, exit code 3", "triple-fault (pdpte-ps-without-pdpe1gb), exit code 80"
  std::string text() const;
  // Nothing ran: no verdict on a CPU.
  bool not_started() const { return kind == "not-started"; }
  bool same(const RunVerdict& other) const {
    return kind == other.kind && code == other.code && rule == other.rule;
  }
};

// Reads a document of `vmm run --outcome-json`; an Internal error for anything else.
Result<RunVerdict> parse_run_verdict(const std::string& outcome);

struct BisectRunSpec {
  std::vector<std::string> options;  // of `vmm run`
  std::vector<std::string> guest;    // the kernel and its arguments
  double timeout = 0;                // seconds; the run's own --timeout
};

// The words of `vmm run` under the CPU model `selection`, argv[0] aside.
std::vector<std::string> bisect_run_words(const BisectRunSpec& spec, const std::string& selection,
                                          const std::string& outcome);

// Runs the guest under the model file `model_text`, with `suffix` (",+vmx") behind its name. Errors
// of kind Host when a signal stops the run, and Lab when the child hangs or cannot be started.
Result<RunVerdict> run_under_model(const BisectRunSpec& spec, const std::string& model_text,
                                   const std::string& suffix);

}  // namespace vmm
