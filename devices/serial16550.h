// Chip:       National Semiconductor NS16550A UART, wired as a PC's serial port
// Source:     PC16550D data sheet (TL/C/8652), sections 8.1 to 8.7; OUT2 as in the PC/AT reference
// Implements: all registers, 16-byte FIFOs, trigger levels, interrupt priorities, loopback, overrun
// Leaves out: baud rate, word length, parity, break, DMA mode, the modem pins (CTS DSR DCD are
// held) Differs:    a byte is sent when it is written, or waits in the TX FIFO while the sink is
// full. With
//             the TX FIFO full a further byte is dropped and counted. Input is taken from the
//             source only when the guest looks (LSR, RBR) or has receive interrupts on, so that
//             what was typed before the guest set the port up is kept. Data below the trigger level
//             count as timed out on arrival. What a handler leaves in the FIFO is announced again,
//             with an edge, 4 character times later, so that one byte per interrupt is enough.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>

#include "vmm/core/byte_stream.h"
#include "vmm/core/device.h"
#include "vmm/core/irq.h"

namespace vmm {

// 8 registers of one byte; map it with BusWidth::Byte.
class Serial16550 final : public Device {
 public:
  static constexpr std::size_t kFifoSize = 16;
  // 4 characters of 10 bits at 115200 baud, the delay of a character timeout (8.4.2).
  static constexpr VmTime kCharacterTimeout{347'000};

  struct State {
    std::uint8_t ier = 0;
    std::uint8_t fcr = 0;  // FIFO enable, DMA mode and trigger level; the reset bits do not stay
    std::uint8_t lcr = 0;
    std::uint8_t mcr = 0;
    std::uint8_t scr = 0;
    std::uint8_t dll = 0x0c;  // 9600 baud, as a BIOS leaves it
    std::uint8_t dlm = 0;
    std::uint8_t msr_delta = 0;  // MSR bits 3:0; bits 7:4 follow from MCR
    bool overrun = false;
    bool thre_pending = false;     // the transmitter wants an interrupt
    bool timeout_pending = false;  // so does the receiver, below its trigger level
    std::optional<VmTime> announce_at;
    VmTime now{0};
    std::deque<std::uint8_t> rx;
    std::deque<std::uint8_t> tx;
    std::uint64_t tx_dropped = 0;

    bool operator==(const State&) const = default;
  };

  // Either stream may be null: output goes nowhere then, and input never comes. Both outlive this.
  Serial16550(std::string name, IrqLine irq, ByteSink* out, ByteSource* in);

  std::string_view name() const override { return name_; }
  void reset() override;
  Access read(std::uint64_t offset, std::span<std::uint8_t> data) override;
  Access write(std::uint64_t offset, std::span<const std::uint8_t> data) override;
  void advance(VmTime now) override;
  std::optional<VmTime> next_deadline() const override { return state_.announce_at; }
  void visit(Archive& archive) override;

  const State& state() const { return state_; }

 private:
  bool fifo_enabled() const;
  bool is_loopback() const;
  std::size_t fifo_capacity() const { return fifo_enabled() ? kFifoSize : 1; }
  std::size_t trigger_level() const;
  std::uint8_t modem_inputs() const;
  std::uint8_t pending_interrupt() const;
  std::uint8_t line_status() const;
  bool line_level() const;
  void sync_line() { irq_.set(line_level()); }

  std::uint8_t read_rbr();
  std::uint8_t read_iir();
  void write_thr(std::uint8_t value);
  void write_fcr(std::uint8_t value);
  void write_ier(std::uint8_t value);
  void write_mcr(std::uint8_t value);

  void transmit();
  void receive(std::uint8_t byte);
  void pull();
  void announce();

  // Configuration and wiring.
  std::string name_;
  IrqLine irq_;
  ByteSink* out_;
  ByteSource* in_;
  // State.
  State state_;
};

}  // namespace vmm
