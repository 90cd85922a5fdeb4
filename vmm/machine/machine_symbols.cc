// Symbols of a Linux that moves itself while it starts (KASLR): where it went is found at its
// exits, so that traces, the debugger and cards name what is there.
#include "vmm/base/log.h"
#include "vmm/machine/kernel_slide.h"
#include "vmm/machine/machine.h"

namespace vmm {

// On the vCPU's thread, at an exit of code in the upper half. Looks at the first exit, the second,
// the fourth and so on, because a kernel makes many before it has an IDT, and at every stop.
void Machine::look_for_kernel(const Exit& exit, unsigned vcpu) {
  if (!may_move_.load(std::memory_order_relaxed)) return;
  const std::uint32_t exits = kernel_exits_.fetch_add(1, std::memory_order_relaxed) + 1;
  std::uint32_t look_at = kernel_look_at_.load(std::memory_order_relaxed);
  const bool due = exits >= look_at && kernel_look_at_.compare_exchange_strong(look_at, exits * 2);
  if (!due && !std::holds_alternative<DebugStop>(exit)) return;
  auto state = vcpus_[vcpu]->brief_state();
  if (!state) return;
  CrashScene scene;
  scene.vcpus = {std::move(*state)};
  scene.memory = &memory_;
  scene.symbols = &symbols_;
  const auto slide = kernel_slide(scene);
  if (!slide) return;
  symbols_.move_kernel(*slide);
  may_move_ = false;
  if (*slide != 0)
    log_info("the kernel moved itself by {:x}h (KASLR), and its symbols with it", *slide);
}

void Machine::forget_kernel() {
  symbols_.move_kernel(0);
  kernel_exits_ = 0;
  kernel_look_at_ = 1;
  may_move_ = has_linux_handlers(symbols_);
}

}  // namespace vmm
