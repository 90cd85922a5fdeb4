#include "guest-tests/guests/vmx.h"

#include <initializer_list>

#include "guest-tests/guests/lapic.h"

extern "C" void* memset(void* target, int value, __SIZE_TYPE__ count);

namespace guest::vmx {
namespace {

constexpr uint64_t kLockedOutsideSmx = 1 | 1 << 2;  // IA32_FEATURE_CONTROL
constexpr uint64_t kCr4Vmxe = 1 << 13;
constexpr uint32_t kEfer = 0xc0000080, kFsBase = 0xc0000100, kGsBase = 0xc0000101;

uint64_t fixed(uint64_t value, uint32_t fixed0, uint32_t fixed1) {
  return (value | rdmsr(fixed0)) & rdmsr(fixed1);
}

uint64_t address_of(const void* object) { return reinterpret_cast<uint64_t>(object); }

bool failed(const char* what) {
  print("FAILED  ", what, "\n");
  return false;
}

struct alignas(4096) Table {
  uint64_t entry[512];
};
Table ept_pml4, ept_pdpt, ept_pds[4];
uint64_t ept_pointer;

void write_segment(uint64_t index, uint16_t selector, uint64_t base, uint32_t limit,
                   uint32_t rights) {
  vmwrite(GUEST_ES_SELECTOR + 2 * index, selector);
  vmwrite(GUEST_ES_BASE + 2 * index, base);
  vmwrite(GUEST_ES_LIMIT + 2 * index, limit);
  vmwrite(GUEST_ES_RIGHTS + 2 * index, rights);
}

void write_controls(Processor& processor) {
  vmwrite(PIN_BASED, allowed(0x481, 0x48d, 0));
  vmwrite(PROC_BASED, allowed(0x482, 0x48e, ACTIVATE_SECONDARY | USE_MSR_BITMAPS | USE_IO_BITMAPS));
  vmwrite(SECONDARY,
          allowed(0x48b, 0x48b, ENABLE_EPT | ENABLE_RDTSCP | ENABLE_INVPCID | ENABLE_XSAVES));
  vmwrite(EXIT_CONTROLS, allowed(0x483, 0x48f, HOST_64 | EXIT_SAVE_EFER | EXIT_LOAD_EFER));
  vmwrite(ENTRY_CONTROLS, allowed(0x484, 0x490, IA32E_GUEST | ENTRY_LOAD_EFER));
  vmwrite(EXCEPTION_BITMAP, 0);
  vmwrite(CR3_TARGET_COUNT, 0);
  vmwrite(IO_BITMAP_A, address_of(processor.io_bitmaps[0]));
  vmwrite(IO_BITMAP_B, address_of(processor.io_bitmaps[1]));
  vmwrite(MSR_BITMAP, address_of(processor.msr_bitmap));
  vmwrite(EPT_POINTER, identity_ept());
  vmwrite(LINK_POINTER, ~0ull);
}

void write_host() {
  vmwrite(HOST_CR0, read_cr0());
  vmwrite(HOST_CR3, read_cr3());
  vmwrite(HOST_CR4, read_cr4());
  vmwrite(HOST_EFER, rdmsr(kEfer));
  vmwrite(HOST_CS_SELECTOR, kCodeSelector);
  for (const uint64_t field : {HOST_ES_SELECTOR, HOST_SS_SELECTOR, HOST_DS_SELECTOR})
    vmwrite(field, kDataSelector);
  vmwrite(HOST_FS_SELECTOR, 0);
  vmwrite(HOST_GS_SELECTOR, 0);
  vmwrite(HOST_TR_SELECTOR, kTssSelector);
  vmwrite(HOST_FS_BASE, rdmsr(kFsBase));
  vmwrite(HOST_GS_BASE, rdmsr(kGsBase));
  vmwrite(HOST_GDTR_BASE, stored_gdtr().base);
  vmwrite(HOST_IDTR_BASE, stored_idtr().base);
}

void write_guest(const Processor& processor, uint64_t rip, uint64_t rsp) {
  vmwrite(GUEST_CR0, read_cr0());
  vmwrite(GUEST_CR3, read_cr3());
  vmwrite(GUEST_CR4, read_cr4());
  vmwrite(GUEST_EFER, rdmsr(kEfer));
  vmwrite(GUEST_DR7, 0x400);
  vmwrite(GUEST_RIP, rip);
  vmwrite(GUEST_RSP, rsp);
  vmwrite(GUEST_RFLAGS, 2);
  constexpr uint32_t kUnusable = 0x10000;
  write_segment(0, kDataSelector, 0, 0xffffffff, 0xc093);
  write_segment(1, kCodeSelector, 0, 0xffffffff, 0xa09b);
  write_segment(2, kDataSelector, 0, 0xffffffff, 0xc093);
  write_segment(3, kDataSelector, 0, 0xffffffff, 0xc093);
  write_segment(4, 0, rdmsr(kFsBase), 0, kUnusable);
  write_segment(5, 0, rdmsr(kGsBase), 0, kUnusable);
  write_segment(6, 0, 0, 0, kUnusable);  // LDTR
  write_segment(7, kTssSelector, address_of(processor.task_state.tss),
                sizeof processor.task_state.tss - 1, 0x8b);
  vmwrite(GUEST_GDTR_BASE, stored_gdtr().base);
  vmwrite(GUEST_GDTR_LIMIT, stored_gdtr().limit);
  vmwrite(GUEST_IDTR_BASE, stored_idtr().base);
  vmwrite(GUEST_IDTR_LIMIT, stored_idtr().limit);
}

}  // namespace

uint32_t allowed(uint32_t msr, uint32_t true_msr, uint32_t wanted) {
  const bool has_true = (rdmsr(kBasic) >> 55 & 1) != 0;
  const uint64_t settings = rdmsr(has_true ? true_msr : msr);
  return (wanted | static_cast<uint32_t>(settings)) & static_cast<uint32_t>(settings >> 32);
}

uint64_t identity_ept() {
  constexpr uint64_t kRwx = 7, kLarge = 1 << 7, kWriteBack = 6 << 3;
  // Devices are below 4 GiB: as every gigabyte of theirs is mapped at once, uncached.
  const auto type = [](uint64_t gigabyte) { return gigabyte == 3 ? uint64_t{0} : kWriteBack; };
  if (__atomic_load_n(&ept_pointer, __ATOMIC_ACQUIRE) != 0) return ept_pointer;
  const bool gigabytes = (rdmsr(kEptVpidCap) >> 17 & 1) != 0;
  ept_pml4.entry[0] = address_of(&ept_pdpt) | kRwx;
  for (uint64_t g = 0; g < (gigabytes ? 512u : 4u); ++g) {
    if (gigabytes) {
      ept_pdpt.entry[g] = g << 30 | kLarge | type(g) | kRwx;
      continue;
    }
    ept_pdpt.entry[g] = address_of(&ept_pds[g]) | kRwx;
    for (uint64_t i = 0; i < 512; ++i)
      ept_pds[g].entry[i] = g << 30 | i << 21 | kLarge | type(g) | kRwx;
  }
  __atomic_store_n(&ept_pointer, address_of(&ept_pml4) | 3 << 3 | 6, __ATOMIC_RELEASE);
  return ept_pointer;
}

const char* try_turn_on(Processor& processor) {
  if (!supported()) return "CPUID 1.ECX[5] (vmx)";
  const uint64_t control = rdmsr(kFeatureControl);
  if ((control & 1) == 0)
    wrmsr(kFeatureControl, control | kLockedOutsideSmx);
  else if ((control & kLockedOutsideSmx) != kLockedOutsideSmx)
    return "IA32_FEATURE_CONTROL allows VMXON";
  write_cr0(fixed(read_cr0(), kCr0Fixed0, kCr0Fixed1));
  write_cr4(fixed(read_cr4() | kCr4Vmxe, kCr4Fixed0, kCr4Fixed1));
  const auto revision = static_cast<uint32_t>(rdmsr(kBasic)) & 0x7fffffff;
  mmio_write(address_of(processor.vmxon_region), revision);
  return vmxon(address_of(processor.vmxon_region)) == Result::Succeeded ? nullptr : "VMXON";
}

bool turn_on(Processor& processor) {
  const char* refusal = try_turn_on(processor);
  return refusal == nullptr || failed(refusal);
}

void turn_off() {
  vmxoff();
  write_cr4(read_cr4() & ~kCr4Vmxe);
}

bool prepare(Processor& processor, uint64_t rip, uint64_t rsp) {
  processor.task_state.load();
  // The first VMCLEAR writes back what the processor may still hold of it, the second makes it
  // clear.
  const auto revision = static_cast<uint32_t>(rdmsr(kBasic)) & 0x7fffffff;
  for (int i = 0; i < 2; ++i) {
    if (i == 1) memset(processor.vmcs, 0, sizeof processor.vmcs);
    mmio_write(address_of(processor.vmcs), revision);
    if (vmclear(address_of(processor.vmcs)) != Result::Succeeded) return failed("VMCLEAR");
  }
  if (vmptrld(address_of(processor.vmcs)) != Result::Succeeded) return failed("VMPTRLD");
  write_controls(processor);
  write_host();
  write_guest(processor, rip, rsp);
  return true;
}

void intercept_port(Processor& processor, uint16_t port) {
  uint8_t* bitmap = processor.io_bitmaps[port >> 15];
  bitmap[(port & 0x7fff) / 8] = static_cast<uint8_t>(bitmap[(port & 0x7fff) / 8] | 1u << port % 8);
}

void intercept_msr(Processor& processor, uint32_t index) {
  // Reads of 0 to 1FFFh, of C0000000h to C0001FFFh, then writes of the same (SDM 24.6.9).
  const uint32_t half = (index & 0xc0000000) != 0 ? 1024u : 0u;
  const uint32_t bit = index & 0x1fff;
  for (const uint32_t at : {half + bit / 8, 2048 + half + bit / 8})
    processor.msr_bitmap[at] = static_cast<uint8_t>(processor.msr_bitmap[at] | 1u << bit % 8);
}

}  // namespace guest::vmx
