#include "vmm/machine/trace_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
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
    gathered_.back().time += lives_;
    full_enough = gathered_.size() == kWakeAt;
  }
  if (full_enough) wake_();
}

void TraceFile::start_again(VmTime now) {
  event({.time = now, .vcpu = kNoVcpu, .kind = "reset", .device = "machine"});
  for (TraceEvent& waiting : draining_) keep_name(waiting);
  const std::lock_guard lock(mutex_);
  for (TraceEvent& waiting : gathered_) keep_name(waiting);
  lives_ += now;
}

void TraceFile::keep_name(TraceEvent& event) {
  if (event.device.empty()) return;
  auto name = names_.find(event.device);
  if (name == names_.end()) name = names_.emplace(event.device).first;
  event.device = *name;
}

void TraceFile::drain() {
  if (!flush()) return;
  take();
  taken_ = false;
  dropped_behind_ += std::exchange(others_dropped_, 0);
  write();
}

void TraceFile::take() {
  if (formatted_ != draining_.size()) return;
  draining_.clear();
  // event() allocates nothing, and the list of a merge() may be smaller.
  draining_.reserve(kMaxEvents);
  formatted_ = 0;
  taken_ = true;
  const std::lock_guard lock(mutex_);
  draining_.swap(gathered_);
  dropped_behind_ = std::exchange(newly_dropped_, 0);
}

// Our own events stay in their order: an exit has the time when it came and stands behind what it
// caused.
void TraceFile::merge(std::vector<TraceEvent> others, VmTime until) {
  for (const TraceEvent& event : others) {
    if (!filter_.matches(event)) continue;
    if (others_.size() < kMaxEvents)
      others_.push_back(event);
    else
      ++others_dropped_;
  }
  // Whatever a file that takes nothing has left over comes first.
  if (std::exchange(taken_, false)) {
    merged_.clear();
    auto other = others_.begin();
    const auto add_others = [&](VmTime limit) {
      for (; other != others_.end() && other->time <= limit; ++other) merged_.push_back(*other);
    };
    for (const TraceEvent& event : draining_) {
      add_others(std::min(event.time, until));
      merged_.push_back(event);
    }
    add_others(until);
    draining_.swap(merged_);
    others_.erase(others_.begin(), other);
    dropped_behind_ += std::exchange(others_dropped_, 0);
  }
  if (flush()) write();
}

void TraceFile::write() {
  constexpr std::size_t kPart = 64u << 10;
  while (formatted_ < draining_.size()) {
    while (formatted_ < draining_.size() && text_.size() < kPart) {
      keep_name(draining_[formatted_]);
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
    if (others_.empty()) {
      drain();
    } else {
      take();
      merge({}, VmTime::max());
    }
    const std::lock_guard lock(mutex_);
    return text_.empty() && formatted_ == draining_.size() && gathered_.empty() && others_.empty();
  };
  while (!written())
    if (!takes_output(fd_.get(), kFinishSeconds)) {
      const std::lock_guard lock(mutex_);
      errno_ = EAGAIN;
      totals_.dropped += in_text_ + draining_.size() - formatted_ + dropped_behind_ +
                         gathered_.size() + newly_dropped_ + others_.size() + others_dropped_;
      return;
    }
  format_->end(totals_, lives_ + now, text_);
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
