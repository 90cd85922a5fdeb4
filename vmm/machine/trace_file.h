// --trace: events go into a bounded buffer as they are, on the vCPU threads, and become text on the
// event loop's, so that no guest waits for a disk.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "vmm/base/fd.h"
#include "vmm/core/trace_filter.h"
#include "vmm/core/trace_format.h"

namespace vmm {

class TraceFile final : public Tracer {
 public:
  // Creates `path`. `wake` asks the event loop to call drain() soon.
  static Result<std::unique_ptr<TraceFile>> create(const std::string& path, TraceFilter filter,
                                                   const SymbolTable* symbols, unsigned vcpus,
                                                   std::function<void()> wake);
  // The machine starts anew: events come with times that begin at 0 again, and follow in the file
  // on `now`, the moment of the old life. The names of its devices go with the old board.
  void start_again(VmTime now);
  // Keeps the event for drain(), or counts it as dropped. Allocates nothing.
  void event(const TraceEvent& event) override;
  // Writes what has gathered, as far as the file takes it without waiting.
  void drain();
  // The same in two steps, for events that come from somewhere else and have to be merged by time:
  // take() what has gathered, at a moment `until` when no event of an earlier time is still to
  // come, then merge() all that the others have told up to there, in the order of their times.
  // Those of a later time are kept for the next merge().
  void take();
  void merge(std::vector<TraceEvent> others, VmTime until);
  // The same for the last time, at virtual time `now` of this life, with what ends the file; a pipe
  // may keep it waiting for a while. Nothing comes after that.
  void finish(VmTime now);

  const std::string& path() const { return path_; }
  const TraceFilter& filter() const { return filter_; }
  // Events that are in the file, and those that found the buffer or the disk full.
  TraceFormat::Totals totals() const { return totals_; }
  // Why nothing more was written; 0: nothing went wrong.
  int error_number() const { return errno_; }

 private:
  static constexpr std::size_t kMaxEvents = 64u << 10;  // 5.5 MiB, and twice that
  static constexpr std::size_t kWakeAt = 4u << 10;
  TraceFile(std::string path, Fd fd, TraceFilter filter, std::unique_ptr<TraceFormat> format,
            std::function<void()> wake);
  void keep_name(TraceEvent& event);
  bool flush();
  void write();

  std::string path_;
  Fd fd_;
  TraceFilter filter_;
  std::unique_ptr<TraceFormat> format_;
  std::function<void()> wake_;

  std::mutex mutex_;
  VmTime lives_{0};                   // before this one; under the mutex
  std::vector<TraceEvent> gathered_;  // under the mutex
  std::uint64_t newly_dropped_ = 0;   // under the mutex: what came behind those

  // The event loop's.
  std::set<std::string, std::less<>> names_;  // of devices, which may go before the file
  std::vector<TraceEvent> draining_;
  std::size_t formatted_ = 0;       // of those
  bool taken_ = false;              // by take(), for merge()
  std::vector<TraceEvent> others_;  // to be merged, by time
  std::vector<TraceEvent> merged_;  // what draining_ becomes
  std::uint64_t others_dropped_ = 0;
  std::uint64_t dropped_behind_ = 0;  // those
  std::string text_;                  // not yet in the file
  std::uint64_t in_text_ = 0;         // events
  TraceFormat::Totals totals_;
  int errno_ = 0;
  bool finished_ = false;
};

}  // namespace vmm
