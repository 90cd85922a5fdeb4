#include "vmm/core/vcpu_state.h"

#include <gtest/gtest.h>

#include <cstring>
#include <set>

namespace vmm {
namespace {

VcpuState some_state() {
  VcpuState state;
  auto* raw = reinterpret_cast<std::uint8_t*>(&state.cpu.regs);
  for (std::size_t i = 0; i < sizeof state.cpu.regs; ++i) raw[i] = static_cast<std::uint8_t>(i + 1);
  state.cpu.sregs.cs.selector = 0x18;
  state.cpu.sregs.cs.base = 0x123456789;
  state.cpu.sregs.cs.db = 1;
  state.cpu.sregs.cr3 = 0x7000;
  state.cpu.sregs.efer = spec::EFER_NXE;
  state.cpu.sregs.interrupt_bitmap[3] = 1;
  state.pdptrs = {1, 2, 3, 4};
  state.sregs_flags = KVM_SREGS2_FLAGS_PDPTRS_VALID;
  state.cpu.debugregs.dr7 = 0x400;
  state.cpu.events.exception.nr = 14;
  state.cpu.events.exception.error_code = 2;
  state.cpu.events.nmi.masked = 1;
  state.cpu.mp_state = KVM_MP_STATE_HALTED;
  state.xsave.assign(4096, 0x5a);
  state.xcr0 = 7;
  state.msrs = {{0x174, 8}, {0xc0000102, 0xffff800000000000}};
  state.lapic.assign(VcpuState::kLapicPage, 1);
  state.nested.assign(128, 2);
  state.tsc = 99;
  state.tsc_deadline = 100;
  return state;
}

TEST(VcpuState, what_is_loaded_is_what_was_saved) {
  VcpuState state = some_state();
  const StateBlock saved = save_state(state);
  VcpuState other;
  other.msrs = {{0x174, 0}, {0xc0000102, 0}};
  ASSERT_TRUE(load_state(other, saved));
  EXPECT_EQ(save_state(other), saved);
  EXPECT_EQ(std::memcmp(&other.cpu.regs, &state.cpu.regs, sizeof(kvm_regs)), 0);
  EXPECT_EQ(other.msrs, state.msrs);
  EXPECT_EQ(other.xsave, state.xsave);
  EXPECT_EQ(other.cpu.events.exception.error_code, 2u);
}

TEST(VcpuState, no_name_is_used_twice) {
  VcpuState state = some_state();
  std::set<std::string> names;
  for (const auto& [name, value] : save_state(state).fields)
    EXPECT_TRUE(names.insert(name).second) << name;
}

TEST(VcpuState, another_list_of_msrs_is_refused_by_its_name) {
  VcpuState state = some_state();
  const StateBlock saved = save_state(state);
  VcpuState other;
  other.msrs = {{0x174, 0}, {0x175, 0}};
  const auto result = load_state(other, saved);
  ASSERT_FALSE(result);
  EXPECT_NE(result.error().text().find("msr.175"), std::string::npos) << result.error().text();
}

TEST(VcpuState, an_area_beyond_every_size_is_refused) {
  VcpuState state = some_state();
  state.nested.assign(VcpuState::kMaxNested + 1, 0);
  const StateBlock saved = save_state(state);
  VcpuState other;
  other.msrs = state.msrs;
  EXPECT_FALSE(load_state(other, saved));
}

TEST(VmState, kvms_chips_are_visited_only_where_they_are) {
  VmState clock_only;
  clock_only.clock = 7;
  EXPECT_EQ(save_state(clock_only).fields.size(), 1u);
  VmState state;
  state.chips.emplace();
  state.chips->pic_master.chip.pic.imr = 0xb8;
  state.chips->ioapic.chip.ioapic.redirtbl[23].bits = 0x1234567890abcdef;
  state.chips->pit.channels[2].count = 0x10000;
  const StateBlock saved = save_state(state);
  VmState other;
  other.chips.emplace();
  ASSERT_TRUE(load_state(other, saved));
  EXPECT_EQ(save_state(other), saved);
  EXPECT_EQ(other.chips->ioapic.chip.ioapic.redirtbl[23].bits, 0x1234567890abcdefu);
  EXPECT_EQ(other.chips->pit.channels[2].count, 0x10000u);
  EXPECT_FALSE(load_state(clock_only, saved));
}

}  // namespace
}  // namespace vmm
