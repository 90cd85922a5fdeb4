#include "devices/i8042.h"

#include <gtest/gtest.h>

#include <vector>

#include "devices/port_access.h"
#include "vmm/core/irq_fake.h"

namespace vmm {
namespace {

class I8042Test : public testing::Test {
 protected:
  int resets = 0;
  RecordingIrq irq;
  IrqPins pins{irq, 16};
  I8042 chip{"i8042", pins.line(1), [this] { ++resets; }};

  std::uint8_t status() { return in(chip, 4); }
  void command(unsigned value) { out(chip, 4, value); }
  void command(unsigned value, unsigned data) {
    out(chip, 4, value);
    out(chip, 0, data);
  }
  // What a driver reads: all bytes while the output buffer is full.
  std::vector<unsigned> answers() {
    std::vector<unsigned> bytes;
    while ((status() & 0x01) != 0 && bytes.size() < 16) bytes.push_back(in(chip, 0));
    return bytes;
  }
  using Bytes = std::vector<unsigned>;
};

TEST_F(I8042Test, power_on_status_is_ready_and_empty) {
  EXPECT_EQ(status(), 0x1c);
  EXPECT_TRUE(answers().empty());
}

TEST_F(I8042Test, never_busy) {
  for (unsigned value = 0; value < 0x100; ++value) {
    command(value);
    EXPECT_EQ(status() & 0x02, 0) << value;
  }
}

TEST_F(I8042Test, command_bit_tells_which_port_was_written) {
  command(0xaa);
  EXPECT_NE(status() & 0x08, 0);
  out(chip, 0, 0xf4);
  EXPECT_EQ(status() & 0x08, 0);
}

TEST_F(I8042Test, fe_resets) {
  command(0xfe);
  EXPECT_EQ(resets, 1);
}

TEST_F(I8042Test, pulses_that_leave_bit_0_high_do_not_reset) {
  command(0xff);
  command(0xfd);
  command(0xf1);
  EXPECT_EQ(resets, 0);
  command(0xf0);
  EXPECT_EQ(resets, 1);
}

TEST_F(I8042Test, self_test_passes) {
  command(0xaa);
  EXPECT_EQ(answers(), Bytes{0x55});
  command(0xab);
  EXPECT_EQ(answers(), Bytes{0x00});
}

TEST_F(I8042Test, configuration_byte_reads_back) {
  command(0x20);
  EXPECT_EQ(answers(), Bytes{0x65});
  command(0x60, 0x44);
  command(0x20);
  EXPECT_EQ(answers(), Bytes{0x44});
}

TEST_F(I8042Test, controller_ram_reads_back) {
  for (unsigned i = 0; i < 32; ++i) command(0x60 + i, 0x80 + i);
  for (unsigned i = 0; i < 32; ++i) {
    command(0x20 + i);
    EXPECT_EQ(answers(), Bytes{0x80 + i});
  }
}

TEST_F(I8042Test, enabling_and_disabling_show_in_the_configuration) {
  command(0xad);
  command(0xa8);
  command(0x20);
  EXPECT_EQ(answers(), Bytes{0x55});
  command(0xae);
  command(0xa7);
  command(0x20);
  EXPECT_EQ(answers(), Bytes{0x65});
}

TEST_F(I8042Test, a20_follows_the_output_port) {
  command(0xd0);
  EXPECT_EQ(answers(), Bytes{0x03});
  command(0xd1, 0xdd);
  command(0xd0);
  EXPECT_EQ(answers(), Bytes{0xcd}) << "bit 4 shows the output buffer, which was empty";
  command(0xdf);
  command(0xd0);
  EXPECT_EQ(answers(), Bytes{0xcf});
  EXPECT_EQ(resets, 0);
}

TEST_F(I8042Test, output_port_bit_0_low_resets) {
  command(0xd1, 0xfe);
  EXPECT_EQ(resets, 1);
}

TEST_F(I8042Test, keyboard_acknowledges_so_that_kernels_go_on) {
  out(chip, 0, 0xf4);
  EXPECT_EQ(answers(), Bytes{0xfa});
  out(chip, 0, 0xff);
  EXPECT_EQ(answers(), (Bytes{0xfa, 0xaa}));
}

using Codes = std::vector<std::uint8_t>;

TEST_F(I8042Test, keyboard_says_what_it_is_and_echoes) {
  out(chip, 0, 0xf2);
  EXPECT_EQ(answers(), (Bytes{0xfa, 0xab, 0x41})) << "translated";
  command(0x60, 0x24);
  out(chip, 0, 0xf2);
  EXPECT_EQ(answers(), (Bytes{0xfa, 0xab, 0x83}));
  out(chip, 0, 0xee);
  EXPECT_EQ(answers(), Bytes{0xee});
  out(chip, 0, 0xf0);
  out(chip, 0, 0x00);
  EXPECT_EQ(answers(), (Bytes{0xfa, 0x02})) << "what was not read gave way";
  out(chip, 0, 0xed);
  EXPECT_EQ(answers(), Bytes{0xfa});
  out(chip, 0, 0x07);
  EXPECT_EQ(answers(), Bytes{0xfa});
}

TEST_F(I8042Test, keys_come_as_set_1_and_each_is_an_edge_on_irq_1) {
  chip.type(Codes{0x1e, 0x9e});
  EXPECT_EQ(answers(), (Bytes{0x1e, 0x9e}));
  const std::vector<std::pair<unsigned, bool>> edges = {
      {1, true}, {1, false}, {1, true}, {1, false}};
  EXPECT_EQ(irq.changes, edges);
}

TEST_F(I8042Test, without_translation_keys_come_as_set_2) {
  command(0x60, 0x25);
  chip.type(Codes{0x1e, 0x9e, 0xe0, 0x48, 0xe0, 0xc8});
  EXPECT_EQ(answers(), (Bytes{0x1c, 0xf0, 0x1c, 0xe0, 0x75, 0xe0, 0xf0, 0x75}));
}

TEST_F(I8042Test, interrupt_follows_the_configuration) {
  command(0x60, 0x64);
  chip.type(Codes{0x1e});
  EXPECT_TRUE(irq.changes.empty());
  EXPECT_EQ(answers(), Bytes{0x1e});
}

TEST_F(I8042Test, keys_wait_while_the_keyboard_is_held_and_are_dropped_while_it_does_not_scan) {
  command(0xad);
  chip.type(Codes{0x1e});
  EXPECT_TRUE(answers().empty());
  command(0xae);
  EXPECT_EQ(answers(), Bytes{0x1e});
  out(chip, 0, 0xf5);
  EXPECT_EQ(answers(), Bytes{0xfa});
  chip.type(Codes{0x1e});
  EXPECT_TRUE(answers().empty());
  out(chip, 0, 0xf4);
  EXPECT_EQ(answers(), Bytes{0xfa});
  chip.type(Codes{0x1f});
  EXPECT_EQ(answers(), Bytes{0x1f});
}

TEST_F(I8042Test, key_that_does_not_fit_is_dropped_as_a_whole) {
  for (int i = 0; i < 20; ++i) chip.type(Codes{0xe0, 0x48, 0xe0, 0xc8});
  std::size_t count = 0;
  while ((status() & 0x01) != 0 && count < 100) {
    EXPECT_EQ(in(chip, 0), count % 2 == 0 ? 0xe0 : count % 4 == 1 ? 0x48 : 0xc8);
    ++count;
  }
  EXPECT_EQ(count % 4, 0U);
  EXPECT_LE(count, 20U);
}

TEST_F(I8042Test, an_empty_buffer_gives_its_last_byte) {
  command(0xaa);
  EXPECT_EQ(in(chip, 0), 0x55);
  EXPECT_EQ(in(chip, 0), 0x55);
}

TEST_F(I8042Test, a_command_takes_its_data_byte_once) {
  command(0x60, 0x47);
  out(chip, 0, 0x12);  // for the keyboard
  EXPECT_EQ(answers(), Bytes{0xfa});
  command(0x20);
  EXPECT_EQ(answers(), Bytes{0x47});
}

TEST_F(I8042Test, another_command_forgets_the_one_that_waits) {
  command(0xd1);
  command(0xaa);
  answers();
  out(chip, 0, 0x00);  // would be a reset
  EXPECT_EQ(resets, 0);
}

TEST_F(I8042Test, linux_sees_at_once_that_there_is_no_mouse) {
  // i8042_check_aux(): the loop test must answer, without the AUX flag; then the interface test
  // must give an error other than FFh and FAh.
  command(0xd3, 0x5a);
  EXPECT_EQ(status() & 0x21, 0x01);
  EXPECT_NE(in(chip, 0), 0x5a);
  command(0xa9);
  EXPECT_EQ(answers(), Bytes{0x01});
}

TEST_F(I8042Test, a_byte_for_the_mouse_times_out) {
  command(0xd4, 0xff);
  EXPECT_EQ(status() & 0x41, 0x41);
  EXPECT_EQ(in(chip, 0), 0xfe);
  EXPECT_EQ(status() & 0x41, 0);
}

TEST_F(I8042Test, answers_at_60h_and_64h_only) {
  std::uint8_t data[] = {0x77};
  for (const std::uint64_t offset : {1u, 2u, 3u, 5u, 100u}) {
    EXPECT_EQ(chip.read(offset, data), Access::NoRegister);
    EXPECT_EQ(chip.write(offset, data), Access::NoRegister);
  }
  EXPECT_EQ(data[0], 0x77);
}

}  // namespace
}  // namespace vmm
