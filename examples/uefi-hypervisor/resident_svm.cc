// The SVM half. Each processor has a VMCB whose guest is the processor itself: same tables, same
// segments, nested paging that maps each address to itself.
//
// SVM has no exit for a SIPI, and the one for INIT leaves the INIT pending: the processor is reset
// in spite of it (VM_CR.R_INIT would make an #SX of it, which KVM does not do; see
// examples/svm-init-redirect). So a processor that gets an INIT is let go, and it is the SIPI that
// brings it back: writes to the ICR exit, by a page of the APIC that nested paging makes read-only
// and by the MSR of x2APIC, and lead each SIPI into the hypervisor. That enters a guest in real
// mode where the SIPI was to lead.
#include "examples/uefi-hypervisor/apic_store.h"
#include "examples/uefi-hypervisor/resident.h"
#include "guest-tests/guests/lapic.h"

extern "C" {
void* memset(void* target, int value, __SIZE_TYPE__ count);
void* memcpy(void* target, const void* source, __SIZE_TYPE__ count);
// resident_switch.S
[[gnu::visibility("hidden")]] extern const uint8_t startup_page[], startup_page_end[],
    startup_cr3[], startup_entry[], startup_gdt_base[];
[[gnu::visibility("hidden")]] void after_sipi();
}

namespace efi_hypervisor::svm_half {
namespace {

using namespace guest;
using namespace guest::svm;

constexpr uint32_t kPat = 0x277, kX2apicIcr = 0x830;
constexpr uint32_t kInvlpgaIntercept = 1 << 26;
constexpr uint32_t kSvmInstructions = 0x7f;  // INTERCEPT_4: VMRUN to SKINIT
constexpr uint8_t kFlushAll = 1;             // TLB_CONTROL
constexpr uint64_t kVmexitShutdown = 0x7f, kVmexitVmrun = 0x80, kVmexitSkinit = 0x86,
                   kVmexitInvlpga = 0x7a;
constexpr uint64_t kEferSce = 1 << 0, kEferNxe = 1 << 11, kEferFfxsr = 1 << 14,
                   kEferAutoIbrs = 1 << 21;
constexpr uint64_t kCr0Pg = 1u << 31, kCr4La57 = 1 << 12;
constexpr uint32_t kModeMask = 7 << 8, kStartup = 6 << 8;  // ICR
constexpr uint64_t kUd = 0x80000306, kGp = 0x80000b0d;     // EVENTINJ
constexpr uint64_t kPageWrite = 1 << 1;                    // EXITINFO1
constexpr uint64_t kAddress = 0x000ffffffffff000;

struct alignas(4096) Table {
  uint64_t entry[512];
};
Table apic_pd, apic_pt;  // of the fourth gigabyte, and of the 2 MiB around the APIC
uint8_t startup_vector;

uint64_t address_of(const void* object) { return reinterpret_cast<uint64_t>(object); }

// Of the identity map, the one page that is the APIC's becomes read-only.
void protect_apic() {
  constexpr uint64_t kPresentWritableUser = 7, kPresentUser = 5, kLarge = 1 << 7,
                     kUncached = 3 << 3;
  auto* root = reinterpret_cast<uint64_t*>(identity_npt());
  auto* pdpt = reinterpret_cast<uint64_t*>(root[0] & kAddress);
  for (uint64_t i = 0; i < 512; ++i) {
    apic_pd.entry[i] = 3ull << 30 | i << 21 | kLarge | kUncached | kPresentWritableUser;
    apic_pt.entry[i] = (kLapic & ~0x1fffffull) | i << 12 | kUncached | kPresentWritableUser;
  }
  apic_pt.entry[kLapic >> 12 & 511] = kLapic | kUncached | kPresentUser;
  apic_pd.entry[kLapic >> 21 & 511] = address_of(&apic_pt) | kPresentWritableUser;
  pdpt[3] = address_of(&apic_pd) | kPresentWritableUser;
}

void write_controls(Processor& processor) {
  Vmcb& vmcb = processor.svm.vmcb;
  vmcb.put(INTERCEPT_3,
           INIT_INTERCEPT | CPUID_INTERCEPT | MSR_PROT | SHUTDOWN_INTERCEPT | kInvlpgaIntercept);
  vmcb.put(INTERCEPT_4, kSvmInstructions);
  vmcb.put(MSRPM_BASE_PA, address_of(processor.svm.msr_permissions));
  constexpr uint32_t kIntercepted[] = {svm::kEfer, kVmCr, kHsavePa, kX2apicIcr};
  for (const uint32_t msr : kIntercepted) intercept_msr(processor.svm, msr);
  vmcb.put(GUEST_ASID, 1);
  vmcb.put(NESTED_CONTROL, NP_ENABLE);
  vmcb.put(N_CR3, identity_npt());
  vmcb.put(G_PAT, rdmsr(kPat));
}

void write_guest(Vmcb& vmcb, const ProcessorState& state) {
  constexpr Segment kPlace[kSegmentCount] = {svm::ES, svm::CS, svm::SS,   svm::DS,
                                             svm::FS, svm::GS, svm::LDTR, svm::TR};
  for (uint8_t i = 0; i < kSegmentCount; ++i) {
    vmcb.put(selector(kPlace[i]), state.segment[i].selector);
    vmcb.put(attrib(kPlace[i]), state.segment[i].attributes);
    vmcb.put(limit(kPlace[i]), state.segment[i].limit);
    vmcb.put(base(kPlace[i]), state.segment[i].base);
  }
  vmcb.put(base(GDTR), state.gdtr.base);
  vmcb.put(limit(GDTR), state.gdtr.limit);
  vmcb.put(base(IDTR), state.idtr.base);
  vmcb.put(limit(IDTR), state.idtr.limit);
  vmcb.put(CR0, state.cr0);
  vmcb.put(CR3, state.cr3);
  vmcb.put(CR4, state.cr4);
  vmcb.put(EFER, state.efer | kEferSvme);
  vmcb.put(DR6, 0xffff0ff0);
  vmcb.put(DR7, state.dr7);
  vmcb.put(RIP, state.rip);
  vmcb.put(RSP, state.rsp);
  vmcb.put(RFLAGS, state.rflags);
}

// The guest's memory is the hypervisor's: nested paging maps each address to itself.
bool physical(const Vmcb& vmcb, uint64_t linear, uint64_t& address) {
  if ((vmcb.get(CR0) & kCr0Pg) == 0) {
    address = linear;
    return true;
  }
  if ((vmcb.get(EFER) & kEferLma) == 0) return false;
  uint64_t table = vmcb.get(CR3) & kAddress;
  for (int shift = (vmcb.get(CR4) & kCr4La57) != 0 ? 48 : 39; shift >= 12; shift -= 9) {
    const uint64_t entry = reinterpret_cast<const uint64_t*>(table)[linear >> shift & 511];
    if ((entry & 1) == 0) return false;
    const bool large = shift == 12 || (shift < 39 && (entry & 1 << 7) != 0);
    const uint64_t offset = (1ull << shift) - 1;
    if (large) {
      address = (entry & kAddress & ~offset) | (linear & offset);
      return true;
    }
    table = entry & kAddress;
  }
  return false;
}

// The bytes at RIP, as far as they are mapped. False where they are not at all.
bool fetch(const Vmcb& vmcb, uint8_t (&code)[kMaxInstruction]) {
  const bool long_mode = (vmcb.get(EFER) & kEferLma) != 0;
  const uint64_t start = vmcb.get(RIP) + (long_mode ? 0 : vmcb.get(base(svm::CS)));
  for (uint8_t i = 0; i < kMaxInstruction; ++i) {
    uint64_t address = 0;
    const bool mapped = physical(vmcb, start + i, address);
    code[i] = mapped ? *reinterpret_cast<const uint8_t*>(address) : 0;
    if (i == 0 && !mapped) return false;
  }
  return true;
}

// What the ICR is to be told instead: a SIPI leads to startup_page, and its target remembers where
// it was to lead. With a logical destination anyone may be meant; only who waits for a SIPI looks.
uint32_t redirected(const Processor& sender, uint32_t command, uint32_t destination,
                    bool everyone) {
  if ((command & kModeMask) != kStartup) return command;
  const bool some = (command & (spec::ICR_ALL | spec::ICR_SELF)) == 0 &&
                    (command & spec::ICR_LOGICAL) == 0 && !everyone;
  for (Processor* target : by_apic_id) {
    if (target == nullptr || target == &sender) continue;
    if (!some || target->apic_id == destination)
      __atomic_store_n(&target->sipi_vector, static_cast<uint8_t>(command), __ATOMIC_SEQ_CST);
  }
  return (command & ~0xffu) | startup_vector;
}

bool store_to_apic(Processor& processor) {
  Vmcb& vmcb = processor.svm.vmcb;
  const uint64_t address = vmcb.get(EXITINFO2);
  if ((address & kAddress) != kLapic || (vmcb.get(EXITINFO1) & kPageWrite) == 0) return false;
  uint8_t code[kMaxInstruction];
  if (!fetch(vmcb, code)) return false;
  constexpr uint16_t kLong = 1 << 9;  // CS.L
  const bool is_64_bit =
      (vmcb.get(EFER) & kEferLma) != 0 && (vmcb.get(attrib(svm::CS)) & kLong) != 0;
  const ApicStore store = decode_apic_store(code, processor.l2, vmcb.get(RSP), is_64_bit);
  if (store.length == 0) return false;
  const uint64_t offset = address & 0xfff;
  uint32_t value = store.value;
  if (offset == spec::ICR_LOW) {
    const uint32_t destination = lapic_read(spec::ICR_HIGH) >> 24;
    value = redirected(processor, value, destination, destination == 0xff);
  }
  lapic_write(offset, value);
  vmcb.put(RIP, vmcb.get(RIP) + store.length);
  return true;
}

// EFER, whose SVME the guest neither sees nor loses. False: #GP.
bool write_efer(Vmcb& vmcb, uint64_t value) {
  const uint64_t old = vmcb.get(EFER);
  uint64_t known = kEferSce | kEferLme | kEferLma;
  const uint32_t features = cpuid(0x80000001).edx;
  if ((features >> 20 & 1) != 0) known |= kEferNxe;
  if ((features >> 25 & 1) != 0) known |= kEferFfxsr;
  if (cpuid(0x80000000).eax >= 0x80000021 && (cpuid(0x80000021).eax >> 8 & 1) != 0)
    known |= kEferAutoIbrs;
  if ((value & ~known) != 0) return false;
  if (((value ^ old) & kEferLme) != 0 && (vmcb.get(CR0) & kCr0Pg) != 0) return false;
  vmcb.put(EFER, (value & ~kEferLma) | (old & kEferLma) | kEferSvme);
  return true;
}

// RDMSR and WRMSR of what is intercepted. False: #GP.
bool access_msr(Processor& processor) {
  Vmcb& vmcb = processor.svm.vmcb;
  Registers& l2 = processor.l2;
  const auto index = static_cast<uint32_t>(l2.rcx);
  const bool write = vmcb.get(EXITINFO1) == 1;
  const uint64_t value = l2.rdx << 32 | static_cast<uint32_t>(l2.rax);
  if (index == svm::kEfer && write) return write_efer(vmcb, value);
  if (index == svm::kEfer) {
    l2.rax = vmcb.get(EFER) & ~kEferSvme;
    l2.rdx = 0;
    return true;
  }
  if (index != kX2apicIcr || (rdmsr(spec::IA32_APIC_BASE) & spec::BASE_X2APIC) == 0) return false;
  if (write) {
    const auto destination = static_cast<uint32_t>(value >> 32);
    const auto command =
        redirected(processor, static_cast<uint32_t>(value), destination, destination == ~0u);
    wrmsr(kX2apicIcr, static_cast<uint64_t>(destination) << 32 | command);
    return true;
  }
  const uint64_t icr = rdmsr(kX2apicIcr);
  l2.rax = static_cast<uint32_t>(icr);
  l2.rdx = icr >> 32;
  return true;
}

// The INIT is pending, held by GIF. It is let in; KVM with vgif=1 does not see STGI, and looks at
// the INIT when the processor halts.
[[noreturn]] void take_init(Processor& processor) {
  ++processor.inits;
  asm volatile("stgi" : : : "memory");
  stop();
}

[[noreturn]] void cannot_answer(const Processor& processor, uint64_t code) {
  const Vmcb& vmcb = processor.svm.vmcb;
  const auto at = hex(vmcb.get(RIP));
  if (code == kVmexitShutdown)
    give_up(processor, kUnexpectedExit, "its guest had a triple fault (shutdown) at RIP ", at);
  if (code == VMEXIT_NPF && (vmcb.get(EXITINFO2) & kAddress) == kLapic) {
    uint8_t bytes[kMaxInstruction];
    const uint64_t offset = vmcb.get(EXITINFO2) & 0xfff;
    if (!fetch(vmcb, bytes))
      give_up(processor, kUnexpectedExit, "a store to APIC register ", hex(offset), " at RIP ", at,
              ", which its page tables do not map (CR0 ", hex(vmcb.get(CR0)), ", CR3 ",
              hex(vmcb.get(CR3)), ", CR4 ", hex(vmcb.get(CR4)), ", EFER ", hex(vmcb.get(EFER)),
              ")");
    give_up(processor, kUnexpectedExit, "a store to APIC register ", hex(offset), " at RIP ", at,
            " is no MOV of 32 bits that the hypervisor knows: bytes ", hex(bytes[0]), " ",
            hex(bytes[1]), " ", hex(bytes[2]), " ", hex(bytes[3]));
  }
  if (code == VMEXIT_NPF)
    give_up(processor, kUnexpectedExit, "nested page fault at guest physical ",
            hex(vmcb.get(EXITINFO2)), ", EXITINFO1 ", hex(vmcb.get(EXITINFO1)), ", RIP ", at,
            ": nothing above 512 GiB is mapped");
  give_up(processor, kUnexpectedExit, "exit ", hex(code), ", EXITINFO1 ", hex(vmcb.get(EXITINFO1)),
          ", EXITINFO2 ", hex(vmcb.get(EXITINFO2)), ", RIP ", at,
          ": the hypervisor has no answer to it");
}

void handle(Processor& processor, uint64_t code) {
  Vmcb& vmcb = processor.svm.vmcb;
  switch (code) {
    case VMEXIT_CPUID:
      answer_cpuid(processor, vmcb.get(CR4));
      return skip_instruction(vmcb);
    case VMEXIT_MSR:
      if (access_msr(processor)) return skip_instruction(vmcb);
      return vmcb.put(EVENTINJ, kGp);
    case VMEXIT_NPF:
      if (store_to_apic(processor)) return;
      break;
    case VMEXIT_INIT:
      take_init(processor);
    case kVmexitInvlpga:
      return vmcb.put(EVENTINJ, kUd);
    default:
      if (code >= kVmexitVmrun && code <= kVmexitSkinit) return vmcb.put(EVENTINJ, kUd);
      break;
  }
  cannot_answer(processor, code);
}

// GIF stays 0 in the hypervisor, so that NMIs and INITs wait for its guest. Comes back only where
// the first entry is refused.
void run(Processor& processor) {
  Vmcb& vmcb = processor.svm.vmcb;
  for (uint32_t entries = 0;; ++entries) {
    const uint64_t code = enter(processor.svm, processor.l2, false);
    vmcb.put(TLB_CONTROL, 0);
    if (static_cast<uint32_t>(code) == static_cast<uint32_t>(VMEXIT_INVALID)) {
      if (entries == 0) break;
      give_up(processor, kUnexpectedExit, "VMRUN is refused (VMEXIT_INVALID), RIP ",
              hex(vmcb.get(RIP)));
    }
    ++processor.exits;
    handle(processor, code);
  }
  asm volatile("stgi" : : : "memory");
}

}  // namespace

const char* prepare(uint8_t* page_below_1_mib) {
  if ((cpuid(0x8000000a).edx & 1) == 0) return "SVM lacks nested paging (CPUID 8000000Ah.EDX[0])";
  if ((rdmsr(spec::IA32_APIC_BASE) & kAddress) != kLapic)
    return "the local APIC is not at FEE00000h (MSR 1Bh)";
  protect_apic();
  memcpy(page_below_1_mib, startup_page,
         static_cast<__SIZE_TYPE__>(startup_page_end - startup_page));
  const auto place = [page_below_1_mib](const uint8_t* label) {
    return address_of(page_below_1_mib + (label - startup_page));
  };
  mmio_write(place(startup_gdt_base), mmio_read<uint32_t>(place(startup_gdt_base)) +
                                          static_cast<uint32_t>(address_of(page_below_1_mib)));
  mmio_write(place(startup_entry), static_cast<uint32_t>(reinterpret_cast<uint64_t>(&after_sipi)));
  mmio_write(place(startup_cr3), static_cast<uint32_t>(host_cr3()));
  startup_vector = static_cast<uint8_t>(address_of(page_below_1_mib) >> 12);
  return nullptr;
}

void serve(Processor& processor, uint64_t rip, uint64_t rsp) {
  const ProcessorState state = captured_state(rip, rsp);
  processor.refusal = try_turn_on(processor.svm);
  if (processor.refusal != nullptr) return;
  Vmcb& vmcb = processor.svm.vmcb;
  memset(&vmcb, 0, sizeof vmcb);
  asm volatile("vmsave %%rax" : : "a"(&vmcb) : "memory");  // the MSRs of SYSCALL and SYSENTER
  write_controls(processor);
  write_guest(vmcb, state);
  enter_host(processor);
  processor.resident = true;
  run(processor);
  processor.resident = false;
  processor.refusal = "VMRUN (VMEXIT_INVALID)";
  turn_off();
  leave_host(state);
}

}  // namespace efi_hypervisor::svm_half

// From after_sipi: in long mode on the host's stack, with all else as INIT leaves it.
extern "C" void serve_after_sipi(efi_hypervisor::Processor* processor) {
  using namespace efi_hypervisor;
  enter_host(*processor);
  ++processor->sipis;
  if (const char* refusal = guest::svm::try_turn_on(processor->svm); refusal != nullptr)
    give_up(*processor, kLost, "after a SIPI: ", refusal);
  guest::svm::Vmcb& vmcb = processor->svm.vmcb;
  const uint8_t vector = __atomic_load_n(&processor->sipi_vector, __ATOMIC_SEQ_CST);
  svm_half::write_guest(vmcb, state_after_sipi(vector, vmcb.get(guest::svm::CR0)));
  vmcb.put(guest::svm::CR2, 0);
  vmcb.put(guest::svm::INTERRUPT_SHADOW, 0);
  vmcb.put(guest::svm::EVENTINJ, 0);
  vmcb.put(guest::svm::TLB_CONTROL, svm_half::kFlushAll);
  processor->l2 = {};
  processor->l2.rdx = rdx_after_init();
  svm_half::run(*processor);
  give_up(*processor, kLost, "VMRUN is refused (VMEXIT_INVALID) after a SIPI to page ",
          guest::hex(vector));
}
