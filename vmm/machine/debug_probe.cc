#include "vmm/machine/debug_probe.h"

#include <array>

#include "vmm/base/check.h"
#include "vmm/core/guest_memory.h"
#include "vmm/kvm/capabilities.h"
#include "vmm/kvm/vm.h"
#include "vmm/machine/processor_reset.h"

namespace vmm {
namespace {

constexpr Gpa kCode = 0x1000;  // of a segment of that base
constexpr Gpa kHandler = kCode + 0x10;
constexpr Gpa kWatched = 0x1800;
constexpr std::uint8_t kInterrupt = 0x20;
constexpr std::array<std::uint8_t, 2> kInt3 = {0xcc, 0xf4};  // int3; hlt
constexpr std::array<std::uint8_t, 5> kWrite = {0x2e, 0xa2, 0x00, 0x08,
                                                0x90};  // mov cs:[800h], al; nop
constexpr std::array<std::uint8_t, 2> kNops = {0x90, 0x90};
constexpr std::uint8_t kHlt = 0xf4;

// A processor in real mode and a page of memory: the vectors of int3 and of an interrupt lead to a
// HLT, so that every way ends in an exit.
class Probe {
 public:
  static Result<Probe> create(const Kvm& kvm, const CpuidTable& cpuid) {
    Probe probe(VMM_TRY(GuestMemory::create(1_MiB, false)));
    const std::array<std::uint8_t, 4> vector = {kHandler - kCode, 0, kCode >> 4 & 0xff,
                                                kCode >> 12};
    VMM_CHECK(probe.memory_.write(3 * 4, vector) && probe.memory_.write(kInterrupt * 4, vector) &&
                  probe.memory_.write(kHandler, std::array<std::uint8_t, 3>{0x90, 0x90, kHlt}),
              "low memory is RAM");
    probe.vm_ = VMM_TRY(Vm::create(kvm, IrqChipKind::User));
    VMM_TRY(probe.vm_->map(probe.memory_));
    probe.vcpu_ = VMM_TRY(probe.vm_->create_vcpu(0));
    VMM_TRY(probe.vcpu_->set_cpuid(cpuid));
    probe.fresh_ = VMM_TRY(probe.vcpu_->state());
    return probe;
  }

  // Whether `code` stops for `control` with this exception.
  Result<bool> stops(std::span<const std::uint8_t> code, const DebugControl& control,
                     std::uint32_t exception) {
    VMM_TRY(start(code, spec::RFLAGS_FIXED, control));
    return VMM_TRY(run_to_exit()) == exception;
  }

  // Whether a vCPU that has stopped at a slot passes it when RFLAGS.RF says so.
  Result<bool> resumes(DebugControl control) {
    VMM_TRY(start(kNops, spec::RFLAGS_FIXED, control));
    if (VMM_TRY(run_to_exit()) != 1U) return false;
    control.resume = true;
    VMM_TRY(vcpu_->set_debug_control(control));
    return !VMM_TRY(run_to_exit());
  }

  // Whether a step that takes an interrupt stops at the beginning of its handler.
  Result<bool> steps_into_handler() {
    VMM_TRY(start(kNops, spec::RFLAGS_FIXED | spec::RFLAGS_IF, {.step = true, .slots = {}}));
    EntryPlan plan;
    plan.interrupt = kInterrupt;
    VMM_TRY(vcpu_->prepare(plan));
    for (int step = 0; step < 2; ++step) {
      if (VMM_TRY(run_to_exit()) != 1U) return false;
      const CpuState state = VMM_TRY(vcpu_->state());
      const Gpa at = kCode + state.regs.rip;
      if (at == kHandler || at == kHandler + 1) return true;
    }
    return false;
  }

 private:
  Result<void> start(std::span<const std::uint8_t> code, std::uint64_t flags,
                     const DebugControl& control) {
    VMM_CHECK(memory_.write(kCode, code) && memory_.write(kCode + code.size(), std::span(&kHlt, 1)),
              "low memory is RAM");
    CpuState start = fresh_;
    start.regs.rip = 0;
    start.regs.rsp = 0x800;
    start.regs.rflags = flags;
    start_at(start, kCode >> 12);
    VMM_TRY(vcpu_->set_state(start));
    return vcpu_->set_debug_control(control);
  }
  // The exception of the debug exit that it came to; nothing where it came to another one.
  Result<std::optional<std::uint32_t>> run_to_exit() {
    // A signal may come first.
    for (int attempt = 0; attempt < 10; ++attempt) {
      const Exit exit = VMM_TRY(vcpu_->run());
      if (std::holds_alternative<Interrupted>(exit)) continue;
      const auto* stop = std::get_if<DebugStop>(&exit);
      return stop != nullptr ? std::optional(stop->exception) : std::nullopt;
    }
    return std::optional<std::uint32_t>();
  }

  explicit Probe(GuestMemory memory) : memory_(std::move(memory)) {}

  GuestMemory memory_;
  std::unique_ptr<Vm> vm_;
  std::unique_ptr<Vcpu> vcpu_;
  CpuState fresh_;
};

}  // namespace

Result<DebugSupport> probe_debug_support(const Kvm& kvm, const CpuidTable& cpuid) {
  const auto flags = static_cast<unsigned>(VMM_TRY(kvm.capability(capability::SET_GUEST_DEBUG2)));
  DebugSupport support{
      .step = (flags & KVM_GUESTDBG_SINGLESTEP) != 0,
      .block_interrupts = (flags & KVM_GUESTDBG_BLOCKIRQ) != 0,
      .int3 = (flags & KVM_GUESTDBG_USE_SW_BP) != 0,
      .hardware = (flags & KVM_GUESTDBG_USE_HW_BP) != 0,
      .watchpoints = (flags & KVM_GUESTDBG_USE_HW_BP) != 0,
      .inject_int3 = (flags & KVM_GUESTDBG_INJECT_BP) != 0,
  };
  Probe probe = VMM_TRY(Probe::create(kvm, cpuid));
  DebugControl execute;
  execute.slots[0] = HardwareBreakpoint{kCode + 1, HardwareBreakpoint::Kind::Execute, 1};
  if (support.hardware) support.hardware = VMM_TRY(probe.stops(kNops, execute, 1));
  if (support.hardware) support.resume = VMM_TRY(probe.resumes(execute));
  if (support.int3) support.int3 = VMM_TRY(probe.stops(kInt3, {.int3 = true, .slots = {}}, 3));
  DebugControl watch;
  watch.slots[0] = HardwareBreakpoint{kWatched, HardwareBreakpoint::Kind::Write, 1};
  if (support.watchpoints) support.watchpoints = VMM_TRY(probe.stops(kWrite, watch, 1));
  // Last, for an interrupt that KVM keeps for itself would come in the next one.
  if (support.step) support.steps_into_handlers = VMM_TRY(probe.steps_into_handler());
  return support;
}

}  // namespace vmm
