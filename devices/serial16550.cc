#include "devices/serial16550.h"

#include <utility>

namespace vmm {
namespace spec {
namespace {

// Offsets. RBR, THR and IER give way to DLL and DLM while LCR.DLAB is set.
constexpr std::uint64_t RBR_THR_DLL = 0;
constexpr std::uint64_t IER_DLM = 1;
constexpr std::uint64_t IIR_FCR = 2;
constexpr std::uint64_t LCR = 3;
constexpr std::uint64_t MCR = 4;
constexpr std::uint64_t LSR = 5;
constexpr std::uint64_t MSR = 6;
constexpr std::uint64_t SCR = 7;

constexpr std::uint8_t IER_ERBFI = 0x01;
constexpr std::uint8_t IER_ETBEI = 0x02;
constexpr std::uint8_t IER_ELSI = 0x04;
constexpr std::uint8_t IER_EDSSI = 0x08;

constexpr std::uint8_t IIR_NONE = 0x01;
constexpr std::uint8_t IIR_MODEM_STATUS = 0x00;
constexpr std::uint8_t IIR_THRE = 0x02;
constexpr std::uint8_t IIR_RX_DATA = 0x04;
constexpr std::uint8_t IIR_LINE_STATUS = 0x06;
constexpr std::uint8_t IIR_TIMEOUT = 0x0c;
constexpr std::uint8_t IIR_FIFOS_ENABLED = 0xc0;

constexpr std::uint8_t FCR_ENABLE = 0x01;
constexpr std::uint8_t FCR_RX_RESET = 0x02;
constexpr std::uint8_t FCR_TX_RESET = 0x04;
constexpr std::uint8_t FCR_KEPT = 0xc9;  // enable, DMA mode, trigger level

constexpr std::uint8_t LCR_DLAB = 0x80;

constexpr std::uint8_t MCR_DTR = 0x01;
constexpr std::uint8_t MCR_RTS = 0x02;
constexpr std::uint8_t MCR_OUT1 = 0x04;
constexpr std::uint8_t MCR_OUT2 = 0x08;
constexpr std::uint8_t MCR_LOOP = 0x10;

constexpr std::uint8_t LSR_DR = 0x01;
constexpr std::uint8_t LSR_OE = 0x02;
constexpr std::uint8_t LSR_THRE = 0x20;
constexpr std::uint8_t LSR_TEMT = 0x40;

constexpr std::uint8_t MSR_DCTS = 0x01;
constexpr std::uint8_t MSR_DDSR = 0x02;
constexpr std::uint8_t MSR_TERI = 0x04;
constexpr std::uint8_t MSR_DDCD = 0x08;
constexpr std::uint8_t MSR_CTS = 0x10;
constexpr std::uint8_t MSR_DSR = 0x20;
constexpr std::uint8_t MSR_RI = 0x40;
constexpr std::uint8_t MSR_DCD = 0x80;

}  // namespace
}  // namespace spec

Serial16550::Serial16550(std::string name, IrqLine irq, ByteSink* out, ByteSource* in)
    : name_(std::move(name)), irq_(std::move(irq)), out_(out), in_(in) {}

void Serial16550::reset() {
  state_ = {};
  sync_line();
}

bool Serial16550::fifo_enabled() const { return (state_.fcr & spec::FCR_ENABLE) != 0; }

bool Serial16550::is_loopback() const { return (state_.mcr & spec::MCR_LOOP) != 0; }

std::size_t Serial16550::trigger_level() const {
  if (!fifo_enabled()) return 1;
  constexpr std::size_t kLevels[] = {1, 4, 8, 14};
  return kLevels[state_.fcr >> 6];
}

// MSR bits 7:4: a terminal that is there and ready, or MCR bits 3:0 in loopback (8.6.4).
std::uint8_t Serial16550::modem_inputs() const {
  if (!is_loopback()) return spec::MSR_CTS | spec::MSR_DSR | spec::MSR_DCD;
  std::uint8_t inputs = 0;
  if ((state_.mcr & spec::MCR_RTS) != 0) inputs |= spec::MSR_CTS;
  if ((state_.mcr & spec::MCR_DTR) != 0) inputs |= spec::MSR_DSR;
  if ((state_.mcr & spec::MCR_OUT1) != 0) inputs |= spec::MSR_RI;
  if ((state_.mcr & spec::MCR_OUT2) != 0) inputs |= spec::MSR_DCD;
  return inputs;
}

std::uint8_t Serial16550::line_status() const {
  std::uint8_t lsr = 0;
  if (!state_.rx.empty()) lsr |= spec::LSR_DR;
  if (state_.overrun) lsr |= spec::LSR_OE;
  if (state_.tx.empty()) lsr |= spec::LSR_THRE | spec::LSR_TEMT;
  return lsr;
}

// IIR bits 3:0, the source of highest priority first (Table IV of the data sheet).
std::uint8_t Serial16550::pending_interrupt() const {
  const State& s = state_;
  if ((s.ier & spec::IER_ELSI) != 0 && s.overrun) return spec::IIR_LINE_STATUS;
  if ((s.ier & spec::IER_ERBFI) != 0) {
    if (s.rx.size() >= trigger_level()) return spec::IIR_RX_DATA;
    if (s.timeout_pending) return spec::IIR_TIMEOUT;
  }
  if ((s.ier & spec::IER_ETBEI) != 0 && s.thre_pending) return spec::IIR_THRE;
  if ((s.ier & spec::IER_EDSSI) != 0 && s.msr_delta != 0) return spec::IIR_MODEM_STATUS;
  return spec::IIR_NONE;
}

// On a PC, OUT2 opens the gate between INTR and the bus; loopback forces the pin inactive.
bool Serial16550::line_level() const {
  return (state_.mcr & (spec::MCR_OUT2 | spec::MCR_LOOP)) == spec::MCR_OUT2 &&
         pending_interrupt() != spec::IIR_NONE;
}

Access Serial16550::read(std::uint64_t offset, std::span<std::uint8_t> data) {
  if (offset > spec::SCR) return Access::NoRegister;
  if (data.size() != 1) return Access::BadWidth;
  const bool dlab = (state_.lcr & spec::LCR_DLAB) != 0;
  switch (offset) {
    case spec::RBR_THR_DLL:
      data[0] = dlab ? state_.dll : read_rbr();
      break;
    case spec::IER_DLM:
      data[0] = dlab ? state_.dlm : state_.ier;
      break;
    case spec::IIR_FCR:
      data[0] = read_iir();
      break;
    case spec::LCR:
      data[0] = state_.lcr;
      break;
    case spec::MCR:
      data[0] = state_.mcr;
      break;
    case spec::LSR:
      // A polling guest may be the only one who looks, so this too moves what can move.
      transmit();
      pull();
      data[0] = line_status();
      state_.overrun = false;
      break;
    case spec::MSR:
      data[0] = modem_inputs() | state_.msr_delta;
      state_.msr_delta = 0;
      break;
    case spec::SCR:
      data[0] = state_.scr;
      break;
    default:
      return Access::NoRegister;
  }
  sync_line();
  return Access::Ok;
}

Access Serial16550::write(std::uint64_t offset, std::span<const std::uint8_t> data) {
  if (offset > spec::SCR) return Access::NoRegister;
  if (data.size() != 1) return Access::BadWidth;
  const std::uint8_t value = data[0];
  const bool dlab = (state_.lcr & spec::LCR_DLAB) != 0;
  switch (offset) {
    case spec::RBR_THR_DLL:
      if (dlab)
        state_.dll = value;
      else
        write_thr(value);
      break;
    case spec::IER_DLM:
      if (dlab)
        state_.dlm = value;
      else
        write_ier(value);
      break;
    case spec::IIR_FCR:
      write_fcr(value);
      break;
    case spec::LCR:
      state_.lcr = value;
      break;
    case spec::MCR:
      write_mcr(value);
      break;
    case spec::SCR:
      state_.scr = value;
      break;
    default:  // LSR and MSR are read-only (8.5: writing LSR is for factory testing)
      break;
  }
  sync_line();
  return Access::Ok;
}

std::uint8_t Serial16550::read_rbr() {
  pull();
  if (state_.rx.empty()) return 0;
  const std::uint8_t byte = state_.rx.front();
  state_.rx.pop_front();
  // The read ends the interrupt; a byte that now finds room is a new one, with its own edge.
  state_.timeout_pending = false;
  sync_line();
  if ((state_.ier & spec::IER_ERBFI) != 0) pull();
  state_.announce_at.reset();
  if (!state_.rx.empty()) state_.announce_at = state_.now + kCharacterTimeout;
  return byte;
}

std::uint8_t Serial16550::read_iir() {
  const std::uint8_t source = pending_interrupt();
  if (source == spec::IIR_THRE) state_.thre_pending = false;
  return source | (fifo_enabled() ? spec::IIR_FIFOS_ENABLED : 0);
}

void Serial16550::write_ier(std::uint8_t value) {
  const std::uint8_t before = std::exchange(state_.ier, value & 0x0f);
  const auto turned_on = static_cast<std::uint8_t>(state_.ier & ~before);
  if ((turned_on & spec::IER_ETBEI) != 0 && state_.tx.empty()) state_.thre_pending = true;
  if ((turned_on & spec::IER_ERBFI) != 0) {
    pull();
    announce();
  }
}

void Serial16550::write_fcr(std::uint8_t value) {
  const bool enable = (value & spec::FCR_ENABLE) != 0;
  // Switching the FIFOs on or off empties them; without bit 0 no other bit counts (8.4.1).
  const bool switched = enable != fifo_enabled();
  state_.fcr = enable ? value & spec::FCR_KEPT : 0;
  if (switched || (enable && (value & spec::FCR_RX_RESET) != 0)) {
    state_.rx.clear();
    state_.timeout_pending = false;
    state_.announce_at.reset();
  }
  if (switched || (enable && (value & spec::FCR_TX_RESET) != 0)) {
    if (!state_.tx.empty()) state_.thre_pending = true;
    state_.tx.clear();
  }
  // A higher trigger level must not leave the receiver silent about what it holds.
  if (!state_.rx.empty() && state_.rx.size() < trigger_level()) state_.timeout_pending = true;
}

void Serial16550::write_mcr(std::uint8_t value) {
  const std::uint8_t before = modem_inputs();
  state_.mcr = value & 0x1f;
  const std::uint8_t after = modem_inputs();
  const auto changed = static_cast<std::uint8_t>(before ^ after);
  if ((changed & spec::MSR_CTS) != 0) state_.msr_delta |= spec::MSR_DCTS;
  if ((changed & spec::MSR_DSR) != 0) state_.msr_delta |= spec::MSR_DDSR;
  if ((changed & spec::MSR_DCD) != 0) state_.msr_delta |= spec::MSR_DDCD;
  // The trailing edge of RI only (8.6.8).
  if ((changed & before & spec::MSR_RI) != 0) state_.msr_delta |= spec::MSR_TERI;
}

void Serial16550::write_thr(std::uint8_t value) {
  if (state_.tx.size() >= fifo_capacity()) transmit();
  if (state_.tx.size() >= fifo_capacity()) {
    ++state_.tx_dropped;
    return;
  }
  // The write ends the THRE interrupt, also when the byte is gone a moment later: an edge-triggered
  // controller has to see the line fall and rise.
  state_.tx.push_back(value);
  state_.thre_pending = false;
  sync_line();
  transmit();
}

// Sends what the sink takes.
void Serial16550::transmit() {
  if (state_.tx.empty()) return;
  while (!state_.tx.empty()) {
    if (is_loopback())
      receive(state_.tx.front());
    else if (out_ != nullptr && !out_->put(state_.tx.front()))
      return;
    state_.tx.pop_front();
  }
  state_.thre_pending = true;
}

// A byte reaches the receiver. Without room, FIFO mode loses the new byte and character mode the
// old one (8.5, bit 1).
void Serial16550::receive(std::uint8_t byte) {
  if (state_.rx.size() >= fifo_capacity()) {
    state_.overrun = true;
    if (fifo_enabled()) return;
    state_.rx.clear();
  }
  state_.rx.push_back(byte);
  if (state_.rx.size() < trigger_level()) state_.timeout_pending = true;
}

// Takes input while there is room. In loopback SIN is cut off, and input waits outside.
void Serial16550::pull() {
  if (in_ == nullptr || is_loopback()) return;
  while (state_.rx.size() < fifo_capacity()) {
    const std::optional<std::uint8_t> byte = in_->get();
    if (!byte) break;
    receive(*byte);
  }
}

// Raises the receive interrupt for what the FIFO holds, with an edge.
void Serial16550::announce() {
  state_.announce_at.reset();
  if (state_.rx.empty()) return;
  if (pending_interrupt() == spec::IIR_RX_DATA || pending_interrupt() == spec::IIR_TIMEOUT)
    irq_.set(false);
  if (state_.rx.size() < trigger_level()) state_.timeout_pending = true;
  sync_line();
}

void Serial16550::advance(VmTime now) {
  state_.now = now;
  transmit();
  if ((state_.ier & spec::IER_ERBFI) != 0) pull();
  if (state_.announce_at && now >= *state_.announce_at) announce();
  sync_line();
}

void Serial16550::visit(Archive& archive) {
  archive.block("serial16550", 1);
  State& s = state_;
  archive("ier", s.ier)("fcr", s.fcr)("lcr", s.lcr)("mcr", s.mcr)("scr", s.scr);
  archive("dll", s.dll)("dlm", s.dlm)("msr_delta", s.msr_delta);
  archive("overrun", s.overrun)("thre_pending", s.thre_pending);
  archive("timeout_pending", s.timeout_pending);
  archive("announce_at", s.announce_at)("now", s.now);
  archive("rx", s.rx, kFifoSize)("tx", s.tx, kFifoSize)("tx_dropped", s.tx_dropped);
  irq_.restore_level(line_level());
}

}  // namespace vmm
