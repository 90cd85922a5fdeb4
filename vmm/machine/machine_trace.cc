// The machine's timelines: what the board tells, and what KVM does (--kvm-trace).
#include <fmt/format.h>

#include "vmm/base/log.h"
#include "vmm/machine/kvm_trace.h"
#include "vmm/machine/machine.h"
#include "vmm/machine/trace_file.h"

namespace vmm {

// The run goes on without: there are KVM's counters.
void Machine::kvm_trace_failed(const Error& error) {
  kvm_trace_.reset();
  kvm_trace_problem_ = error.text();
  if (!error.hint_text().empty()) kvm_trace_problem_ += fmt::format(" ({})", error.hint_text());
}

void Machine::open_kvm_trace() {
  auto trace = KvmTrace::open(vcpu_count(), trace_ != nullptr);
  if (!trace) return kvm_trace_failed(trace.error());
  kvm_trace_ = std::move(*trace);
}

void Machine::begin_kvm_trace() {
  if (kvm_trace_ == nullptr) return;
  const auto begun = kvm_trace_->begin();
  if (begun) return;
  kvm_trace_failed(begun.error());
  log_warn("--kvm-trace: {}", kvm_trace_problem_);
}

void Machine::drain_traces() {
  if (kvm_trace_ == nullptr) {
    if (trace_ != nullptr) trace_->drain();
    return;
  }
  HostClock clock;
  VmTime until{0};
  {
    // No exit is being served: what belongs before this moment has been told.
    auto board = board_.lock();
    clock = (*board)->clock;
    until = clock.now();
    if (trace_ != nullptr) trace_->take();
  }
  std::vector<TraceEvent> events = kvm_trace_->read(clock);
  if (trace_ != nullptr) trace_->merge(std::move(events), until);
}

void Machine::finish_traces() {
  drain_traces();
  if (trace_ != nullptr) trace_->finish(now());
  if (spec_.kvm_trace) {
    kvm_exits_ = kvm_trace_ != nullptr ? kvm_trace_->finish() : KvmExits();
    kvm_exits_->problem = kvm_trace_problem_;
  }
}

}  // namespace vmm
