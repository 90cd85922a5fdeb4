#include "vmm/machine/vcpu_threads.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

namespace vmm {
namespace {

// A guest that exits as fast as it can until it is kicked, and ends the run at its `last`th exit.
class BusyVcpu final : public VcpuBackend {
 public:
  Result<Exit> run() override {
    if (kicked_.exchange(false)) return Exit{Interrupted{}};
    ++runs;
    if (quiet) {
      while (!kicked_.exchange(false)) std::this_thread::yield();
      return Exit{Interrupted{}};
    }
    std::this_thread::yield();
    if (fails) return fail(Error::host("KVM_RUN: EFAULT"));
    if (breaks) return Exit{DebugStop{.exception = 1, .pc = 0, .dr6 = 0, .dr7 = 0}};
    return Exit{Halt{}};
  }
  Result<Exit> settle() override {
    ++settles;
    if (pending_parts > 0) {
      --pending_parts;
      return Exit{Halt{}};
    }
    return Exit{Interrupted{}};
  }
  Result<CpuState> state() override { return CpuState{}; }
  Result<void> set_state(const CpuState&) override { return {}; }
  Result<std::uint32_t> mp_state() override { return 0u; }
  std::uint64_t last_rip() const override { return 0x1234; }
  void bind_to_this_thread() override { bound = std::this_thread::get_id(); }
  void kick() override {
    ++kicks;
    kicked_ = true;
  }

  std::thread::id bound;
  std::atomic<unsigned> runs{0};
  std::atomic<unsigned> kicks{0};
  std::atomic<unsigned> settles{0};
  std::atomic<unsigned> pending_parts{0};
  std::atomic<bool> fails{false};
  std::atomic<bool> breaks{false};
  std::atomic<bool> quiet{false};  // the guest leaves for nothing but a kick

 private:
  std::atomic<bool> kicked_{false};
};

class VcpuThreadsTest : public testing::Test {
 protected:
  VcpuThreads& make(unsigned count) {
    std::vector<VcpuBackend*> backends;
    for (unsigned i = 0; i < count; ++i)
      backends.push_back(vcpus_.emplace_back(std::make_unique<BusyVcpu>()).get());
    VcpuThreads::Hooks hooks;
    hooks.started = [this](unsigned) -> Result<void> {
      if (refuse_start) return fail(Error::host("no"));
      return {};
    };
    hooks.handle = [this](const Exit&, unsigned vcpu, Gva) -> Step {
      const unsigned number = ++handled;
      if (wakes_itself) threads_->wake(vcpu);
      if (number == end_at) return step::Stop{ending::TripleFault{vcpu}};
      if (number == break_at) return step::Break{{.exception = 3, .pc = 0x77, .dr6 = 0, .dr7 = 0}};
      return step::Continue{};
    };
    hooks.broke = [this](unsigned vcpu, const DebugStop& stop) {
      EXPECT_EQ(stop.pc, 0x77u);
      broke = static_cast<int>(vcpu);
    };
    hooks.ended = [this] { ++ended; };
    hooks.before_run = before_run;
    hooks.interrupted = on_interrupted;
    threads_ = std::make_unique<VcpuThreads>(std::move(backends), std::move(hooks));
    return *threads_;
  }
  void wait_for_ending() {
    while (!threads_->ending()) std::this_thread::yield();
  }

  std::vector<std::unique_ptr<BusyVcpu>> vcpus_;
  std::atomic<unsigned> handled{0};
  std::atomic<unsigned> end_at{0};
  std::atomic<unsigned> break_at{0};
  std::atomic<int> broke{-1};
  std::atomic<unsigned> ended{0};
  bool refuse_start = false;
  bool wakes_itself = false;
  std::function<Result<VcpuThreads::Next>(unsigned)> before_run;
  std::function<void(unsigned, Gva)> on_interrupted;
  std::unique_ptr<VcpuThreads> threads_;
};

TEST_F(VcpuThreadsTest, no_vcpu_runs_before_resume) {
  VcpuThreads& threads = make(3);
  ASSERT_TRUE(threads.start());
  threads.pause();
  for (const auto& vcpu : vcpus_) EXPECT_EQ(vcpu->runs, 0u);
}

TEST_F(VcpuThreadsTest, the_first_ending_stops_every_vcpu_and_is_told_once) {
  VcpuThreads& threads = make(4);
  end_at = 100;
  ASSERT_TRUE(threads.start());
  threads.resume();
  wait_for_ending();
  threads.pause();
  threads.end(ending::TimedOut{1});
  EXPECT_TRUE(std::holds_alternative<ending::TripleFault>(*threads.ending()));
  EXPECT_EQ(ended, 1u);
}

TEST_F(VcpuThreadsTest, pause_completes_pending_exits_and_holds_everyone) {
  VcpuThreads& threads = make(2);
  ASSERT_TRUE(threads.start());
  threads.resume();
  while (handled < 50) std::this_thread::yield();
  vcpus_[0]->pending_parts = 3;
  threads.pause();
  EXPECT_EQ(vcpus_[0]->pending_parts, 0u);
  const unsigned before = handled;
  for (int i = 0; i < 1000; ++i) std::this_thread::yield();
  EXPECT_EQ(handled, before);
  threads.resume();
  while (handled == before) std::this_thread::yield();
}

TEST_F(VcpuThreadsTest, only_those_run_that_are_let) {
  VcpuThreads& threads = make(3);
  ASSERT_TRUE(threads.start());
  threads.resume({false, true, false});
  while (vcpus_[1]->runs < 50) std::this_thread::yield();
  EXPECT_EQ(vcpus_[0]->runs, 0u);
  EXPECT_EQ(vcpus_[2]->runs, 0u);
  // From running straight to other ones.
  threads.resume({true, false, false});
  while (vcpus_[0]->runs < 50) std::this_thread::yield();
  threads.pause();
  const unsigned before = vcpus_[1]->runs;
  threads.resume({true, false, true});
  while (vcpus_[2]->runs < 50) std::this_thread::yield();
  EXPECT_EQ(vcpus_[1]->runs, before);
  threads.stop();
}

TEST_F(VcpuThreadsTest, a_debug_stop_parks_everyone_and_the_run_goes_on_after_it) {
  VcpuThreads& threads = make(3);
  vcpus_[2]->quiet = true;
  break_at = 20;
  ASSERT_TRUE(threads.start());
  threads.resume();
  while (broke < 0) std::this_thread::yield();
  threads.pause();
  EXPECT_FALSE(threads.ending());
  const unsigned before = handled;
  for (int i = 0; i < 1000; ++i) std::this_thread::yield();
  EXPECT_EQ(handled, before);
  threads.resume();
  while (handled == before) std::this_thread::yield();
  threads.stop();
}

TEST_F(VcpuThreadsTest, behind_a_stop_for_a_debugger_nothing_is_pending) {
  VcpuThreads& threads = make(1);
  vcpus_[0]->breaks = true;
  break_at = 1;
  ASSERT_TRUE(threads.start());
  threads.resume();
  while (broke < 0) std::this_thread::yield();
  threads.pause();
  EXPECT_EQ(vcpus_[0]->settles, 0U);
  threads.stop();
}

TEST_F(VcpuThreadsTest, a_run_that_has_ended_is_not_resumed) {
  VcpuThreads& threads = make(1);
  ASSERT_TRUE(threads.start());
  threads.end(ending::Quit{});
  threads.resume();
  threads.pause();
  EXPECT_EQ(vcpus_[0]->runs, 0u);
}

TEST_F(VcpuThreadsTest, a_failed_kvm_run_ends_the_run_as_our_failure) {
  VcpuThreads& threads = make(2);
  vcpus_[1]->fails.store(true);
  ASSERT_TRUE(threads.start());
  threads.resume();
  wait_for_ending();
  EXPECT_EQ(exit_code(*threads.ending()), 70);
  EXPECT_NE(headline(*threads.ending()).find("EFAULT"), std::string::npos);
}

TEST_F(VcpuThreadsTest, a_thread_that_cannot_start_is_an_error_of_start) {
  refuse_start = true;
  VcpuThreads& threads = make(2);
  EXPECT_FALSE(threads.start());
}

TEST_F(VcpuThreadsTest, a_vcpu_that_waits_runs_once_it_is_woken) {
  using Next = VcpuThreads::Next;
  std::atomic<bool> ready{false};
  std::atomic<unsigned> asked{0};
  before_run = [&](unsigned vcpu) -> Result<Next> {
    if (vcpu == 0) return Next::Run;
    ++asked;
    return ready ? Next::Run : Next::Wait;
  };
  VcpuThreads& threads = make(2);
  ASSERT_TRUE(threads.start());
  threads.resume();
  while (asked == 0) std::this_thread::yield();
  EXPECT_EQ(vcpus_[1]->runs, 0u);
  threads.wake(1);
  while (asked < 2) std::this_thread::yield();
  EXPECT_EQ(vcpus_[1]->runs, 0u) << "woken for nothing";
  ready = true;
  threads.wake(1);
  while (vcpus_[1]->runs == 0) std::this_thread::yield();
  threads.stop();  // before what before_run looks at is gone
}

TEST_F(VcpuThreadsTest, a_waiting_vcpu_parks_and_goes_on_waiting) {
  std::atomic<unsigned> asked{0};
  before_run = [&](unsigned) -> Result<VcpuThreads::Next> {
    ++asked;
    return VcpuThreads::Next::Wait;
  };
  VcpuThreads& threads = make(3);
  ASSERT_TRUE(threads.start());
  for (int i = 0; i < 50; ++i) {
    threads.resume();
    threads.pause();
  }
  EXPECT_EQ(vcpus_[0]->runs, 0u);
}

TEST_F(VcpuThreadsTest, a_failed_preparation_ends_the_run_as_our_failure) {
  before_run = [](unsigned) -> Result<VcpuThreads::Next> {
    return fail(Error::host("KVM_INTERRUPT: EIO"));
  };
  VcpuThreads& threads = make(1);
  ASSERT_TRUE(threads.start());
  threads.resume();
  wait_for_ending();
  EXPECT_NE(headline(*threads.ending()).find("KVM_INTERRUPT"), std::string::npos);
}

TEST_F(VcpuThreadsTest, no_wake_is_lost) {
  std::atomic<unsigned> wanted{0};
  std::atomic<unsigned> seen{0};
  before_run = [&](unsigned) -> Result<VcpuThreads::Next> {
    seen = wanted.load();
    return VcpuThreads::Next::Wait;
  };
  VcpuThreads& threads = make(1);
  ASSERT_TRUE(threads.start());
  threads.resume();
  for (unsigned i = 1; i <= 2000; ++i) {
    wanted = i;
    threads.wake(0);
    while (seen != i) std::this_thread::yield();
  }
  threads.stop();
}

TEST_F(VcpuThreadsTest, no_wake_of_a_guest_that_does_not_exit_is_lost) {
  std::atomic<unsigned> wanted{0};
  std::atomic<unsigned> seen{0};
  before_run = [&](unsigned) -> Result<VcpuThreads::Next> {
    seen = wanted.load();
    return VcpuThreads::Next::Run;
  };
  VcpuThreads& threads = make(1);
  vcpus_[0]->quiet = true;
  ASSERT_TRUE(threads.start());
  threads.resume();
  for (unsigned i = 1; i <= 200; ++i) {
    wanted = i;
    threads.wake(0);
    while (seen != i) std::this_thread::yield();
  }
  threads.stop();
}

TEST_F(VcpuThreadsTest, an_end_reaches_guests_that_do_not_exit) {
  for (int i = 0; i < 50; ++i) {
    VcpuThreads& threads = make(2);
    for (const auto& vcpu : vcpus_) vcpu->quiet = true;
    ASSERT_TRUE(threads.start());
    threads.resume();
    threads.end(ending::Quit{});
    threads.stop();
    threads_.reset();
    vcpus_.clear();
  }
}

// An IPI to oneself would otherwise cost an entry of the guest that comes back at once.
TEST_F(VcpuThreadsTest, a_vcpu_that_wakes_itself_asks_before_run_and_is_not_kicked) {
  std::atomic<unsigned> asked{0};
  before_run = [&](unsigned) -> Result<VcpuThreads::Next> {
    ++asked;
    return VcpuThreads::Next::Run;
  };
  wakes_itself = true;
  end_at = 100;
  VcpuThreads& threads = make(1);
  ASSERT_TRUE(threads.start());
  threads.resume();
  wait_for_ending();
  EXPECT_EQ(vcpus_[0]->kicks, 0u);
  EXPECT_EQ(asked, 100u);
}

TEST_F(VcpuThreadsTest, pausing_and_resuming_many_times_loses_nobody) {
  VcpuThreads& threads = make(4);
  ASSERT_TRUE(threads.start());
  for (int i = 0; i < 200; ++i) {
    threads.resume();
    threads.pause();
  }
  threads.stop();
}

TEST_F(VcpuThreadsTest, coming_out_for_a_kick_is_told_and_counts_as_no_exit) {
  std::atomic<unsigned> told{0};
  on_interrupted = [&](unsigned vcpu, Gva rip) {
    EXPECT_EQ(vcpu, 0u);
    EXPECT_EQ(rip, 0x1234u);
    ++told;
  };
  VcpuThreads& threads = make(1);
  ASSERT_TRUE(threads.start());
  threads.resume();
  while (told == 0) {
    threads.wake(0);
    std::this_thread::yield();
  }
  threads.pause();
  EXPECT_EQ(threads.exits(), handled);
}

TEST_F(VcpuThreadsTest, other_vcpus_are_run_by_the_same_threads_after_a_pause) {
  VcpuThreads& threads = make(2);
  ASSERT_TRUE(threads.start());
  threads.resume();
  while (vcpus_[0]->runs == 0 || vcpus_[1]->runs == 0) std::this_thread::yield();
  threads.pause();
  std::vector<std::unique_ptr<BusyVcpu>> others;
  std::vector<VcpuBackend*> backends;
  for (unsigned i = 0; i < 2; ++i)
    backends.push_back(others.emplace_back(std::make_unique<BusyVcpu>()).get());
  threads.adopt(std::move(backends));
  const unsigned before = vcpus_[0]->runs + vcpus_[1]->runs;
  threads.resume();
  while (others[0]->runs == 0 || others[1]->runs == 0) std::this_thread::yield();
  threads.pause();
  EXPECT_EQ(vcpus_[0]->runs + vcpus_[1]->runs, before);
  for (unsigned i = 0; i < 2; ++i) EXPECT_EQ(others[i]->bound, vcpus_[i]->bound) << i;
  EXPECT_NE(others[0]->bound, others[1]->bound);
  threads.stop();  // before they go
}

}  // namespace
}  // namespace vmm
