// How interrupt lines reach our own controllers.
#pragma once

#include "devices/ioapic.h"
#include "devices/pic8259.h"
#include "vmm/core/irq.h"

namespace vmm {

// ISA IRQ n is input n of the 8259A pair and pin n of the IOAPIC, except IRQ 0, whose pin is 2
// (the MADT and the MP table say so; input 2 of the pair is its cascade).
class IsaRouter final : public IrqSink {
 public:
  IsaRouter(Pic8259& pic, Ioapic& ioapic) : pic_(pic), ioapic_(ioapic) {}
  void set_pin(unsigned gsi, bool level) override {
    if (gsi < kIsaIrqs) pic_.set_irq(gsi, level);
    ioapic_.set_pin(gsi == 0 ? 2 : gsi, level);
  }

 private:
  static constexpr unsigned kIsaIrqs = 16;
  Pic8259& pic_;
  Ioapic& ioapic_;
};

}  // namespace vmm
