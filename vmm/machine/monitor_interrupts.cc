// The interrupt controllers, ours or KVM's, decoded (SDM vol. 3A chapter 11, 82093AA 3.2.4).
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <array>
#include <nlohmann/json.hpp>

#include "devices/lapic_spec.h"
#include "vmm/base/bytes.h"
#include "vmm/machine/explain_stop.h"
#include "vmm/machine/monitor_parts.h"
#include "vmm/machine/state_json.h"

namespace vmm::monitor {
namespace {

using nlohmann::json;

std::string_view delivery_name(std::uint64_t mode) {
  constexpr std::array<std::string_view, 8> kNames = {
      "fixed", "lowest priority", "SMI", "reserved mode 3", "NMI", "INIT", "startup", "ExtINT"};
  return kNames[mode & 7];
}

std::string_view owner(bool kvms) { return kvms ? "KVM's" : "vmm's"; }

// The vectors of a bitmap of eight registers.
std::vector<unsigned> vectors_of(const LapicView& view, unsigned first_register) {
  std::vector<unsigned> vectors;
  for (unsigned vector = 0; vector < 256; ++vector)
    if (bit(view.registers[first_register + vector / 32], vector % 32)) vectors.push_back(vector);
  return vectors;
}

std::string vector_list(const std::vector<unsigned>& vectors) {
  if (vectors.empty()) return "none";
  std::string text;
  for (const unsigned vector : vectors)
    text += fmt::format("{}{:x}h", text.empty() ? "" : " ", vector);
  return text;
}

// EXTD without EN is no mode of the processor's (11.4.4).
std::string_view lapic_mode(const LapicView& view) {
  if ((view.base & spec::BASE_EN) == 0) return "disabled";
  return (view.base & spec::BASE_EXTD) != 0 ? "x2APIC" : "xAPIC";
}

// 11.5.4: bits 0, 1 and 3; 111b divides by 1.
unsigned divisor(std::uint32_t configuration) {
  const unsigned code = (configuration & 3) | (configuration >> 1 & 4);
  return code == 7 ? 1 : 2U << code;
}

std::string_view timer_mode(std::uint32_t lvt) {
  constexpr std::array<std::string_view, 4> kModes = {"one-shot", "periodic", "TSC-deadline",
                                                      "reserved timer mode"};
  return kModes[lvt >> 17 & 3];
}

constexpr std::array<std::string_view, 6> kLvtNames = {"timer", "thermal", "perf",
                                                       "LINT0", "LINT1",   "error"};
constexpr unsigned kTimerEntry = 0, kLint0Entry = 3, kLint1Entry = 4;

std::string lvt_text(unsigned entry, std::uint32_t value) {
  std::string text = (value & spec::LVT_MASKED) != 0 ? "masked, " : "";
  const unsigned vector = value & spec::LVT_VECTOR;
  if (entry == kTimerEntry) {
    text += fmt::format("vector {:x}h, {}", vector, timer_mode(value));
  } else {
    const auto mode = (value & spec::LVT_MODE) >> 8;
    text += std::string(delivery_name(mode));
    if (mode == 0) text += fmt::format(", vector {:x}h", vector);
  }
  if (entry == kLint0Entry || entry == kLint1Entry) {
    text += (value & spec::LVT_LEVEL) != 0 ? ", level" : ", edge";
    if ((value & spec::LVT_POLARITY) != 0) text += ", active low";
    if ((value & spec::LVT_REMOTE_IRR) != 0) text += ", remote IRR";
  }
  if ((value & spec::LVT_DELIVERY_STATUS) != 0) text += ", being sent";
  return text;
}

std::string icr_text(const LapicView& view) {
  const std::uint32_t low = view.registers[spec::APIC_ICR];
  const std::uint32_t high = view.registers[spec::APIC_ICR_HIGH];
  const bool x2apic = (view.base & spec::BASE_EXTD) != 0;
  constexpr std::array<std::string_view, 4> kShorthands = {"", "self", "all", "all but self"};
  const std::string_view shorthand = kShorthands[low >> 18 & 3];
  return fmt::format("{}, vector {:x}h, to {}{}", delivery_name(low >> 8), low & 0xff,
                     !shorthand.empty() ? std::string(shorthand)
                                        : fmt::format("{:x}h", x2apic ? high : high >> 24),
                     !shorthand.empty()               ? ""
                     : (low & spec::ICR_LOGICAL) != 0 ? " (logical)"
                                                      : " (physical)");
}

std::string lapic_text(unsigned vcpu, const LapicView& view) {
  const auto& r = view.registers;
  const std::uint32_t svr = r[spec::APIC_SVR];
  std::string text = fmt::format(
      "vCPU {}: {} LAPIC, id {:x}h, {}{}, base {:x}h\n", vcpu, owner(view.kvms), view.id,
      lapic_mode(view), (view.base & spec::BASE_BSP) != 0 ? ", BSP" : "", view.base & ~0xfffULL);
  std::vector<std::string> lines;
  add_labelled(
      lines, "SVR",
      fmt::format("{:x}h ({}by software), TPR {:x}h, PPR {:x}h, ESR {:x}h, version {:x}h", svr,
                  (svr & spec::SVR_ENABLE) != 0 ? "enabled " : "DISABLED ", r[spec::APIC_TPR],
                  r[spec::APIC_PPR], r[spec::APIC_ESR], r[spec::APIC_VERSION]));
  add_labelled(lines, "LDR", fmt::format("{:x}h, DFR {:x}h", r[spec::APIC_LDR], r[spec::APIC_DFR]));
  add_labelled(lines, "IRR", vector_list(vectors_of(view, spec::APIC_IRR)));
  add_labelled(lines, "ISR", vector_list(vectors_of(view, spec::APIC_ISR)));
  add_labelled(lines, "TMR", vector_list(vectors_of(view, spec::APIC_TMR)));
  for (unsigned entry = 0; entry < kLvtNames.size(); ++entry)
    add_labelled(lines, kLvtNames[entry], lvt_text(entry, r[spec::APIC_LVT + entry]));
  add_labelled(
      lines, "count",
      fmt::format("{} of {}, divided by {}, IA32_TSC_DEADLINE {:x}h", r[spec::APIC_CURRENT_COUNT],
                  r[spec::APIC_INITIAL_COUNT], divisor(r[spec::APIC_DIVIDE]), view.tsc_deadline));
  add_labelled(lines, "ICR", icr_text(view));
  return text + fmt::format("{}\n", fmt::join(lines, "\n"));
}

json lapic_json(unsigned vcpu, const LapicView& view) {
  const auto& r = view.registers;
  json lvt = json::object();
  for (unsigned entry = 0; entry < kLvtNames.size(); ++entry)
    lvt[std::string(kLvtNames[entry])] = json_hex(r[spec::APIC_LVT + entry]);
  return {{"vcpu", vcpu},
          {"owner", view.kvms ? "kvm" : "vmm"},
          {"id", view.id},
          {"mode", lapic_mode(view)},
          {"base", json_hex(view.base)},
          {"version", json_hex(r[spec::APIC_VERSION])},
          {"svr", json_hex(r[spec::APIC_SVR])},
          {"tpr", json_hex(r[spec::APIC_TPR])},
          {"ppr", json_hex(r[spec::APIC_PPR])},
          {"esr", json_hex(r[spec::APIC_ESR])},
          {"ldr", json_hex(r[spec::APIC_LDR])},
          {"dfr", json_hex(r[spec::APIC_DFR])},
          {"irr", vectors_of(view, spec::APIC_IRR)},
          {"isr", vectors_of(view, spec::APIC_ISR)},
          {"tmr", vectors_of(view, spec::APIC_TMR)},
          {"lvt", std::move(lvt)},
          {"initial_count", r[spec::APIC_INITIAL_COUNT]},
          {"current_count", r[spec::APIC_CURRENT_COUNT]},
          {"divide", divisor(r[spec::APIC_DIVIDE])},
          {"tsc_deadline", json_hex(view.tsc_deadline)},
          {"icr", json_hex(std::uint64_t{r[spec::APIC_ICR_HIGH]} << 32 | r[spec::APIC_ICR])}};
}

// A redirection entry.
struct Entry {
  unsigned vector;
  std::string_view mode;
  bool logical;
  bool level;
  bool low;
  bool masked;
  bool remote_irr;
  unsigned destination;
};

Entry entry_of(std::uint64_t value) {
  return {.vector = static_cast<unsigned>(value & 0xff),
          .mode = delivery_name(value >> 8),
          .logical = bit(value, 11),
          .level = bit(value, 15),
          .low = bit(value, 13),
          .masked = bit(value, 16),
          .remote_irr = bit(value, 14),
          .destination = static_cast<unsigned>(value >> 56)};
}

std::string ioapic_text(const IoapicView& view) {
  std::string text =
      fmt::format("{} IOAPIC, id {:x}h, version {:x}h\n", owner(view.kvms), view.id, view.version);
  text += fmt::format("  pin  {:<7} {:<16} {:<15} {:<14} {:<6} state\n", "vector", "mode", "to",
                      "trigger", view.kvms ? "irr" : "level");
  std::string untouched;
  for (unsigned pin = 0; pin < Ioapic::kPins; ++pin) {
    const bool high = bit(view.pins, pin);
    if (view.entries[pin] == Ioapic::kMaskedEntry && !high) {
      untouched += fmt::format(" {}", pin);
      continue;
    }
    const Entry e = entry_of(view.entries[pin]);
    text += fmt::format(
        "  {:>3}  {:<7} {:<16} {:<15} {:<14} {:<6} {}{}\n", pin, fmt::format("{:x}h", e.vector),
        e.mode, fmt::format("{:x}h {}", e.destination, e.logical ? "logical" : "physical"),
        fmt::format("{}{}", e.level ? "level" : "edge", e.low ? ", low" : ""), high ? 1 : 0,
        e.masked ? "masked" : "open", e.remote_irr ? ", remote IRR" : "");
  }
  if (!untouched.empty()) text += fmt::format("  masked as after reset:{}\n", untouched);
  return text;
}

json ioapic_json(const IoapicView& view) {
  json pins = json::array();
  for (unsigned pin = 0; pin < Ioapic::kPins; ++pin) {
    const Entry e = entry_of(view.entries[pin]);
    pins.push_back({{"pin", pin},
                    {"entry", json_hex(view.entries[pin])},
                    {"vector", e.vector},
                    {"mode", e.mode},
                    {"destination", e.destination},
                    {"logical", e.logical},
                    {"level_triggered", e.level},
                    {"active_low", e.low},
                    {"masked", e.masked},
                    {"remote_irr", e.remote_irr},
                    {view.kvms ? "irr" : "level", bit(view.pins, pin)}});
  }
  return {{"owner", view.kvms ? "kvm" : "vmm"},
          {"id", view.id},
          {"version", json_hex(view.version)},
          {"pins", std::move(pins)}};
}

}  // namespace

MonitorAnswer lapic(const Request& r) {
  if (r.words.size() > 1) return usage();
  const unsigned vcpus = r.scene.target.vcpu_count();
  const auto vcpu = r.words.empty() ? r.scene.vcpu : count_of(r.words[0]);
  if (!vcpu || *vcpu >= vcpus)
    return usage(fmt::format("VCPU is a number from 0 to {}", vcpus - 1));
  const auto index = static_cast<unsigned>(*vcpu);
  const auto view = r.scene.machine.lapic_view(index);
  if (!view) return failed(view.error());
  return r.json ? done_json(lapic_json(index, *view)) : done(lapic_text(index, *view));
}

MonitorAnswer ioapic(const Request& r) {
  if (!r.words.empty()) return usage();
  const auto view = r.scene.machine.ioapic_view();
  if (!view) return failed(view.error());
  return r.json ? done_json(ioapic_json(*view)) : done(ioapic_text(*view));
}

}  // namespace vmm::monitor
