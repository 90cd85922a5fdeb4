// For tests: a VM entry that breaks no rule, under the capabilities of KVM 6.1 on a Skylake and
// what that lacks (posted interrupts, the monitor trap flag, CET, ...).
#pragma once

#include "vmm/core/cpu_state.h"
#include "vmm/core/memory_fake.h"
#include "vmm/nested/vmx_entry.h"

namespace vmm::nested {

class FakeEntry {
 public:
  FakeEntry() : entry{.vmcs = empty_vmcs()} {
    fill_cpuid();
    fill_host();
    fill_guest();
    entry.vmcs_address = 0x3000;
    entry.vmxon_address = 0x2000;
    entry.capabilities = VmxCapabilities(msrs);
    entry.cpuid = &cpuid;
    entry.memory = &ram;
    entry.hypervisor = VmxHypervisor{.cr0 = 0x80000031,
                                     .cr4 = 0x2020,
                                     .efer = spec::EFER_LMA | spec::EFER_LME,
                                     .rflags = 2,
                                     .cs_l = true};
    entry.instruction = VmxInstruction::Vmlaunch;
  }
  FakeEntry(const FakeEntry&) = delete;
  FakeEntry& operator=(const FakeEntry&) = delete;

  void set(VmcsField field, std::uint64_t value) { entry.vmcs.set(field, value); }
  void on(VmcsField field, unsigned bit) { set(field, entry.vmcs.get(field) | 1ull << bit); }
  void off(VmcsField field, unsigned bit) { set(field, entry.vmcs.get(field) & ~(1ull << bit)); }
  void secondary(unsigned bit) { on(VmcsField::ProcBasedControls2, bit); }
  void set_msr(std::uint32_t index, std::uint64_t value) {
    msrs[index] = value;
    entry.capabilities = VmxCapabilities(msrs);
  }
  // A guest in real mode, as an unrestricted guest begins.
  void real_mode() {
    secondary(kUnrestrictedGuest);
    off(VmcsField::VmEntryControls, kIa32eModeGuest);
    set(VmcsField::GuestCr0, 0x20);
    set(VmcsField::GuestCr4, spec::CR4_VMXE);
    set(VmcsField::GuestEfer, 0);
    set(VmcsField::GuestCsAccessRights, 0x9b);
    set(VmcsField::GuestCsLimit, 0xffff);
  }
  // A 32-bit guest in PAE paging.
  void pae_guest() {
    off(VmcsField::VmEntryControls, kIa32eModeGuest);
    set(VmcsField::GuestEfer, 0);
    set(VmcsField::GuestCsAccessRights, 0xc09b);
  }
  void v8086_guest() {
    pae_guest();
    on(VmcsField::GuestRflags, 17);
    for (unsigned i = 0; i < 6; ++i) {
      const auto at = [&](unsigned first) { return static_cast<VmcsField>(first + 2 * i); };
      set(at(0x800), 0x100);
      set(at(0x6806), 0x1000);
      set(at(0x4800), 0xffff);
      set(at(0x4814), 0xf3);
    }
  }
  // A 32-bit hypervisor with a 32-bit guest.
  void host32() {
    pae_guest();
    off(VmcsField::VmExitControls, kHostAddressSpaceSize);
    set(VmcsField::HostEfer, 0);
    set(VmcsField::HostSsSelector, 0x10);
    entry.hypervisor->efer = 0;
    entry.hypervisor->cs_l = false;
  }
  void inject(unsigned type, unsigned vector, bool error_code = false) {
    set(VmcsField::VmEntryIntrInfo, 1ull << 31 | (error_code ? 1u << 11 : 0) | type << 8 | vector);
  }
  // One entry of the MSR-load list.
  void load_msr(std::uint64_t index, std::uint64_t value) {
    set(VmcsField::VmEntryMsrLoadCount, 1);
    set(VmcsField::VmEntryMsrLoadAddress, 0x8000);
    ram.put64(0x8000, index);
    ram.put64(0x8008, value);
  }

  VmxEntry entry;
  CpuidTable cpuid;
  FakeRam ram{64_KiB};
  std::map<std::uint32_t, std::uint64_t> msrs = {{0x480, 0x00d8100011e57ed0},
                                                 {0x481, 0x000000ff00000016},
                                                 {0x482, 0xf7f9fffe0401e172},
                                                 {0x483, 0xffffffff00036dff},
                                                 {0x484, 0x001fffff000011ff},
                                                 {0x485, 0x000401e0},
                                                 {0x486, 0x80000021},
                                                 {0x487, 0xffffffff},
                                                 {0x488, 0x2000},
                                                 {0x489, 0xfffff7ff},
                                                 {0x48b, 0xffffffff00000000},
                                                 {0x48c, 0x00000f0106f34141},
                                                 {0x48d, 0x000000ff00000016},
                                                 {0x48e, 0xfffbfffe04006172},
                                                 {0x48f, 0xffffffff00036dfb},
                                                 {0x490, 0x001fffff000011fb},
                                                 {0x491, 1}};

 private:
  void fill_cpuid() {
    cpuid.at(0) = {0x16, 0x756e6547, 0x6c65746e, 0x49656e69};
    cpuid.at(7).ebx = 1u << 4;  // HLE, no RTM, no SGX
    cpuid.at(0xa) = {0x07300402, 0, 0, 0x603};
    cpuid.at(0x80000001).edx = 1u << 20 | 1u << 29;
    cpuid.at(0x80000008).eax = 0x3027;  // 48 linear, 39 physical
  }
  void fill_host() {
    using F = VmcsField;
    set(F::PinBasedControls, 0x16);
    set(F::ProcBasedControls, 0x04006172 | 1ull << kActivateSecondary);
    set(F::ProcBasedControls2, 1ull << kEnableEpt);
    set(F::EptPointer, 0x4000 | 3 << 3 | 6);
    set(F::VmExitControls, 0x36dfb | 1u << kHostAddressSpaceSize | 1u << kExitLoadEfer |
                               1u << kExitLoadPat | 1u << kExitLoadPerfGlobalCtrl);
    set(F::VmEntryControls, 0x11fb | 1u << kIa32eModeGuest | 1u << kEntryLoadEfer |
                                1u << kEntryLoadPat | 1u << kEntryLoadPerfGlobalCtrl |
                                1u << kLoadDebugControls | 1u << kEntryLoadBndcfgs);
    set(F::HostCr0, 0x80010031);
    set(F::HostCr3, 0x1000);
    set(F::HostCr4, spec::CR4_VMXE | spec::CR4_PAE);
    set(F::HostEfer, spec::EFER_LMA | spec::EFER_LME);
    set(F::HostPat, 0x0007040600070406);
    set(F::HostCsSelector, 8);
    set(F::HostTrSelector, 0x18);
    set(F::HostRip, 0x100000);
    set(F::TscMultiplier, 1ull << 48);
    set(F::Vpid, 1);
  }
  void fill_guest() {
    using F = VmcsField;
    set(F::VmcsLinkPointer, ~0ull);
    set(F::GuestCr0, 0x80010031);
    set(F::GuestCr3, 0x1000);
    set(F::GuestCr4, spec::CR4_VMXE | spec::CR4_PAE);
    set(F::GuestEfer, spec::EFER_LMA | spec::EFER_LME);
    set(F::GuestPat, 0x0007040600070406);
    set(F::GuestDr7, 0x400);
    set(F::GuestRflags, 2);
    set(F::GuestRip, 0x200000);
    set(F::GuestCsSelector, 8);
    set(F::GuestCsAccessRights, 0xa09b);
    set(F::GuestCsLimit, 0xffffffff);
    for (const F rights : {F::GuestSsAccessRights, F::GuestDsAccessRights, F::GuestEsAccessRights,
                           F::GuestFsAccessRights, F::GuestGsAccessRights})
      set(rights, 0xc093);
    for (const F limit :
         {F::GuestSsLimit, F::GuestDsLimit, F::GuestEsLimit, F::GuestFsLimit, F::GuestGsLimit})
      set(limit, 0xffffffff);
    set(F::GuestTrSelector, 0x18);
    set(F::GuestTrAccessRights, 0x8b);
    set(F::GuestTrLimit, 0x67);
    set(F::GuestLdtrSelector, 0x20);
    set(F::GuestLdtrAccessRights, 0x82);
    set(F::GuestLdtrLimit, 0xff);
  }
};

}  // namespace vmm::nested
