// SVM for guest hypervisors: the VMCB by offsets, and one that starts the caller's own copy of the
// machine as L2. For 64-bit guests. Sections are those of APM Vol. 2.
#pragma once

#include "guest-tests/guests/guest.h"
#include "guest-tests/guests/registers.h"
#include "guest-tests/guests/task_state.h"

namespace guest::svm {

// A field of the VMCB: where it is, and its size as a type.
template <typename T>
struct Field {
  using Value = T;
  uint16_t offset;
};

// With the names of the manual (appendix B). The control area ...
constexpr Field<uint32_t> INTERCEPT_CR{0x000}, INTERCEPT_DR{0x004}, INTERCEPT_EXCEPTIONS{0x008},
    INTERCEPT_3{0x00c}, INTERCEPT_4{0x010}, INTERCEPT_5{0x014}, GUEST_ASID{0x058},
    VMCB_CLEAN{0x0c0};
constexpr Field<uint8_t> TLB_CONTROL{0x05c};
constexpr Field<uint64_t> IOPM_BASE_PA{0x040}, MSRPM_BASE_PA{0x048}, TSC_OFFSET{0x050},
    VIRTUAL_INTERRUPT{0x060}, INTERRUPT_SHADOW{0x068}, EXITCODE{0x070}, EXITINFO1{0x078},
    EXITINFO2{0x080}, EXITINTINFO{0x088}, NESTED_CONTROL{0x090}, EVENTINJ{0x0a8}, N_CR3{0x0b0},
    VIRT_EXT{0x0b8}, NRIP{0x0c8};
// ... and the state-save area. A segment is one after the other: ES, CS, SS, DS, FS, GS, GDTR,
// LDTR, IDTR, TR.
constexpr uint16_t kSegments = 0x400, kSegmentSize = 0x10;
enum Segment : uint8_t { ES, CS, SS, DS, FS, GS, GDTR, LDTR, IDTR, TR };
constexpr Field<uint16_t> selector(Segment s) {
  return {static_cast<uint16_t>(kSegments + s * kSegmentSize)};
}
constexpr Field<uint16_t> attrib(Segment s) {
  return {static_cast<uint16_t>(kSegments + s * kSegmentSize + 2)};
}
constexpr Field<uint32_t> limit(Segment s) {
  return {static_cast<uint16_t>(kSegments + s * kSegmentSize + 4)};
}
constexpr Field<uint64_t> base(Segment s) {
  return {static_cast<uint16_t>(kSegments + s * kSegmentSize + 8)};
}
constexpr Field<uint8_t> CPL{0x4cb};
constexpr Field<uint64_t> EFER{0x4d0}, CR4{0x548}, CR3{0x550}, CR0{0x558}, DR7{0x560}, DR6{0x568},
    RFLAGS{0x570}, RIP{0x578}, RSP{0x5d8}, RAX{0x5f8}, CR2{0x640}, G_PAT{0x668};

// INTERCEPT_3 and INTERCEPT_4.
constexpr uint32_t INIT_INTERCEPT = 1 << 3, CPUID_INTERCEPT = 1 << 18, IOIO_PROT = 1 << 27,
                   MSR_PROT = 1 << 28, SHUTDOWN_INTERCEPT = 1u << 31;
constexpr uint32_t VMRUN_INTERCEPT = 1 << 0, VMMCALL_INTERCEPT = 1 << 1;
constexpr uint64_t NP_ENABLE = 1 << 0;
// EXITCODE (appendix C).
constexpr uint64_t VMEXIT_INIT = 0x63, VMEXIT_CPUID = 0x72, VMEXIT_IOIO = 0x7b, VMEXIT_MSR = 0x7c,
                   VMEXIT_VMMCALL = 0x81, VMEXIT_NPF = 0x400, VMEXIT_INVALID = ~0ull;

constexpr uint32_t kEfer = 0xc0000080, kVmCr = 0xc0010114, kHsavePa = 0xc0010117;
constexpr uint64_t kEferLme = 1 << 8, kEferLma = 1 << 10, kEferSvme = 1 << 12;
constexpr uint64_t kVmCrRInit = 1 << 1, kVmCrSvmdis = 1 << 4;

struct alignas(4096) Vmcb {
  uint8_t bytes[4096];

  template <typename T>
  T get(Field<T> field) const {
    return *reinterpret_cast<const volatile T*>(bytes + field.offset);
  }
  template <typename T>
  void put(Field<T> field, typename Field<T>::Value value) {
    *reinterpret_cast<volatile T*>(bytes + field.offset) = value;
  }
  template <typename T>
  void set(Field<T> field, typename Field<T>::Value bits) {
    put(field, static_cast<T>(get(field) | bits));
  }
  template <typename T>
  void clear(Field<T> field, typename Field<T>::Value bits) {
    put(field, static_cast<T>(get(field) & ~bits));
  }
};

inline bool supported() {
  return cpuid(0x80000000).eax >= 0x8000000a && (cpuid(0x80000001).ecx & 1u << 2) != 0;
}
// CPUID Fn8000_0001h EDX[26].
inline bool has_gigabyte_pages() { return (cpuid(0x80000001).edx >> 26 & 1) != 0; }

using guest::Registers;

// One VMRUN with these registers, and back at its #VMEXIT with L2's then; RAX is in the VMCB.
// VMLOAD and VMSAVE take the rest of either side's state along: FS, GS, TR, LDTR and the MSRs of
// SYSCALL and SYSENTER. From CLGI to the return GIF is 0, but for L2; so an INIT or NMI comes
// either to L2 or to the caller as a whole. With `gif` false GIF stays 0 after the return.
extern "C" void svm_enter(Registers* registers, Vmcb* vmcb, Vmcb* host, bool gif = true);

// One processor's.
struct alignas(4096) Processor {
  Vmcb vmcb;
  Vmcb host;  // what VMSAVE keeps of the hypervisor
  alignas(4096) uint8_t host_save[4096];
  alignas(4096) uint8_t io_permissions[3][4096];
  alignas(4096) uint8_t msr_permissions[2][4096];
  alignas(4096) uint8_t l2_stack[4096];
  TaskState task_state;
};

// EFER.SVME and VM_HSAVE_PA. What stands against it is returned (null: it is on), or said on the
// console before the false.
const char* try_turn_on(Processor& processor);
bool turn_on(Processor& processor);
void turn_off();

// A VMCB that describes L2 as this processor stands: paging, segments and tables of its own, RIP
// and RSP as given; every address is L2's own (nested paging maps each to itself). Exits come for
// CPUID, VMMCALL, shutdown, and what the permission maps ask for, which is nothing.
bool prepare(Processor& processor, uint64_t rip, uint64_t rsp);

// The nested page tables that map 512 GiB to themselves with 1 GiB pages (2 MiB pages of the first
// 4 GiB where the processor lacks them), as a value of N_CR3. Built once.
uint64_t identity_npt();

void intercept_port(Processor& processor, uint16_t port);
void intercept_msr(Processor& processor,
                   uint32_t index);  // reads and writes, below 2000h, C000xxxxh or C001xxxxh

inline uint64_t enter(Processor& processor, Registers& registers, bool gif = true) {
  processor.vmcb.put(RAX, registers.rax);
  svm_enter(&registers, &processor.vmcb, &processor.host, gif);
  registers.rax = processor.vmcb.get(RAX);
  return processor.vmcb.get(EXITCODE);
}

// Past the instruction that exited: its length is known for the ones that L1 answers here. Port
// accesses say in EXITINFO2 where the next instruction is, CPUID, RDMSR, WRMSR, XSETBV and VMMCALL
// have no operands.
inline void skip_instruction(Vmcb& vmcb) {
  const uint64_t code = vmcb.get(EXITCODE);
  if (code == VMEXIT_IOIO) return vmcb.put(RIP, vmcb.get(EXITINFO2));
  vmcb.put(RIP, vmcb.get(RIP) + (code == VMEXIT_VMMCALL ? 3 : 2));
}

}  // namespace guest::svm
