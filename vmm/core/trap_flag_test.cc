#include "vmm/core/trap_flag.h"

#include <gtest/gtest.h>

#include "vmm/core/debug_target_fake.h"

namespace vmm {
namespace {

constexpr std::uint64_t kFlags = 0x246;
constexpr std::uint64_t kTraced = kFlags | spec::RFLAGS_TF;

class TrapFlag : public testing::Test {
 protected:
  TrapFlag() {
    before_.regs.rip = 0x1000;
    before_.regs.rsp = 0x3000;
    before_.regs.rflags = kFlags;
    before_.sregs.cr0 = spec::CR0_PE;
    before_.sregs.cs.selector = 8;
    before_.sregs.cs.db = 1;
    before_.sregs.ss.selector = 0x10;
    before_.sregs.ss.db = 1;
    target_.ram.bytes()[0x1000] = 0x90;
  }
  // The fake has no tables, so that long mode is without paging here.
  void make_long() {
    before_.sregs.efer = spec::EFER_LMA;
    before_.sregs.cs.db = 0;
    before_.sregs.cs.l = 1;
  }
  void push_frame(Gva at, const std::vector<std::uint64_t>& words) {
    for (std::size_t i = 0; i < words.size(); ++i) {
      if (is_long())
        target_.ram.put64(at + 8 * i, words[i]);
      else
        target_.ram.put32(at + 4 * i, static_cast<std::uint32_t>(words[i]));
    }
  }
  bool is_long() const { return before_.sregs.efer != 0; }
  void step_to(std::uint64_t rip, std::uint64_t rsp) {
    CpuState after = before_;
    after.regs.rip = rip;
    after.regs.rsp = rsp;
    step_to(after);
  }
  void step_to(const CpuState& after) {
    ASSERT_TRUE(remove_stored_trap_flag(target_, 0, before_, after, PagingFeatures()));
  }
  std::uint64_t word(Gva at) {
    return load<std::uint32_t>(std::span<const std::uint8_t>(target_.ram.bytes()), at);
  }

  FakeDebugTarget target_{1};
  CpuState before_;
};

TEST_F(TrapFlag, goes_out_of_the_frame_of_an_interrupt_in_long_mode) {
  make_long();
  push_frame(0x2fd8, {0x1000, 8, kTraced, 0x3000, 0x10});
  step_to(0x500, 0x2fd8);
  EXPECT_EQ(word(0x2fe8), kFlags);
}

TEST_F(TrapFlag, goes_out_of_a_frame_below_an_error_code_and_a_push) {
  make_long();
  push_frame(0x2fd8, {0x1000, 8, kTraced | 0x10000, 0x3000, 0x10});
  step_to(0x501, 0x2fc8);
  EXPECT_EQ(word(0x2fe8), kFlags | 0x10000) << "RF stays";
}

TEST_F(TrapFlag, goes_out_of_a_frame_in_protected_mode) {
  push_frame(0x2ff4, {0x1002, 8, kTraced});
  step_to(0x500, 0x2ff4);
  EXPECT_EQ(word(0x2ffc), kFlags);
}

TEST_F(TrapFlag, stays_where_the_words_are_no_frame_of_the_interrupted_code) {
  make_long();
  const std::vector<std::uint64_t> frame = {0x1000, 8, kTraced, 0x3000, 0x10};
  const std::vector<std::uint64_t> others = {0xfff, 0x18, kTraced | 0x80, 0x3008, 0x18};
  for (std::size_t i = 0; i < frame.size(); ++i) {
    auto words = frame;
    words[i] = others[i];
    push_frame(0x2fd8, words);
    step_to(0x500, 0x2fd8);
    EXPECT_EQ(word(0x2fe8), words[2] & 0xffff'ffff) << i;
  }
  // Too far up, and without the flag.
  push_frame(0x2fd8, frame);
  step_to(0x500, 0x2fc0);
  EXPECT_EQ(word(0x2fe8), kTraced);
}

TEST_F(TrapFlag, of_the_guests_own_stays) {
  before_.regs.rflags = kTraced;
  push_frame(0x2ff4, {0x1000, 8, kTraced});
  step_to(0x500, 0x2ff4);
  EXPECT_EQ(word(0x2ffc), kTraced);
}

TEST_F(TrapFlag, goes_out_of_what_pushf_stored) {
  target_.ram.bytes()[0x1000] = 0x9c;
  target_.ram.put32(0x2ffc, kTraced);
  step_to(0x1001, 0x2ffc);
  EXPECT_EQ(word(0x2ffc), kFlags);
  target_.ram.put(0x1000, {0x66, 0x9c});
  target_.ram.put32(0x2ffc, kTraced << 16);
  step_to(0x1002, 0x2ffe);
  EXPECT_EQ(word(0x2ffc), kFlags << 16);
  // Another instruction that pushes the same.
  target_.ram.put(0x1000, {0x50});
  target_.ram.put32(0x2ffc, kTraced);
  step_to(0x1001, 0x2ffc);
  EXPECT_EQ(word(0x2ffc), kTraced);
}

TEST_F(TrapFlag, goes_out_of_r11_after_syscall) {
  make_long();
  target_.ram.put(0x1000, {0x0f, 0x05});
  CpuState after = before_;
  after.regs.rip = 0x500;
  after.regs.rcx = 0x1002;
  after.regs.r11 = kTraced;
  step_to(after);
  EXPECT_EQ(target_.states[0].regs.r11, kFlags);
  EXPECT_EQ(target_.states[0].regs.rip, 0x500U);
}

}  // namespace
}  // namespace vmm
