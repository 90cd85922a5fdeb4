// An instance of tracefs of our own, in which KVM's events are recorded for the threads of our
// vCPUs and nobody else's: other tracers and this one do not see each other (Linux
// Documentation/trace/ftrace.rst, "Instances"). It is gone with its owner; what a vmm left that was
// killed goes when the next one starts.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "vmm/base/fd.h"
#include "vmm/kvm/kvm_events.h"

namespace vmm {

// Where tracefs may be mounted.
std::vector<std::string> usual_tracefs();

class TraceInstance {
 public:
  struct Wanted {
    unsigned vcpus = 1;
    bool entries = false;  // KvmEventKind::Entry too, which are as many as the exits
  };
  // A new instance in the first of `roots` that is tracefs, ready to record. Host errors say what
  // was tried and what to do.
  static Result<std::unique_ptr<TraceInstance>> create(const std::vector<std::string>& roots,
                                                       const Wanted& wanted);
  // One that is there, as create() makes it. With `owned` the directory goes at the end.
  static Result<std::unique_ptr<TraceInstance>> open(const std::string& root,
                                                     const std::string& directory,
                                                     const Wanted& wanted, bool owned);
  ~TraceInstance();
  TraceInstance(const TraceInstance&) = delete;
  TraceInstance& operator=(const TraceInstance&) = delete;

  // On the thread of that vCPU, before begin(): a mark from which begin() learns the thread's
  // number as the kernel has it, which in a container is not ours.
  void mark(unsigned vcpu) const;
  // Once each has left its mark. No file is opened afterwards, and nothing called but read(2).
  Result<void> begin();
  // Adds the events since, in the order of their times, `most` or a little more; false: there may
  // be more. Those of another thread are left out.
  bool read(std::vector<KvmEvent>& events, std::size_t most);
  // Events that found the buffer full, so far. Reads once from each processor's file.
  std::uint64_t lost();
  // Closes all and removes the instance; idempotent.
  void close();

  bool has(KvmEventKind kind) const { return decoder_.has(kind); }

 private:
  TraceInstance() = default;
  Result<void> write(const std::string& file, std::string_view text) const;
  Result<void> open_files(const std::string& root, const Wanted& wanted);
  Result<void> add_event(const std::string& root, KvmEventKind kind, bool needed);
  template <typename Event>
  bool read_pages(std::size_t processor, std::size_t pages, const Event& event);

  std::string directory_;
  bool owned_ = false;
  unsigned vcpus_ = 0;
  RingPage page_;
  EventFormat mark_format_;
  KvmEventDecoder decoder_;
  std::vector<std::string> enabled_;  // names, once begin() is through
  struct Processor {
    Fd pages;
    Fd statistics;
  };
  std::vector<Processor> processors_;
  Fd marker_;
  std::vector<std::int32_t> threads_;  // by vCPU
  std::vector<std::uint8_t> buffer_;
};

}  // namespace vmm
