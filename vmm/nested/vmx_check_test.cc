// Each rule of VM entry: an entry that keeps all of them, changed so that it breaks this one.
#include "vmm/nested/vmx_check.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

#include "vmm/nested/vmx_entry_fake.h"

namespace vmm::nested {
namespace {

using F = VmcsField;
using testing::ElementsAre;
using testing::IsEmpty;

constexpr std::uint64_t kNotCanonical = 0x0000'8000'0000'0000;
constexpr std::uint64_t kBeyond = 1ull << 39;

std::vector<std::string> broken(const CheckReport& report) {
  std::vector<std::string> ids;
  for (const Violation& v : report.violations)
    if (ids.empty() || ids.back() != v.rule->id) ids.emplace_back(v.rule->id);
  return ids;
}

struct Mutation {
  std::string_view rule;
  void (*change)(FakeEntry&);
};

// Rules that imply one another are kept apart by the rest of the change.
const Mutation kMutations[] = {
    {"I001", [](FakeEntry& e) { e.entry.vmxon_address = ~0ull; }},
    {"I001", [](FakeEntry& e) { e.entry.hypervisor->cs_l = false; }},
    {"I002", [](FakeEntry& e) { e.entry.hypervisor->cpl = 3; }},
    {"I003", [](FakeEntry& e) { e.entry.hypervisor->in_l2 = true; }},
    {"I004", [](FakeEntry& e) { e.entry.vmcs_address = ~0ull; }},
    {"I005", [](FakeEntry& e) { e.entry.vmcs.set_shadow(true); }},
    {"I006", [](FakeEntry& e) { e.entry.hypervisor->blocked_by_mov_ss = true; }},
    {"I007", [](FakeEntry& e) { e.entry.vmcs.set_launch_state(1); }},
    {"I008", [](FakeEntry& e) { e.entry.instruction = VmxInstruction::Vmresume; }},
    {"I009", [](FakeEntry& e) { e.off(F::PinBasedControls, 1); }},
    {"I009", [](FakeEntry& e) { e.on(F::PinBasedControls, 9); }},
    {"I010", [](FakeEntry& e) { e.off(F::ProcBasedControls, 1); }},
    {"I010", [](FakeEntry& e) { e.on(F::ProcBasedControls, 0); }},
    {"I011",
     [](FakeEntry& e) {
       e.set_msr(0x48b, 0xffefffff00000000);
       e.secondary(kEnableXsaves);
     }},
    {"I013", [](FakeEntry& e) { e.set(F::Cr3TargetCount, 5); }},
    {"I014",
     [](FakeEntry& e) {
       e.on(F::ProcBasedControls, kUseIoBitmaps);
       e.set(F::IoBitmapA, 0x5001);
     }},
    {"I015",
     [](FakeEntry& e) {
       e.on(F::ProcBasedControls, kUseIoBitmaps);
       e.set(F::IoBitmapB, kBeyond);
     }},
    {"I016",
     [](FakeEntry& e) {
       e.on(F::ProcBasedControls, kUseMsrBitmaps);
       e.set(F::MsrBitmap, 0x5800);
     }},
    {"I017",
     [](FakeEntry& e) {
       e.on(F::ProcBasedControls, kUseTprShadow);
       e.set(F::VirtualApicPageAddress, 0x5010);
     }},
    {"I018",
     [](FakeEntry& e) {
       e.on(F::ProcBasedControls, kUseTprShadow);
       e.set(F::VirtualApicPageAddress, 0x5000);
       e.set(F::TprThreshold, 0x10);
     }},
    {"I019",
     [](FakeEntry& e) {
       e.on(F::ProcBasedControls, kUseTprShadow);
       e.set(F::VirtualApicPageAddress, 0x5000);
       e.ram.put32(0x5080, 0x20);
       e.set(F::TprThreshold, 3);
     }},
    {"I020", [](FakeEntry& e) { e.secondary(kApicRegisterVirtualization); }},
    {"I021", [](FakeEntry& e) { e.on(F::PinBasedControls, kVirtualNmis); }},
    {"I022", [](FakeEntry& e) { e.on(F::ProcBasedControls, kNmiWindowExiting); }},
    {"I023",
     [](FakeEntry& e) {
       e.secondary(kVirtualizeApicAccesses);
       e.set(F::ApicAccessAddress, 0x10);
     }},
    {"I024",
     [](FakeEntry& e) {
       e.on(F::ProcBasedControls, kUseTprShadow);
       e.set(F::VirtualApicPageAddress, 0x5000);
       e.secondary(kVirtualizeApicAccesses);
       e.secondary(kVirtualizeX2apic);
     }},
    {"I025",
     [](FakeEntry& e) {
       e.on(F::ProcBasedControls, kUseTprShadow);
       e.set(F::VirtualApicPageAddress, 0x5000);
       e.secondary(kVirtualInterruptDelivery);
     }},
    {"I026",
     [](FakeEntry& e) {
       e.on(F::PinBasedControls, kPostedInterrupts);
       e.on(F::VmExitControls, kAcknowledgeInterrupt);
     }},
    {"I027",
     [](FakeEntry& e) {
       e.on(F::ProcBasedControls, kUseTprShadow);
       e.set(F::VirtualApicPageAddress, 0x5000);
       e.secondary(kVirtualInterruptDelivery);
       e.on(F::PinBasedControls, kExternalInterruptExiting);
       e.on(F::PinBasedControls, kPostedInterrupts);
       e.off(F::VmExitControls, kAcknowledgeInterrupt);
     }},
    {"I028", [](FakeEntry& e) { e.set(F::PostedIntrNotificationVector, 0x100); }},
    {"I029", [](FakeEntry& e) { e.set(F::PostedIntrDescAddress, 0x20); }},
    {"I030", [](FakeEntry& e) { e.set(F::PostedIntrDescAddress, kBeyond); }},
    {"I031",
     [](FakeEntry& e) {
       e.secondary(kEnableVpid);
       e.set(F::Vpid, 0);
     }},
    {"I032", [](FakeEntry& e) { e.set(F::EptPointer, 0x4000 | 3 << 3 | 5); }},
    {"I033", [](FakeEntry& e) { e.set(F::EptPointer, 0x4000 | 4 << 3 | 6); }},
    {"I034",
     [](FakeEntry& e) {
       e.set_msr(0x48c, 0x00000f0106d34141);
       e.on(F::EptPointer, 6);
     }},
    {"I035",
     [](FakeEntry& e) {
       e.set_msr(0x48c, 0x00000f0106734141);
       e.on(F::EptPointer, 7);
     }},
    {"I036", [](FakeEntry& e) { e.on(F::EptPointer, 11); }},
    {"I036", [](FakeEntry& e) { e.on(F::EptPointer, 39); }},
    {"I037",
     [](FakeEntry& e) {
       e.set(F::ProcBasedControls2, 1 << kUnrestrictedGuest);
     }},
    {"I038", [](FakeEntry& e) { e.set(F::ProcBasedControls2, 1 << kModeBasedExecute); }},
    {"I039", [](FakeEntry& e) { e.set(F::ProcBasedControls2, 1 << kEnablePml); }},
    {"I040",
     [](FakeEntry& e) {
       e.secondary(kEnablePml);
       e.set(F::PmlAddress, 8);
     }},
    {"I042",
     [](FakeEntry& e) {
       e.secondary(kEnableVmFunctions);
       e.set(F::VmFunctionControl, 2);
     }},
    {"I043",
     [](FakeEntry& e) {
       e.set(F::ProcBasedControls2, 1 << kEnableVmFunctions);
       e.set(F::VmFunctionControl, 1);
     }},
    {"I044",
     [](FakeEntry& e) {
       e.secondary(kEnableVmFunctions);
       e.set(F::VmFunctionControl, 1);
       e.set(F::EptpListAddress, 0x123);
     }},
    {"I045",
     [](FakeEntry& e) {
       e.secondary(kVmcsShadowing);
       e.set(F::VmreadBitmap, 1);
     }},
    {"I046",
     [](FakeEntry& e) {
       e.secondary(kVmcsShadowing);
       e.set(F::VmwriteBitmap, kBeyond);
     }},
    {"I048",
     [](FakeEntry& e) {
       e.secondary(kUseTscScaling);
       e.set(F::TscMultiplier, 0);
     }},
    {"I049",
     [](FakeEntry& e) {
       e.secondary(24);
       e.on(F::VmEntryControls, 18);
     }},
    {"I054", [](FakeEntry& e) { e.off(F::VmExitControls, 0); }},
    {"I056", [](FakeEntry& e) { e.on(F::VmExitControls, kSavePreemptionTimer); }},
    {"I057",
     [](FakeEntry& e) {
       e.set(F::VmExitMsrStoreCount, 1);
       e.set(F::VmExitMsrStoreAddress, 8);
     }},
    {"I058",
     [](FakeEntry& e) {
       e.set(F::VmExitMsrStoreCount, 2);
       e.set(F::VmExitMsrStoreAddress, kBeyond - 16);
     }},
    {"I059",
     [](FakeEntry& e) {
       e.set(F::VmExitMsrLoadCount, 1);
       e.set(F::VmExitMsrLoadAddress, 8);
     }},
    {"I060",
     [](FakeEntry& e) {
       e.set(F::VmExitMsrLoadCount, 2);
       e.set(F::VmExitMsrLoadAddress, kBeyond - 16);
     }},
    {"I061", [](FakeEntry& e) { e.off(F::VmEntryControls, 0); }},
    {"I062", [](FakeEntry& e) { e.on(F::VmEntryControls, kDeactivateDualMonitor); }},
    {"I063",
     [](FakeEntry& e) {
       e.on(F::VmEntryControls, kDeactivateDualMonitor);
       e.on(F::VmEntryControls, kEntryToSmm);
       e.on(F::GuestInterruptibility, 2);
     }},
    {"I064",
     [](FakeEntry& e) {
       e.set(F::VmEntryMsrLoadCount, 1);
       e.set(F::VmEntryMsrLoadAddress, 0x8008);
       e.ram.put64(0x8008, 0xc0000081);
     }},
    {"I065",
     [](FakeEntry& e) {
       e.set(F::VmEntryMsrLoadCount, 2);
       e.set(F::VmEntryMsrLoadAddress, kBeyond - 16);
     }},
    {"I066", [](FakeEntry& e) { e.inject(1, 0); }},
    {"I066",
     [](FakeEntry& e) {
       e.set_msr(0x48e, 0xf7fbfffe04006172);
       e.inject(7, 0);
     }},
    {"I067", [](FakeEntry& e) { e.inject(2, 3); }},
    {"I068", [](FakeEntry& e) { e.inject(3, 32); }},
    {"I069", [](FakeEntry& e) { e.inject(7, 1); }},
    {"I070", [](FakeEntry& e) { e.inject(2, 2, true); }},
    {"I070",
     [](FakeEntry& e) {
       e.real_mode();
       e.inject(3, 13, true);
     }},
    {"I071", [](FakeEntry& e) { e.inject(3, 13); }},
    {"I071", [](FakeEntry& e) { e.inject(3, 6, true); }},
    {"I072", [](FakeEntry& e) { e.set(F::VmEntryIntrInfo, 1ull << 31 | 1 << 12 | 2 << 8 | 2); }},
    {"I073",
     [](FakeEntry& e) {
       e.inject(3, 13, true);
       e.set(F::VmEntryExceptionErrorCode, 0x10000);
     }},
    {"I074", [](FakeEntry& e) { e.inject(4, 0x80); }},
    {"I074",
     [](FakeEntry& e) {
       e.inject(6, 3);
       e.set(F::VmEntryInstructionLen, 16);
     }},
    {"I075", [](FakeEntry& e) { e.off(F::HostCr0, 5); }},
    {"I076", [](FakeEntry& e) { e.off(F::HostCr4, 13); }},
    {"I077", [](FakeEntry& e) { e.set(F::HostCr3, kBeyond); }},
    {"I078",
     [](FakeEntry& e) {
       e.on(F::HostCr4, 23);
       e.off(F::HostCr0, 16);
     }},
    {"I079", [](FakeEntry& e) { e.set(F::HostSysenterEsp, kNotCanonical); }},
    {"I080", [](FakeEntry& e) { e.set(F::HostSysenterEip, kNotCanonical); }},
    {"I081", [](FakeEntry& e) { e.set(F::HostPerfGlobalCtrl, 0x10); }},
    {"I082", [](FakeEntry& e) { e.set(F::HostPat, 2); }},
    {"I083", [](FakeEntry& e) { e.on(F::HostEfer, 1); }},
    {"I084", [](FakeEntry& e) { e.off(F::HostEfer, 10); }},
    {"I085",
     [](FakeEntry& e) {
       e.on(F::VmExitControls, kExitLoadCet);
       e.set(F::HostSCet, 0x40);
     }},
    {"I086",
     [](FakeEntry& e) {
       e.on(F::VmExitControls, kExitLoadCet);
       e.set(F::HostSsp, 2);
     }},
    {"I087",
     [](FakeEntry& e) {
       e.on(F::VmExitControls, kExitLoadCet);
       e.set(F::HostSspTbl, kNotCanonical);
     }},
    {"I090", [](FakeEntry& e) { e.on(F::HostCsSelector, 0); }},
    {"I091", [](FakeEntry& e) { e.on(F::HostSsSelector, 1); }},
    {"I092", [](FakeEntry& e) { e.on(F::HostDsSelector, 2); }},
    {"I093", [](FakeEntry& e) { e.on(F::HostEsSelector, 0); }},
    {"I094", [](FakeEntry& e) { e.on(F::HostFsSelector, 1); }},
    {"I095", [](FakeEntry& e) { e.on(F::HostGsSelector, 2); }},
    {"I096", [](FakeEntry& e) { e.on(F::HostTrSelector, 2); }},
    {"I097", [](FakeEntry& e) { e.set(F::HostCsSelector, 0); }},
    {"I098", [](FakeEntry& e) { e.set(F::HostTrSelector, 0); }},
    {"I099",
     [](FakeEntry& e) {
       e.host32();
       e.set(F::HostSsSelector, 0);
     }},
    {"I100", [](FakeEntry& e) { e.set(F::HostFsBase, kNotCanonical); }},
    {"I101", [](FakeEntry& e) { e.set(F::HostGsBase, kNotCanonical); }},
    {"I102", [](FakeEntry& e) { e.set(F::HostTrBase, kNotCanonical); }},
    {"I103", [](FakeEntry& e) { e.set(F::HostGdtrBase, kNotCanonical); }},
    {"I104", [](FakeEntry& e) { e.set(F::HostIdtrBase, kNotCanonical); }},
    {"I105",
     [](FakeEntry& e) {
       e.host32();
       e.entry.hypervisor->efer = spec::EFER_LMA | spec::EFER_LME;
       e.entry.hypervisor->cs_l = true;
     }},
    {"I106", [](FakeEntry& e) { e.off(F::HostCr4, 5); }},
    {"I107", [](FakeEntry& e) { e.set(F::HostRip, kNotCanonical); }},
    {"I108",
     [](FakeEntry& e) {
       e.host32();
       e.set(F::HostRip, 1ull << 32);
     }},
    {"I109", [](FakeEntry& e) { e.off(F::GuestCr0, 5); }},
    {"I110",
     [](FakeEntry& e) {
       e.secondary(kUnrestrictedGuest);
       e.off(F::GuestCr0, 0);
     }},
    {"I111", [](FakeEntry& e) { e.off(F::GuestCr4, 13); }},
    {"I112",
     [](FakeEntry& e) {
       e.on(F::GuestCr4, 23);
       e.off(F::GuestCr0, 16);
     }},
    {"I113", [](FakeEntry& e) { e.set(F::GuestDebugctl, 1 << 3); }},
    {"I114", [](FakeEntry& e) { e.off(F::GuestCr4, 5); }},
    {"I115",
     [](FakeEntry& e) {
       e.pae_guest();
       e.on(F::GuestCr4, 17);
     }},
    {"I116", [](FakeEntry& e) { e.set(F::GuestCr3, kBeyond); }},
    {"I117", [](FakeEntry& e) { e.on(F::GuestDr7, 32); }},
    {"I118", [](FakeEntry& e) { e.set(F::GuestSysenterEsp, kNotCanonical); }},
    {"I119", [](FakeEntry& e) { e.set(F::GuestSysenterEip, kNotCanonical); }},
    {"I120",
     [](FakeEntry& e) {
       e.on(F::VmEntryControls, kEntryLoadCet);
       e.set(F::GuestSCet, 3 << 10);
     }},
    {"I121", [](FakeEntry& e) { e.set(F::GuestPerfGlobalCtrl, 1ull << 35); }},
    {"I122", [](FakeEntry& e) { e.set(F::GuestPat, 0x0800000000000000); }},
    {"I123", [](FakeEntry& e) { e.on(F::GuestEfer, 12); }},
    {"I124", [](FakeEntry& e) { e.set(F::GuestEfer, 0); }},
    {"I125", [](FakeEntry& e) { e.off(F::GuestEfer, 8); }},
    {"I126", [](FakeEntry& e) { e.set(F::GuestBndcfgs, 4); }},
    {"I127", [](FakeEntry& e) { e.set(F::GuestBndcfgs, kNotCanonical); }},
    {"I130", [](FakeEntry& e) { e.on(F::GuestTrSelector, 2); }},
    {"I131", [](FakeEntry& e) { e.on(F::GuestLdtrSelector, 2); }},
    {"I132",
     [](FakeEntry& e) {
       e.set(F::GuestCsSelector, 9);
     }},
    {"I133",
     [](FakeEntry& e) {
       e.v8086_guest();
       e.set(F::GuestDsBase, 0x1010);
     }},
    {"I134", [](FakeEntry& e) { e.set(F::GuestTrBase, kNotCanonical); }},
    {"I135", [](FakeEntry& e) { e.set(F::GuestFsBase, kNotCanonical); }},
    {"I136", [](FakeEntry& e) { e.set(F::GuestGsBase, kNotCanonical); }},
    {"I137", [](FakeEntry& e) { e.set(F::GuestLdtrBase, kNotCanonical); }},
    {"I138", [](FakeEntry& e) { e.set(F::GuestCsBase, 1ull << 32); }},
    {"I139", [](FakeEntry& e) { e.set(F::GuestSsBase, 1ull << 32); }},
    {"I140", [](FakeEntry& e) { e.set(F::GuestDsBase, 1ull << 32); }},
    {"I141", [](FakeEntry& e) { e.set(F::GuestEsBase, 1ull << 32); }},
    {"I142",
     [](FakeEntry& e) {
       e.v8086_guest();
       e.set(F::GuestSsLimit, 0xfffff);
     }},
    {"I143",
     [](FakeEntry& e) {
       e.v8086_guest();
       e.set(F::GuestGsAccessRights, 0x93);
     }},
    {"I144", [](FakeEntry& e) { e.off(F::GuestCsAccessRights, 0); }},
    {"I145", [](FakeEntry& e) { e.off(F::GuestSsAccessRights, 1); }},
    {"I146", [](FakeEntry& e) { e.off(F::GuestFsAccessRights, 0); }},
    {"I147", [](FakeEntry& e) { e.set(F::GuestEsAccessRights, 0xc099); }},
    {"I148", [](FakeEntry& e) { e.off(F::GuestCsAccessRights, 4); }},
    {"I149", [](FakeEntry& e) { e.off(F::GuestSsAccessRights, 4); }},
    {"I150", [](FakeEntry& e) { e.off(F::GuestGsAccessRights, 4); }},
    {"I151",
     [](FakeEntry& e) {
       e.real_mode();
       e.set(F::GuestCsAccessRights, 0xb3);
     }},
    {"I152", [](FakeEntry& e) { e.on(F::GuestCsAccessRights, 5); }},
    {"I153", [](FakeEntry& e) { e.set(F::GuestCsAccessRights, 0xa0bf); }},
    {"I154",
     [](FakeEntry& e) {
       e.set(F::GuestSsAccessRights, 0xc0f3);
       e.set(F::GuestCsAccessRights, 0xa0fb);
     }},
    {"I155",
     [](FakeEntry& e) {
       e.real_mode();
       e.set(F::GuestSsAccessRights, 0xc0f3);
       e.set(F::GuestCsAccessRights, 0xfb);
     }},
    {"I156", [](FakeEntry& e) { e.set(F::GuestDsSelector, 3); }},
    {"I157", [](FakeEntry& e) { e.off(F::GuestCsAccessRights, 7); }},
    {"I158", [](FakeEntry& e) { e.off(F::GuestDsAccessRights, 7); }},
    {"I159", [](FakeEntry& e) { e.on(F::GuestCsAccessRights, 8); }},
    {"I160", [](FakeEntry& e) { e.on(F::GuestCsAccessRights, 14); }},
    {"I161", [](FakeEntry& e) { e.set(F::GuestDsLimit, 0xfffffffe); }},
    {"I162", [](FakeEntry& e) { e.off(F::GuestDsAccessRights, 15); }},
    {"I163", [](FakeEntry& e) { e.on(F::GuestSsAccessRights, 17); }},
    {"I164", [](FakeEntry& e) { e.set(F::GuestTrAccessRights, 0x89); }},
    {"I165", [](FakeEntry& e) { e.on(F::GuestTrAccessRights, 4); }},
    {"I166", [](FakeEntry& e) { e.off(F::GuestTrAccessRights, 7); }},
    {"I167", [](FakeEntry& e) { e.on(F::GuestTrAccessRights, 9); }},
    {"I168", [](FakeEntry& e) { e.on(F::GuestTrAccessRights, 15); }},
    {"I169", [](FakeEntry& e) { e.on(F::GuestTrAccessRights, 16); }},
    {"I170", [](FakeEntry& e) { e.set(F::GuestLdtrAccessRights, 0x83); }},
    {"I171", [](FakeEntry& e) { e.on(F::GuestLdtrAccessRights, 4); }},
    {"I172", [](FakeEntry& e) { e.off(F::GuestLdtrAccessRights, 7); }},
    {"I173", [](FakeEntry& e) { e.on(F::GuestLdtrAccessRights, 31); }},
    {"I174", [](FakeEntry& e) { e.on(F::GuestLdtrAccessRights, 15); }},
    {"I176", [](FakeEntry& e) { e.set(F::GuestGdtrBase, kNotCanonical); }},
    {"I177", [](FakeEntry& e) { e.set(F::GuestIdtrBase, kNotCanonical); }},
    {"I178", [](FakeEntry& e) { e.set(F::GuestGdtrLimit, 0x10000); }},
    {"I179", [](FakeEntry& e) { e.set(F::GuestIdtrLimit, 0x10000); }},
    {"I180",
     [](FakeEntry& e) {
       e.pae_guest();
       e.set(F::GuestRip, 1ull << 32);
     }},
    {"I181", [](FakeEntry& e) { e.set(F::GuestRip, 1ull << 50); }},
    {"I182", [](FakeEntry& e) { e.set(F::GuestRflags, 0); }},
    {"I182", [](FakeEntry& e) { e.on(F::GuestRflags, 15); }},
    {"I183",
     [](FakeEntry& e) {
       e.v8086_guest();
       e.secondary(kUnrestrictedGuest);
       e.set(F::GuestCr0, 0x20);
     }},
    {"I184", [](FakeEntry& e) { e.inject(0, 0x30); }},
    {"I185",
     [](FakeEntry& e) {
       e.pae_guest();
       e.on(F::VmEntryControls, kEntryLoadCet);
       e.set(F::GuestSsp, 1ull << 32);
     }},
    {"I186", [](FakeEntry& e) { e.set(F::GuestActivityState, 4); }},
    {"I186",
     [](FakeEntry& e) {
       e.set_msr(0x485, 0x000400e0);
       e.set(F::GuestActivityState, 3);
     }},
    {"I187",
     [](FakeEntry& e) {
       e.set(F::GuestActivityState, 1);
       e.set(F::GuestSsAccessRights, 0xc0f3);
       e.set(F::GuestSsSelector, 0x13);
       e.set(F::GuestCsAccessRights, 0xa0fb);
       e.set(F::GuestCsSelector, 0xb);
     }},
    {"I188",
     [](FakeEntry& e) {
       e.set(F::GuestActivityState, 1);
       e.set(F::GuestInterruptibility, 2);
     }},
    {"I189",
     [](FakeEntry& e) {
       e.set(F::GuestActivityState, 1);
       e.inject(3, 13, true);
     }},
    {"I190",
     [](FakeEntry& e) {
       e.set(F::GuestActivityState, 2);
       e.inject(3, 13, true);
     }},
    {"I191",
     [](FakeEntry& e) {
       e.set(F::GuestActivityState, 3);
       e.inject(2, 2);
     }},
    {"I193", [](FakeEntry& e) { e.set(F::GuestInterruptibility, 0x20); }},
    {"I194",
     [](FakeEntry& e) {
       e.set(F::GuestInterruptibility, 3);
       e.on(F::GuestRflags, 9);
     }},
    {"I195", [](FakeEntry& e) { e.set(F::GuestInterruptibility, 1); }},
    {"I196",
     [](FakeEntry& e) {
       e.inject(0, 0x30);
       e.on(F::GuestRflags, 9);
       e.set(F::GuestInterruptibility, 1);
     }},
    {"I197",
     [](FakeEntry& e) {
       e.inject(2, 2);
       e.set(F::GuestInterruptibility, 2);
     }},
    {"I198",
     [](FakeEntry& e) {
       e.inject(2, 2);
       e.on(F::GuestRflags, 9);
       e.set(F::GuestInterruptibility, 1);
     }},
    {"I199", [](FakeEntry& e) { e.set(F::GuestInterruptibility, 4); }},
    {"I201",
     [](FakeEntry& e) {
       e.inject(2, 2);
       e.on(F::PinBasedControls, kNmiExiting);
       e.on(F::PinBasedControls, kVirtualNmis);
       e.set(F::GuestInterruptibility, 8);
     }},
    {"I202", [](FakeEntry& e) { e.set(F::GuestInterruptibility, 0x10); }},
    {"I203", [](FakeEntry& e) { e.set(F::GuestPendingDebug, 0x10); }},
    {"I204",
     [](FakeEntry& e) {
       e.set(F::GuestInterruptibility, 2);
       e.on(F::GuestRflags, 8);
     }},
    {"I205",
     [](FakeEntry& e) {
       e.set(F::GuestInterruptibility, 2);
       e.set(F::GuestPendingDebug, 1 << 14);
     }},
    {"I206", [](FakeEntry& e) { e.set(F::GuestPendingDebug, 1 << 16 | 1 << 12); }},
    {"I207",
     [](FakeEntry& e) {
       e.set(F::VmcsLinkPointer, 0x6008);
       e.ram.put32(0x6008, kVmcs12Revision);
     }},
    {"I208", [](FakeEntry& e) { e.set(F::VmcsLinkPointer, kBeyond); }},
    {"I209",
     [](FakeEntry& e) {
       e.set(F::VmcsLinkPointer, 0x6000);
       e.ram.put32(0x6000, 1);
     }},
    {"I210",
     [](FakeEntry& e) {
       e.set(F::VmcsLinkPointer, 0x6000);
       e.ram.put32(0x6000, kVmcs12Revision | 1u << 31);
     }},
    {"I211",
     [](FakeEntry& e) {
       e.set(F::VmcsLinkPointer, 0x3000);
       e.ram.put32(0x3000, kVmcs12Revision);
     }},
    {"I212",
     [](FakeEntry& e) {
       e.pae_guest();
       e.set(F::GuestPdpte2, 0x5000 | 2 | 1);
     }},
    {"I213",
     [](FakeEntry& e) {
       e.pae_guest();
       e.off(F::ProcBasedControls2, kEnableEpt);
       e.ram.put64(0x1008, 1ull << 63 | 1);
     }},
    {"I214", [](FakeEntry& e) { e.load_msr(0xc0000100, 0); }},
    {"I215", [](FakeEntry& e) { e.load_msr(0x808, 0); }},
    {"I216", [](FakeEntry& e) { e.load_msr(1ull << 32 | 0xc0000081, 0); }},
    {"I217", [](FakeEntry& e) { e.load_msr(0x79, 0); }},
    {"I218", [](FakeEntry& e) { e.load_msr(0xc0000082, kNotCanonical); }},
};

// Breaking these breaks others as well: the controls that may not go together are forbidden alone.
const std::map<std::string_view, std::vector<std::string>> kWithOthers = {
    {"I063", {"I062", "I063"}},
};

TEST(VmxRules, a_good_entry_breaks_none_of_them) {
  FakeEntry fake;
  const CheckReport report = check_vm_entry(fake.entry);
  EXPECT_THAT(broken(report), IsEmpty())
      << (report.clean() ? "" : report.violations.front().text());
}

TEST(VmxRules, other_good_entries_break_none_either) {
  for (void (*change)(FakeEntry&) :
       {+[](FakeEntry& e) { e.real_mode(); }, +[](FakeEntry& e) { e.pae_guest(); },
        +[](FakeEntry& e) { e.v8086_guest(); }, +[](FakeEntry& e) { e.host32(); },
        +[](FakeEntry& e) { e.inject(3, 14, true); },
        +[](FakeEntry& e) { e.load_msr(0xc0000081, 5); },
        +[](FakeEntry& e) { e.set(F::GuestActivityState, 1); },
        +[](FakeEntry& e) {
          e.entry.instruction = VmxInstruction::Vmresume;
          e.entry.vmcs.set_launch_state(1);
        }}) {
    FakeEntry fake;
    change(fake);
    const CheckReport report = check_vm_entry(fake.entry);
    EXPECT_THAT(broken(report), IsEmpty())
        << (report.clean() ? "" : report.violations.front().text());
  }
}

TEST(VmxRules, each_change_breaks_just_its_rule) {
  for (const Mutation& mutation : kMutations) {
    FakeEntry fake;
    // Posted interrupts need much else; it is on for the rules about them.
    if (mutation.rule == "I028" || mutation.rule == "I029" || mutation.rule == "I030") {
      fake.on(F::ProcBasedControls, kUseTprShadow);
      fake.set(F::VirtualApicPageAddress, 0x5000);
      fake.secondary(kVirtualInterruptDelivery);
      fake.on(F::PinBasedControls, kExternalInterruptExiting);
      fake.on(F::PinBasedControls, kPostedInterrupts);
      fake.on(F::VmExitControls, kAcknowledgeInterrupt);
    }
    mutation.change(fake);
    const CheckReport report = check_vm_entry(fake.entry);
    std::vector<std::string> expected = {std::string(mutation.rule)};
    const auto others = kWithOthers.find(mutation.rule);
    if (others != kWithOthers.end()) expected = others->second;
    std::string all;
    for (const Violation& v : report.violations) all += v.text() + "\n";
    EXPECT_EQ(broken(report), expected) << mutation.rule << "\n" << all;
  }
}

std::vector<std::string> all_rules(bool with_code) {
  std::vector<std::string> ids;
  for (const auto rules :
       {vmx_instruction_rules(), vmx_execution_rules(), vmx_exit_and_entry_rules(),
        vmx_host_rules(), vmx_guest_register_rules(), vmx_guest_segment_rules(),
        vmx_guest_pointer_rules(), vmx_guest_state_rules(), vmx_loading_rules()})
    for (const auto& row : rules)
      if (!with_code || row.check != nullptr) ids.emplace_back(row.rule.id);
  return ids;
}

TEST(VmxRules, each_of_the_219_has_its_row) {
  std::vector<std::string> ids = all_rules(false);
  ASSERT_EQ(ids.size(), 219u);
  EXPECT_TRUE(std::ranges::is_sorted(ids));
  EXPECT_EQ(std::set(ids.begin(), ids.end()).size(), 219u);
}

TEST(VmxRules, each_that_is_checked_has_a_change) {
  // A processor that enters SMM: no change breaks these alone.
  const std::set<std::string> together = {"I192", "I200"};
  std::set<std::string> changed(together);
  for (const Mutation& mutation : kMutations) changed.emplace(mutation.rule);
  for (const std::string& id : all_rules(true)) EXPECT_TRUE(changed.contains(id)) << id;
}

TEST(VmxRules, entries_to_smm_break_their_rules_together) {
  FakeEntry fake;
  fake.on(F::VmEntryControls, kEntryToSmm);
  fake.set(F::GuestActivityState, 3);
  EXPECT_THAT(broken(check_vm_entry(fake.entry)), ElementsAre("I062", "I192", "I200"));
}

TEST(VmxRules, what_is_not_known_is_not_kept) {
  FakeEntry fake;
  fake.load_msr(0xc0000081, 0);
  fake.pae_guest();
  const VmxEntry bare{.vmcs = fake.entry.vmcs};
  const CheckReport report = check_vm_entry(bare);
  std::set<std::string> unchecked;
  for (const Unchecked& rule : report.unchecked) unchecked.emplace(rule.rule->id);
  for (const char* id : {"I001", "I004", "I009", "I054", "I061", "I075", "I105", "I116", "I218"})
    EXPECT_TRUE(unchecked.contains(id)) << id;
  EXPECT_EQ(report.checked + report.unchecked.size(), 219u);
}

TEST(VmxRules, a_control_is_traced_to_its_capability) {
  FakeEntry fake;
  fake.set_msr(0x48b, 0xffefffff00000000);
  fake.secondary(kEnableXsaves);
  const CheckReport report = check_vm_entry(fake.entry);
  ASSERT_EQ(report.violations.size(), 1u);
  const Violation& v = report.violations.front();
  EXPECT_EQ(v.msr, 0x48bu);
  EXPECT_EQ(v.msr_bit, 52u);
  EXPECT_EQ(
      v.text(),
      "I011 SECONDARY must keep to its allowed settings: Secondary processor-based VM-execution "
      "controls (401Eh) is 00100002h, allowed: bit 20 (\"enable XSAVES/XRSTORS\") = 0 "
      "(IA32_VMX_PROCBASED_CTLS2 (48Bh)[52], its allowed-1 setting, is 0)");
}

TEST(VmxRules, all_that_are_broken_are_named) {
  FakeEntry fake;
  fake.set(F::HostTrSelector, 0);
  fake.set(F::GuestRflags, 0);
  fake.off(F::PinBasedControls, 1);
  EXPECT_THAT(broken(check_vm_entry(fake.entry)), ElementsAre("I009", "I098", "I182"));
}

TEST(VmxRules, a_list_longer_than_any_is_not_read_to_its_end) {
  FakeEntry fake;
  fake.load_msr(0xc0000081, 0);
  fake.set(F::VmEntryMsrLoadCount, 0xffffffff);
  const CheckReport report = check_vm_entry(fake.entry);
  EXPECT_LT(report.violations.size(), 600u);
}

}  // namespace
}  // namespace vmm::nested
