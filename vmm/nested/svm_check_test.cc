#include "vmm/nested/svm_check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "vmm/nested/svm_fake.h"

namespace vmm::nested {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

using Id = VmcbId;
constexpr std::uint64_t kValid = 1ull << 31;  // of EVENTINJ
constexpr std::uint64_t kException = 3 << 8;
constexpr std::uint64_t kLimit = 1ull << 48;  // 2^MAXPHYADDR

TEST(SvmCheck, GoodEntryKeepsEachRule) {
  const FakeSvm good;
  const CheckReport report = check_vmrun(good.entry());
  EXPECT_TRUE(report.clean()) << text_of(report);
  EXPECT_THAT(report.unchecked, IsEmpty()) << text_of(report);
  EXPECT_EQ(report.checked, all_rules().size());
}

// Each bit of EFER and CR4 that a feature allows, and the CPUID bit in the reason.
struct FeatureCase {
  const char* text;
  const char* rule;
  std::uint32_t leaf;
  unsigned bit;
  unsigned index;
  Id field;
  CpuidReg reg;
};
constexpr FeatureCase kFeatures[] = {
    {"CPUID 80000001h.EDX[11] (SysCallSysRet)", "A30", 0x80000001, 0, 11, Id::Efer, CpuidReg::Edx},
    {"CPUID 80000001h.EDX[20] (NX)", "A30", 0x80000001, 11, 20, Id::Efer, CpuidReg::Edx},
    {"CPUID 80000001h.EDX[25] (FFXSR)", "A30", 0x80000001, 14, 25, Id::Efer, CpuidReg::Edx},
    {"CPUID 80000001h.ECX[17] (TCE)", "A30", 0x80000001, 15, 17, Id::Efer, CpuidReg::Ecx},
    {"CPUID 80000008h.EBX[8] (MCOMMIT)", "A30", 0x80000008, 17, 8, Id::Efer, CpuidReg::Ebx},
    {"CPUID 80000008h.EBX[13] (INT_WBINVD)", "A30", 0x80000008, 18, 13, Id::Efer, CpuidReg::Ebx},
    {"CPUID 80000021h.EAX[7] (UpperAddressIgnore)", "A30", 0x80000021, 20, 7, Id::Efer,
     CpuidReg::Eax},
    {"CPUID 80000021h.EAX[8] (AutomaticIBRS)", "A30", 0x80000021, 21, 8, Id::Efer, CpuidReg::Eax},
    {"CPUID 1h.EDX[1] (VME)", "A27", 1, 0, 1, Id::Cr4, CpuidReg::Edx},
    {"CPUID 1h.EDX[1] (VME)", "A27", 1, 1, 1, Id::Cr4, CpuidReg::Edx},
    {"CPUID 1h.EDX[4] (TSC)", "A27", 1, 2, 4, Id::Cr4, CpuidReg::Edx},
    {"CPUID 1h.EDX[2] (DE)", "A27", 1, 3, 2, Id::Cr4, CpuidReg::Edx},
    {"CPUID 1h.EDX[3] (PSE)", "A27", 1, 4, 3, Id::Cr4, CpuidReg::Edx},
    {"CPUID 1h.EDX[6] (PAE)", "A27", 1, 5, 6, Id::Cr4, CpuidReg::Edx},
    {"CPUID 1h.EDX[7] (MCE)", "A27", 1, 6, 7, Id::Cr4, CpuidReg::Edx},
    {"CPUID 1h.EDX[13] (PGE)", "A27", 1, 7, 13, Id::Cr4, CpuidReg::Edx},
    {"CPUID 1h.EDX[24] (FXSR)", "A27", 1, 9, 24, Id::Cr4, CpuidReg::Edx},
    {"CPUID 1h.EDX[25] (SSE)", "A27", 1, 10, 25, Id::Cr4, CpuidReg::Edx},
    {"CPUID 7h.ECX[2] (UMIP)", "A27", 7, 11, 2, Id::Cr4, CpuidReg::Ecx},
    {"CPUID 7h.ECX[16] (LA57)", "A27", 7, 12, 16, Id::Cr4, CpuidReg::Ecx},
    {"CPUID 7h.EBX[0] (FSGSBASE)", "A27", 7, 16, 0, Id::Cr4, CpuidReg::Ebx},
    {"CPUID 1h.ECX[17] (PCID)", "A27", 1, 17, 17, Id::Cr4, CpuidReg::Ecx},
    {"CPUID 1h.ECX[26] (XSAVE)", "A27", 1, 18, 26, Id::Cr4, CpuidReg::Ecx},
    {"CPUID 7h.EBX[7] (SMEP)", "A27", 7, 20, 7, Id::Cr4, CpuidReg::Ebx},
    {"CPUID 7h.EBX[20] (SMAP)", "A27", 7, 21, 20, Id::Cr4, CpuidReg::Ebx},
    {"CPUID 7h.ECX[3] (PKU)", "A27", 7, 22, 3, Id::Cr4, CpuidReg::Ecx},
    {"CPUID 7h.ECX[7] (CET_SS)", "A27", 7, 23, 7, Id::Cr4, CpuidReg::Ecx},
    {"CPUID 8000000Ah.EDX[24] (TlbiCtl)", "A21", 0x8000000a, 4, 24, Id::Intercept5, CpuidReg::Edx},
    {"CPUID 8000000Ah.EDX[29] (BusLockThreshold)", "A21", 0x8000000a, 5, 29, Id::Intercept5,
     CpuidReg::Edx},
    {"CPUID 8000000Ah.EDX[30] (IdleHltIntercept)", "A21", 0x8000000a, 6, 30, Id::Intercept5,
     CpuidReg::Edx},
    {"CPUID 8000000Ah.EDX[19] (SSSCheck)", "A21", 0x8000000a, 4, 19, Id::NestedControl,
     CpuidReg::Edx},
    {"CPUID 8000001Fh.EAX[16] (VTE)", "A21", 0x8000001f, 5, 16, Id::NestedControl, CpuidReg::Eax},
    {"CPUID 8000000Ah.EDX[21] (ROGPT)", "A21", 0x8000000a, 6, 21, Id::NestedControl, CpuidReg::Edx},
    {"CPUID 8000000Ah.EDX[24] (TlbiCtl)", "A21", 0x8000000a, 7, 24, Id::NestedControl,
     CpuidReg::Edx},
    {"CPUID 8000000Ah.EDX[1] (LbrVirt)", "A21", 0x8000000a, 0, 1, Id::VirtExt, CpuidReg::Edx},
    {"CPUID 8000000Ah.EDX[15] (VMSAVEvirt)", "A21", 0x8000000a, 1, 15, Id::VirtExt, CpuidReg::Edx},
    {"CPUID 8000000Ah.EDX[26] (IbsVirt)", "A21", 0x8000000a, 2, 26, Id::VirtExt, CpuidReg::Edx},
    {"CPUID 8000000Ah.EDX[8] (PmcVirt)", "A21", 0x8000000a, 3, 8, Id::VirtExt, CpuidReg::Edx},
};

TEST(SvmCheck, FeatureBitsHangOnCpuid) {
  for (const FeatureCase& feature : kFeatures) {
    FakeSvm svm;
    svm.set(feature.field, 1ull << feature.bit);
    EXPECT_TRUE(check_vmrun(svm.entry()).clean()) << feature.text;
    svm.cpuid.at(feature.leaf)[feature.reg] &= ~(1u << feature.index);
    const CheckReport report = check_vmrun(svm.entry());
    const auto found =
        std::find_if(report.violations.begin(), report.violations.end(), [&](const Violation& v) {
          return v.rule->id == feature.rule && v.bits == 1ull << feature.bit;
        });
    ASSERT_NE(found, report.violations.end()) << feature.text << '\n' << text_of(report);
    EXPECT_EQ(found->why, std::string(feature.text) + " is 0");
  }
  // The one bit that CPUID takes away.
  FakeSvm svm;
  svm.set(Id::Efer, 1u << 13);
  EXPECT_TRUE(check_vmrun(svm.entry()).clean());
  svm.cpuid.at(0x80000008).ebx |= 1u << 20;
  const CheckReport report = check_vmrun(svm.entry());
  ASSERT_THAT(broken(report), ElementsAre("A30"));
  EXPECT_EQ(report.violations[0].why, "CPUID 80000008h.EBX[20] (EferLmsleUnsupported) is 1");
}

// Exceptions that can be injected (table 8-1), in compatibility mode, where #OF and #BR exist.
TEST(SvmCheck, VectorsOfExceptionsAreKnown) {
  const std::set<unsigned> good = {0,  1,  3,  4,  5,  6,  7,  8,  10, 11,
                                   12, 13, 14, 16, 17, 18, 19, 21, 29, 30};
  for (unsigned vector = 0; vector < 256; ++vector) {
    FakeSvm svm;
    svm.put(Id::CsAttrib, 0x49b);
    svm.put(Id::EventInj, kValid | kException | vector);
    EXPECT_EQ(check_vmrun(svm.entry()).clean(), good.contains(vector)) << vector;
  }
}

TEST(SvmCheck, LineSaysFieldValueAllowedAndReason) {
  FakeSvm svm;
  svm.clear(Id::Intercept4, 1);
  svm.set(Id::Cr3, kLimit);
  svm.set(Id::Cr4, spec::CR4_VMXE | 3ull << 62);
  const CheckReport report = check_vmrun(svm.entry());
  ASSERT_THAT(report.violations, SizeIs(3));
  EXPECT_EQ(
      report.violations[0].text(),
      "A07 VMRUN intercept must be set: Intercept vector 4 (010h) is 00000002h, allowed: bit 0 "
      "(VMRUN) set");
  EXPECT_EQ(report.violations[1].text(),
            "A26 CR3 must have its must-be-zero bits clear: CR3 (550h) is 0001000000002000h, "
            "allowed: bit "
            "48 clear (CPUID 80000008h.EAX[7:0] (MAXPHYADDR) is 48)");
  EXPECT_EQ(report.violations[1].bits, kLimit);
  EXPECT_EQ(report.violations[2].text(),
            "A27 CR4 must have its must-be-zero bits clear: CR4 (548h) is C0000000000022A0h, "
            "allowed: bits "
            "63:62, 13 clear (reserved on each processor)");
  EXPECT_EQ(result_text(report.violations[0].rule->result),
            "#VMEXIT with EXITCODE -1 (VMEXIT_INVALID)");
}

TEST(SvmCheck, CleanBitsAreNamed) {
  FakeSvm svm;
  svm.clear(Id::Efer, spec::EFER_SVME);
  svm.put(Id::CleanBits, 1u << 5);
  const CheckReport report = check_vmrun(svm.entry());
  ASSERT_THAT(report.violations, SizeIs(1));
  EXPECT_EQ(report.violations[0].why,
            "VMCB clean bit 5 (CRx) is set, so that the processor may check its own copy");
}

// What is not known is said, never passed.
TEST(SvmCheck, MissingInputsLeaveRulesUnchecked) {
  FakeSvm svm;
  SvmEntry entry{.vmcb = svm.bytes};
  CheckReport report = check_vmrun(entry);
  EXPECT_TRUE(report.clean()) << text_of(report);
  // EFER and CR4 of the guest have bits set that hang on CPUID.
  EXPECT_THAT(unchecked(report), ElementsAre("A01", "A02", "A03", "A04", "A05", "A09", "A10", "A11",
                                             "A13", "A14", "A15", "A26", "A27", "A30", "A31"))
      << text_of(report);
  EXPECT_EQ(report.checked + report.unchecked.size(), all_rules().size());

  entry.cpuid = &svm.cpuid;
  EXPECT_THAT(unchecked(check_vmrun(entry)), ElementsAre("A01", "A02", "A03", "A04", "A05", "A14"));

  // Each field that a missing input would decide.
  svm.make_pae();
  svm.set(Id::VirtualInterrupt, 1ull << 31);
  svm.set(Id::VirtExt, 2);
  svm.put(Id::TlbControl, 3);
  svm.put(Id::SCet, 4);
  svm.set(Id::Cr4, spec::CR4_CET);
  svm.set(Id::Rflags, spec::RFLAGS_VM);
  svm.set(Id::NestedControl, 2);
  svm.put(Id::EventInj, kValid | kException | 21);
  entry.cpuid = nullptr;
  report = check_vmrun(entry);
  for (const char* id : {"A12", "A18", "A20", "A21", "A22", "A36", "A37", "A38"})
    EXPECT_THAT(unchecked(report), Contains(id)) << text_of(report);
  for (const Unchecked& rule : report.unchecked) EXPECT_THAT(rule.why, HasSubstr("not known"));
}

TEST(SvmCheck, BitsReservedEverywhereNeedNoCpuid) {
  FakeSvm svm;
  svm.set(Id::Efer, 1u << 9);
  svm.set(Id::Cr4, spec::CR4_VMXE);
  svm.set(Id::Cr3, 1ull << 60);
  const CheckReport report = check_vmrun({.vmcb = svm.bytes});
  EXPECT_THAT(broken(report), ElementsAre("A26", "A27", "A30"));
  EXPECT_THAT(unchecked(report), Contains("A27")) << "the other bits still are";
}

TEST(SvmCheck, PdpesOutsideOfRamAreUnchecked) {
  FakeSvm svm;
  svm.make_pae();
  svm.put(Id::Cr3, 0x7fff0000);
  const CheckReport report = check_vmrun(svm.entry());
  EXPECT_TRUE(report.clean());
  ASSERT_THAT(unchecked(report), ElementsAre("A38"));
  EXPECT_EQ(report.unchecked[0].why, "PDPE[0] would be at 7FFF0000h, which is not RAM");
}

TEST(SvmCheck, SevEsHidesTheStateAndSevNeedsWhatIsNotKnown) {
  FakeSvm svm;
  svm.set(Id::NestedControl, 6);
  svm.set(Id::VirtExt, 1);
  svm.put(Id::Efer, 0);
  svm.put(Id::Cr4, ~0ull);
  CheckReport report = check_vmrun(svm.entry());
  EXPECT_TRUE(report.clean()) << text_of(report);
  EXPECT_THAT(report.unchecked, SizeIs(1 + 1 + svm_state_rules().size())) << text_of(report);
  EXPECT_THAT(unchecked(report), Contains("A22")) << "SmmLock";
  // Where the processor does not know SEV-ES the bits are ignored, and the state is here.
  svm.cpuid.at(0x8000001f).eax = 0;
  report = check_vmrun(svm.entry());
  EXPECT_THAT(broken(report), Contains("A23"));
  EXPECT_THAT(broken(report), Contains("A27"));
}

TEST(SvmCheck, ListsOfBitsAreBounded) {
  EXPECT_EQ(bit_list(0), "");
  EXPECT_EQ(bit_list(1), "0");
  EXPECT_EQ(bit_list(~0ull), "63:0");
  EXPECT_EQ(bit_list(0xf000000000000203), "63:60, 9, 1:0");
  EXPECT_EQ(bit_list(0x5555555555555555), "62, 60, 58, 56, 54, 52, ...");
}

}  // namespace
}  // namespace vmm::nested
