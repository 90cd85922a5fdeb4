#include "vmm/machine/vcpu_threads.h"

#include <chrono>
#include <utility>

#include "vmm/base/check.h"
#include "vmm/base/spin.h"

namespace vmm {

VcpuThreads::VcpuThreads(std::vector<VcpuBackend*> vcpus, Hooks hooks)
    : vcpus_(std::move(vcpus)), bells_(vcpus_.size()), hooks_(std::move(hooks)) {}

VcpuThreads::~VcpuThreads() { stop(); }

Result<void> VcpuThreads::start() {
  for (unsigned i = 0; i < vcpus_.size(); ++i) threads_.emplace_back([this, i] { thread_main(i); });
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return started_ == vcpus_.size(); });
  if (start_error_) return fail(*start_error_);
  return {};
}

void VcpuThreads::thread_main(unsigned vcpu) {
  vcpus_[vcpu]->bind_to_this_thread();
  const Result<void> ready = hooks_.started(vcpu);
  {
    const std::lock_guard lock(mutex_);
    ++started_;
    if (!ready && !start_error_) start_error_ = ready.error();
  }
  changed_.notify_all();
  if (!ready) return;
  while (park(vcpu)) run_until_asked(vcpu);
}

// Waits while a pause is wanted or the run is over; false: the thread must end.
bool VcpuThreads::park(unsigned vcpu) {
  std::unique_lock lock(mutex_);
  ++parked_;
  changed_.notify_all();
  if (std::exchange(bells_[vcpu].eager, false)) {
    lock.unlock();
    spin_until([&] { return stop_asked_ || !bells_[vcpu].held; });
    lock.lock();
  }
  changed_.wait(lock, [&] { return stop_asked_ || (!bells_[vcpu].held && !ending_); });
  --parked_;
  if (stop_asked_) return false;
  if (std::exchange(bells_[vcpu].adopted, false)) vcpus_[vcpu]->bind_to_this_thread();
  return true;
}

void VcpuThreads::run_until_asked(unsigned vcpu) {
  VcpuBackend& backend = *vcpus_[vcpu];
  const auto served = [&](const Result<Exit>& exit) {
    if (!exit) {
      end(ending::MonitorFailure{exit.error().text()});
      return false;
    }
    if (std::holds_alternative<Interrupted>(*exit)) return true;
    exits_.fetch_add(1, std::memory_order_relaxed);
    return finish(hooks_.handle(*exit, vcpu, backend.last_rip()), vcpu);
  };
  Bell& bell = bells_[vcpu];
  bool is_complete = false;  // behind a debugger's stop nothing is pending
  // What was asked before the bell is silenced is seen below: pausing, or what before_run looks at.
  for (bell.rung = false; !asked(vcpu); bell.rung = false) {
    if (hooks_.before_run) {
      const Result<Next> next = hooks_.before_run(vcpu);
      if (!next) return end(ending::MonitorFailure{next.error().text()});
      if (*next == Next::Wait) wait_for_bell(vcpu);
      if (*next != Next::Run) continue;
    }
    bell.where = Where::Guest;
    // Rung since: KVM_RUN has to come back at once, so that it says anew what the vCPU can take.
    if (bell.rung) backend.kick();
    const Result<Exit> exit = backend.run();
    bell.where = Where::Outside;
    if (hooks_.interrupted && exit && std::holds_alternative<Interrupted>(*exit))
      hooks_.interrupted(vcpu, backend.last_rip());
    if (!served(exit)) return;
    is_complete = std::holds_alternative<DebugStop>(*exit);
  }
  // Complete what is pending; each part of a split access is an exit of its own.
  while (!is_complete) {
    const Result<Exit> rest = backend.settle();
    if (rest && std::holds_alternative<Interrupted>(*rest)) return;
    if (!served(rest)) return;
  }
}

// A bell that rang before ends the wait at once.
void VcpuThreads::wait_for_bell(unsigned vcpu) {
  Bell& bell = bells_[vcpu];
  bell.where = Where::Waiting;
  {
    std::unique_lock lock(bell.mutex);
    bell.changed.wait(lock, [&] { return bell.rung.load(); });
  }
  bell.where = Where::Outside;
}

// The vCPU's thread says where it goes, then looks at the bell; this rings, then looks where it is.
// Both in one total order: whoever comes second sees the other.
void VcpuThreads::wake(unsigned vcpu) {
  Bell& bell = bells_[vcpu];
  bell.rung = true;
  switch (bell.where.load()) {
    case Where::Outside:
      return;
    case Where::Guest:
      vcpus_[vcpu]->kick();
      return;
    case Where::Waiting:
      // Whoever holds the mutex has not looked yet, or waits.
      { const std::lock_guard lock(bell.mutex); }
      bell.changed.notify_one();
      return;
  }
}

void VcpuThreads::hold_all() {
  for (Bell& bell : bells_) bell.held = true;
}

// True: go on, as far as nobody is held.
bool VcpuThreads::finish(const Step& step, unsigned vcpu) {
  if (const auto* stop = std::get_if<step::Stop>(&step)) {
    end(stop->outcome);
    return false;
  }
  if (const auto* debug = std::get_if<step::Break>(&step)) {
    hold_all();
    bells_[vcpu].eager = true;
    for (unsigned i = 0; i < vcpus_.size(); ++i)
      if (i != vcpu) wake(i);
    hooks_.broke(vcpu, debug->stop);
  }
  return true;
}

void VcpuThreads::end(RunOutcome outcome) {
  {
    const std::lock_guard lock(mutex_);
    if (ending_) return;
    ending_ = std::move(outcome);
  }
  hold_all();
  changed_.notify_all();
  for (unsigned i = 0; i < vcpus_.size(); ++i) wake(i);
  hooks_.ended();
}

std::optional<RunOutcome> VcpuThreads::ending() const {
  const std::lock_guard lock(mutex_);
  return ending_;
}

void VcpuThreads::pause() {
  using namespace std::chrono_literals;
  hold_all();
  std::unique_lock lock(mutex_);
  while (parked_ != vcpus_.size()) {
    lock.unlock();
    for (unsigned i = 0; i < vcpus_.size(); ++i) wake(i);
    spin_until([this] { return parked_ == vcpus_.size(); });
    lock.lock();
    // A kick may hit the moment before KVM_RUN is entered and the flag be taken by a run that was
    // just ending; kicking again costs nothing.
    changed_.wait_for(lock, 20ms, [this] { return parked_ == vcpus_.size(); });
  }
}

void VcpuThreads::resume() { resume(std::vector<bool>(vcpus_.size(), true)); }

void VcpuThreads::resume(const std::vector<bool>& who) {
  {
    const std::lock_guard lock(mutex_);
    if (ending_) return;
    for (unsigned i = 0; i < vcpus_.size(); ++i) bells_[i].held = !who[i];
  }
  changed_.notify_all();
  for (unsigned i = 0; i < vcpus_.size(); ++i)
    if (!who[i]) wake(i);
}

void VcpuThreads::adopt(std::vector<VcpuBackend*> vcpus) {
  const std::lock_guard lock(mutex_);
  VMM_CHECK(parked_ == vcpus_.size() && vcpus.size() == vcpus_.size(),
            "each parked thread gets a vCPU");
  vcpus_ = std::move(vcpus);
  for (Bell& bell : bells_) bell.adopted = true;
}

void VcpuThreads::stop() {
  using namespace std::chrono_literals;
  if (threads_.empty()) return;
  {
    const std::lock_guard lock(mutex_);
    stop_asked_ = true;
  }
  changed_.notify_all();
  hold_all();
  for (unsigned i = 0; i < vcpus_.size(); ++i) wake(i);
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

}  // namespace vmm
