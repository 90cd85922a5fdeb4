#include "vmm/machine/disk_thread.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <condition_variable>

#include "devices/virtio_rings_fake.h"
#include "vmm/base/guarded.h"
#include "vmm/core/irq_fake.h"

namespace vmm {
namespace {

// Bytes in memory; a call waits until the gate is open.
class GatedDisk final : public BlockBackend {
 public:
  const BlockGeometry& geometry() const override { return geometry_; }
  bool read(std::uint64_t, std::span<std::uint8_t> data) override {
    std::fill(data.begin(), data.end(), std::uint8_t{0x5a});
    return pass();
  }
  bool write(std::uint64_t, std::span<const std::uint8_t>) override { return pass(); }
  bool flush() override { return pass(); }

  void open(bool open) {
    {
      const std::lock_guard lock(mutex_);
      open_ = open;
    }
    changed_.notify_all();
  }
  void wait_until_inside() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return inside_ != 0; });
  }
  unsigned calls() {
    const std::lock_guard lock(mutex_);
    return calls_;
  }

 private:
  bool pass() {
    std::unique_lock lock(mutex_);
    ++calls_;
    ++inside_;
    changed_.notify_all();
    changed_.wait(lock, [this] { return open_; });
    --inside_;
    return true;
  }
  BlockGeometry geometry_{.sectors = 4096, .read_only = false, .id = "gated"};
  std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = true;
  unsigned inside_ = 0, calls_ = 0;
};

class DiskThreadTest : public testing::Test {
 protected:
  using Disks = std::vector<std::unique_ptr<VirtioBlk>>;
  static constexpr Gpa kHeader = 0x40000, kData = 0x100000;

  RecordingIrq irq;
  IrqPins pins{irq, 4};
  GuestMemory memory = std::move(GuestMemory::create(8_MiB)).value();
  GatedDisk backends[2];
  Guarded<Disks> disks;
  std::vector<FakeRings> rings;
  std::unique_ptr<DiskThread> thread;
  std::atomic<unsigned> looks{0};

  void SetUp() override {
    {
      auto all = disks.lock();
      for (unsigned i = 0; i < 2; ++i) {
        rings.emplace_back(memory, 0x10000 + i * 0x10000, VirtQueueState::kMaxSize);
        all->push_back(std::make_unique<VirtioBlk>(
            "disk", backends[i].geometry(), memory,
            VirtioPci::Wires{.line = pins.line(i), .msi = {}, .remap = {}, .work = [this] {
                               if (thread != nullptr) thread->wake();
                             }}));
      }
    }
    thread =
        std::make_unique<DiskThread>(std::vector<BlockBackend*>{&backends[0], &backends[1]},
                                     DiskThread::Hooks{.started = [] { return Result<void>(); },
                                                       .with_disks =
                                                           [this](const auto& use) {
                                                             ++looks;
                                                             auto all = disks.lock();
                                                             use(*all);
                                                           }});
  }
  // A read of `size` bytes that the driver of `disk` has offered and notified.
  void request(unsigned disk, std::uint32_t size) {
    auto all = disks.lock();
    VirtioBlk& device = *(*all)[disk];
    const auto write = [&](std::uint64_t offset, std::uint64_t value, std::size_t width) {
      std::array<std::uint8_t, 8> data;
      store(data, 0, value);
      ASSERT_EQ(device.write(offset, std::span<const std::uint8_t>(data).first(width)), Access::Ok);
    };
    if (!device.state().queue.enabled) {
      const std::uint8_t master = 7;
      device.write_config(4, {&master, 1});
      write(0x12, 3, 1);
      write(0x08, rings[disk].descriptors >> 12, 4);
      write(0x12, 7, 1);
    }
    const Gpa header = kHeader + disk * 64;
    rings[disk].put(header, std::uint32_t{0});
    rings[disk].put(header + 8, std::uint64_t{0});
    rings[disk].chain(0, {{header, 16},
                          {kData, size, FakeDescriptor::kWrite},
                          {header + 32, 1, FakeDescriptor::kWrite}});
    rings[disk].offer(0);
    write(0x10, 0, 2);
  }
  std::uint16_t used(unsigned disk) {
    auto all = disks.lock();
    return rings[disk].used_index();
  }
  // Until it is so; a limit against hanging is gtest's own.
  template <typename Condition>
  static void wait_until(const Condition& condition) {
    while (!condition()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
};

TEST_F(DiskThreadTest, serves_what_was_asked_for_before_it_started) {
  request(0, 512);
  ASSERT_TRUE(thread->start());
  EXPECT_EQ(looks, 0u) << "it begins paused";
  thread->resume();
  wait_until([&] { return used(0) == 1; });
  EXPECT_EQ(memory.read_value<std::uint32_t>(kData), 0x5a5a'5a5au);
}

TEST_F(DiskThreadTest, serves_both_disks_as_they_are_notified) {
  ASSERT_TRUE(thread->start());
  thread->resume();
  for (std::uint16_t i = 1; i <= 20; ++i) {
    request(0, 512);
    request(1, 1024);
    wait_until([&] { return used(0) == i && used(1) == i; });
  }
}

TEST_F(DiskThreadTest, does_not_hold_the_lock_while_a_disk_takes_its_time) {
  ASSERT_TRUE(thread->start());
  thread->resume();
  backends[0].open(false);
  request(0, 512);
  backends[0].wait_until_inside();
  EXPECT_EQ(used(0), 0) << "the lock is free";
  EXPECT_TRUE(thread->busy());
  backends[0].open(true);
  wait_until([&] { return used(0) == 1; });
  wait_until([&] { return !thread->busy(); });
}

TEST_F(DiskThreadTest, pauses_between_the_parts_of_a_request) {
  ASSERT_TRUE(thread->start());
  thread->resume();
  backends[0].open(false);
  request(0, 2 * DiskThread::kBufferSize);
  backends[0].wait_until_inside();
  std::thread pauser([this] { thread->pause(); });
  // It waits for the part that is out, whenever it has come to ask.
  backends[0].open(true);
  pauser.join();
  const unsigned calls = backends[0].calls();
  EXPECT_FALSE(thread->busy());
  const unsigned seen = looks;
  thread->wake();
  EXPECT_EQ(looks, seen) << "paused, it looks at nothing";
  EXPECT_EQ(backends[0].calls(), calls);
  thread->resume();
  wait_until([&] { return used(0) == 1; });
  EXPECT_EQ(backends[0].calls(), 2u);
}

TEST_F(DiskThreadTest, tells_why_it_could_not_start) {
  DiskThread broken({}, {.started = []() -> Result<void> { return fail(Error::host("no filter")); },
                         .with_disks = [](const auto&) {}});
  const auto started = broken.start();
  ASSERT_FALSE(started);
  EXPECT_EQ(started.error().text(), "no filter");
}

}  // namespace
}  // namespace vmm
