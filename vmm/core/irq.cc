#include "vmm/core/irq.h"

#include "vmm/base/check.h"

namespace vmm {

void IrqLine::set(bool level) {
  if (level == level_) return;
  level_ = level;
  if (pin_ == nullptr) return;
  const unsigned before = pin_->raised;
  pin_->raised = level ? before + 1 : before - 1;
  if ((before == 0) != (pin_->raised == 0)) pin_->sink->set_pin(pin_->gsi, level);
}

void IrqLine::pulse() {
  set(true);
  set(false);
}

void IrqLine::restore_level(bool level) {
  if (level == level_) return;
  level_ = level;
  if (pin_ != nullptr) pin_->raised = level ? pin_->raised + 1 : pin_->raised - 1;
}

IrqPins::IrqPins(IrqSink& sink, unsigned count) {
  for (unsigned gsi = 0; gsi < count; ++gsi)
    pins_.push_back(std::make_shared<IrqLine::Pin>(IrqLine::Pin{&sink, gsi, 0}));
}

IrqLine IrqPins::line(unsigned gsi) {
  VMM_CHECK(gsi < pins_.size(), "no such interrupt pin");
  return IrqLine(pins_[gsi]);
}

}  // namespace vmm
