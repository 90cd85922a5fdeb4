// The vCPU threads and the rules by which they start, park and stop.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "vmm/core/backend.h"
#include "vmm/core/outcome.h"
#include "vmm/machine/run_loop.h"

namespace vmm {

class VcpuThreads {
 public:
  enum class Next {
    Run,    // enter the guest
    Again,  // something was done that may have hidden a wake(): ask again
    Wait,   // nothing to run until wake()
  };
  struct Hooks {
    // On the new thread before its first run: signal mask, seccomp.
    std::function<Result<void>(unsigned vcpu)> started;
    // Before each entry: what the vCPU's thread does next. May be empty: run.
    std::function<Result<Next>(unsigned vcpu)> before_run;
    // Serves an exit (takes the board's lock).
    std::function<Step(const Exit&, unsigned vcpu, Gva rip)> handle;
    // The vCPU came out because it was asked to, and nothing else; not an exit that counts as
    // progress. May be empty.
    std::function<void(unsigned vcpu, Gva rip)> interrupted;
    // A debugger's stop: `vcpu` and, as soon as they come out, all others are held. Called from the
    // thread that saw it, perhaps by several before anyone looks. Must not block.
    std::function<void(unsigned vcpu, const DebugStop&)> broke;
    // Something ended the run; called once, from the thread that saw it. Must not block.
    std::function<void()> ended;
  };

  VcpuThreads(std::vector<VcpuBackend*> vcpus, Hooks hooks);
  // Stops and joins.
  ~VcpuThreads();
  VcpuThreads(const VcpuThreads&) = delete;
  VcpuThreads& operator=(const VcpuThreads&) = delete;

  // One thread per vCPU; they are parked until resume(). An error of a start hook is returned here.
  Result<void> start();
  // Every vCPU leaves the guest at an instruction boundary, its exit completed, and waits.
  // Idempotent.
  void pause();
  // Lets them run, unless the run has ended.
  void resume();
  // Lets those run for which `who` is true; the others stay, or get, parked.
  void resume(const std::vector<bool>& who);
  // Between pause() and resume(): the threads run these from now on, as many as before.
  void adopt(std::vector<VcpuBackend*> vcpus);
  // From any thread: vCPU `vcpu` leaves the guest, or its wait, and before_run is asked. Who wakes
  // has made the reason visible to before_run before.
  void wake(unsigned vcpu);
  // Ends the run from outside (a timeout, a signal); the first ending stays.
  void end(RunOutcome outcome);
  // The ending, once there is one.
  std::optional<RunOutcome> ending() const;
  // Exits served so far, over all vCPUs: a measure of progress.
  std::uint64_t exits() const { return exits_.load(std::memory_order_relaxed); }
  // Asks every thread to come back and joins it; idempotent.
  void stop();

 private:
  // What a vCPU's thread does, as far as wake() must know: a signal is needed in the guest alone,
  // and none where the thread looks at the bell by itself before it goes anywhere.
  enum class Where : std::uint8_t { Outside, Guest, Waiting };
  struct Bell {
    std::atomic<bool> held{true};   // to be parked
    std::atomic<bool> rung{false};  // by wake(), until before_run is asked
    std::atomic<Where> where{Where::Outside};
    bool adopted = false;  // a vCPU that its thread has not taken up yet; under mutex_
    bool eager = false;  // it stopped for a debugger, who may want the next step; its thread's own
    std::mutex mutex;    // for waiting
    std::condition_variable changed;
  };
  void wait_for_bell(unsigned vcpu);
  void thread_main(unsigned vcpu);
  // Runs the vCPU until it should park; false when the thread must end.
  void run_until_asked(unsigned vcpu);
  bool park(unsigned vcpu);
  bool finish(const Step& step, unsigned vcpu);
  void hold_all();
  bool asked(unsigned vcpu) const { return bells_[vcpu].held.load() || stop_asked_.load(); }

  std::vector<VcpuBackend*> vcpus_;
  std::vector<Bell> bells_;
  Hooks hooks_;
  std::vector<std::thread> threads_;
  std::atomic<std::uint64_t> exits_{0};

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::atomic<bool> stop_asked_{false};
  std::atomic<unsigned> parked_{0};  // changes under mutex_
  unsigned started_ = 0;
  std::optional<Error> start_error_;
  std::optional<RunOutcome> ending_;
};

}  // namespace vmm
