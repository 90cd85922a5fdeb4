// What the guest reads and writes: the page of xAPIC mode, the MSRs of x2APIC mode, and the
// commands and errors behind them.
#include <algorithm>
#include <bit>
#include <cstring>

#include "devices/lapic.h"
#include "devices/lapic_spec.h"

namespace vmm {
namespace {

enum Use : std::uint8_t { kNone = 0, kRead = 1, kWrite = 2, kBoth = 3 };

struct RegisterRule {
  Use xapic;
  Use x2apic;
};

// Tables 11-1 and 11-6.
constexpr RegisterRule rule_of(unsigned reg) {
  if (reg >= spec::APIC_ISR && reg <= spec::APIC_IRR_LAST) return {kRead, kRead};
  if (reg >= spec::APIC_LVT && reg <= spec::APIC_LVT_LAST) return {kBoth, kBoth};
  switch (reg) {
    case spec::APIC_VERSION:
    case spec::APIC_PPR:
    case spec::APIC_CURRENT_COUNT:
      return {kRead, kRead};
    case spec::APIC_ID:
    case spec::APIC_LDR:
      return {kBoth, kRead};
    case spec::APIC_APR:
      return {kRead, kNone};
    case spec::APIC_DFR:
    case spec::APIC_ICR_HIGH:
      return {kBoth, kNone};
    case spec::APIC_EOI:
      return {kWrite, kWrite};
    case spec::APIC_TPR:
    case spec::APIC_SVR:
    case spec::APIC_ESR:
    case spec::APIC_ICR:
    case spec::APIC_INITIAL_COUNT:
    case spec::APIC_DIVIDE:
      return {kBoth, kBoth};
    case spec::APIC_SELF_IPI:
      return {kNone, kWrite};
    default:
      return {kNone, kNone};
  }
}

std::uint32_t bitmap_register(const Lapic::Bitmap& bitmap, unsigned index) {
  return std::bit_cast<std::array<std::uint32_t, 8>>(bitmap)[index % 8];
}

constexpr std::uint32_t low_half(std::uint64_t value) { return static_cast<std::uint32_t>(value); }
constexpr std::uint32_t high_half(std::uint64_t value) {
  return static_cast<std::uint32_t>(value >> 32);
}

}  // namespace

// 11.12.10.2: the cluster is the id without its low 4 bits, which choose one of 16 members.
std::uint32_t Lapic::x2apic_ldr() const { return (id_ >> 4 & 0xffff) << 16 | 1U << (id_ & 0xf); }

std::uint32_t Lapic::version() const {
  return spec::VERSION | (eoi_suppression_offered_ ? spec::VERSION_EOI_SUPPRESSION : 0);
}

std::uint32_t Lapic::writable_svr() const {
  return spec::SVR_BITS | (eoi_suppression_offered_ ? spec::SVR_EOI_SUPPRESSION : 0);
}

std::uint32_t Lapic::writable_lvt(LvtEntry entry) const {
  const std::uint32_t common = spec::LVT_VECTOR | spec::LVT_MASKED;
  switch (entry) {
    case kTimer:
      return common | spec::LVT_PERIODIC | (tsc_deadline_allowed_ ? spec::LVT_TSC_DEADLINE : 0);
    case kThermal:
    case kPerformance:
      return common | spec::LVT_MODE;
    case kLint0:
    case kLint1:
      return common | spec::LVT_MODE | spec::LVT_POLARITY | spec::LVT_LEVEL;
    default:
      return common;
  }
}

// The bits that WRMSR may set (11.12.1.3). Status bits are among them: a guest writes back what it
// read.
std::uint32_t Lapic::writable_in_x2apic(unsigned reg) const {
  if (reg >= spec::APIC_LVT && reg <= spec::APIC_LVT_LAST) {
    const auto entry = static_cast<LvtEntry>(reg - spec::APIC_LVT);
    const bool pin = entry == kLint0 || entry == kLint1;
    return writable_lvt(entry) | spec::LVT_DELIVERY_STATUS | (pin ? spec::LVT_REMOTE_IRR : 0);
  }
  switch (reg) {
    case spec::APIC_TPR:
    case spec::APIC_SELF_IPI:
      return 0xff;
    case spec::APIC_SVR:
      return writable_svr();
    case spec::APIC_ICR:
      return spec::ICR_BITS | spec::ICR_DELIVERY_STATUS;
    case spec::APIC_INITIAL_COUNT:
      return 0xffffffff;
    case spec::APIC_DIVIDE:
      return spec::DIVIDE_BITS;
    default:  // EOI, ESR
      return 0;
  }
}

Access Lapic::read(std::uint64_t offset, std::span<std::uint8_t> data) {
  if (offset >= spec::PAGE_SIZE || !xapic()) return Access::NoRegister;
  const auto reg = static_cast<unsigned>(offset >> 4);
  const Use use = rule_of(reg).xapic;
  if (use == kNone) {
    report_error(spec::ESR_ILLEGAL_REGISTER);
    return Access::NoRegister;
  }
  const std::size_t first = offset & 0xf;
  std::array<std::uint8_t, 4> bytes{};
  if (first + data.size() > bytes.size()) return Access::BadWidth;
  if ((use & kRead) != 0) bytes = std::bit_cast<decltype(bytes)>(read_register(reg));
  std::copy_n(bytes.begin() + first, data.size(), data.begin());
  return Access::Ok;
}

Access Lapic::write(std::uint64_t offset, std::span<const std::uint8_t> data) {
  if (offset >= spec::PAGE_SIZE || !xapic()) return Access::NoRegister;
  const auto reg = static_cast<unsigned>(offset >> 4);
  const Use use = rule_of(reg).xapic;
  if (use == kNone) {
    report_error(spec::ESR_ILLEGAL_REGISTER);
    return Access::NoRegister;
  }
  std::uint32_t value = 0;
  if ((offset & 0xf) != 0 || data.size() != sizeof value) return Access::BadWidth;
  std::memcpy(&value, data.data(), sizeof value);
  if ((use & kWrite) != 0) write_register(reg, value);
  return Access::Ok;
}

bool Lapic::read_msr(std::uint32_t index, std::uint64_t& value) {
  const std::uint32_t reg = index - spec::MSR_FIRST;  // below 800h it wraps, far beyond the last
  if (!x2apic() || (rule_of(reg).x2apic & kRead) == 0) return false;
  value = reg == spec::APIC_ICR ? state_.icr : read_register(reg);
  return true;
}

bool Lapic::write_msr(std::uint32_t index, std::uint64_t value) {
  const std::uint32_t reg = index - spec::MSR_FIRST;
  if (!x2apic() || (rule_of(reg).x2apic & kWrite) == 0) return false;
  if ((low_half(value) & ~writable_in_x2apic(reg)) != 0) return false;
  if (reg == spec::APIC_ICR) {
    state_.icr = value & ~std::uint64_t{spec::ICR_DELIVERY_STATUS};
    send(low_half(value), high_half(value));
    return true;
  }
  if (high_half(value) != 0) return false;
  write_register(reg, low_half(value));
  return true;
}

// Of a register that may be read in the present mode.
std::uint32_t Lapic::read_register(unsigned reg) const {
  const State& s = state_;
  if (reg >= spec::APIC_ISR && reg < spec::APIC_TMR) return bitmap_register(s.isr, reg);
  if (reg >= spec::APIC_TMR && reg < spec::APIC_IRR) return bitmap_register(s.tmr, reg);
  if (reg >= spec::APIC_IRR && reg <= spec::APIC_IRR_LAST) return bitmap_register(s.irr, reg);
  if (reg >= spec::APIC_LVT && reg <= spec::APIC_LVT_LAST) return s.lvt[reg - spec::APIC_LVT];
  switch (reg) {
    case spec::APIC_ID:
      return x2apic() ? id_ : std::uint32_t{s.xapic_id} << 24;
    case spec::APIC_VERSION:
      return version();
    case spec::APIC_TPR:
      return s.tpr;
    case spec::APIC_PPR:
      return ppr();
    case spec::APIC_LDR:
      return x2apic() ? x2apic_ldr() : s.ldr;
    case spec::APIC_DFR:
      return s.dfr;
    case spec::APIC_SVR:
      return s.svr;
    case spec::APIC_ESR:
      return s.esr;
    case spec::APIC_ICR:
      return low_half(s.icr);
    case spec::APIC_ICR_HIGH:
      return high_half(s.icr);
    case spec::APIC_INITIAL_COUNT:
      return s.initial_count;
    case spec::APIC_CURRENT_COUNT:
      return current_count();
    case spec::APIC_DIVIDE:
      return s.divide;
    default:  // APR
      return 0;
  }
}

// To a register that may be written in the present mode; reserved bits are dropped.
void Lapic::write_register(unsigned reg, std::uint32_t value) {
  State& s = state_;
  if (reg >= spec::APIC_LVT && reg <= spec::APIC_LVT_LAST) {
    write_lvt(static_cast<LvtEntry>(reg - spec::APIC_LVT), value);
    return;
  }
  switch (reg) {
    case spec::APIC_ID:
      s.xapic_id = static_cast<std::uint8_t>(value >> 24);
      break;
    case spec::APIC_TPR:
      s.tpr = static_cast<std::uint8_t>(value);
      break;
    case spec::APIC_EOI:
      end_of_interrupt();
      break;
    case spec::APIC_LDR:
      s.ldr = value & 0xff000000;
      break;
    case spec::APIC_DFR:
      s.dfr = value | spec::DFR_RESERVED;
      break;
    case spec::APIC_SVR:
      write_svr(value);
      break;
    case spec::APIC_ESR:  // the write latches, whatever its value, and rearms the error interrupt
      s.esr = s.errors;
      s.errors = 0;
      break;
    case spec::APIC_ICR: {
      s.icr = (s.icr & 0xffffffff'00000000) | (value & spec::ICR_BITS);
      const std::uint32_t destination = high_half(s.icr) >> 24;
      send(value, destination == 0xff ? kApicBroadcast : destination);
      break;
    }
    case spec::APIC_ICR_HIGH:
      s.icr = std::uint64_t{value & 0xff000000} << 32 | low_half(s.icr);
      break;
    case spec::APIC_INITIAL_COUNT:
      write_initial_count(value);
      break;
    case spec::APIC_DIVIDE:
      write_divide(static_cast<std::uint8_t>(value & spec::DIVIDE_BITS));
      break;
    case spec::APIC_SELF_IPI:
      // As an ICR with the self shorthand, which itself stays as it was (11.12.11).
      send(static_cast<std::uint32_t>(ApicShorthand::Self) << 18 | spec::ICR_ASSERT | value, 0);
      break;
    default:
      break;
  }
}

void Lapic::write_svr(std::uint32_t value) {
  state_.svr = value & writable_svr();
  if (software_enabled()) return;
  for (std::uint32_t& lvt : state_.lvt) lvt |= spec::LVT_MASKED;  // 11.4.7.2
}

void Lapic::write_lvt(LvtEntry entry, std::uint32_t value) {
  std::uint32_t& lvt = state_.lvt[entry];
  const bool was_deadline = tsc_deadline_mode();
  const std::uint32_t before = lvt;
  lvt = value & writable_lvt(entry);
  if (!software_enabled()) lvt |= spec::LVT_MASKED;
  if (entry == kTimer && tsc_deadline_mode() != was_deadline) disarm_timer();
  // Remote IRR waits for the EOI of one vector; with another vector or mode it would wait for ever.
  constexpr std::uint32_t kSource = spec::LVT_VECTOR | spec::LVT_MODE | spec::LVT_LEVEL;
  if ((lvt & kSource) == (before & kSource)) lvt |= before & spec::LVT_REMOTE_IRR;
  if (entry == kLint0) sense_lint0();
}

// `destination` with all ones for the 8-bit broadcast.
void Lapic::send(std::uint32_t command, std::uint32_t destination) {
  ApicCommand out;
  ApicMessage& message = out.message;
  message.destination = destination;
  message.logical = (command & spec::ICR_LOGICAL) != 0;
  message.mode = static_cast<DeliveryMode>(command >> 8 & 7);
  message.vector = static_cast<std::uint8_t>(command);
  out.shorthand = static_cast<ApicShorthand>(command >> 18 & 3);
  switch (message.mode) {
    case DeliveryMode::Fixed:
    case DeliveryMode::LowestPriority:
      if (message.vector < spec::FIRST_LEGAL_VECTOR) {
        report_error(spec::ESR_SEND_ILLEGAL_VECTOR);
        return;
      }
      break;
    case DeliveryMode::Init:
      // Level and trigger mode mean something in this mode only (11.6.1): both together are the
      // de-assert.
      message.level_triggered = (command & spec::ICR_LEVEL) != 0;
      message.asserted = !message.level_triggered || (command & spec::ICR_ASSERT) != 0;
      break;
    case DeliveryMode::Smi:
    case DeliveryMode::Nmi:
    case DeliveryMode::Startup:
      break;
    default:  // 011b and 111b are reserved in an ICR
      return;
  }
  if (wires_.send) wires_.send(out);
}

// The first error since the ESR was written raises the error interrupt, which may itself have an
// illegal vector: that is then only recorded.
void Lapic::report_error(std::uint32_t error) {
  const bool armed = state_.errors == 0;
  if ((state_.errors & error) == 0) {
    state_.errors |= error;
    note("lapic-error", state_.errors);
  }
  if (armed) fire(kError);
}

}  // namespace vmm
