#include "vmm/machine/kvm_trace.h"

#include <algorithm>

namespace vmm {
namespace {

constexpr std::size_t kEventsAtOnce = 16u << 10;  // events at once
constexpr std::size_t kMostParts = 64;            // so that a flood does not hold up the event loop

}  // namespace

Result<std::unique_ptr<KvmTrace>> KvmTrace::open(unsigned vcpus, bool timeline) {
  auto instance =
      VMM_TRY(TraceInstance::create(usual_tracefs(), {.vcpus = vcpus, .entries = timeline}));
  return std::make_unique<KvmTrace>(std::move(instance), vcpus, timeline);
}

KvmTrace::KvmTrace(std::unique_ptr<TraceInstance> instance, unsigned vcpus, bool timeline)
    : instance_(std::move(instance)), timeline_(timeline), statistics_(vcpus) {}

// At most kMaxTexts of each kind are kept, whatever a kernel says.
std::string_view KvmTrace::words(const KvmEvent& event) {
  if (event.kind == KvmEventKind::L2EntryFailed) {
    if (messages_.size() >= kMaxTexts && !messages_.contains(event.message)) return "another";
    return *messages_.insert(event.message).first;
  }
  const ExitStatistics::Key key{event.svm, event.code};
  const auto found = reasons_.find(key);
  if (found != reasons_.end()) return found->second;
  if (reasons_.size() >= kMaxTexts) return "another";
  return reasons_[key] = exit_reason_text(event.svm, event.code);
}

TraceEvent KvmTrace::timeline_event(const KvmEvent& event, VmTime time) {
  TraceEvent result{.time = time, .vcpu = event.vcpu, .rip = event.rip, .kind = "kvm-exit"};
  result.value = event.code;
  switch (event.kind) {
    case KvmEventKind::Entry:
      result.kind = "kvm-entry";
      return result;
    case KvmEventKind::L2Entry:
      result.kind = "kvm-l2-entry";
      result.value = event.block;
      return result;
    case KvmEventKind::AnyExit:
      break;
    case KvmEventKind::L2Exit:
      result.kind = "kvm-l2-exit";
      break;
    case KvmEventKind::ExitToL1:
      result.kind = "kvm-exit-to-l1";
      break;
    case KvmEventKind::L2EntryFailed:
      result.kind = "kvm-l2-entry-failed";
      break;
  }
  result.words = words(event);
  return result;
}

std::vector<TraceEvent> KvmTrace::read(const HostClock& clock) {
  std::vector<TraceEvent> timeline;
  for (std::size_t part = 0; part < kMostParts; ++part) {
    events_.clear();
    const bool all = instance_->read(events_, kEventsAtOnce);
    for (const KvmEvent& event : events_) {
      statistics_.add(event);
      if (!timeline_) continue;
      const std::chrono::steady_clock::time_point moment{std::chrono::nanoseconds(event.time)};
      timeline.push_back(timeline_event(event, clock.at(moment)));
    }
    if (all) break;
  }
  // Processors whose buffers took more than one part to read.
  std::ranges::stable_sort(timeline, {}, &TraceEvent::time);
  return timeline;
}

KvmExits KvmTrace::finish() {
  statistics_.finish();
  KvmExits exits;
  exits.lost = instance_->lost();
  exits.entries_traced = instance_->has(KvmEventKind::L2Entry);
  exits.statistics = std::move(statistics_);
  instance_->close();
  return exits;
}

}  // namespace vmm
