#include "vmm/core/vcpu_memory.h"

#include <gtest/gtest.h>

#include "vmm/base/bytes.h"
#include "vmm/core/debug_target_fake.h"
#include "vmm/core/nested_memory_fake.h"

namespace vmm {
namespace {

TEST(VcpuMemory, is_the_machines_own_in_l1) {
  FakeDebugTarget target(1);
  target.ram.put(0xfff, {0x11, 0x22});
  const auto memory = VcpuMemory::of(target, 0, {}).value();
  EXPECT_EQ(memory.place(0xfff), 0xfffu);
  std::array<std::uint8_t, 2> bytes{};
  EXPECT_TRUE(memory.read(0xfff, bytes)) << "over the end of a page";
  EXPECT_EQ(bytes[1], 0x22);
  EXPECT_FALSE(memory.read(0x3fff, bytes));
}

TEST(VcpuMemory, goes_through_nested_tables_in_l2) {
  FakeDebugTarget target(1);
  target.positions[0] = {.level = 2,
                         .memory = std::make_shared<FakeNestedMemory>(target.ram, 0x2000, 0x2000)};
  // 32-bit paging: L2's directory at 0, its table at 1000h maps the first page to 1000h.
  CpuState& cpu = target.states[0];
  cpu.sregs.cr0 |= spec::CR0_PG;
  cpu.sregs.cr3 = 0;
  target.ram.put32(0x2000, 0x1003);
  target.ram.put32(0x3000, 0x1003);
  target.ram.put32(0x3004, 0x5003);
  target.ram.put(0x3010, {0x5a});
  const auto memory = VcpuMemory::of(target, 0, {}).value();
  EXPECT_EQ(memory.walk(0x10).gpa, 0x1010u) << "L2's own";
  EXPECT_EQ(memory.place(0x10), 0x3010u) << "the machine's";
  std::uint8_t byte = 0;
  EXPECT_TRUE(memory.read(0x10, std::span(&byte, 1)));
  EXPECT_EQ(byte, 0x5a);
  EXPECT_EQ(memory.place(0x1000), std::nullopt) << "where the nested tables map nothing";
  EXPECT_EQ(memory.place(0x2000), std::nullopt) << "where its own do not";
}

}  // namespace
}  // namespace vmm
