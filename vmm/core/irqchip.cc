#include "vmm/core/irqchip.h"

namespace vmm {

std::string_view irqchip_name(IrqChipKind kind) {
  switch (kind) {
    case IrqChipKind::Kernel:
      return "kernel";
    case IrqChipKind::Split:
      return "split";
    case IrqChipKind::User:
      return "user";
  }
  return "?";
}

}  // namespace vmm
