// VMX as the exercises use it: one VMCS, written anew for each entry, whose guest has the state of
// its host (64-bit, the same page tables) and runs a piece of vmx_entry.S.
#pragma once

#include "vmm/probe/guest/guest.h"

extern "C" {
std::uint64_t vmx_enter();
extern const std::uint8_t l2_page[];
extern std::uint8_t l2_stack_top[];
#define L2_PIECE(name) void l2_##name();
L2_PIECE(vmcall)
L2_PIECE(hlt)
L2_PIECE(invlpg)
L2_PIECE(rdpmc)
L2_PIECE(rdtsc)
L2_PIECE(mov_cr3)
L2_PIECE(load_cr8)
L2_PIECE(store_cr8)
L2_PIECE(mov_dr)
L2_PIECE(out)
L2_PIECE(rdmsr)
L2_PIECE(pause)
L2_PIECE(wbinvd)
L2_PIECE(rdrand)
L2_PIECE(rdseed)
L2_PIECE(sgdt)
L2_PIECE(rdtscp)
L2_PIECE(vmfunc)
L2_PIECE(monitor)
L2_PIECE(mwait)
L2_PIECE(invpcid)
L2_PIECE(xsaves)
#undef L2_PIECE
}

namespace probe::vmx {

// SDM Vol. 3D, appendix C.
constexpr uint32_t kExitException = 0, kExitWindow = 7, kExitHlt = 12, kExitInvlpg = 14,
                   kExitRdpmc = 15, kExitRdtsc = 16, kExitVmcall = 18, kExitCr = 28, kExitDr = 29,
                   kExitIo = 30, kExitMwait = 36, kExitMtf = 37, kExitMonitor = 39, kExitPause = 40,
                   kExitGdtr = 46, kExitEptMisconfiguration = 49, kExitPreemptionTimer = 52,
                   kExitWbinvd = 54, kExitRdrand = 57, kExitVmfunc = 59, kExitRdseed = 61;
constexpr uint32_t kEntryFailed = uint32_t{1} << 31;
constexpr uint32_t kInvalidControls = 7, kInvalidInvalidation = 28;  // VM-instruction errors (30.4)

// The control MSRs, by which the five words are called.
constexpr uint32_t kPin = 0x48d, kProc = 0x48e, kProc2 = 0x48b, kExit = 0x48f, kEntry = 0x490;
constexpr uint32_t bit(unsigned number) { return uint32_t{1} << number; }

struct Setting {
  uint32_t pin, proc, proc2, exit, entry;
  uint64_t eptp;
  uint64_t functions;  // VM functions
  uint32_t activity;   // 0 active, 1 HLT, 2 shutdown, 3 wait for SIPI
  uint32_t event;      // VM-entry interruption information, of instruction length 0
  uint64_t flags;      // RFLAGS
  void (*code)();

  uint32_t& word(uint32_t msr);
};

// The least that this processor allows, for a 64-bit guest.
Setting least();

struct Outcome {
  uint32_t failure;  // 0: entered or refused for its state; 1 VMfailInvalid, 2 VMfailValid
  uint32_t error;    // the VM-instruction error of 2
  uint32_t reason;   // of the exit; with kEntryFailed where the entry was refused
};
Outcome run(const Setting& setting);

// Every control that an entry with this one needs beside it, and where its memory is.
void add_needs(Setting& setting, uint32_t msr, unsigned number);
// With EPT on: `pages` is how the low 1 GiB is mapped, one to one.
enum class EptPages { Small, ExecuteOnly, Big2M, Big1G };
void use_ept(Setting& setting, EptPages pages = EptPages::Big2M);

bool write(uint32_t field, uint64_t value);
uint64_t read(uint32_t field);

bool is_on();
uint64_t control(uint32_t msr, unsigned number);  // a verdict, for Kind::VmxControl

}  // namespace probe::vmx

namespace probe {
void setup_vmx();
}
