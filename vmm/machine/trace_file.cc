#include "vmm/machine/trace_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

namespace vmm {

Result<std::unique_ptr<JsonTraceFile>> JsonTraceFile::create(const std::string& path,
                                                             const SymbolTable* symbols,
                                                             std::function<void()> wake) {
  Fd fd = VMM_TRY_CONTEXT(Fd::open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NONBLOCK), "--trace");
  return std::unique_ptr<JsonTraceFile>(new JsonTraceFile(std::move(fd), symbols, std::move(wake)));
}

JsonTraceFile::JsonTraceFile(Fd fd, const SymbolTable* symbols, std::function<void()> wake)
    : fd_(std::move(fd)),
      wake_(std::move(wake)),
      tracer_([this](std::string_view line) { take(line); }, symbols) {}

void JsonTraceFile::take(std::string_view line) {
  bool full_enough = false;
  {
    const std::lock_guard lock(mutex_);
    if (buffer_.size() + line.size() > kMaxBuffer) {
      ++lost_;
      return;
    }
    const std::size_t before = buffer_.size();
    buffer_ += line;
    full_enough = before < kWakeAt && buffer_.size() >= kWakeAt;
  }
  if (full_enough) wake_();
}

void JsonTraceFile::drain() {
  std::string text;
  {
    const std::lock_guard lock(mutex_);
    text.swap(buffer_);
  }
  std::string_view rest = text;
  while (!rest.empty()) {
    const ssize_t done = ::write(fd_.get(), rest.data(), rest.size());
    if (done < 0 && errno == EINTR) continue;
    if (done <= 0) {
      const std::lock_guard lock(mutex_);
      ++lost_;  // a full disk or a vanished reader: what is left of this part is gone
      return;
    }
    rest.remove_prefix(static_cast<std::size_t>(done));
  }
}

}  // namespace vmm
