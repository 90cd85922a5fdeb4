// One mutation or more of a good entry for each rule, and what only looks like a violation.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <string_view>

#include "vmm/nested/svm_fake.h"

namespace vmm::nested {
namespace {

using testing::Contains;
using testing::IsEmpty;
using testing::Not;

using Id = VmcbId;
constexpr std::uint64_t kValid = 1ull << 31;  // of EVENTINJ
constexpr std::uint64_t kException = 3 << 8;
constexpr std::uint64_t kLimit = 1ull << 48;  // 2^MAXPHYADDR

using Change = void (*)(FakeSvm&);

struct Mutation {
  const char* id;
  const char* what;
  Change change;
};

// Each breaks the rule with that id and no other.
constexpr Mutation kMutations[] = {
    {"A01", "EFER.SVME of the hypervisor", [](FakeSvm& s) { *s.host.efer &= ~spec::EFER_SVME; }},
    {"A01", "real mode", [](FakeSvm& s) { s.clear(Id::NestedControl, 1), s.host.cr0 = 0; }},
    {"A01", "v8086 mode", [](FakeSvm& s) { *s.host.rflags |= spec::RFLAGS_VM; }},
    {"A02", "CPL 3", [](FakeSvm& s) { s.host.cpl = 3; }},
    {"A03", "unaligned", [](FakeSvm& s) { s.vmcb_pa = 0x3800; }},
    {"A03", "beyond MAXPHYADDR", [](FakeSvm& s) { s.vmcb_pa = kLimit; }},
    {"A04", "not set", [](FakeSvm& s) { s.host.hsave_pa = 0; }},
    {"A04", "unaligned", [](FakeSvm& s) { s.host.hsave_pa = 0x4010; }},
    {"A04", "beyond MAXPHYADDR", [](FakeSvm& s) { s.host.hsave_pa = kLimit; }},
    {"A05", "SVMDIS", [](FakeSvm& s) { s.host.vm_cr = 0x10; }},
    {"A07", "no VMRUN intercept", [](FakeSvm& s) { s.clear(Id::Intercept4, 1); }},
    {"A08", "ASID 0", [](FakeSvm& s) { s.put(Id::Asid, 0); }},
    {"A09", "ASID 16 of 16", [](FakeSvm& s) { s.put(Id::Asid, 16); }},
    {"A10", "second page", [](FakeSvm& s) { s.put(Id::MsrpmBasePa, kLimit - 4_KiB); }},
    {"A10", "wraps", [](FakeSvm& s) { s.put(Id::MsrpmBasePa, ~0ull); }},
    {"A10", "without MSR_PROT",
     [](FakeSvm& s) { s.clear(Id::Intercept3, 1u << 28), s.put(Id::MsrpmBasePa, kLimit); }},
    {"A11", "third page", [](FakeSvm& s) { s.put(Id::IopmBasePa, kLimit - 8_KiB); }},
    {"A11", "wraps", [](FakeSvm& s) { s.put(Id::IopmBasePa, ~0ull - 8_KiB); }},
    {"A12", "reserved", [](FakeSvm& s) { s.put(Id::TlbControl, 2); }},
    {"A12", "bits above", [](FakeSvm& s) { s.put(Id::TlbControl, 0x83); }},
    {"A12", "by ASID without the feature",
     [](FakeSvm& s) { s.put(Id::TlbControl, 3), s.cpuid.at(0x8000000a).edx &= ~(1u << 6); }},
    {"A13", "no NP", [](FakeSvm& s) { s.cpuid.at(0x8000000a).edx &= ~1u; }},
    {"A14", "no paging in the hypervisor", [](FakeSvm& s) { s.host.cr0 = spec::CR0_PE; }},
    {"A15", "N_CR3 beyond MAXPHYADDR", [](FakeSvm& s) { s.put(Id::NCr3, kLimit | 0x1000); }},
    {"A16", "type 2", [](FakeSvm& s) { s.put(Id::GPat, 0x0007040600070402); }},
    {"A16", "reserved bit", [](FakeSvm& s) { s.put(Id::GPat, 0x8007040600070406); }},
    {"A17", "type 1", [](FakeSvm& s) { s.put(Id::EventInj, kValid | 1 << 8 | 0x20); }},
    {"A17", "type 5", [](FakeSvm& s) { s.put(Id::EventInj, kValid | 5 << 8 | 0x20); }},
    {"A18", "NMI as exception", [](FakeSvm& s) { s.put(Id::EventInj, kValid | kException | 2); }},
    {"A18", "vector 9", [](FakeSvm& s) { s.put(Id::EventInj, kValid | kException | 9); }},
    {"A18", "vector 32", [](FakeSvm& s) { s.put(Id::EventInj, kValid | kException | 32); }},
    {"A18", "#CP without shadow stacks",
     [](FakeSvm& s) {
       s.cpuid.at(7).ecx &= ~(1u << 7);
       s.put(Id::EventInj, kValid | kException | 21);
     }},
    {"A18", "#VC without SEV-ES",
     [](FakeSvm& s) {
       s.cpuid.at(0x8000001f).eax &= ~8u;
       s.put(Id::EventInj, kValid | kException | 29);
     }},
    {"A18", "#HV", [](FakeSvm& s) { s.put(Id::EventInj, kValid | kException | 28); }},
    {"A19", "#BR in 64-bit mode", [](FakeSvm& s) { s.put(Id::EventInj, kValid | kException | 5); }},
    {"A19", "#OF in 64-bit mode", [](FakeSvm& s) { s.put(Id::EventInj, kValid | kException | 4); }},
    {"A20", "x2AVIC without AVIC", [](FakeSvm& s) { s.set(Id::VirtualInterrupt, 1ull << 30); }},
    {"A20", "without nested paging",
     [](FakeSvm& s) {
       s.set(Id::VirtualInterrupt, 1ull << 31);
       s.clear(Id::NestedControl, 1);
     }},
    {"A20", "backing page",
     [](FakeSvm& s) {
       s.set(Id::VirtualInterrupt, 1ull << 31);
       s.put(Id::AvicBackingPage, kLimit);
     }},
    {"A20", "logical table",
     [](FakeSvm& s) {
       s.set(Id::VirtualInterrupt, 1ull << 31);
       s.put(Id::AvicLogicalTable, kLimit);
     }},
    {"A20", "physical table",
     [](FakeSvm& s) {
       s.set(Id::VirtualInterrupt, 1ull << 31);
       s.put(Id::AvicPhysicalTable, kLimit);
     }},
    {"A20", "index 256 of xAVIC",
     [](FakeSvm& s) {
       s.set(Id::VirtualInterrupt, 1ull << 31);
       s.put(Id::AvicPhysicalTable, 0x6100);
     }},
    {"A20", "index 512 of x2AVIC",
     [](FakeSvm& s) {
       s.set(Id::VirtualInterrupt, 3ull << 30);
       s.put(Id::AvicPhysicalTable, 0x6200);
     }},
    {"A20", "second page of the table",
     [](FakeSvm& s) {
       s.cpuid.at(0x8000000a).ecx |= 1u << 6;
       s.set(Id::VirtualInterrupt, 3ull << 30);
       s.put(Id::AvicPhysicalTable, (kLimit - 4_KiB) | 0x200);
     }},
    {"A21", "VGIF",
     [](FakeSvm& s) {
       s.set(Id::VirtualInterrupt, 1u << 25);
       s.cpuid.at(0x8000000a).edx &= ~(1u << 16);
     }},
    {"A21", "SEV without the feature",
     [](FakeSvm& s) { s.set(Id::NestedControl, 2), s.cpuid.erase(0x8000001f); }},
    {"A44", "no NMI intercept", [](FakeSvm& s) { s.set(Id::VirtualInterrupt, 1u << 26); }},
    {"A45", "no nested paging", [](FakeSvm& s) { s.put(Id::NestedControl, 1u << 4); }},
    {"A22", "no nested paging", [](FakeSvm& s) { s.put(Id::NestedControl, 2); }},
    {"A22", "ASID of no key", [](FakeSvm& s) { s.set(Id::NestedControl, 2), s.put(Id::Asid, 9); }},
    {"A22", "ASID kept for SEV-ES",
     [](FakeSvm& s) { s.set(Id::NestedControl, 2), s.cpuid.at(0x8000001f).edx = 2; }},
    {"A22", "host not in 64-bit mode",
     [](FakeSvm& s) {
       s.set(Id::NestedControl, 2);
       s.cpuid.at(0x8000001f).eax |= 1u << 11;
       s.host.efer = spec::EFER_SVME;
     }},
    {"A22", "SEV-ES without LBR virtualization", [](FakeSvm& s) { s.set(Id::NestedControl, 6); }},
    {"A22", "SEV-ES without SEV",
     [](FakeSvm& s) { s.set(Id::NestedControl, 4), s.set(Id::VirtExt, 1); }},
    {"A22", "SEV-ES and a software interrupt",
     [](FakeSvm& s) {
       s.set(Id::NestedControl, 6);
       s.set(Id::VirtExt, 1);
       s.put(Id::EventInj, kValid | 4 << 8 | 0x80);
     }},
    {"A22", "SEV-ES and #BP",
     [](FakeSvm& s) {
       s.set(Id::NestedControl, 6);
       s.set(Id::VirtExt, 1);
       s.put(Id::EventInj, kValid | kException | 3);
     }},
    {"A23", "EFER.SVME of the guest", [](FakeSvm& s) { s.clear(Id::Efer, spec::EFER_SVME); }},
    {"A24", "NW without CD", [](FakeSvm& s) { s.set(Id::Cr0, spec::CR0_NW); }},
    {"A25", "bit 32", [](FakeSvm& s) { s.set(Id::Cr0, 1ull << 32); }},
    {"A26", "beyond MAXPHYADDR", [](FakeSvm& s) { s.set(Id::Cr3, kLimit); }},
    {"A26", "bit 63 without PCIDs", [](FakeSvm& s) { s.set(Id::Cr3, 1ull << 63); }},
    {"A26", "LAM's bit", [](FakeSvm& s) { s.set(Id::Cr3, 1ull << 62); }},
    {"A26", "beyond MAXPHYADDR without paging",
     [](FakeSvm& s) {
       s.clear(Id::Cr0, spec::CR0_PG);
       s.set(Id::Cr3, kLimit);
     }},
    {"A27", "VMXE", [](FakeSvm& s) { s.set(Id::Cr4, spec::CR4_VMXE); }},
    {"A27", "PKS", [](FakeSvm& s) { s.set(Id::Cr4, spec::CR4_PKS); }},
    {"A27", "bit 32", [](FakeSvm& s) { s.set(Id::Cr4, 1ull << 32); }},
    {"A28", "bit 32", [](FakeSvm& s) { s.set(Id::Dr6, 1ull << 32); }},
    {"A29", "bit 63", [](FakeSvm& s) { s.set(Id::Dr7, 1ull << 63); }},
    {"A30", "bit 9", [](FakeSvm& s) { s.set(Id::Efer, 1u << 9); }},
    {"A30", "bit 16", [](FakeSvm& s) { s.set(Id::Efer, 1u << 16); }},
    {"A30", "bit 19", [](FakeSvm& s) { s.set(Id::Efer, 1u << 19); }},
    {"A30", "bit 22", [](FakeSvm& s) { s.set(Id::Efer, 1u << 22); }},
    {"A31", "no long mode", [](FakeSvm& s) { s.cpuid.at(0x80000001).edx &= ~(1u << 29); }},
    {"A31", "LMA alone",
     [](FakeSvm& s) {
       s.cpuid.at(0x80000001).edx &= ~(1u << 29);
       s.clear(Id::Efer, spec::EFER_LME);
       s.put(Id::CsAttrib, 0x49b);
     }},
    {"A32", "long mode without PAE", [](FakeSvm& s) { s.clear(Id::Cr4, spec::CR4_PAE); }},
    {"A33", "long mode without PE", [](FakeSvm& s) { s.clear(Id::Cr0, spec::CR0_PE); }},
    {"A34", "L and D", [](FakeSvm& s) { s.set(Id::CsAttrib, 1u << 10); }},
    {"A35", "CET without WP",
     [](FakeSvm& s) {
       s.set(Id::Cr4, spec::CR4_CET);
       s.clear(Id::Cr0, spec::CR0_WP);
     }},
    {"A36", "bit 2", [](FakeSvm& s) { s.put(Id::SCet, 4); }},
    {"A37", "user shadow stacks in v8086 mode",
     [](FakeSvm& s) {
       s.set(Id::Cr4, spec::CR4_CET);
       s.set(Id::Rflags, spec::RFLAGS_VM);
       s.host.u_cet = 1;
     }},
    {"A38", "bit 1 of the first",
     [](FakeSvm& s) { s.make_pae(), s.ram.put64(FakeSvm::kPdpt, 0x6003); }},
    {"A38", "bit 52 of the last",
     [](FakeSvm& s) { s.make_pae(), s.ram.put64(FakeSvm::kPdpt + 24, 1ull << 52 | 0x6001); }},
    {"A38", "paged real mode",
     [](FakeSvm& s) {
       s.make_pae();
       s.clear(Id::Cr0, spec::CR0_PE);
       s.ram.put64(FakeSvm::kPdpt, 1ull << 48 | 0x6001);
     }},
};

TEST(SvmRules, EachMutationBreaksItsRuleAlone) {
  for (const Mutation& mutation : kMutations) {
    FakeSvm svm;
    mutation.change(svm);
    const CheckReport report = check_vmrun(svm.entry());
    EXPECT_THAT(broken(report), Contains(mutation.id)) << mutation.what;
    EXPECT_THAT(broken(report), Not(Contains(Not(mutation.id))))
        << mutation.id << ' ' << mutation.what << '\n'
        << text_of(report);
    for (const Violation& violation : report.violations) {
      EXPECT_FALSE(violation.field.empty());
      EXPECT_FALSE(violation.allowed.empty());
      EXPECT_LT(violation.text().size(), 400u);
    }
  }
}

TEST(SvmRules, EachRowHasAMutation) {
  std::set<std::string_view> mutated;
  for (const Mutation& mutation : kMutations) mutated.insert(mutation.id);
  std::set<std::string_view> rows;
  for (const CheckedRule<SvmCheck>* row : all_rules()) {
    EXPECT_TRUE(rows.insert(row->rule.id).second) << row->rule.id << " is there twice";
    EXPECT_NE(row->check, nullptr) << row->rule.id;
    EXPECT_TRUE(mutated.contains(row->rule.id)) << row->rule.id;
    EXPECT_FALSE(row->rule.section.empty());
  }
  for (const std::string_view id : mutated) EXPECT_TRUE(rows.contains(id)) << id;
}

struct Allowed {
  const char* what;
  Change change;
};

// What looks like a violation and is none.
constexpr Allowed kAllowed[] = {
    {"the highest VMCB", [](FakeSvm& s) { s.vmcb_pa = kLimit - 4_KiB; }},
    {"the last ASID", [](FakeSvm& s) { s.put(Id::Asid, 15); }},
    {"the highest MSRPM, with low bits",
     [](FakeSvm& s) { s.put(Id::MsrpmBasePa, kLimit - 4_KiB - 1); }},
    {"the highest IOPM, with low bits",
     [](FakeSvm& s) { s.put(Id::IopmBasePa, kLimit - 8_KiB - 1); }},
    {"flush by ASID", [](FakeSvm& s) { s.put(Id::TlbControl, 7); }},
    {"RAP control", [](FakeSvm& s) { s.put(Id::RapControl, 3); }},
    {"N_CR3 without nested paging",
     [](FakeSvm& s) { s.clear(Id::NestedControl, 1), s.put(Id::NCr3, ~0ull); }},
    {"low bits of N_CR3", [](FakeSvm& s) { s.put(Id::NCr3, 0x1fff); }},
    {"G_PAT without nested paging",
     [](FakeSvm& s) { s.clear(Id::NestedControl, 1), s.put(Id::GPat, ~0ull); }},
    {"an event that is not valid", [](FakeSvm& s) { s.put(Id::EventInj, 0x7ff); }},
    {"NMI with any vector", [](FakeSvm& s) { s.put(Id::EventInj, kValid | 2 << 8 | 0xff); }},
    {"an interrupt with a low vector", [](FakeSvm& s) { s.put(Id::EventInj, kValid | 2); }},
    {"INT 80h", [](FakeSvm& s) { s.put(Id::EventInj, kValid | 4 << 8 | 0x80); }},
    {"an error code for an exception that has none",
     [](FakeSvm& s) { s.put(Id::EventInj, kValid | kException | 1 << 11 | 6); }},
    {"#BR in compatibility mode",
     [](FakeSvm& s) {
       s.put(Id::CsAttrib, 0x49b);
       s.put(Id::EventInj, kValid | kException | 5);
     }},
    {"AVIC",
     [](FakeSvm& s) {
       s.set(Id::VirtualInterrupt, 1ull << 31);
       s.put(Id::AvicPhysicalTable, 0x60ff);
     }},
    {"a logical table in x2AVIC mode, which does not use it",
     [](FakeSvm& s) {
       s.set(Id::VirtualInterrupt, 3ull << 30);
       s.put(Id::AvicLogicalTable, kLimit);
       s.put(Id::AvicPhysicalTable, 0x61ff);
     }},
    {"AVIC's pointers while it is off", [](FakeSvm& s) { s.put(Id::AvicBackingPage, kLimit); }},
    {"GMET without the feature",
     [](FakeSvm& s) { s.set(Id::NestedControl, 8), s.cpuid.at(0x8000000a).edx &= ~(1u << 17); }},
    {"virtual NMIs",
     [](FakeSvm& s) { s.set(Id::VirtualInterrupt, 1u << 26), s.set(Id::Intercept3, 2); }},
    {"CD, with NW and without", [](FakeSvm& s) { s.set(Id::Cr0, spec::CR0_CD | spec::CR0_NW); }},
    {"bit 63 of CR3 with PCIDs",
     [](FakeSvm& s) { s.set(Id::Cr3, 1ull << 63 | 0xfff), s.set(Id::Cr4, spec::CR4_PCIDE); }},
    {"low bits of CR3", [](FakeSvm& s) { s.set(Id::Cr3, 0xfff); }},
    {"bits 7:1 of EFER, which read as zero", [](FakeSvm& s) { s.set(Id::Efer, 0xfe); }},
    {"LMA without LME and PG",
     [](FakeSvm& s) {
       s.clear(Id::Efer, spec::EFER_LME);
       s.put(Id::CsAttrib, 0x49b);
       s.clear(Id::Cr0, spec::CR0_PG);
     }},
    {"paged real mode",
     [](FakeSvm& s) {
       s.clear(Id::Efer, spec::EFER_LME | spec::EFER_LMA);
       s.clear(Id::Cr0, spec::CR0_PE);
     }},
    {"L and D outside long mode",
     [](FakeSvm& s) {
       s.clear(Id::Efer, spec::EFER_LME | spec::EFER_LMA);
       s.put(Id::CsAttrib, 0x69b);
     }},
    {"S_CET where shadow stacks are not known",
     [](FakeSvm& s) { s.cpuid.at(7).ecx &= ~(1u << 7), s.put(Id::SCet, 4); }},
    {"PDPEs that are not present",
     [](FakeSvm& s) {
       s.make_pae();
       for (unsigned i = 0; i < 4; ++i) s.ram.put64(FakeSvm::kPdpt + 8 * i, ~1ull);
     }},
    {"bits 11:9, PCD and PWT of a PDPE",
     [](FakeSvm& s) { s.make_pae(), s.ram.put64(FakeSvm::kPdpt, 0x6e19); }},
    {"PDPEs under nested paging, which are read on demand",
     [](FakeSvm& s) {
       s.make_pae();
       s.set(Id::NestedControl, 1);
       s.ram.put64(FakeSvm::kPdpt, ~0ull);
     }},
    // Section D: sign-extended, faults in the guest, taken as they are.
    {"bases that are not canonical", [](FakeSvm& s) { s.put(Id::FsBase, 1ull << 60); }},
    {"RIP that is not canonical", [](FakeSvm& s) { s.put(Id::Rip, 1ull << 60); }},
    {"segment attributes", [](FakeSvm& s) { s.put(Id::SsAttrib, 0xfff), s.put(Id::TrAttrib, 0); }},
};

TEST(SvmRules, WhatIsAllowedPasses) {
  for (const Allowed& allowed : kAllowed) {
    FakeSvm svm;
    allowed.change(svm);
    const CheckReport report = check_vmrun(svm.entry());
    EXPECT_TRUE(report.clean()) << allowed.what << '\n' << text_of(report);
    EXPECT_THAT(report.unchecked, IsEmpty()) << allowed.what << '\n' << text_of(report);
  }
}

}  // namespace
}  // namespace vmm::nested
