// The virtual machine's clock: it starts at 0 and stands still while the machine is paused.
#pragma once

#include <chrono>

#include "vmm/base/units.h"

namespace vmm {

class Clock {
 public:
  virtual ~Clock() = default;
  virtual VmTime now() const = 0;
};

// Follows the host's monotonic clock; not safe for use from several threads without a lock.
class HostClock final : public Clock {
 public:
  HostClock() : started_(std::chrono::steady_clock::now()) {}
  VmTime now() const override {
    return paused_ ? stood_still_at_ : std::chrono::steady_clock::now() - started_;
  }
  // What this clock said at a moment of the host's, which was not before the last resume().
  VmTime at(std::chrono::steady_clock::time_point moment) const { return moment - started_; }
  void pause() {
    stood_still_at_ = now();
    paused_ = true;
  }
  // Another moment of the machine's life, while it is paused.
  void set(VmTime time) { stood_still_at_ = time; }
  void resume() {
    if (paused_) started_ = std::chrono::steady_clock::now() - stood_still_at_;
    paused_ = false;
  }

 private:
  std::chrono::steady_clock::time_point started_;
  VmTime stood_still_at_{0};
  bool paused_ = false;
};

// Set by hand, for tests.
class ManualClock final : public Clock {
 public:
  VmTime now() const override { return time; }
  VmTime time{0};
};

}  // namespace vmm
