#include "devices/serial16550.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "devices/port_access.h"
#include "devices/streams_fake.h"
#include "vmm/core/irq_fake.h"

namespace vmm {
namespace {

using testing::ElementsAre;
using testing::Pair;

constexpr std::uint64_t kData = 0, kIer = 1, kIirFcr = 2, kLcr = 3, kMcr = 4, kLsr = 5, kMsr = 6,
                        kScr = 7;
constexpr unsigned kErbfi = 1, kEtbei = 2, kElsi = 4, kEdssi = 8;
constexpr unsigned kOut2 = 8, kLoop = 0x10;

class Serial16550Test : public testing::Test {
 protected:
  RecordingIrq irq;
  IrqPins pins{irq, 16};
  FakeSink sink;
  FakeSource source;
  Serial16550 uart{"serial0", pins.line(4), &sink, &source};

  bool line() const { return !irq.changes.empty() && irq.changes.back().second; }
  void print(std::string_view text) {
    for (const char c : text) out(uart, kData, static_cast<unsigned char>(c));
  }
  std::string read_all() {
    std::string text;
    while ((in(uart, kLsr) & 1) != 0) text += static_cast<char>(in(uart, kData));
    return text;
  }
};

TEST_F(Serial16550Test, power_on_is_idle_and_silent) {
  EXPECT_EQ(in(uart, kIer), 0);
  EXPECT_EQ(in(uart, kIirFcr), 0x01);
  EXPECT_EQ(in(uart, kLsr), 0x60);
  EXPECT_EQ(in(uart, kMsr), 0xb0);
  EXPECT_EQ(in(uart, kMcr), 0);
  EXPECT_TRUE(irq.changes.empty());
}

TEST_F(Serial16550Test, written_bytes_reach_the_sink_in_order) {
  print("hello");
  EXPECT_EQ(sink.text, "hello");
  EXPECT_EQ(in(uart, kLsr), 0x60);
}

TEST_F(Serial16550Test, a_null_sink_takes_everything) {
  Serial16550 mute("serial1", IrqLine(), nullptr, nullptr);
  for (int i = 0; i < 100; ++i) out(mute, kData, 'x');
  EXPECT_EQ(in(mute, kLsr), 0x60);
  EXPECT_EQ(mute.state().tx_dropped, 0u);
}

TEST_F(Serial16550Test, divisor_latch_hides_data_and_ier) {
  out(uart, kIer, 0x0f);
  out(uart, kLcr, 0x83);
  out(uart, kData, 0x34);
  out(uart, kIer, 0x12);
  EXPECT_EQ(in(uart, kData), 0x34);
  EXPECT_EQ(in(uart, kIer), 0x12);
  out(uart, kLcr, 0x03);
  EXPECT_EQ(in(uart, kIer), 0x0f);
  EXPECT_EQ(sink.text, "");
  EXPECT_EQ(uart.state().dll, 0x34);
  EXPECT_EQ(uart.state().dlm, 0x12);
}

TEST_F(Serial16550Test, linux_probe_finds_a_16550A) {
  // The steps of autoconfig() in drivers/tty/serial/8250/8250_port.c.
  out(uart, kIer, 0x00);
  EXPECT_EQ(in(uart, kIer) & 0x0f, 0x00);
  out(uart, kIer, 0x0f);
  EXPECT_EQ(in(uart, kIer) & 0x0f, 0x0f);
  out(uart, kIer, 0x40);  // not an XScale
  EXPECT_EQ(in(uart, kIer), 0x00);
  out(uart, kMcr, 0x1a);
  EXPECT_EQ(in(uart, kMsr) & 0xf0, 0x90);
  out(uart, kMcr, 0x00);
  out(uart, kIirFcr, 0x01);
  EXPECT_EQ(in(uart, kIirFcr) >> 6, 3);
  out(uart, kLcr, 0xe0);  // not a National super I/O either: bit 4 never follows MCR
  EXPECT_EQ(in(uart, kIirFcr) & 0x10, 0);
  out(uart, kLcr, 0x00);
  out(uart, kIirFcr, 0x21);  // nor a 16750: bit 5 stays 0
  EXPECT_EQ(in(uart, kIirFcr) >> 5, 6);
  out(uart, kScr, 0xa5);
  EXPECT_EQ(in(uart, kScr), 0xa5);
}

TEST_F(Serial16550Test, without_fifos_iir_shows_none) {
  out(uart, kIirFcr, 0xc7);
  EXPECT_EQ(in(uart, kIirFcr) & 0xc0, 0xc0);
  out(uart, kIirFcr, 0xc6);  // bit 0 clear: the other bits do not count
  EXPECT_EQ(in(uart, kIirFcr) & 0xc0, 0);
}

TEST_F(Serial16550Test, thre_interrupt_fires_when_enabled) {
  out(uart, kMcr, kOut2);
  out(uart, kIer, kEtbei);
  EXPECT_TRUE(line());
  EXPECT_EQ(in(uart, kIirFcr), 0x02);
}

TEST_F(Serial16550Test, thre_interrupt_is_cleared_by_reading_iir) {
  out(uart, kMcr, kOut2);
  out(uart, kIer, kEtbei);
  EXPECT_EQ(in(uart, kIirFcr), 0x02);
  EXPECT_FALSE(line());
  EXPECT_EQ(in(uart, kIirFcr), 0x01);
}

TEST_F(Serial16550Test, thre_interrupt_fires_again_on_each_enable) {
  // The driver of Linux looks for chips that do not, and polls them.
  for (int i = 0; i < 3; ++i) {
    out(uart, kIer, kEtbei);
    EXPECT_EQ(in(uart, kIirFcr), 0x02);
    out(uart, kIer, 0);
  }
}

TEST_F(Serial16550Test, thre_interrupt_does_not_fire_on_rewriting_ier) {
  out(uart, kIer, kEtbei);
  EXPECT_EQ(in(uart, kIirFcr), 0x02);
  out(uart, kIer, kEtbei);
  EXPECT_EQ(in(uart, kIirFcr), 0x01);
}

TEST_F(Serial16550Test, thre_interrupt_gives_an_edge_for_each_byte) {
  out(uart, kMcr, kOut2);
  out(uart, kIer, kEtbei);
  irq.changes.clear();
  out(uart, kData, 'a');
  EXPECT_THAT(irq.changes, ElementsAre(Pair(4u, false), Pair(4u, true)));
}

TEST_F(Serial16550Test, thre_interrupt_waits_for_a_full_sink) {
  sink.room = 0;
  out(uart, kMcr, kOut2);
  out(uart, kIirFcr, 0x01);
  out(uart, kIer, kEtbei);
  out(uart, kData, 'a');
  EXPECT_FALSE(line());
  EXPECT_EQ(in(uart, kIirFcr), 0xc1);
  sink.room = 10;
  uart.advance(VmTime(1));
  EXPECT_TRUE(line());
  EXPECT_EQ(in(uart, kIirFcr), 0xc2);
  EXPECT_EQ(sink.text, "a");
}

TEST_F(Serial16550Test, enabling_thre_while_bytes_wait_does_not_fire) {
  sink.room = 0;
  out(uart, kData, 'a');
  out(uart, kIer, kEtbei);
  EXPECT_EQ(in(uart, kIirFcr), 0x01);
}

TEST_F(Serial16550Test, a_full_sink_holds_back_the_transmitter) {
  sink.room = 0;
  out(uart, kIirFcr, 0x01);
  out(uart, kData, 'a');
  EXPECT_EQ(in(uart, kLsr), 0x00);
  sink.room = 1;
  EXPECT_EQ(in(uart, kLsr), 0x60) << "a poll tries again";
  EXPECT_EQ(sink.text, "a");
}

TEST_F(Serial16550Test, a_full_transmit_fifo_drops_and_never_grows) {
  sink.room = 0;
  out(uart, kIirFcr, 0x01);
  for (int i = 0; i < 1000; ++i) out(uart, kData, static_cast<unsigned>('a' + i % 26));
  EXPECT_EQ(uart.state().tx.size(), 16u);
  EXPECT_EQ(uart.state().tx_dropped, 984u);
  sink.room = 1000;
  uart.advance(VmTime(1));
  EXPECT_EQ(sink.text, "abcdefghijklmnop");
}

TEST_F(Serial16550Test, without_fifos_one_byte_waits) {
  sink.room = 0;
  print("ab");
  EXPECT_EQ(uart.state().tx.size(), 1u);
  EXPECT_EQ(uart.state().tx_dropped, 1u);
}

TEST_F(Serial16550Test, clearing_the_transmit_fifo_forgets_what_waits) {
  sink.room = 0;
  out(uart, kIirFcr, 0x01);
  print("lost");
  out(uart, kIirFcr, 0x05);
  EXPECT_EQ(in(uart, kLsr), 0x60);
  sink.room = 10;
  uart.advance(VmTime(1));
  EXPECT_EQ(sink.text, "");
}

TEST_F(Serial16550Test, out2_gates_the_line) {
  out(uart, kIer, kEtbei);
  EXPECT_TRUE(irq.changes.empty());
  out(uart, kMcr, kOut2);
  EXPECT_TRUE(line());
  out(uart, kMcr, 0);
  EXPECT_FALSE(line());
  EXPECT_EQ(in(uart, kIirFcr), 0x02) << "the chip itself still wants the interrupt";
}

TEST_F(Serial16550Test, input_raises_the_receive_interrupt) {
  out(uart, kMcr, kOut2);
  out(uart, kIer, kErbfi);
  EXPECT_FALSE(line());
  source.type("a");
  uart.advance(VmTime(1));
  EXPECT_TRUE(line());
  EXPECT_EQ(in(uart, kIirFcr), 0x04);
  EXPECT_EQ(in(uart, kLsr), 0x61);
  EXPECT_EQ(in(uart, kData), 'a');
  EXPECT_FALSE(line());
  EXPECT_EQ(in(uart, kLsr), 0x60);
}

TEST_F(Serial16550Test, trigger_level_tells_data_from_timeout) {
  const unsigned levels[] = {1, 4, 8, 14};
  for (unsigned i = 0; i < 4; ++i) {
    uart.reset();
    out(uart, kIirFcr, 0x01 | i << 6);
    out(uart, kIer, kErbfi);
    source.type(std::string(levels[i], 'x'));
    uart.advance(VmTime(1));
    EXPECT_EQ(in(uart, kIirFcr), 0xc4) << levels[i];
    in(uart, kData);
    if (levels[i] == 1) continue;
    EXPECT_EQ(in(uart, kIirFcr), 0xc1) << "below the trigger level and not yet timed out";
    ASSERT_TRUE(uart.next_deadline().has_value());
    uart.advance(*uart.next_deadline());
    EXPECT_EQ(in(uart, kIirFcr), 0xcc);
    EXPECT_FALSE(uart.next_deadline().has_value());
  }
}

TEST_F(Serial16550Test, a_key_below_the_trigger_level_interrupts_at_once) {
  out(uart, kIirFcr, 0xc1);
  out(uart, kMcr, kOut2);
  out(uart, kIer, kErbfi);
  source.type("k");
  uart.advance(VmTime(5));
  EXPECT_TRUE(line());
  EXPECT_EQ(in(uart, kIirFcr), 0xcc);
  EXPECT_EQ(in(uart, kData), 'k');
  EXPECT_FALSE(line());
}

TEST_F(Serial16550Test, one_byte_per_interrupt_gets_all_of_a_paste) {
  // An edge-triggered controller used to see one edge for a whole FIFO.
  const std::string paste = "a paste that is longer than one FIFO of sixteen bytes";
  for (const unsigned fcr : {0x00u, 0x01u, 0x41u, 0xc1u}) {
    uart.reset();
    out(uart, kIirFcr, fcr);
    out(uart, kMcr, kOut2);
    out(uart, kIer, kErbfi);
    source.type(paste);
    irq.changes.clear();
    VmTime now(1);
    uart.advance(now);
    std::string got;
    std::size_t edges_taken = 0;
    for (int turn = 0; turn < 1000 && got.size() < paste.size(); ++turn) {
      std::size_t edges = 0;
      for (const auto& change : irq.changes) edges += change.second ? 1 : 0;
      if (edges > edges_taken) {
        edges_taken = edges;
        got += static_cast<char>(in(uart, kData));
      } else if (uart.next_deadline()) {
        now = std::max(now, *uart.next_deadline());
        uart.advance(now);
      } else {
        break;
      }
    }
    EXPECT_EQ(got, paste) << "FCR " << fcr;
  }
}

TEST_F(Serial16550Test, polling_alone_gets_all_input) {
  source.type("no interrupts, no advance, more than sixteen bytes");
  EXPECT_EQ(read_all(), "no interrupts, no advance, more than sixteen bytes");
}

TEST_F(Serial16550Test, input_typed_before_set_up_is_kept) {
  source.type("early");
  uart.advance(VmTime(1));
  out(uart, kIer, 0);
  out(uart, kLcr, 0x03);
  out(uart, kIirFcr, 0xc7);
  out(uart, kMcr, 0x0b);
  uart.advance(VmTime(2));
  EXPECT_EQ(read_all(), "early");
}

TEST_F(Serial16550Test, the_fifo_takes_sixteen_and_leaves_the_rest_outside) {
  out(uart, kIirFcr, 0x01);
  out(uart, kIer, kErbfi);
  source.type(std::string(40, 'x'));
  uart.advance(VmTime(1));
  EXPECT_EQ(uart.state().rx.size(), 16u);
  EXPECT_EQ(source.bytes.size(), 24u);
  EXPECT_EQ(in(uart, kLsr) & 0x02, 0) << "no overrun from outside";
}

TEST_F(Serial16550Test, clearing_the_receive_fifo_ends_its_interrupt) {
  out(uart, kMcr, kOut2);
  out(uart, kIirFcr, 0xc1);
  out(uart, kIer, kErbfi);
  source.type("abc");
  uart.advance(VmTime(1));
  EXPECT_TRUE(line());
  out(uart, kIirFcr, 0xc3);
  EXPECT_FALSE(line());
  EXPECT_EQ(in(uart, kLsr), 0x60);
  EXPECT_FALSE(uart.next_deadline().has_value());
}

TEST_F(Serial16550Test, loopback_returns_what_is_written) {
  out(uart, kIirFcr, 0x01);
  out(uart, kMcr, kLoop);
  print("echo");
  EXPECT_EQ(read_all(), "echo");
  EXPECT_EQ(sink.text, "");
}

TEST_F(Serial16550Test, loopback_cuts_off_input_from_outside) {
  source.type("x");
  out(uart, kMcr, kLoop);
  EXPECT_EQ(in(uart, kLsr), 0x60);
  out(uart, kMcr, 0);
  EXPECT_EQ(in(uart, kLsr), 0x61);
}

TEST_F(Serial16550Test, loopback_feeds_modem_control_to_modem_status) {
  const std::pair<unsigned, unsigned> wires[] = {
      {0x01, 0x20},  // DTR to DSR
      {0x02, 0x10},  // RTS to CTS
      {0x04, 0x40},  // OUT1 to RI
      {0x08, 0x80},  // OUT2 to DCD
  };
  for (const auto& [mcr, msr] : wires) {
    out(uart, kMcr, kLoop | mcr);
    EXPECT_EQ(in(uart, kMsr) & 0xf0, msr);
  }
}

TEST_F(Serial16550Test, loopback_shows_modem_deltas_once) {
  out(uart, kMcr, kLoop);
  in(uart, kMsr);
  out(uart, kMcr, kLoop | 0x03);
  EXPECT_EQ(in(uart, kMsr), 0x33);  // CTS, DSR and their deltas
  EXPECT_EQ(in(uart, kMsr), 0x30);
  out(uart, kMcr, kLoop | 0x04);
  EXPECT_EQ(in(uart, kMsr), 0x43) << "RI going high is no event";
  out(uart, kMcr, kLoop);
  EXPECT_EQ(in(uart, kMsr), 0x04) << "its trailing edge is";
}

TEST_F(Serial16550Test, modem_status_interrupt_ends_with_reading_msr) {
  out(uart, kIer, kEdssi);
  out(uart, kMcr, kLoop);
  EXPECT_EQ(in(uart, kIirFcr), 0x00);
  in(uart, kMsr);
  EXPECT_EQ(in(uart, kIirFcr), 0x01);
}

TEST_F(Serial16550Test, overrun_keeps_the_old_bytes_in_fifo_mode) {
  out(uart, kIirFcr, 0x01);
  out(uart, kMcr, kLoop);
  out(uart, kIer, kElsi);
  print("0123456789abcdefX");
  EXPECT_EQ(in(uart, kIirFcr), 0xc6);
  EXPECT_EQ(in(uart, kLsr), 0x63);
  EXPECT_EQ(in(uart, kLsr), 0x61) << "reading LSR clears the error";
  EXPECT_EQ(in(uart, kIirFcr), 0xc1);
  EXPECT_EQ(read_all(), "0123456789abcdef");
}

TEST_F(Serial16550Test, overrun_keeps_the_new_byte_in_character_mode) {
  out(uart, kMcr, kLoop);
  print("ab");
  EXPECT_EQ(in(uart, kLsr), 0x63);
  EXPECT_EQ(in(uart, kData), 'b');
}

TEST_F(Serial16550Test, interrupts_come_in_order_of_priority) {
  out(uart, kIirFcr, 0x01);
  out(uart, kMcr, kLoop);  // modem deltas
  out(uart, kIer, 0x0f);
  print("0123456789abcdefX");
  EXPECT_EQ(in(uart, kIirFcr), 0xc6);
  in(uart, kLsr);
  EXPECT_EQ(in(uart, kIirFcr), 0xc4);
  while ((in(uart, kLsr) & 1) != 0) in(uart, kData);
  EXPECT_EQ(in(uart, kIirFcr), 0xc2);
  EXPECT_EQ(in(uart, kIirFcr), 0xc0);
  in(uart, kMsr);
  EXPECT_EQ(in(uart, kIirFcr), 0xc1);
}

TEST_F(Serial16550Test, reading_iir_for_another_source_keeps_thre) {
  source.type("x");
  out(uart, kIer, kErbfi | kEtbei);
  EXPECT_EQ(in(uart, kIirFcr), 0x04);
  in(uart, kData);
  EXPECT_EQ(in(uart, kIirFcr), 0x02);
}

TEST_F(Serial16550Test, status_registers_ignore_writes) {
  out(uart, kLsr, 0xff);
  out(uart, kMsr, 0xff);
  EXPECT_EQ(in(uart, kLsr), 0x60);
  EXPECT_EQ(in(uart, kMsr), 0xb0);
}

TEST_F(Serial16550Test, registers_are_one_byte_wide) {
  std::array<std::uint8_t, 2> word = {0x55, 0x55};
  EXPECT_EQ(uart.read(0, word), Access::BadWidth);
  EXPECT_EQ(uart.write(0, word), Access::BadWidth);
  EXPECT_EQ(uart.read(8, std::span(word).first(1)), Access::NoRegister);
  EXPECT_EQ(word[0], 0x55);
}

TEST_F(Serial16550Test, reset_lowers_the_line) {
  out(uart, kMcr, kOut2);
  out(uart, kIer, kEtbei);
  EXPECT_TRUE(line());
  uart.reset();
  EXPECT_FALSE(line());
  EXPECT_EQ(uart.state(), Serial16550::State{});
}

TEST_F(Serial16550Test, restoring_raises_the_line_without_an_edge) {
  out(uart, kMcr, kOut2);
  out(uart, kIer, kEtbei);
  const StateBlock saved = save_state(uart);
  RecordingIrq other_irq;
  IrqPins other_pins(other_irq, 16);
  Serial16550 other("serial0", other_pins.line(4), nullptr, nullptr);
  ASSERT_TRUE(load_state(other, saved).has_value());
  EXPECT_TRUE(other_irq.changes.empty());
  EXPECT_EQ(in(other, kIirFcr), 0x02);
  EXPECT_THAT(other_irq.changes, ElementsAre(Pair(4u, false)));
}

}  // namespace
}  // namespace vmm
