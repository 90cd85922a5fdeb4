#include "vmm/machine/disk_thread.h"

#include <span>
#include <utility>

namespace vmm {
namespace {

bool perform(BlockBackend& backend, const BlockJob& job, std::span<std::uint8_t> buffer) {
  switch (job.kind) {
    case BlockJob::Kind::Read:
      return backend.read(job.offset, buffer.first(job.size));
    case BlockJob::Kind::Write:
      return backend.write(job.offset, buffer.first(job.size));
    case BlockJob::Kind::Flush:
      return backend.flush();
  }
  return false;
}

}  // namespace

DiskThread::DiskThread(std::vector<BlockBackend*> backends, Hooks hooks)
    : backends_(std::move(backends)), hooks_(std::move(hooks)), buffer_(kBufferSize) {}

DiskThread::~DiskThread() { stop(); }

Result<void> DiskThread::start() {
  thread_ = std::thread([this] { thread_main(); });
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return started_; });
  if (start_error_) return fail(*start_error_);
  return {};
}

void DiskThread::thread_main() {
  const Result<void> ready = hooks_.started();
  std::unique_lock lock(mutex_);
  started_ = true;
  if (!ready) start_error_ = ready.error();
  changed_.notify_all();
  if (!ready) return;
  while (true) {
    changed_.wait(lock, [this] { return stopping_ || (rung_ && !paused_); });
    if (stopping_) return;
    rung_ = false;
    serving_ = true;
    lock.unlock();
    const bool more = serve();
    lock.lock();
    serving_ = false;
    rung_ = rung_ || more;
    changed_.notify_all();
  }
}

// One part of one request, of each disk in turn. False when there was none. All that it needs is
// there already: behind its filter the thread cannot ask for memory.
bool DiskThread::serve() {
  hooks_.with_disks([this](const auto& disks) {
    job_.reset();
    for (std::size_t i = 0; i < disks.size() && !job_; ++i) {
      disk_ = (disk_ + 1) % disks.size();
      job_ = disks[disk_]->next_job(buffer_);
    }
  });
  if (!job_) return false;
  done_ = perform(*backends_[disk_], *job_, buffer_);
  hooks_.with_disks([this](const auto& disks) {
    disks[disk_]->finish_job(*job_, done_, std::as_const(buffer_));
  });
  return true;
}

void DiskThread::wake() {
  {
    const std::lock_guard lock(mutex_);
    rung_ = true;
  }
  changed_.notify_all();
}

void DiskThread::pause() {
  std::unique_lock lock(mutex_);
  paused_ = true;
  changed_.wait(lock, [this] { return !serving_; });
}

// What was left over at a pause is found without anyone's asking.
void DiskThread::resume() {
  {
    const std::lock_guard lock(mutex_);
    paused_ = false;
    rung_ = true;
  }
  changed_.notify_all();
}

bool DiskThread::busy() const {
  const std::lock_guard lock(mutex_);
  return serving_ || (rung_ && !paused_);
}

void DiskThread::stop() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

}  // namespace vmm
