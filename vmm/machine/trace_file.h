// --trace: events as JSON lines, handed by the vCPU threads to a bounded buffer and written by the
// event loop, so that no guest waits for a disk.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "vmm/base/fd.h"
#include "vmm/core/trace.h"

namespace vmm {

class JsonTraceFile {
 public:
  // Creates `path`. `wake` asks the event loop to call drain() soon.
  static Result<std::unique_ptr<JsonTraceFile>> create(const std::string& path,
                                                       const SymbolTable* symbols,
                                                       std::function<void()> wake);
  Tracer& tracer() { return tracer_; }
  // Writes what has gathered.
  void drain();
  // Events that found the buffer full.
  std::uint64_t lost() const { return lost_; }

 private:
  static constexpr std::size_t kMaxBuffer = 8u << 20;
  static constexpr std::size_t kWakeAt = 256u << 10;
  JsonTraceFile(Fd fd, const SymbolTable* symbols, std::function<void()> wake);
  void take(std::string_view line);

  Fd fd_;
  std::function<void()> wake_;
  std::mutex mutex_;
  std::string buffer_;
  std::uint64_t lost_ = 0;
  JsonLinesTracer tracer_;
};

}  // namespace vmm
