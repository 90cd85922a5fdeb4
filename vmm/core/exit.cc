#include "vmm/core/exit.h"

#include <fmt/format.h>

#include "vmm/core/uapi.h"

namespace vmm {
namespace {

// Bytes as one number when they are one, else as their count.
std::string value_text(std::span<const std::uint8_t> data, std::size_t width) {
  if (width == 0) return "nothing";
  if (data.size() != width || width > 8)
    return fmt::format("{} x {} bytes", data.size() / width, width);
  std::string text;
  for (std::size_t i = data.size(); i-- > 0;) text += fmt::format("{:02x}", data[i]);
  return text + "h";
}

}  // namespace

std::string suberror_name(std::uint32_t suberror) {
  switch (suberror) {
    case KVM_INTERNAL_ERROR_EMULATION:
      return "EMULATION";
    case KVM_INTERNAL_ERROR_SIMUL_EX:
      return "SIMUL_EX";
    case KVM_INTERNAL_ERROR_DELIVERY_EV:
      return "DELIVERY_EV";
    case KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON:
      return "UNEXPECTED_EXIT_REASON";
    default:
      return fmt::format("suberror {}", suberror);
  }
}

std::string to_string(const Exit& exit) {
  return std::visit(
      Overload{
          [](const PioIn& e) { return fmt::format("in {:x}h width {}", e.port, e.width); },
          [](const PioOut& e) {
            return fmt::format("out {:x}h width {} {}", e.port, e.width,
                               value_text(e.data, e.width));
          },
          [](const MmioRead& e) {
            return fmt::format("mmio read {:x}h width {}", e.gpa, e.data.size());
          },
          [](const MmioWrite& e) {
            return fmt::format("mmio write {:x}h {}", e.gpa, value_text(e.data, e.data.size()));
          },
          [](const MsrRead& e) { return fmt::format("rdmsr {:x}h", e.index); },
          [](const MsrWrite& e) { return fmt::format("wrmsr {:x}h {:x}h", e.index, e.value); },
          [](const Halt&) { return std::string("hlt"); },
          [](const IrqWindow&) { return std::string("irq window"); },
          [](const SetTpr&) { return std::string("set tpr"); },
          [](const IoapicEoi& e) { return fmt::format("ioapic eoi {:x}h", e.vector); },
          [](const DebugStop& e) {
            return fmt::format("debug #{} at {:x}h", e.exception == 3 ? "BP" : "DB", e.pc);
          },
          [](const SystemEvent& e) { return fmt::format("system event {}", e.type); },
          [](const Shutdown&) { return std::string("shutdown (triple fault)"); },
          [](const FailEntry& e) { return fmt::format("entry failure {:x}h", e.reason); },
          [](const InternalError& e) {
            return fmt::format("internal error {}", suberror_name(e.suberror));
          },
          [](const Interrupted&) { return std::string("interrupted"); },
          [](const UnknownExit& e) { return fmt::format("exit reason {}", e.reason); },
      },
      exit);
}

}  // namespace vmm
