// --kvm-trace: KVM's own events, counted by reason and level and told to the timeline.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "vmm/core/clock.h"
#include "vmm/core/trace.h"
#include "vmm/kvm/trace_instance.h"
#include "vmm/machine/exit_statistics.h"

namespace vmm {

class KvmTrace {
 public:
  // With `timeline` read() gives events. An error is no reason not to run.
  static Result<std::unique_ptr<KvmTrace>> open(unsigned vcpus, bool timeline);
  KvmTrace(std::unique_ptr<TraceInstance> instance, unsigned vcpus, bool timeline);

  // On the vCPU's thread before its filter; then begin() on the main thread before its own.
  void mark(unsigned vcpu) const { instance_->mark(vcpu); }
  Result<void> begin() { return instance_->begin(); }
  // What KVM has told since, with times by `clock`, which was not paused in between, or still is.
  std::vector<TraceEvent> read(const HostClock& clock);
  // After the last read(): closes and removes the instance. The rest is filled in by others.
  KvmExits finish();

 private:
  static constexpr std::size_t kMaxTexts = 512;
  TraceEvent timeline_event(const KvmEvent& event, VmTime time);
  std::string_view words(const KvmEvent& event);

  std::unique_ptr<TraceInstance> instance_;
  bool timeline_;
  ExitStatistics statistics_;
  std::vector<KvmEvent> events_;
  std::map<ExitStatistics::Key, std::string> reasons_;  // as the timeline has them
  std::set<std::string> messages_;
};

}  // namespace vmm
