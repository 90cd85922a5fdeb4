// For tests: an IrqSink that writes down what happened.
#pragma once

#include <utility>
#include <vector>

#include "vmm/core/irq.h"

namespace vmm {

class RecordingIrq final : public IrqSink {
 public:
  void set_pin(unsigned gsi, bool level) override { changes.emplace_back(gsi, level); }
  std::vector<std::pair<unsigned, bool>> changes;
};

}  // namespace vmm
