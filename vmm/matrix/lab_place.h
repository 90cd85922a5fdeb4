// Labs that a run of a matrix needs: each is booted by `vmm lab start`, feeds many cells by `vmm
// lab exec`, and is gone when the run is, however that ends.
#pragma once

#include <sys/types.h>

#include <memory>
#include <string>
#include <vector>

#include "vmm/base/fd.h"
#include "vmm/base/process.h"
#include "vmm/base/result.h"

namespace vmm {

// A process of its own that stops labs: those it is told of, and all that are left when this
// process is gone, be it by SIGKILL.
class LabGuard {
 public:
  LabGuard() = default;
  LabGuard(const LabGuard&) = delete;
  LabGuard& operator=(const LabGuard&) = delete;
  // Stops what is left and waits for that.
  ~LabGuard();

  Result<void> watch(const std::string& name);
  void stop(const std::string& name);

 private:
  Result<void> start();
  void say(char what, const std::string& name);

  Fd pipe_;
  pid_t pid_ = -1;
};

// One lab.
class LabPlace {
 public:
  LabPlace(std::string on, std::string parameters)
      : on_(std::move(on)), parameters_(std::move(parameters)) {}

  enum class State { Down, Starting, Up, Failed };
  State state() const { return state_; }
  // Begins to boot it under a name that no other has.
  Result<void> start(LabGuard& guard);
  // Starting: looks whether it is up. True when the state changed.
  bool step();
  void stop(LabGuard& guard);

  const std::string& on() const { return on_; }
  const std::string& parameters() const { return parameters_; }
  // "svm, npt=0".
  std::string text() const;
  // Words in front of "run" that take a command there.
  std::vector<std::string> prefix() const { return {"lab", "exec", "--name", name_, "--"}; }
  // Why it failed, and the code that `vmm lab start` left: 75, or 76 where the backend is missing.
  const std::string& failure() const { return failure_; }
  int failure_code() const { return failure_code_; }
  int poll_fd() const { return starter_ ? starter_->pidfd().get() : -1; }
  int output_fd() const { return starter_ ? starter_->output().fd() : -1; }

 private:
  std::string on_;
  std::string parameters_;
  State state_ = State::Down;
  std::string name_;
  std::string failure_;
  int failure_code_ = 0;
  unsigned tries_ = 0;
  std::unique_ptr<ChildProcess> starter_;
};

}  // namespace vmm
