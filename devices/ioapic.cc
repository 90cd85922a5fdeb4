#include "devices/ioapic.h"

#include <fmt/format.h>

#include <utility>

#include "vmm/base/bytes.h"
#include "vmm/base/check.h"

namespace vmm {
namespace spec {
namespace {

constexpr std::uint64_t IOREGSEL = 0x00;
constexpr std::uint64_t IOWIN = 0x10;
constexpr std::uint64_t EOIR = 0x40;
constexpr std::uint8_t VERSION_WITH_EOIR = 0x20;

constexpr std::uint8_t IOAPICID = 0x00;
constexpr std::uint8_t IOAPICVER = 0x01;
constexpr std::uint8_t IOAPICARB = 0x02;
constexpr std::uint8_t IOREDTBL = 0x10;

// The redirection table entry, 3.2.4.
constexpr std::uint64_t RTE_LOGICAL = 1u << 11;
constexpr std::uint64_t RTE_ACTIVE_LOW = 1u << 13;
constexpr std::uint64_t RTE_REMOTE_IRR = 1u << 14;
constexpr std::uint64_t RTE_LEVEL = 1u << 15;
constexpr std::uint64_t RTE_MASK = 1u << 16;
constexpr std::uint64_t RTE_WRITABLE = 0xff00'0000'0001'afff;

constexpr unsigned MODE_RESERVED = 3;

}  // namespace
}  // namespace spec

namespace {

unsigned mode_bits(std::uint64_t entry) { return static_cast<unsigned>(entry >> 8) & 7u; }

std::uint8_t vector_of(std::uint64_t entry) { return static_cast<std::uint8_t>(entry); }

bool is_masked(std::uint64_t entry) { return (entry & spec::RTE_MASK) != 0; }

bool can_send(std::uint64_t entry) {
  const unsigned mode = mode_bits(entry);
  return mode != spec::MODE_RESERVED && mode != static_cast<unsigned>(DeliveryMode::Startup);
}

// The other modes are edges whatever the trigger bit says (3.2.4, delivery mode).
bool waits_for_eoi(std::uint64_t entry) {
  return (entry & spec::RTE_LEVEL) != 0 &&
         mode_bits(entry) <= static_cast<unsigned>(DeliveryMode::LowestPriority);
}

// Only with can_send().
ApicMessage message_of(std::uint64_t entry) {
  const auto destination = static_cast<std::uint8_t>(entry >> 56);
  const bool logical = (entry & spec::RTE_LOGICAL) != 0;
  return {.destination = !logical && destination == 0xff ? kApicBroadcast : destination,
          .logical = logical,
          .mode = static_cast<DeliveryMode>(mode_bits(entry)),
          .vector = vector_of(entry),
          .level_triggered = waits_for_eoi(entry)};
}

}  // namespace

Ioapic::Ioapic(std::string name, std::uint8_t version, std::function<bool(const ApicMessage&)> send)
    : name_(std::move(name)), version_(version), send_(std::move(send)) {
  VMM_CHECK(version == 0x11 || version == spec::VERSION_WITH_EOIR, "no such IOAPIC version");
}

void Ioapic::reset() {
  state_ = {};
  ++generation_;
}

bool Ioapic::has_eoi_register() const { return version_ >= spec::VERSION_WITH_EOIR; }

bool Ioapic::is_active(unsigned pin) const {
  const bool high = (state_.pins >> pin & 1u) != 0;
  return high != ((state_.entries[pin] & spec::RTE_ACTIVE_LOW) != 0);
}

void Ioapic::set_pin(unsigned pin, bool level) {
  VMM_CHECK(pin < kPins, "no such IOAPIC pin");
  const std::uint32_t bit = 1u << pin;
  if (((state_.pins & bit) != 0) == level) return;
  state_.pins ^= bit;
  const std::uint64_t entry = state_.entries[pin];
  if (waits_for_eoi(entry)) {
    send_level(pin);
  } else if (is_active(pin) && !is_masked(entry) && can_send(entry) && send_) {
    send_(message_of(entry));
  }
}

// Sends for a level-triggered pin that is active, unless one is on its way or in service.
void Ioapic::send_level(unsigned pin) {
  std::uint64_t& entry = state_.entries[pin];
  if (!waits_for_eoi(entry) || is_masked(entry) || !is_active(pin)) return;
  if ((entry & spec::RTE_REMOTE_IRR) != 0) return;
  // 3.2.4: set when a local APIC accepts it. Nobody would give the EOI of what nobody took.
  if (!send_ || send_(message_of(entry))) entry |= spec::RTE_REMOTE_IRR;
}

void Ioapic::eoi(std::uint8_t vector) {
  for (unsigned pin = 0; pin < kPins; ++pin) {
    std::uint64_t& entry = state_.entries[pin];
    if (vector_of(entry) != vector || (entry & spec::RTE_REMOTE_IRR) == 0) continue;
    entry &= ~spec::RTE_REMOTE_IRR;
    send_level(pin);
  }
}

Ioapic::Route Ioapic::route(unsigned pin) const {
  VMM_CHECK(pin < kPins, "no such IOAPIC pin");
  const std::uint64_t entry = state_.entries[pin];
  if (!can_send(entry)) return {};
  return {.message = message_of(entry), .masked = is_masked(entry)};
}

Access Ioapic::read(std::uint64_t offset, std::span<std::uint8_t> data) {
  if (offset == spec::IOREGSEL) {
    if (data.size() > 4) return Access::BadWidth;
    store_uint(data, state_.index);
    return Access::Ok;
  }
  if (offset != spec::IOWIN && !(offset == spec::EOIR && has_eoi_register()))
    return Access::NoRegister;
  if (data.size() != 4) return Access::BadWidth;
  store_uint(data, offset == spec::IOWIN ? read_window() : 0);  // EOIR is write-only
  return Access::Ok;
}

Access Ioapic::write(std::uint64_t offset, std::span<const std::uint8_t> data) {
  if (offset == spec::IOREGSEL) {
    if (data.size() > 4) return Access::BadWidth;
    state_.index = data[0];
    return Access::Ok;
  }
  if (offset != spec::IOWIN && !(offset == spec::EOIR && has_eoi_register()))
    return Access::NoRegister;
  if (data.size() != 4) return Access::BadWidth;
  if (offset == spec::IOWIN)
    write_window(static_cast<std::uint32_t>(load_uint(data)));
  else
    eoi(data[0]);
  return Access::Ok;
}

std::uint32_t Ioapic::read_window() const {
  switch (state_.index) {
    case spec::IOAPICID:
    case spec::IOAPICARB:  // follows the ID: there is no bus to arbitrate
      return static_cast<std::uint32_t>(state_.id) << 24;
    case spec::IOAPICVER:
      return (kPins - 1) << 16 | version_;
    default:
      break;
  }
  const unsigned pin = (state_.index - unsigned{spec::IOREDTBL}) / 2;
  if (state_.index < spec::IOREDTBL || pin >= kPins) return 0xffffffff;
  const std::uint64_t entry = state_.entries[pin];
  return static_cast<std::uint32_t>((state_.index & 1) != 0 ? entry >> 32 : entry);
}

void Ioapic::write_window(std::uint32_t value) {
  if (state_.index == spec::IOAPICID) state_.id = value >> 24 & 0x0f;
  if (state_.index < spec::IOREDTBL) return;
  const unsigned pin = (state_.index - unsigned{spec::IOREDTBL}) / 2;
  if (pin < kPins) write_entry(pin, (state_.index & 1) != 0, value);
}

void Ioapic::write_entry(unsigned pin, bool high, std::uint32_t value) {
  std::uint64_t& entry = state_.entries[pin];
  const std::uint64_t before = entry;
  const std::uint64_t wide = high ? std::uint64_t{value} << 32 : value;
  const std::uint64_t written =
      spec::RTE_WRITABLE & (high ? 0xffffffff'00000000 : std::uint64_t{0xffffffff});
  entry = (entry & ~written) | (wide & written);
  if (!waits_for_eoi(entry)) entry &= ~spec::RTE_REMOTE_IRR;
  if (((before ^ entry) & spec::RTE_WRITABLE) != 0) ++generation_;
  send_level(pin);
}

void Ioapic::visit(Archive& archive) {
  archive.block("ioapic", 1);
  const std::array<std::uint64_t, kPins> before = state_.entries;
  archive("index", state_.index)("id", state_.id)("pins", state_.pins);
  for (unsigned pin = 0; pin < kPins; ++pin) {
    std::uint64_t& entry = state_.entries[pin];
    archive(fmt::format("entry{}", pin), entry);
    entry &= spec::RTE_WRITABLE | (waits_for_eoi(entry) ? spec::RTE_REMOTE_IRR : 0);
  }
  state_.id &= 0x0f;
  state_.pins &= (1u << kPins) - 1;
  if (state_.entries != before) ++generation_;
}

}  // namespace vmm
