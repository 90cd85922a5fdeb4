#include "vmm/machine/trace_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "vmm/machine/terminal.h"

namespace vmm {
namespace {

// How long a pipe that nobody reads may hold up the end.
constexpr double kFinishSeconds = 2;

}  // namespace

Result<std::unique_ptr<TraceFile>> TraceFile::create(const std::string& path, TraceFilter filter,
                                                     const SymbolTable* symbols, unsigned vcpus,
                                                     std::function<void()> wake) {
  Fd fd = VMM_TRY_CONTEXT(Fd::open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NONBLOCK), "--trace");
  std::unique_ptr<TraceFile> file(new TraceFile(path, std::move(fd), std::move(filter),
                                                trace_format_for(path, symbols, vcpus),
                                                std::move(wake)));
  file->format_->begin(file->text_);
  return file;
}

TraceFile::TraceFile(std::string path, Fd fd, TraceFilter filter,
                     std::unique_ptr<TraceFormat> format, std::function<void()> wake)
    : path_(std::move(path)),
      fd_(std::move(fd)),
      filter_(std::move(filter)),
      format_(std::move(format)),
      wake_(std::move(wake)) {
  gathered_.reserve(kMaxEvents);
  draining_.reserve(kMaxEvents);
}

void TraceFile::event(const TraceEvent& event) {
  if (!filter_.matches(event)) return;
  bool full_enough = false;
  {
    const std::lock_guard lock(mutex_);
    if (gathered_.size() == kMaxEvents) {
      ++newly_dropped_;
      return;
    }
    gathered_.push_back(event);
    full_enough = gathered_.size() == kWakeAt;
  }
  if (full_enough) wake_();
}

void TraceFile::drain() {
  constexpr std::size_t kPart = 64u << 10;
  if (!flush()) return;
  if (formatted_ == draining_.size()) {
    draining_.clear();
    formatted_ = 0;
    const std::lock_guard lock(mutex_);
    draining_.swap(gathered_);
    dropped_behind_ = std::exchange(newly_dropped_, 0);
  }
  while (formatted_ < draining_.size()) {
    while (formatted_ < draining_.size() && text_.size() < kPart) {
      format_->event(draining_[formatted_++], text_);
      ++in_text_;
    }
    if (formatted_ == draining_.size() && dropped_behind_ > 0) {
      totals_.dropped += dropped_behind_;
      format_->dropped(std::exchange(dropped_behind_, 0), draining_.back().time, text_);
    }
    if (!flush()) return;
  }
}

void TraceFile::finish(VmTime now) {
  if (std::exchange(finished_, true)) return;
  const auto written = [this] {
    drain();
    const std::lock_guard lock(mutex_);
    return text_.empty() && formatted_ == draining_.size() && gathered_.empty();
  };
  while (!written())
    if (!takes_output(fd_.get(), kFinishSeconds)) {
      const std::lock_guard lock(mutex_);
      errno_ = EAGAIN;
      totals_.dropped += in_text_ + draining_.size() - formatted_ + dropped_behind_ +
                         gathered_.size() + newly_dropped_;
      return;
    }
  format_->end(totals_, now, text_);
  flush();
}

// Writes what it can. False: the file takes no more for now. After an error nothing is written any
// more, so that the file ends where it is whole.
bool TraceFile::flush() {
  std::string_view rest = text_;
  while (!rest.empty() && errno_ == 0) {
    const ssize_t done = ::write(fd_.get(), rest.data(), rest.size());
    if (done < 0 && errno == EINTR) continue;
    if (done < 0 && errno == EAGAIN) {
      text_.erase(0, text_.size() - rest.size());
      return false;
    }
    if (done <= 0)
      errno_ = done < 0 ? errno : EIO;
    else
      rest.remove_prefix(static_cast<std::size_t>(done));
  }
  text_.clear();
  (errno_ == 0 ? totals_.events : totals_.dropped) += std::exchange(in_text_, 0);
  return true;
}

}  // namespace vmm
