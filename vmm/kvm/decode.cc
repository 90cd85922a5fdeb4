#include "vmm/kvm/decode.h"

#include <algorithm>

namespace vmm {
namespace {

Exit decode_io(kvm_run& run, std::span<std::uint8_t> page) {
  const std::uint64_t size = std::uint64_t{run.io.size} * run.io.count;
  const bool bad_width = run.io.size != 1 && run.io.size != 2 && run.io.size != 4;
  if (bad_width || run.io.data_offset > page.size() || size > page.size() - run.io.data_offset)
    return UnknownExit{run.exit_reason};
  const std::span<std::uint8_t> data = page.subspan(run.io.data_offset, size);
  if (run.io.direction == KVM_EXIT_IO_IN) return PioIn{run.io.port, run.io.size, data};
  return PioOut{run.io.port, run.io.size, data};
}

Exit decode_internal_error(const kvm_run& run) {
  InternalError error;
  error.suberror = run.internal.suberror;
  error.ndata = std::min<std::uint32_t>(run.internal.ndata, 16);
  std::copy_n(run.internal.data, error.ndata, error.data.begin());
  return error;
}

}  // namespace

Exit decode_exit(kvm_run& run, std::span<std::uint8_t> page) {
  switch (run.exit_reason) {
    case KVM_EXIT_IO:
      return decode_io(run, page);
    case KVM_EXIT_MMIO: {
      if (run.mmio.len == 0 || run.mmio.len > 8) return UnknownExit{run.exit_reason};
      const std::span<std::uint8_t> data(run.mmio.data, run.mmio.len);
      if (run.mmio.is_write != 0) return MmioWrite{run.mmio.phys_addr, data};
      return MmioRead{run.mmio.phys_addr, data};
    }
    case KVM_EXIT_X86_RDMSR:
      return MsrRead{run.msr.index, run.msr.reason, reinterpret_cast<std::uint64_t*>(&run.msr.data),
                     &run.msr.error};
    case KVM_EXIT_X86_WRMSR:
      return MsrWrite{run.msr.index, run.msr.reason, run.msr.data, &run.msr.error};
    case KVM_EXIT_HLT:
      return Halt{};
    case KVM_EXIT_IRQ_WINDOW_OPEN:
      return IrqWindow{};
    case KVM_EXIT_SET_TPR:
      return SetTpr{};
    case KVM_EXIT_IOAPIC_EOI:
      return IoapicEoi{run.eoi.vector};
    case KVM_EXIT_DEBUG:
      return DebugStop{run.debug.arch.exception, run.debug.arch.pc, run.debug.arch.dr6,
                       run.debug.arch.dr7};
    case KVM_EXIT_SYSTEM_EVENT:
      return SystemEvent{run.system_event.type};
    case KVM_EXIT_SHUTDOWN:
      return Shutdown{};
    case KVM_EXIT_FAIL_ENTRY:
      return FailEntry{run.fail_entry.hardware_entry_failure_reason, run.fail_entry.cpu};
    case KVM_EXIT_INTERNAL_ERROR:
      return decode_internal_error(run);
    case KVM_EXIT_INTR:
      return Interrupted{};
    default:
      return UnknownExit{run.exit_reason};
  }
}

}  // namespace vmm
