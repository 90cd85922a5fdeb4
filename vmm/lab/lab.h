// A lab that is up: an emulator with Linux and KVM in it, and the session with its agent.
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "vmm/base/result.h"
#include "vmm/lab/emulator.h"
#include "vmm/lab/session.h"
#include "vmm/lab/spec.h"

namespace vmm {

// "Linux 6.1.0-56-cloud-amd64 with kvm_intel in Bochs"
std::string lab_description(LabBackend backend, const LabHello& hello);

class Lab {
 public:
  struct Options {
    // Wall-clock time without a sign of life after which a lab is taken for dead.
    std::chrono::seconds patience{120};
    // When readable, the boot is given up.
    int cancel = -1;
    // When readable, then or at any later time, the lab is given up, whatever runs in it.
    int stop = -1;
  };

  // Finds the kernel, builds the image, starts the emulator and waits for its agent. Errors: Usage,
  // NoLab, Lab (also when cancelled).
  static Result<std::unique_ptr<Lab>> boot(const LabSpec& spec, const Options& options);
  // The last part of it: waits for the agent of an emulator that runs.
  static Result<std::unique_ptr<Lab>> join(LabBackend backend, std::unique_ptr<Emulator> emulator,
                                           const Options& options);

  // A lab of parts that are up already.
  Lab(LabBackend backend, std::unique_ptr<Emulator> emulator, std::unique_ptr<LabSession> session)
      : backend_(backend), emulator_(std::move(emulator)), session_(std::move(session)) {}

  const LabHello& hello() const { return session_->hello(); }
  std::string description() const { return lab_description(backend_, hello()); }
  // As LabSession::execute(). After an error that is final healthy() is false.
  Result<LabExit> execute(const LabCommand& command, const LabStreams& streams, int cancel);
  bool healthy() const { return !session_->broken(); }
  void set_patience(std::chrono::seconds patience) { session_->set_patience(patience); }
  // As Emulator::save(). Between commands.
  Result<void> save(const Fd& file);
  // Whether it still answers, as it should at once: before a command is entrusted to it. An error
  // (kind Lab) says why not, and is final.
  Result<void> check();
  // Between commands: takes no processor time. Only where the clock inside is simulated; a kernel
  // whose clock jumps complains of stalls.
  void pause();
  void resume();

 private:
  LabBackend backend_;
  std::unique_ptr<Emulator> emulator_;
  std::unique_ptr<LabSession> session_;  // uses the emulator's channel
  bool paused_ = false;
};

// The memory of a lab for which --lab-mem says nothing, in bytes.
std::uint64_t default_lab_memory(LabBackend backend);

}  // namespace vmm
