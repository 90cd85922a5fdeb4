#include "vmm/machine/kernel_slide.h"

#include <gtest/gtest.h>

#include "vmm/core/memory_fake.h"

namespace vmm {
namespace {

// The first GiB mapped to itself, an IDT at 8000h, a kernel with one symbol that matters.
class Slide : public testing::Test {
 protected:
  static constexpr Gva kLinked = 0xffff'ffff'81e0'0b70;

  Slide() {
    ram.put64(0x1000, 0x2003);
    ram.put64(0x2000, 0x3003);
    ram.put64(0x3000, 0x83);
    symbols.add("asm_exc_divide_error", kLinked, 16);
    symbols.add("panic", 0xffff'ffff'8110'0000, 100);
    symbols.add("of_a_user", 0x40'0000, 100);
    CpuState cpu;
    cpu.sregs.cr0 = spec::CR0_PE | spec::CR0_PG;
    cpu.sregs.cr3 = 0x1000;
    cpu.sregs.cr4 = spec::CR4_PAE;
    cpu.sregs.efer = spec::EFER_LME | spec::EFER_LMA;
    cpu.sregs.cs.l = 1;
    cpu.sregs.idt = {.base = 0x8000, .limit = 0xfff, .padding = {}};
    scene.vcpus = {cpu};
    scene.memory = &ram;
    scene.symbols = &symbols;
  }
  std::optional<std::uint64_t> with_handler(Gva handler) {
    ram.put64(0x8000, bits(handler, 15, 0) | bits(handler, 31, 16) << 48 | 0x8e00'0010'0000ull);
    ram.put64(0x8008, handler >> 32);
    return kernel_slide(scene);
  }

  FakeRam ram;
  SymbolTable symbols;
  CrashScene scene;
};

TEST_F(Slide, of_a_kernel_that_moved_is_read_from_the_gate_of_divide_error) {
  EXPECT_EQ(with_handler(kLinked + 0x1a00'0000), 0x1a00'0000U);
  symbols.move_kernel(0x1a00'0000);
  EXPECT_EQ(symbols.name_of(0xffff'ffff'9b10'0000), "panic");
  EXPECT_EQ(with_handler(kLinked + 0x20'0000), 0x20'0000U) << "from where it was linked";
}

TEST_F(Slide, of_a_kernel_that_is_starting_is_told_by_its_early_handler) {
  symbols.add("early_idt_handler_array", 0xffff'ffff'82a0'0000, 288);
  EXPECT_EQ(with_handler(0xffff'ffff'a2a0'0000), 0x2000'0000U);
  EXPECT_EQ(with_handler(kLinked + 0x2000'0000), 0x2000'0000U);
}

TEST_F(Slide, is_0_where_the_symbols_fit) { EXPECT_EQ(with_handler(kLinked), 0U); }

TEST_F(Slide, is_not_known_where_nothing_tells) {
  EXPECT_EQ(with_handler(kLinked + 0x1000), std::nullopt)
      << "no multiple of 2 MiB: another handler";
  EXPECT_EQ(with_handler(kLinked + 0x4000'0000), std::nullopt) << "further than it moves";
  EXPECT_EQ(with_handler(0x1000), std::nullopt);
  with_handler(kLinked + 0x20'0000);
  scene.vcpus[0].sregs.idt.limit = 0;
  EXPECT_EQ(kernel_slide(scene), std::nullopt);
  scene.vcpus[0].sregs.idt = {.base = 0x4000'0000, .limit = 0xfff, .padding = {}};
  EXPECT_EQ(kernel_slide(scene), std::nullopt);
  EXPECT_TRUE(has_linux_handlers(symbols));
  const SymbolTable none;
  EXPECT_FALSE(has_linux_handlers(none));
  scene.symbols = &none;
  EXPECT_EQ(kernel_slide(scene), std::nullopt);
}

}  // namespace
}  // namespace vmm
