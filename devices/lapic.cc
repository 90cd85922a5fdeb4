#include "devices/lapic.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "devices/lapic_spec.h"
#include "vmm/base/check.h"

namespace vmm {
namespace {

void put(Lapic::Bitmap& bitmap, std::uint8_t vector, bool on) {
  const auto bit = static_cast<std::uint8_t>(1U << (vector % 8));
  std::uint8_t& byte = bitmap[vector / 8];
  byte = static_cast<std::uint8_t>(on ? byte | bit : byte & ~bit);
}

bool test(const Lapic::Bitmap& bitmap, std::uint8_t vector) {
  return (bitmap[vector / 8] >> (vector % 8) & 1) != 0;
}

std::optional<std::uint8_t> highest(const Lapic::Bitmap& bitmap) {
  const auto words = std::bit_cast<std::array<std::uint64_t, 4>>(bitmap);
  for (std::size_t i = words.size(); i-- > 0;) {
    if (words[i] == 0) continue;
    return static_cast<std::uint8_t>(i * 64 + 63 -
                                     static_cast<unsigned>(std::countl_zero(words[i])));
  }
  return std::nullopt;
}

constexpr unsigned priority_class(std::uint8_t vector) { return vector >> 4; }

DeliveryMode mode_of(std::uint32_t lvt) {
  return static_cast<DeliveryMode>((lvt & spec::LVT_MODE) >> 8);
}

bool is_masked(std::uint32_t lvt) { return (lvt & spec::LVT_MASKED) != 0; }

bool is_level_triggered(std::uint32_t lvt) {
  return (lvt & (spec::LVT_MODE | spec::LVT_LEVEL)) == spec::LVT_LEVEL;
}

}  // namespace

Lapic::Lapic(std::string name, std::uint32_t id, bool bootstrap, Wires wires)
    : name_(std::move(name)), id_(id), bootstrap_(bootstrap), wires_(std::move(wires)) {
  Lapic::reset();
}

Lapic::~Lapic() = default;

void Lapic::reset() {
  state_ = {};
  if (!bootstrap_) state_.base &= ~spec::BASE_BSP;
  state_.xapic_id = static_cast<std::uint8_t>(id_);
}

void Lapic::init() { reset_registers(); }

// All but the id and the base MSR.
void Lapic::reset_registers() {
  State fresh;
  fresh.base = state_.base;
  fresh.xapic_id = state_.xapic_id;
  state_ = fresh;
}

void Lapic::set_virtual_wire() { state_.lvt[kLint0] = spec::LVT_EXTINT; }

bool Lapic::hardware_enabled() const { return (state_.base & spec::BASE_EN) != 0; }

bool Lapic::software_enabled() const { return (state_.svr & spec::SVR_ENABLE) != 0; }

bool Lapic::xapic() const {
  return (state_.base & (spec::BASE_EN | spec::BASE_EXTD)) == spec::BASE_EN;
}

bool Lapic::x2apic() const {
  constexpr std::uint64_t kBoth = spec::BASE_EN | spec::BASE_EXTD;
  return (state_.base & kBoth) == kBoth;
}

void Lapic::set_base(std::uint64_t value) {
  const bool was_enabled = hardware_enabled();
  const bool was_xapic = xapic();
  state_.base = value;
  if (was_enabled && !hardware_enabled()) reset_registers();
  if (was_xapic && x2apic()) state_.icr &= 0xffffffff;
  // Leaving xAPIC mode, either way, forgets the id that the guest wrote.
  if (was_xapic && !xapic()) state_.xapic_id = static_cast<std::uint8_t>(id_);
}

bool Lapic::matches(std::uint32_t destination, bool logical) const {
  if (!hardware_enabled()) return false;
  if (destination == kApicBroadcast) return true;
  if (!logical) {
    if (x2apic()) return destination == id_;
    // An id that xAPIC mode cannot show has to be reachable too, or INIT could not start its
    // processor.
    return destination == state_.xapic_id || (id_ > 0xff && destination == id_);
  }
  if (x2apic()) {
    const std::uint32_t ldr = x2apic_ldr();
    return destination >> 16 == ldr >> 16 && (destination & ldr & 0xffff) != 0;
  }
  if (destination > 0xff) return false;
  const std::uint32_t mine = state_.ldr >> 24;
  switch (state_.dfr >> 28) {
    case spec::DFR_FLAT:
      return (destination & mine) != 0;
    case spec::DFR_CLUSTER:
      return destination >> 4 == mine >> 4 && (destination & mine & 0xf) != 0;
    default:  // reserved
      return false;
  }
}

bool Lapic::accept(std::uint8_t vector, bool level_triggered) {
  if (!hardware_enabled() || !software_enabled()) return false;
  if (vector < spec::FIRST_LEGAL_VECTOR) {
    report_error(spec::ESR_RECEIVE_ILLEGAL_VECTOR);
    return false;
  }
  put(state_.irr, vector, true);
  put(state_.tmr, vector, level_triggered);
  return true;
}

// What an LVT entry does when its source asks.
void Lapic::fire(LvtEntry entry) {
  const std::uint32_t lvt = state_.lvt[entry];
  if (is_masked(lvt)) return;
  switch (const DeliveryMode mode = mode_of(lvt)) {
    case DeliveryMode::Fixed:
      // LINT1 is edge-triggered whatever its trigger bit says (11.5.1, bit 15).
      accept(static_cast<std::uint8_t>(lvt), entry == kLint0 && is_level_triggered(lvt));
      break;
    case DeliveryMode::Smi:
    case DeliveryMode::Nmi:
    case DeliveryMode::Init:
      if (wires_.local_event) wires_.local_event(mode);
      break;
    default:  // ExtINT is asked for by wants_extint(), the others are reserved
      break;
  }
}

void Lapic::set_lint(unsigned pin, bool level) {
  VMM_CHECK(pin < lint_.size(), "a LAPIC has LINT0 and LINT1");
  const bool was_high = std::exchange(lint_[pin], level);
  if (!level || was_high) return;
  if (!hardware_enabled()) {
    if (pin == 1 && wires_.local_event) wires_.local_event(DeliveryMode::Nmi);
    return;
  }
  const LvtEntry entry = pin == 0 ? kLint0 : kLint1;
  if (pin == 0 && is_level_triggered(state_.lvt[kLint0]))
    sense_lint0();
  else
    fire(entry);
}

// Level-triggered LINT0: accepted while it is high and the last one had its EOI (11.5.1, bit 14).
void Lapic::sense_lint0() {
  std::uint32_t& lvt = state_.lvt[kLint0];
  if (!lint_[0] || !is_level_triggered(lvt) || is_masked(lvt)) return;
  if ((lvt & spec::LVT_REMOTE_IRR) != 0) return;
  // An illegal vector never gets an EOI.
  if (static_cast<std::uint8_t>(lvt) >= spec::FIRST_LEGAL_VECTOR) lvt |= spec::LVT_REMOTE_IRR;
  fire(kLint0);
}

std::uint8_t Lapic::ppr() const {
  const std::uint8_t in_service = highest(state_.isr).value_or(0);
  if (priority_class(state_.tpr) >= priority_class(in_service)) return state_.tpr;
  return in_service & 0xf0;
}

std::optional<std::uint8_t> Lapic::pending() const {
  const std::optional<std::uint8_t> vector = requested();
  if (!vector || priority_class(*vector) <= priority_class(ppr())) return std::nullopt;
  return vector;
}

std::optional<std::uint8_t> Lapic::requested() const {
  if (!hardware_enabled()) return std::nullopt;
  return highest(state_.irr);
}

void Lapic::acknowledge(std::uint8_t vector) {
  VMM_CHECK(test(state_.irr, vector), "only a requested interrupt can be taken");
  put(state_.irr, vector, false);
  put(state_.isr, vector, true);
}

bool Lapic::wants_extint() const {
  if (!lint_[0]) return false;
  if (!hardware_enabled()) return true;
  return (state_.lvt[kLint0] & (spec::LVT_MASKED | spec::LVT_MODE)) == spec::LVT_EXTINT;
}

void Lapic::end_of_interrupt() {
  const std::optional<std::uint8_t> vector = highest(state_.isr);
  if (!vector) return;
  put(state_.isr, *vector, false);
  note("eoi", *vector);
  if (!test(state_.tmr, *vector)) return;
  if ((state_.svr & spec::SVR_EOI_SUPPRESSION) == 0 && wires_.broadcast_eoi)
    wires_.broadcast_eoi(*vector);
  std::uint32_t& lvt = state_.lvt[kLint0];
  if ((lvt & spec::LVT_REMOTE_IRR) != 0 && static_cast<std::uint8_t>(lvt) == *vector) {
    lvt &= ~spec::LVT_REMOTE_IRR;
    sense_lint0();
  }
}

void Lapic::note(TraceKind kind, std::uint64_t value) const {
  if (wires_.note) wires_.note(kind, value);
}

void Lapic::visit(Archive& archive) {
  archive.block("lapic", 1);
  State& s = state_;
  archive("base", s.base)("xapic_id", s.xapic_id)("tpr", s.tpr)("ldr", s.ldr)("dfr", s.dfr);
  archive("svr", s.svr)("isr", s.isr)("tmr", s.tmr)("irr", s.irr);
  archive("esr", s.esr)("errors", s.errors)("icr", s.icr);
  archive("lvt_timer", s.lvt[kTimer])("lvt_thermal", s.lvt[kThermal]);
  archive("lvt_performance", s.lvt[kPerformance])("lvt_lint0", s.lvt[kLint0]);
  archive("lvt_lint1", s.lvt[kLint1])("lvt_error", s.lvt[kError]);
  archive("initial_count", s.initial_count)("divide", s.divide);
  archive("expiry", s.expiry)("tsc_deadline", s.tsc_deadline);
  archive("now", now_)("lint0", lint_[0])("lint1", lint_[1]);
  restrain();
}

// A loaded state may hold anything; none of it may be what running could not have brought about.
void Lapic::restrain() {
  State& s = state_;
  s.ldr &= 0xff000000;
  s.dfr |= spec::DFR_RESERVED;
  s.svr &= writable_svr();
  for (Bitmap* bitmap : {&s.isr, &s.tmr, &s.irr}) (*bitmap)[0] = (*bitmap)[1] = 0;
  s.icr &= 0xffffffff'00000000 | spec::ICR_BITS;
  for (unsigned i = 0; i < kLvtEntries; ++i) {
    const std::uint32_t status = is_level_triggered(s.lvt[i]) ? spec::LVT_REMOTE_IRR : 0;
    s.lvt[i] &= writable_lvt(static_cast<LvtEntry>(i)) | (i == kLint0 ? status : 0);
  }
  restrain_timer();
}

}  // namespace vmm
