// SIGINT, SIGTERM and SIGHUP as something to wait for.
#pragma once

#include <csignal>
#include <optional>

#include "vmm/base/fd.h"
#include "vmm/base/result.h"

namespace vmm {

// From take() on these signals end nothing by themselves; unblocked again when it goes.
class StopSignals {
 public:
  static Result<StopSignals> take();
  StopSignals(StopSignals&&) = default;
  ~StopSignals();

  // Readable when one has come.
  int fd() const { return fd_.get(); }
  std::optional<int> taken() const;

 private:
  StopSignals() = default;
  sigset_t set_{};
  sigset_t before_{};
  Fd fd_;
};

}  // namespace vmm
