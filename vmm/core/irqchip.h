// The processors' side of the interrupt controllers, wherever those are: inside KVM or outside.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "vmm/base/result.h"

namespace vmm {

// Who has the interrupt controllers: KVM all of them; KVM the LAPICs and we the rest; all ours.
enum class IrqChipKind { Kernel, Split, User };
std::string_view irqchip_name(IrqChipKind kind);  // "kernel", "split", "user"

// What the last KVM_RUN left behind for controllers outside KVM.
struct EntryState {
  bool ready = false;          // an interrupt given now is taken at once
  bool interrupts_on = false;  // RFLAGS.IF
  std::uint8_t cr8 = 0;
  std::uint64_t apic_base = 0;  // IA32_APIC_BASE
};

// What such controllers want of a vCPU before it enters the guest again.
struct EntryPlan {
  bool wait = false;                      // nothing to run: halted, or no SIPI has come
  bool init = false;                      // registers as after INIT, first of all
  std::optional<std::uint8_t> sipi;       // then start at page `sipi` in real mode
  std::optional<std::uint8_t> interrupt;  // taken from the chip: must be injected
  bool nmi = false;
  bool window = false;              // exit as soon as an interrupt could be taken
  std::optional<std::uint8_t> cr8;  // the task priority, where the LAPIC is ours

  bool operator==(const EntryPlan&) const = default;
};

class IrqChip {
 public:
  virtual ~IrqChip() = default;
  virtual IrqChipKind kind() const = 0;
  // True if something other than another vCPU (a local source in NMI mode, a pending event) can
  // still wake vCPU `vcpu` from a HLT with interrupts off.
  virtual Result<bool> can_wake_masked(unsigned vcpu) = 0;
};

}  // namespace vmm
