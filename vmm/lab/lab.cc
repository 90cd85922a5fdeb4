#include "vmm/lab/lab.h"

#include <fmt/format.h>
#include <poll.h>

#include <algorithm>
#include <optional>

#include "vmm/base/log.h"
#include "vmm/base/units.h"
#include "vmm/lab/agent_image.h"
#include "vmm/lab/backends.h"
#include "vmm/lab/kernel_package.h"
#include "vmm/lab/lab_image.h"
#include "vmm/lab/qemu.h"
#include "vmm/lab/saved_states.h"
#include "vmm/lab/tsc_rate.h"

namespace vmm {
namespace {

bool is_readable(int fd) {
  pollfd polled = {.fd = fd, .events = POLLIN, .revents = 0};
  return fd >= 0 && ::poll(&polled, 1, 0) > 0;
}

// The cache of saved states, unless there is no place for one.
std::optional<SavedStates> saved_states(const LabSpec& spec) {
  if (spec.fresh) return std::nullopt;
  const auto cache = lab_cache_directory();
  if (!cache) return std::nullopt;
  return SavedStates(*cache + "/states");
}

// Whatever hinders the saving, the lab itself is up. Nothing when it does not go on any more.
std::unique_ptr<Lab> saved(std::unique_ptr<Lab> lab, StateDraft draft) {
  auto kept = lab->save(draft.file());
  if (kept) kept = draft.keep();
  if (kept) return lab;
  log_info("the lab's state is not saved: {}", kept.error().text());
  return lab->check() ? std::move(lab) : nullptr;
}

// Where an earlier lab of the same kind has left its state, the boot is spared; else this one
// leaves its own.
Result<std::unique_ptr<Lab>> boot_svm(const LabSpec& spec, const LabImage& image,
                                      const Lab::Options& options) {
  const auto start = [&](const QemuStart& how, const Lab::Options& limits) {
    auto qemu = start_qemu(spec, image, how);
    return qemu ? Lab::join(spec.backend, *std::move(qemu), limits)
                : Result<std::unique_ptr<Lab>>(fail(std::move(qemu).error()));
  };
  const std::uint32_t tsc_khz = measure_tsc_khz();
  const auto states = saved_states(spec);
  if (!states) return start({.tsc_khz = tsc_khz}, options);

  const StateKey key = VMM_TRY(qemu_state_key(spec, image, tsc_khz));
  if (const auto state = states->find(key)) {
    constexpr std::chrono::seconds kLoaded{30};
    Lab::Options limits = options;
    limits.patience = std::min(limits.patience, kLoaded);
    auto lab = start({.tsc_khz = tsc_khz, .state = state->get()}, limits);
    if (lab) (*lab)->set_patience(options.patience);
    if (lab || is_readable(options.cancel) || is_readable(options.stop)) return lab;
    log_info("a saved state is of no use, the lab boots: {}", lab.error().text());
    states->forget(key);
  }
  auto draft = states->begin(key);
  if (!draft) log_info("the lab's state is not saved: {}", draft.error().text());
  const bool savable = draft && *draft;
  auto lab = start({.tsc_khz = tsc_khz, .savable = savable}, options);
  if (!lab || !savable) return lab;
  if (auto kept = saved(*std::move(lab), **std::move(draft))) return kept;
  return start({.tsc_khz = tsc_khz}, options);
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
  if (spec.backend == LabBackend::Svm) return boot_svm(known, image, options);
  return join(spec.backend, VMM_TRY(start_bochs(known, image)), options);
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
  if (result || backend_ != LabBackend::Vmx || healthy() || emulator_->death() ||
      result.error().text().find("silent") == std::string::npos)
    return result;
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

Result<void> Lab::save(const Fd& file) { return emulator_->save(file); }

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
