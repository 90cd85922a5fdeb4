// One thread that does what takes long for all disks: it takes a part of a request under the
// board's lock, moves its bytes without any, and hands it back under the lock again.
#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "devices/virtio_blk.h"
#include "vmm/base/result.h"
#include "vmm/core/block_backend.h"

namespace vmm {

class DiskThread {
 public:
  // The most that is moved without a look at whether to pause.
  static constexpr std::size_t kBufferSize = 256 * 1024;

  struct Hooks {
    // On the new thread before anything else: signal mask, seccomp.
    std::function<Result<void>()> started;
    // Calls its argument with the board's disks while it holds the board's lock. Asks for no
    // memory.
    std::function<void(const std::function<void(const std::vector<std::unique_ptr<VirtioBlk>>&)>&)>
        with_disks;
  };

  // `backends` are those of the board's disks, in their order, and outlive the thread.
  DiskThread(std::vector<BlockBackend*> backends, Hooks hooks);
  // Stops and joins.
  ~DiskThread();
  DiskThread(const DiskThread&) = delete;
  DiskThread& operator=(const DiskThread&) = delete;

  // The thread begins paused. An error of the start hook is returned here.
  Result<void> start();
  // Some disk may have a job. From any thread, with the board's lock held or not.
  void wake();
  // When this returns no job is out and none is taken until resume(). Not with the board's lock.
  // Idempotent.
  void pause();
  void resume();
  // Whether a job is out, or may be found.
  bool busy() const;
  void stop();

 private:
  void thread_main();
  bool serve();

  std::vector<BlockBackend*> backends_;
  Hooks hooks_;
  std::vector<std::uint8_t> buffer_;
  std::size_t disk_ = 0;  // who was served last
  std::optional<BlockJob> job_;
  bool done_ = false;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  bool started_ = false;
  std::optional<Error> start_error_;
  bool paused_ = true;
  bool stopping_ = false;
  bool rung_ = false;
  bool serving_ = false;
  std::thread thread_;
};

}  // namespace vmm
