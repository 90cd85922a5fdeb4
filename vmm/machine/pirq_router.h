// How PCI interrupts reach the ISA ones: PIRQ A to D, each led where the ISA bridge says.
#pragma once

#include <array>
#include <optional>
#include <utility>

#include "devices/pci_host.h"
#include "vmm/core/irq.h"

namespace vmm {

class PirqRouter final : public IrqSink {
 public:
  static constexpr unsigned kPirqs = 4;

  // Both outlive the router.
  PirqRouter(IrqPins& isa, const PciHost& host) : isa_(isa), host_(host) {}

  // The lines of functions lead here.
  IrqLine line(unsigned pirq) { return pirqs_.line(pirq); }
  void set_pin(unsigned pirq, bool level) override { outputs_[pirq].set(level); }

  // The guest may have led PIRQs elsewhere: a level moves along, the others stay as they are.
  void reroute() {
    for (unsigned pirq = 0; pirq < kPirqs; ++pirq) {
      if (routes_[pirq] == route(pirq)) continue;
      IrqLine next = target(pirq);
      outputs_[pirq].set(false);
      next.set(pirqs_.level(pirq));
      outputs_[pirq] = std::move(next);
    }
  }
  // After chips and routes were loaded, levels are where they were, without edges.
  void restore() {
    for (unsigned pirq = 0; pirq < kPirqs; ++pirq) {
      IrqLine next = target(pirq);
      outputs_[pirq].restore_level(false);
      next.restore_level(pirqs_.level(pirq));
      outputs_[pirq] = std::move(next);
    }
  }

 private:
  // Nothing where it is disabled, or names one of the interrupts that belong to the board (82371SB,
  // 4.1.10: reserved).
  std::optional<unsigned> route(unsigned pirq) const {
    constexpr unsigned kBoards = 1u << 0 | 1u << 1 | 1u << 2 | 1u << 8 | 1u << 13;
    const auto irq = host_.pirq_route(pirq);
    return irq && (kBoards >> *irq & 1) == 0 ? irq : std::nullopt;
  }
  // A line there, detached where there is no route.
  IrqLine target(unsigned pirq) {
    routes_[pirq] = route(pirq);
    return routes_[pirq] ? isa_.line(*routes_[pirq]) : IrqLine();
  }

  IrqPins& isa_;
  const PciHost& host_;
  IrqPins pirqs_{*this, kPirqs};
  std::array<IrqLine, kPirqs> outputs_;
  std::array<std::optional<unsigned>, kPirqs> routes_;
};

}  // namespace vmm
