// Every VMX control: set in an entry that has what it needs, and looked at by the exit that it
// makes.
#include "vmm/probe/guest/vmx.h"

namespace probe::vmx {
namespace {

// What the nested guest runs, and how that exits with the control in effect.
struct Sight {
  uint32_t msr;
  unsigned number;
  void (*code)();
  uint32_t reason;
};
constexpr Sight kSights[] = {
    // Of 0, so that nothing should run. KVM may be told of it by the first exit to itself.
    {kPin, 6, l2_out, kExitPreemptionTimer},
    {kProc, 2, l2_vmcall, kExitWindow},
    {kProc, 7, l2_hlt, kExitHlt},
    {kProc, 9, l2_invlpg, kExitInvlpg},
    {kProc, 10, l2_mwait, kExitMwait},
    {kProc, 11, l2_rdpmc, kExitRdpmc},
    {kProc, 12, l2_rdtsc, kExitRdtsc},
    {kProc, 15, l2_mov_cr3, kExitVmcall},
    {kProc, 16, l2_mov_cr3, kExitVmcall},
    {kProc, 19, l2_load_cr8, kExitCr},
    {kProc, 20, l2_store_cr8, kExitCr},
    {kProc, 23, l2_mov_dr, kExitDr},
    {kProc, 24, l2_out, kExitIo},
    {kProc, 25, l2_out, kExitIo},
    {kProc, 27, l2_rdmsr, kExitMtf},
    {kProc, 28, l2_rdmsr, kExitVmcall},
    {kProc, 29, l2_monitor, kExitMonitor},
    {kProc, 30, l2_pause, kExitPause},
    {kProc2, 1, l2_vmcall, kExitVmcall},
    {kProc2, 2, l2_sgdt, kExitGdtr},
    {kProc2, 3, l2_rdtscp, kExitVmcall},
    {kProc2, 6, l2_wbinvd, kExitWbinvd},
    {kProc2, 11, l2_rdrand, kExitRdrand},
    {kProc2, 12, l2_invpcid, kExitVmcall},
    {kProc2, 13, l2_vmfunc, kExitVmfunc},
    {kProc2, 16, l2_rdseed, kExitRdseed},
    {kProc2, 20, l2_xsaves, kExitVmcall},
};

// Controls that are 1 where no TRUE MSR says otherwise (A.2 to A.5): the feature is that they can
// be 0.
bool is_default1(uint32_t msr, unsigned number) {
  switch (msr) {
    case kPin:
      return (0x16 >> number & 1) != 0;
    case kProc:
      return (0x0401e172 >> number & 1) != 0;
    case kExit:
      return (0x36dff >> number & 1) != 0;
    case kEntry:
      return (0x11ff >> number & 1) != 0;
    default:
      return false;
  }
}

void need(Setting& s, uint32_t msr, unsigned number) {
  s.word(msr) |= bit(number);
  add_needs(s, msr, number);
}

}  // namespace

// SDM Vol. 3C, 27.2.1.
void add_needs(Setting& s, uint32_t msr, unsigned number) {
  if (msr == kProc2) s.proc |= bit(31);
  switch (msr << 8 | number) {
    case kPin << 8 | 5:  // virtual NMIs
      return need(s, kPin, 3);
    case kPin << 8 | 7:  // posted interrupts
      need(s, kProc2, 9);
      return need(s, kExit, 15);
    case kProc << 8 | 2:  // interrupt window: the guest must be ready for one
      s.flags |= 0x200;
      return;
    case kProc << 8 | 22:  // NMI window
      return need(s, kPin, 5);
    case kProc2 << 8 | 4:  // x2APIC mode, APIC registers
    case kProc2 << 8 | 8:
      return need(s, kProc, 21);
    case kProc2 << 8 | 9:  // virtual interrupts
      need(s, kProc, 21);
      return need(s, kPin, 0);
    case kProc2 << 8 | 1:
    case kProc2 << 8 | 7:  // unrestricted guest
    case kProc2 << 8 | 17:
    case kProc2 << 8 | 18:
    case kProc2 << 8 | 22:
      return use_ept(s);
    case kExit << 8 | 22:  // save the preemption timer
      return need(s, kPin, 6);
    default:
      return;
  }
}

uint64_t control(uint32_t msr, unsigned number) {
  if (!is_on()) return kRefused;
  Setting s = least();
  add_needs(s, msr, number);
  if (is_default1(msr, number))
    s.word(msr) &= ~bit(number);
  else
    s.word(msr) |= bit(number);
  const Sight* sight = nullptr;
  for (const Sight& one : kSights)
    if (one.msr == msr && one.number == number) sight = &one;
  if (sight != nullptr) s.code = sight->code;
  const Outcome outcome = run(s);
  if (outcome.failure != 0)
    return with_detail(outcome.error == kInvalidControls ? kRefused : kWrong, outcome.error);
  const uint64_t verdict = works_if(sight == nullptr ? (outcome.reason & kEntryFailed) == 0
                                                     : outcome.reason == sight->reason);
  return with_detail(verdict, outcome.reason);
}

}  // namespace probe::vmx
