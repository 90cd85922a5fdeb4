#include "vmm/machine/pc_board.h"

#include <gtest/gtest.h>

#include "vmm/core/irq_fake.h"

namespace vmm {
namespace {

TEST(Board, the_port_map_is_the_documented_one) {
  RecordingIrq irq;
  std::vector<std::uint8_t> window(kVgaWindowSize);
  const auto board = *Board::create({.irq = &irq, .vga_window = window});
  EXPECT_EQ(board->ports.print(),
            "port 0060h-0060h i8042\n"
            "port 0064h-0064h i8042\n"
            "port 0092h-0092h port92\n"
            "port 00e9h-00e9h debugcon\n"
            "port 00f4h-00f7h debug-exit\n"
            "port 03b0h-03dfh vga\n"
            "port 03f8h-03ffh serial0\n"
            "port 0402h-0402h debugcon\n"
            "port 0600h-060fh acpi-pm\n"
            "port 0cf9h-0cf9h reset\n"
            "port 8900h-8900h bochs-shutdown\n");
  EXPECT_EQ(board->mmio.print(), "");
}

TEST(Board, trapping_puts_the_screen_memory_on_the_bus) {
  RecordingIrq irq;
  std::vector<std::uint8_t> window(kVgaWindowSize);
  const auto board = *Board::create({.irq = &irq, .vga_window = window, .vga_trap = true});
  EXPECT_EQ(board->mmio.print(), "mmio a0000h-bffffh vga-memory\n");
}

TEST(Board, the_serial_interrupt_is_isa_irq_4) {
  RecordingIrq irq;
  std::vector<std::uint8_t> window(kVgaWindowSize);
  const auto board = *Board::create({.irq = &irq, .vga_window = window});
  const std::uint8_t out2 = 0x08;
  const std::uint8_t etbei = 0x02;
  board->ports.write(0x3fc, {&out2, 1});
  board->ports.write(0x3f9, {&etbei, 1});
  ASSERT_FALSE(irq.changes.empty());
  EXPECT_EQ(irq.changes.back(), std::make_pair(4u, true));
}

TEST(Board, the_first_ending_stays) {
  RecordingIrq irq;
  std::vector<std::uint8_t> window(kVgaWindowSize);
  const auto board = *Board::create({.irq = &irq, .vga_window = window});
  const std::uint8_t one = 1;
  const std::uint8_t two = 2;
  board->ports.write(0xf4, {&one, 1});
  board->ports.write(0xf4, {&two, 1});
  EXPECT_EQ(board->ending, RunOutcome(ending::GuestExit{1}));
}

}  // namespace
}  // namespace vmm
