#include "guest-tests/guests/svm.h"

#include <initializer_list>

#include "guest-tests/guests/lapic.h"

extern "C" void* memset(void* target, int value, __SIZE_TYPE__ count);

namespace guest::svm {
namespace {

constexpr uint32_t kPat = 0x277, kFsBase = 0xc0000100, kGsBase = 0xc0000101;

uint64_t address_of(const void* object) { return reinterpret_cast<uint64_t>(object); }

bool failed(const char* what) {
  print("FAILED  ", what, "\n");
  return false;
}

struct alignas(4096) Table {
  uint64_t entry[512];
};
Table npt_pml4, npt_pdpt, npt_pds[4];
uint64_t npt_root;

// Attributes are those of a descriptor, bits 55:52 and 47:40 side by side (15.5.1).
void write_segment(Vmcb& vmcb, Segment segment, uint16_t value, uint64_t address, uint32_t size,
                   uint16_t attributes) {
  vmcb.put(selector(segment), value);
  vmcb.put(base(segment), address);
  vmcb.put(limit(segment), size);
  vmcb.put(attrib(segment), attributes);
}

void write_table(Vmcb& vmcb, Segment segment, const TableRegister& table) {
  vmcb.put(base(segment), table.base);
  vmcb.put(limit(segment), table.limit);
}

void write_controls(Processor& processor) {
  Vmcb& vmcb = processor.vmcb;
  vmcb.put(INTERCEPT_3, CPUID_INTERCEPT | IOIO_PROT | MSR_PROT | SHUTDOWN_INTERCEPT);
  vmcb.put(INTERCEPT_4, VMRUN_INTERCEPT | VMMCALL_INTERCEPT);
  vmcb.put(IOPM_BASE_PA, address_of(processor.io_permissions));
  vmcb.put(MSRPM_BASE_PA, address_of(processor.msr_permissions));
  vmcb.put(GUEST_ASID, 1);
  vmcb.put(NESTED_CONTROL, NP_ENABLE);
  vmcb.put(N_CR3, identity_npt());
}

void write_guest(Processor& processor, uint64_t rip, uint64_t rsp) {
  Vmcb& vmcb = processor.vmcb;
  vmcb.put(CR0, read_cr0());
  vmcb.put(CR3, read_cr3());
  vmcb.put(CR4, read_cr4());
  vmcb.put(EFER, rdmsr(kEfer));
  vmcb.put(DR6, 0xffff0ff0);
  vmcb.put(DR7, 0x400);
  vmcb.put(G_PAT, rdmsr(kPat));
  vmcb.put(RIP, rip);
  vmcb.put(RSP, rsp);
  vmcb.put(RFLAGS, 2);
  for (const Segment data : {ES, SS, DS})
    write_segment(vmcb, data, kDataSelector, 0, 0xffffffff, 0xc93);
  write_segment(vmcb, CS, kCodeSelector, 0, 0xffffffff, 0xa9b);
  write_segment(vmcb, FS, 0, rdmsr(kFsBase), 0, 0);
  write_segment(vmcb, GS, 0, rdmsr(kGsBase), 0, 0);
  write_segment(vmcb, LDTR, 0, 0, 0, 0);
  write_segment(vmcb, TR, kTssSelector, address_of(processor.task_state.tss),
                sizeof processor.task_state.tss - 1, 0x8b);
  write_table(vmcb, GDTR, stored_gdtr());
  write_table(vmcb, IDTR, stored_idtr());
}

}  // namespace

uint64_t identity_npt() {
  // The walk counts as an access of user mode (15.25.5).
  constexpr uint64_t kPresentWritableUser = 7, kLarge = 1 << 7, kUncached = 3 << 3;
  // Devices are below 4 GiB: as every gigabyte of theirs is mapped at once, uncached.
  const auto type = [](uint64_t gigabyte) { return gigabyte == 3 ? kUncached : uint64_t{0}; };
  if (__atomic_load_n(&npt_root, __ATOMIC_ACQUIRE) != 0) return npt_root;
  const bool gigabytes = has_gigabyte_pages();
  npt_pml4.entry[0] = address_of(&npt_pdpt) | kPresentWritableUser;
  for (uint64_t g = 0; g < (gigabytes ? 512u : 4u); ++g) {
    if (gigabytes) {
      npt_pdpt.entry[g] = g << 30 | kLarge | type(g) | kPresentWritableUser;
      continue;
    }
    npt_pdpt.entry[g] = address_of(&npt_pds[g]) | kPresentWritableUser;
    for (uint64_t i = 0; i < 512; ++i)
      npt_pds[g].entry[i] = g << 30 | i << 21 | kLarge | type(g) | kPresentWritableUser;
  }
  __atomic_store_n(&npt_root, address_of(&npt_pml4), __ATOMIC_RELEASE);
  return npt_root;
}

const char* try_turn_on(Processor& processor) {
  if (!supported()) return "CPUID 80000001h.ECX[2] (svm)";
  if ((cpuid(0x8000000a).edx & 1) == 0) return "CPUID 8000000Ah.EDX[0] (npt)";
  if ((rdmsr(kVmCr) & kVmCrSvmdis) != 0) return "VM_CR allows EFER.SVME";
  wrmsr(kEfer, rdmsr(kEfer) | kEferSvme);
  wrmsr(kHsavePa, address_of(processor.host_save));
  return nullptr;
}

bool turn_on(Processor& processor) {
  const char* refusal = try_turn_on(processor);
  return refusal == nullptr || failed(refusal);
}

void turn_off() {
  wrmsr(kHsavePa, 0);
  wrmsr(kEfer, rdmsr(kEfer) & ~kEferSvme);
}

bool prepare(Processor& processor, uint64_t rip, uint64_t rsp) {
  if ((rdmsr(kEfer) & kEferSvme) == 0) return failed("EFER.SVME is set");
  processor.task_state.load();
  memset(&processor.vmcb, 0, sizeof processor.vmcb);
  write_controls(processor);
  write_guest(processor, rip, rsp);
  return true;
}

void intercept_port(Processor& processor, uint16_t port) {
  uint8_t& byte = processor.io_permissions[port >> 15][(port & 0x7fff) / 8];
  byte = static_cast<uint8_t>(byte | 1u << port % 8);
}

void intercept_msr(Processor& processor, uint32_t index) {
  // Two bits each: read, write; 2 KiB for 0 to 1FFFh, C0000000h and C0010000h (15.11).
  const uint32_t part = index < 0x2000 ? 0 : index < 0xc0010000 ? 1 : 2;
  const uint32_t bit = 2 * (index & 0x1fff);
  uint8_t& byte = processor.msr_permissions[part / 2][part % 2 * 2048 + bit / 8];
  byte = static_cast<uint8_t>(byte | 3u << bit % 8);
}

}  // namespace guest::svm
