#include "vmm/lab/lab.h"

#include <fmt/format.h>
#include <poll.h>

#include "vmm/base/units.h"
#include "vmm/lab/agent_image.h"
#include "vmm/lab/backends.h"
#include "vmm/lab/lab_image.h"

namespace vmm {
namespace {

bool is_readable(int fd) {
  pollfd polled = {.fd = fd, .events = POLLIN, .revents = 0};
  return fd >= 0 && ::poll(&polled, 1, 0) > 0;
}

}  // namespace

std::uint64_t default_lab_memory(LabBackend backend) {
  return backend == LabBackend::Svm ? 2_GiB : 1_GiB;
}

std::string lab_description(LabBackend backend, const LabHello& hello) {
  return fmt::format("Linux {} with {} in {}", hello.release,
                     backend == LabBackend::Svm ? "kvm_amd" : "kvm_intel",
                     backend == LabBackend::Svm ? "QEMU" : "Bochs");
}

Result<std::unique_ptr<Lab>> Lab::boot(const LabSpec& spec, const Options& options) {
  // Asked first: without an emulator nobody wants to wait for a kernel to be fetched.
  VMM_TRY(require_backend(spec.backend));
  LabSpec known = spec;
  if (known.memory == 0) known.memory = default_lab_memory(spec.backend);
  const LabImage image = VMM_TRY(build_lab_image(known, lab_agent(), options.cancel));
  std::unique_ptr<Emulator> emulator = VMM_TRY(
      spec.backend == LabBackend::Svm ? start_qemu(known, image) : start_bochs(known, image));
  return join(spec.backend, std::move(emulator), options);
}

Result<std::unique_ptr<Lab>> Lab::join(LabBackend backend, std::unique_ptr<Emulator> emulator,
                                       const Options& options) {
  // The session asks as long as it lives; whoever could give up the boot is then gone.
  const auto cancel = std::make_shared<int>(options.cancel);
  const auto dead = [&emulator_ref = *emulator, cancel,
                     stop = options.stop]() -> std::optional<std::string> {
    if (is_readable(stop)) return "the lab was stopped";
    if (is_readable(*cancel)) return "the lab was given up while it booted";
    return emulator_ref.death();
  };
  auto session = LabSession::open(emulator->channel(), dead, options.patience);
  if (!session) {
    Error error = std::move(session).error();
    // An emulator's death says so itself.
    if (const std::string tail = emulator->console_tail(); !tail.empty() && !emulator->death())
      error = std::move(error).hint("the lab's console ended with: " + tail);
    return fail(std::move(error));
  }
  *cancel = -1;
  return std::make_unique<Lab>(backend, std::move(emulator), std::move(*session));
}

Result<LabExit> Lab::execute(const LabCommand& command, const LabStreams& streams, int cancel) {
  resume();
  auto result = session_->execute(command, streams, cancel);
  if (result || backend_ != LabBackend::Vmx || healthy() || emulator_->death()) return result;
  constexpr const char* kHint =
      "a guest that loops with interrupts off, without PAUSE and without exits, holds up a whole "
      "vmx "
      "lab (docs/lab.md)";
  return fail(std::move(result).error().hint(kHint));
}

Result<void> Lab::check() {
  constexpr std::chrono::seconds kLimit{30};
  resume();
  return session_->check(kLimit);
}

void Lab::pause() {
  if (paused_ || backend_ != LabBackend::Vmx) return;
  emulator_->pause();
  paused_ = true;
}

void Lab::resume() {
  if (paused_) emulator_->resume();
  paused_ = false;
}

}  // namespace vmm
