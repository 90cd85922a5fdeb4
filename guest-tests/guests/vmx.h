// VT-x for guest hypervisors: instructions, fields by encoding, and a VMCS that starts the caller's
// own copy of the machine as L2. For 64-bit guests.
#pragma once

#include "guest-tests/guests/guest.h"
#include "guest-tests/guests/registers.h"
#include "guest-tests/guests/task_state.h"

namespace guest::vmx {

// Encodings (SDM Vol. 3D appendix B), with the names that the manual gives the fields.
enum Field : uint64_t {
  VPID = 0x0000,
  GUEST_ES_SELECTOR = 0x0800,
  GUEST_CS_SELECTOR = 0x0802,
  GUEST_SS_SELECTOR = 0x0804,
  GUEST_DS_SELECTOR = 0x0806,
  GUEST_FS_SELECTOR = 0x0808,
  GUEST_GS_SELECTOR = 0x080a,
  GUEST_LDTR_SELECTOR = 0x080c,
  GUEST_TR_SELECTOR = 0x080e,
  HOST_ES_SELECTOR = 0x0c00,
  HOST_CS_SELECTOR = 0x0c02,
  HOST_SS_SELECTOR = 0x0c04,
  HOST_DS_SELECTOR = 0x0c06,
  HOST_FS_SELECTOR = 0x0c08,
  HOST_GS_SELECTOR = 0x0c0a,
  HOST_TR_SELECTOR = 0x0c0c,
  IO_BITMAP_A = 0x2000,
  IO_BITMAP_B = 0x2002,
  MSR_BITMAP = 0x2004,
  EXIT_MSR_STORE_ADDRESS = 0x2006,
  EXIT_MSR_LOAD_ADDRESS = 0x2008,
  ENTRY_MSR_LOAD_ADDRESS = 0x200a,
  PML_ADDRESS = 0x200e,
  VIRTUAL_APIC_ADDRESS = 0x2012,
  APIC_ACCESS_ADDRESS = 0x2014,
  VM_FUNCTION_CONTROLS = 0x2018,
  EPT_POINTER = 0x201a,
  EPTP_LIST_ADDRESS = 0x2024,
  VMREAD_BITMAP = 0x2026,
  VMWRITE_BITMAP = 0x2028,
  TSC_MULTIPLIER = 0x2032,
  GUEST_PHYSICAL_ADDRESS = 0x2400,
  LINK_POINTER = 0x2800,
  GUEST_DEBUGCTL = 0x2802,
  GUEST_PAT = 0x2804,
  GUEST_EFER = 0x2806,
  GUEST_PDPTE0 = 0x280a,
  GUEST_BNDCFGS = 0x2812,
  HOST_PAT = 0x2c00,
  HOST_EFER = 0x2c02,
  PIN_BASED = 0x4000,
  PROC_BASED = 0x4002,
  EXCEPTION_BITMAP = 0x4004,
  CR3_TARGET_COUNT = 0x400a,
  EXIT_CONTROLS = 0x400c,
  EXIT_MSR_STORE_COUNT = 0x400e,
  EXIT_MSR_LOAD_COUNT = 0x4010,
  ENTRY_CONTROLS = 0x4012,
  ENTRY_MSR_LOAD_COUNT = 0x4014,
  ENTRY_INTR_INFO = 0x4016,
  ENTRY_ERROR_CODE = 0x4018,
  ENTRY_INSTRUCTION_LENGTH = 0x401a,
  TPR_THRESHOLD = 0x401c,
  SECONDARY = 0x401e,
  INSTRUCTION_ERROR = 0x4400,
  EXIT_REASON = 0x4402,
  EXIT_INSTRUCTION_LENGTH = 0x440c,
  GUEST_ES_LIMIT = 0x4800,
  GUEST_CS_LIMIT = 0x4802,
  GUEST_SS_LIMIT = 0x4804,
  GUEST_DS_LIMIT = 0x4806,
  GUEST_FS_LIMIT = 0x4808,
  GUEST_GS_LIMIT = 0x480a,
  GUEST_LDTR_LIMIT = 0x480c,
  GUEST_TR_LIMIT = 0x480e,
  GUEST_GDTR_LIMIT = 0x4810,
  GUEST_IDTR_LIMIT = 0x4812,
  GUEST_ES_RIGHTS = 0x4814,
  GUEST_CS_RIGHTS = 0x4816,
  GUEST_SS_RIGHTS = 0x4818,
  GUEST_DS_RIGHTS = 0x481a,
  GUEST_FS_RIGHTS = 0x481c,
  GUEST_GS_RIGHTS = 0x481e,
  GUEST_LDTR_RIGHTS = 0x4820,
  GUEST_TR_RIGHTS = 0x4822,
  GUEST_INTERRUPTIBILITY = 0x4824,
  GUEST_ACTIVITY = 0x4826,
  GUEST_SYSENTER_CS = 0x482a,
  HOST_SYSENTER_CS = 0x4c00,
  CR0_GUEST_HOST_MASK = 0x6000,
  CR4_GUEST_HOST_MASK = 0x6002,
  CR0_READ_SHADOW = 0x6004,
  CR4_READ_SHADOW = 0x6006,
  EXIT_QUALIFICATION = 0x6400,
  GUEST_CR0 = 0x6800,
  GUEST_CR3 = 0x6802,
  GUEST_CR4 = 0x6804,
  GUEST_ES_BASE = 0x6806,
  GUEST_CS_BASE = 0x6808,
  GUEST_SS_BASE = 0x680a,
  GUEST_DS_BASE = 0x680c,
  GUEST_FS_BASE = 0x680e,
  GUEST_GS_BASE = 0x6810,
  GUEST_LDTR_BASE = 0x6812,
  GUEST_TR_BASE = 0x6814,
  GUEST_GDTR_BASE = 0x6816,
  GUEST_IDTR_BASE = 0x6818,
  GUEST_DR7 = 0x681a,
  GUEST_RSP = 0x681c,
  GUEST_RIP = 0x681e,
  GUEST_RFLAGS = 0x6820,
  GUEST_PENDING_DEBUG = 0x6822,
  GUEST_SYSENTER_ESP = 0x6824,
  GUEST_SYSENTER_EIP = 0x6826,
  HOST_CR0 = 0x6c00,
  HOST_CR3 = 0x6c02,
  HOST_CR4 = 0x6c04,
  HOST_FS_BASE = 0x6c06,
  HOST_GS_BASE = 0x6c08,
  HOST_TR_BASE = 0x6c0a,
  HOST_GDTR_BASE = 0x6c0c,
  HOST_IDTR_BASE = 0x6c0e,
  HOST_SYSENTER_ESP = 0x6c10,
  HOST_SYSENTER_EIP = 0x6c12,
  HOST_RSP = 0x6c14,
  HOST_RIP = 0x6c16,
};

// Controls.
constexpr uint32_t USE_IO_BITMAPS = 1u << 25, USE_MSR_BITMAPS = 1u << 28,
                   ACTIVATE_SECONDARY = 1u << 31;
constexpr uint32_t ENABLE_EPT = 1u << 1, ENABLE_RDTSCP = 1u << 3, ENABLE_VPID = 1u << 5,
                   ENABLE_INVPCID = 1u << 12, ENABLE_VMFUNC = 1u << 13, ENABLE_XSAVES = 1u << 20;
constexpr uint32_t HOST_64 = 1u << 9, EXIT_SAVE_EFER = 1u << 20, EXIT_LOAD_EFER = 1u << 21;
constexpr uint32_t IA32E_GUEST = 1u << 9, ENTRY_LOAD_EFER = 1u << 15;
// Basic exit reasons.
constexpr uint32_t EXIT_CPUID = 10, EXIT_VMCALL = 18, EXIT_IO = 30, EXIT_RDMSR = 31,
                   EXIT_WRMSR = 32, EXIT_XSETBV = 55;

constexpr uint32_t kFeatureControl = 0x3a, kBasic = 0x480, kCr0Fixed0 = 0x486, kCr0Fixed1 = 0x487,
                   kCr4Fixed0 = 0x488, kCr4Fixed1 = 0x489, kEptVpidCap = 0x48c;

// How an instruction of VMX ended (SDM Vol. 3C 30.2).
enum class Result : uint64_t { Succeeded, FailInvalid, FailValid };

inline Result vmxon(uint64_t region) {
  bool carry, zero;
  asm volatile("vmxon %2" : "=@ccc"(carry), "=@ccz"(zero) : "m"(region) : "memory");
  return carry ? Result::FailInvalid : zero ? Result::FailValid : Result::Succeeded;
}
inline void vmxoff() { asm volatile("vmxoff" : : : "cc", "memory"); }
inline Result vmclear(uint64_t region) {
  bool carry, zero;
  asm volatile("vmclear %2" : "=@ccc"(carry), "=@ccz"(zero) : "m"(region) : "memory");
  return carry ? Result::FailInvalid : zero ? Result::FailValid : Result::Succeeded;
}
inline Result vmptrld(uint64_t region) {
  bool carry, zero;
  asm volatile("vmptrld %2" : "=@ccc"(carry), "=@ccz"(zero) : "m"(region) : "memory");
  return carry ? Result::FailInvalid : zero ? Result::FailValid : Result::Succeeded;
}
inline Result vmwrite(uint64_t field, uint64_t value) {
  bool carry, zero;
  asm volatile("vmwrite %3, %2"
               : "=@ccc"(carry), "=@ccz"(zero)
               : "r"(field), "r"(value)
               : "memory");
  return carry ? Result::FailInvalid : zero ? Result::FailValid : Result::Succeeded;
}
inline uint64_t vmread(uint64_t field) {
  uint64_t value = 0;
  asm volatile("vmread %1, %0" : "+r"(value) : "r"(field) : "cc");
  return value;
}
inline void set_bits(uint64_t field, uint64_t bits) { vmwrite(field, vmread(field) | bits); }
inline void clear_bits(uint64_t field, uint64_t bits) { vmwrite(field, vmread(field) & ~bits); }

inline bool supported() { return (cpuid(1).ecx & 1u << 5) != 0; }

using guest::Registers;

// Enters L2 with these registers (VMLAUNCH with `launch`, else VMRESUME) and comes back at its
// next exit with its registers then; Succeeded says that there was an exit.
extern "C" Result vmx_enter(Registers* registers, bool launch);

// One processor's.
struct alignas(4096) Processor {
  alignas(4096) uint8_t vmxon_region[4096];
  alignas(4096) uint8_t vmcs[4096];
  alignas(4096) uint8_t msr_bitmap[4096];
  alignas(4096) uint8_t io_bitmaps[2][4096];
  alignas(4096) uint8_t l2_stack[4096];
  TaskState task_state;
};

// VMX operation, with IA32_FEATURE_CONTROL and CR4.VMXE as they must be. What stands against it is
// returned (null: it is on), or said on the console before the false.
const char* try_turn_on(Processor& processor);
bool turn_on(Processor& processor);
void turn_off();

// A VMCS that is current and describes L2 as this processor stands: paging, segments and tables of
// its own, RIP and RSP as given; every address is L2's own (EPT maps each to itself). Exits come
// for what the bitmaps ask for, which is nothing.
bool prepare(Processor& processor, uint64_t rip, uint64_t rsp);

// The EPT that maps 512 GiB to themselves with 1 GiB pages (2 MiB pages of the first 4 GiB where
// the processor lacks them), as an EPT pointer. Built once.
uint64_t identity_ept();

// What the capability MSR makes of wanted controls: those that must be 1, less those that may not.
uint32_t allowed(uint32_t msr, uint32_t true_msr, uint32_t wanted);

void intercept_port(Processor& processor, uint16_t port);
void intercept_msr(Processor& processor,
                   uint32_t index);  // reads and writes, below 2000h or C000xxxxh

// Past the instruction that exited.
inline void skip_instruction() {
  vmwrite(GUEST_RIP, vmread(GUEST_RIP) + vmread(EXIT_INSTRUCTION_LENGTH));
}

}  // namespace guest::vmx
