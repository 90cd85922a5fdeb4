// The VT-x half. Each processor has a VMCS whose guest is the processor itself: same tables, same
// segments, EPT that maps each address to itself. Exits are those that cannot be declined, and two
// that are wanted: INIT and SIPI, by which the guest starts its processors (SDM Vol. 3C 25.2). An
// INIT makes of the guest one that waits for a SIPI; the SIPI makes of that one in real mode.
#include "examples/uefi-hypervisor/resident.h"

namespace efi_hypervisor::vmx_half {
namespace {

using namespace guest;
using namespace guest::vmx;

constexpr uint32_t kUnrestrictedGuest = 1 << 7, kUserWait = 1 << 26;
constexpr uint32_t kDebugControls = 1 << 2;  // saved at exits, loaded at entries
constexpr uint32_t kEfer = 0xc0000080, kDebugctl = 0x1d9, kSysenterCs = 0x174, kSysenterEsp = 0x175,
                   kSysenterEip = 0x176;
constexpr uint64_t kEferLme = 1 << 8, kEferLma = 1 << 10;
constexpr uint64_t kCr0Pe = 1 << 0, kCr0Ne = 1 << 5, kCr0Pg = 1u << 31, kCr4Pae = 1 << 5,
                   kCr4Vmxe = 1 << 13;
constexpr uint64_t kWaitForSipi = 3;  // GUEST_ACTIVITY
constexpr uint32_t kEntryFailed = 1u << 31;
constexpr uint32_t kEventNmi = 0x80000202, kEventException = 0x80000300, kEventErrorCode = 1 << 11;
constexpr uint8_t kUd = 6, kGp = 13;

enum Exit : uint32_t {
  TripleFault = 2,
  Init = 3,
  Sipi = 4,
  Getsec = 11,
  Invd = 13,
  Vmcall = 18,
  Vmxon = 27,
  CrAccess = 28,
  EptViolation = 48,
  Invept = 50,
  Invvpid = 53,
};

uint64_t address_of(const void* object) { return reinterpret_cast<uint64_t>(object); }

bool refused(Processor& processor, const char* why, uint64_t detail = 0) {
  processor.refusal = why;
  processor.refusal_detail = detail;
  return false;
}

uint32_t secondary_controls() {
  return allowed(
      0x48b, 0x48b,
      ENABLE_EPT | kUnrestrictedGuest | ENABLE_RDTSCP | ENABLE_INVPCID | ENABLE_XSAVES | kUserWait);
}

void write_controls(Processor& processor) {
  vmwrite(PIN_BASED, allowed(0x481, 0x48d, 0));
  vmwrite(PROC_BASED, allowed(0x482, 0x48e, ACTIVATE_SECONDARY | USE_MSR_BITMAPS));
  vmwrite(SECONDARY, secondary_controls());
  vmwrite(EXIT_CONTROLS,
          allowed(0x483, 0x48f, HOST_64 | EXIT_SAVE_EFER | EXIT_LOAD_EFER | kDebugControls));
  vmwrite(EXCEPTION_BITMAP, 0);
  vmwrite(CR3_TARGET_COUNT, 0);
  vmwrite(MSR_BITMAP, address_of(processor.vmx.msr_bitmap));
  vmwrite(EPT_POINTER, identity_ept());
  vmwrite(LINK_POINTER, ~0ull);
  // What VMX fixes in these the guest sees as it wrote it.
  vmwrite(CR0_GUEST_HOST_MASK, kCr0Ne);
  vmwrite(CR4_GUEST_HOST_MASK, kCr4Vmxe);
}

// As enter_host() left the processor.
void write_host(const Processor& processor) {
  vmwrite(HOST_CR0, read_cr0());
  vmwrite(HOST_CR3, read_cr3());
  vmwrite(HOST_CR4, read_cr4());
  vmwrite(HOST_EFER, rdmsr(kEfer));
  vmwrite(HOST_CS_SELECTOR, kCodeSelector);
  vmwrite(HOST_ES_SELECTOR, kDataSelector);
  vmwrite(HOST_SS_SELECTOR, kDataSelector);
  vmwrite(HOST_DS_SELECTOR, kDataSelector);
  vmwrite(HOST_TR_SELECTOR, kTssSelector);
  vmwrite(HOST_TR_BASE, address_of(processor.task_state.tss));
  vmwrite(HOST_GDTR_BASE, stored_gdtr().base);
  vmwrite(HOST_IDTR_BASE, stored_idtr().base);
}

void write_segment(uint64_t index, const SegmentState& segment) {
  constexpr uint32_t kUnusable = 0x10000;
  const uint32_t attributes = segment.attributes;
  vmwrite(GUEST_ES_SELECTOR + 2 * index, segment.selector);
  vmwrite(GUEST_ES_BASE + 2 * index, segment.base);
  vmwrite(GUEST_ES_LIMIT + 2 * index, segment.limit);
  vmwrite(GUEST_ES_RIGHTS + 2 * index,
          attributes == 0 ? kUnusable : (attributes & 0xff) | (attributes & 0xf00) << 4);
}

void write_guest(const ProcessorState& state) {
  for (uint64_t i = 0; i < kSegmentCount; ++i) write_segment(i, state.segment[i]);
  vmwrite(GUEST_GDTR_BASE, state.gdtr.base);
  vmwrite(GUEST_GDTR_LIMIT, state.gdtr.limit);
  vmwrite(GUEST_IDTR_BASE, state.idtr.base);
  vmwrite(GUEST_IDTR_LIMIT, state.idtr.limit);
  vmwrite(GUEST_CR0, state.cr0 | kCr0Ne);
  vmwrite(CR0_READ_SHADOW, state.cr0);
  vmwrite(GUEST_CR3, state.cr3);
  vmwrite(GUEST_CR4, state.cr4 | kCr4Vmxe);
  vmwrite(CR4_READ_SHADOW, state.cr4 & ~kCr4Vmxe);
  vmwrite(GUEST_EFER, state.efer);
  const bool long_mode = (state.efer & kEferLma) != 0;
  vmwrite(ENTRY_CONTROLS,
          allowed(0x484, 0x490, (long_mode ? IA32E_GUEST : 0) | ENTRY_LOAD_EFER | kDebugControls));
  vmwrite(GUEST_DR7, state.dr7);
  vmwrite(GUEST_RIP, state.rip);
  vmwrite(GUEST_RSP, state.rsp);
  vmwrite(GUEST_RFLAGS, state.rflags);
}

bool load_vmcs(Processor& processor) {
  mmio_write(address_of(processor.vmx.vmcs), static_cast<uint32_t>(rdmsr(kBasic)) & 0x7fffffff);
  if (vmclear(address_of(processor.vmx.vmcs)) != Result::Succeeded)
    return refused(processor, "VMCLEAR");
  if (vmptrld(address_of(processor.vmx.vmcs)) != Result::Succeeded)
    return refused(processor, "VMPTRLD");
  return true;
}

void inject(uint8_t vector, bool error_code) {
  // In real mode none has an error code (SDM 26.2.1.3).
  const bool code = error_code && (vmread(GUEST_CR0) & kCr0Pe) != 0;
  vmwrite(ENTRY_INTR_INFO, kEventException | (code ? kEventErrorCode : 0) | vector);
  vmwrite(ENTRY_ERROR_CODE, 0);
}

// An NMI that came while the hypervisor ran.
void pass_on_nmi(Processor& processor) {
  constexpr uint64_t kBlocked = 1 << 0 | 1 << 1 | 1 << 3;  // by STI, MOV SS, an NMI
  if (__atomic_load_n(&processor.nmi, __ATOMIC_SEQ_CST) == 0) return;
  if ((vmread(ENTRY_INTR_INFO) & kEntryFailed) != 0 || vmread(GUEST_ACTIVITY) == kWaitForSipi ||
      (vmread(GUEST_INTERRUPTIBILITY) & kBlocked) != 0)
    return;
  __atomic_store_n(&processor.nmi, 0, __ATOMIC_SEQ_CST);
  vmwrite(GUEST_ACTIVITY, 0);
  vmwrite(ENTRY_INTR_INFO, kEventNmi);
}

// Writes that change what VMX fixes, with what else they change.
bool write_control_register(Processor& processor) {
  const uint64_t qualification = vmread(EXIT_QUALIFICATION);
  if ((qualification & 0x30) != 0) return false;  // not MOV to a control register
  if ((qualification & 15) == 4) {
    inject(kGp, true);  // the guest has no VMXE
    return true;
  }
  if ((qualification & 15) != 0) return false;
  const uint64_t from = qualification >> 8 & 15;
  const auto* registers = reinterpret_cast<const uint64_t*>(&processor.l2);
  const uint64_t value = from == 4 ? vmread(GUEST_RSP) : registers[from < 4 ? from : from - 1];
  if (((vmread(GUEST_CR0) ^ value) & kCr0Pg) != 0) {
    const uint64_t efer = vmread(GUEST_EFER);
    if ((value & kCr0Pg) == 0) {
      vmwrite(GUEST_EFER, efer & ~kEferLma);
      clear_bits(ENTRY_CONTROLS, IA32E_GUEST);
    } else if ((efer & kEferLme) != 0) {
      vmwrite(GUEST_EFER, efer | kEferLma);
      set_bits(ENTRY_CONTROLS, IA32E_GUEST);
    } else if ((vmread(GUEST_CR4) & kCr4Pae) != 0) {
      return false;  // would have to load the PDPTEs
    }
  }
  vmwrite(CR0_READ_SHADOW, value);
  vmwrite(GUEST_CR0, value | kCr0Ne);
  skip_instruction();
  return true;
}

void set_xcr(const Registers& l2) {
  constexpr uint64_t kX87 = 1, kSse = 2, kAvx = 4, kAvx512 = 0xe0;
  const CpuidRegs offered = cpuid(0xd);
  const uint64_t value = (l2.rdx << 32) | static_cast<uint32_t>(l2.rax);
  const bool valid =
      static_cast<uint32_t>(l2.rcx) == 0 &&
      (value & ~(static_cast<uint64_t>(offered.edx) << 32 | offered.eax)) == 0 &&
      (value & kX87) != 0 && ((value & kAvx) == 0 || (value & kSse) != 0) &&
      ((value & kAvx512) == 0 || ((value & kAvx512) == kAvx512 && (value & kAvx) != 0));
  if (!valid) return inject(kGp, true);
  asm volatile("xsetbv"
               :
               : "a"(static_cast<uint32_t>(value)), "d"(static_cast<uint32_t>(value >> 32)),
                 "c"(0));
  skip_instruction();
}

// The state that INIT leaves is of no use before the SIPI, which brings the rest of it; and a SIPI
// that comes while the hypervisor runs is lost (SDM 25.2), so this is short.
void take_init(Processor& processor) {
  ++processor.inits;
  __atomic_store_n(&processor.nmi, 0, __ATOMIC_SEQ_CST);
  vmwrite(GUEST_INTERRUPTIBILITY, 0);
  vmwrite(GUEST_ACTIVITY, kWaitForSipi);
}

void take_sipi(Processor& processor) {
  ++processor.sipis;
  const auto vector = static_cast<uint8_t>(vmread(EXIT_QUALIFICATION));
  write_guest(state_after_sipi(vector, vmread(GUEST_CR0)));
  vmwrite(GUEST_DEBUGCTL, 0);
  vmwrite(GUEST_PENDING_DEBUG, 0);
  vmwrite(GUEST_ACTIVITY, 0);
  asm volatile("mov %0, %%cr2" : : "r"(uint64_t{0}));
  processor.l2 = {};
  processor.l2.rdx = rdx_after_init();
}

[[noreturn]] void cannot_answer(const Processor& processor, uint32_t reason) {
  const auto at = [] { return hex(vmread(GUEST_RIP)); };
  if (reason == TripleFault)
    give_up(processor, kUnexpectedExit, "its guest had a triple fault at RIP ", at());
  if (reason == EptViolation)
    give_up(processor, kUnexpectedExit, "EPT violation (exit 48) at guest physical ",
            hex(vmread(GUEST_PHYSICAL_ADDRESS)), ", qualification ",
            hex(vmread(EXIT_QUALIFICATION)), ", RIP ", at(), ": nothing above 512 GiB is mapped");
  give_up(processor, kUnexpectedExit, "exit ", decimal(reason & 0xffff),
          (reason & kEntryFailed) != 0 ? ", a failed VM entry" : "", ", qualification ",
          hex(vmread(EXIT_QUALIFICATION)), ", RIP ", at(), ": the hypervisor has no answer to it");
}

void handle(Processor& processor, uint32_t reason) {
  switch (reason) {
    case EXIT_CPUID:
      answer_cpuid(processor, vmread(GUEST_CR4));
      return skip_instruction();
    case Exit::Init:
      return take_init(processor);
    case Exit::Sipi:
      return take_sipi(processor);
    case EXIT_XSETBV:
      return set_xcr(processor.l2);
    case Invd:
      asm volatile("wbinvd" : : : "memory");  // INVD would lose what the hypervisor wrote
      return skip_instruction();
    case EXIT_RDMSR:  // outside of what the bitmap speaks of
    case EXIT_WRMSR:
      return inject(kGp, true);
    case CrAccess:
      if (write_control_register(processor)) return;
      break;
    case Getsec:
    case Invept:
    case Invvpid:
      return inject(kUd, false);
    default:
      if (reason >= Vmcall && reason <= Vmxon) return inject(kUd, false);
      break;
  }
  cannot_answer(processor, reason);
}

// One entry and the exit that follows. False where there was none.
bool enter(Processor& processor, bool launch) {
  pass_on_nmi(processor);
  const Result result = vmx_enter(&processor.l2, launch);
  if (result == Result::FailInvalid)
    return refused(processor, "VM entry (there is no current VMCS)");
  if (result == Result::FailValid)
    return refused(processor, "VM entry: VM-instruction error", vmread(INSTRUCTION_ERROR));
  const uint64_t reason = vmread(EXIT_REASON);
  if ((reason & kEntryFailed) != 0) return refused(processor, "VM entry: exit reason", reason);
  ++processor.exits;
  return true;
}

}  // namespace

const char* prepare() {
  constexpr uint32_t kNeeded = ENABLE_EPT | kUnrestrictedGuest;
  if ((rdmsr(0x482) >> 63) == 0) return "VT-x lacks secondary controls (IA32_VMX_PROCBASED_CTLS)";
  if ((secondary_controls() & kNeeded) != kNeeded)
    return "VT-x lacks EPT or unrestricted guest (IA32_VMX_PROCBASED_CTLS2 bits 33 and 39): real "
           "mode after a SIPI needs both";
  identity_ept();
  return nullptr;
}

void serve(Processor& processor, uint64_t rip, uint64_t rsp) {
  const ProcessorState state = captured_state(rip, rsp);
  processor.refusal = try_turn_on(processor.vmx);
  if (processor.refusal != nullptr) return;
  enter_host(processor);
  bool launched = false;
  if (load_vmcs(processor)) {
    write_controls(processor);
    write_host(processor);
    write_guest(state);
    vmwrite(GUEST_SYSENTER_CS, rdmsr(kSysenterCs));
    vmwrite(GUEST_SYSENTER_ESP, rdmsr(kSysenterEsp));
    vmwrite(GUEST_SYSENTER_EIP, rdmsr(kSysenterEip));
    vmwrite(GUEST_DEBUGCTL, rdmsr(kDebugctl));
    processor.resident = true;
    for (; enter(processor, !launched); launched = true)
      handle(processor, static_cast<uint32_t>(vmread(EXIT_REASON)));
  }
  if (launched)
    give_up(processor, kUnexpectedExit, processor.refusal, " ",
            decimal(static_cast<uint32_t>(processor.refusal_detail)), ", RIP ",
            hex(vmread(GUEST_RIP)));
  processor.resident = false;
  turn_off();
  leave_host(state);
}

}  // namespace efi_hypervisor::vmx_half
