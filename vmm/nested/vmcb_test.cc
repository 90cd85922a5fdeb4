#include "vmm/nested/vmcb.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <bitset>

namespace vmm::nested {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

TEST(VmcbFields, AreInOrderAndDoNotOverlap) {
  std::size_t end = 0;
  for (std::size_t i = 0; i < vmcb_fields().size(); ++i) {
    const VmcbField& field = vmcb_fields()[i];
    EXPECT_EQ(static_cast<std::size_t>(field.id), i) << field.name;
    EXPECT_GE(field.offset, end) << field.name;
    EXPECT_EQ(field.offset < kVmcbSaveArea, field.id < VmcbId::EsSelector) << field.name;
    if (field.is_number() && field.size != 1) {
      EXPECT_EQ(field.offset % field.size, 0) << field.name;
    }
    end = field.offset + field.size;
    EXPECT_LE(end, kVmcbSize);
  }
  EXPECT_EQ(static_cast<std::size_t>(VmcbId::IcIbsExtdCtl) + 1, vmcb_fields().size());
}

TEST(VmcbFields, NamedBitsAscendAndFit) {
  for (const VmcbField& field : vmcb_fields()) {
    int last = -1;
    for (const VmcbBits& bits : field.bits) {
      EXPECT_GT(static_cast<int>(bits.low), last) << field.name << ' ' << bits.name;
      EXPECT_GE(bits.high, bits.low) << bits.name;
      EXPECT_LT(bits.high, 8 * field.size) << field.name << ' ' << bits.name;
      last = bits.high;
    }
    if (field.clean_bit >= 0) {
      EXPECT_FALSE(vmcb_clean_name(static_cast<unsigned>(field.clean_bit)).empty());
    }
  }
}

struct Place {
  const char* place;
  unsigned size;
  VmcbId id;
};

// Of tables B-1 and B-2.
TEST(VmcbFields, AreWhereTheManualHasThem) {
  constexpr Place kPlaces[] = {
      {"Intercept vector 4 (010h)", 4, VmcbId::Intercept4},
      {"PAUSE Filter Count (03Eh)", 2, VmcbId::PauseFilterCount},
      {"IOPM_BASE_PA (040h)", 8, VmcbId::IopmBasePa},
      {"MSRPM_BASE_PA (048h)", 8, VmcbId::MsrpmBasePa},
      {"Guest ASID (058h)", 4, VmcbId::Asid},
      {"TLB_CONTROL (05Ch)", 1, VmcbId::TlbControl},
      {"EXITCODE (070h)", 8, VmcbId::ExitCode},
      {"EVENTINJ (0A8h)", 8, VmcbId::EventInj},
      {"N_CR3 (0B0h)", 8, VmcbId::NCr3},
      {"nRIP (0C8h)", 8, VmcbId::NRip},
      {"AVIC PHYSICAL_TABLE Pointer (0F8h)", 8, VmcbId::AvicPhysicalTable},
      {"VMSA Pointer (108h)", 8, VmcbId::VmsaPointer},
      {"CS attrib (412h)", 2, VmcbId::CsAttrib},
      {"GDTR limit (464h)", 4, VmcbId::GdtrLimit},
      {"TR base (498h)", 8, VmcbId::TrBase},
      {"CPL (4CBh)", 1, VmcbId::Cpl},
      {"EFER (4D0h)", 8, VmcbId::Efer},
      {"CR4 (548h)", 8, VmcbId::Cr4},
      {"CR3 (550h)", 8, VmcbId::Cr3},
      {"CR0 (558h)", 8, VmcbId::Cr0},
      {"DR7 (560h)", 8, VmcbId::Dr7},
      {"DR6 (568h)", 8, VmcbId::Dr6},
      {"RFLAGS (570h)", 8, VmcbId::Rflags},
      {"RIP (578h)", 8, VmcbId::Rip},
      {"RSP (5D8h)", 8, VmcbId::Rsp},
      {"S_CET (5E0h)", 8, VmcbId::SCet},
      {"RAX (5F8h)", 8, VmcbId::Rax},
      {"CR2 (640h)", 8, VmcbId::Cr2},
      {"G_PAT (668h)", 8, VmcbId::GPat},
      {"SPEC_CTRL (6E0h)", 8, VmcbId::SpecCtrl},
  };
  for (const Place& place : kPlaces) {
    EXPECT_EQ(vmcb_field(place.id).place(), place.place);
    EXPECT_EQ(vmcb_field(place.id).size, place.size);
  }
}

std::vector<std::string> names(VmcbId id, std::uint64_t value) {
  std::vector<std::string> texts;
  for (const VmcbBitValue& bit : vmcb_bits(vmcb_field(id), value))
    texts.push_back(bit.text() + (bit.reserved ? "?" : ""));
  return texts;
}

TEST(VmcbFields, InterceptsHaveTheNamesOfTheirExits) {
  EXPECT_THAT(names(VmcbId::InterceptCr, 0x00010008), ElementsAre("CR3_READ", "CR0_WRITE"));
  EXPECT_THAT(names(VmcbId::InterceptDr, 0x80000001), ElementsAre("DR0_READ", "DR15_WRITE"));
  EXPECT_THAT(names(VmcbId::InterceptExceptions, 1 << 14 | 1 << 2), ElementsAre("bit 2?", "#PF"));
  EXPECT_THAT(names(VmcbId::Intercept3, 1u << 18 | 1u << 31 | 1),
              ElementsAre("INTR", "CPUID", "SHUTDOWN"));
  EXPECT_THAT(names(VmcbId::Intercept4, 0x00018001),
              ElementsAre("VMRUN", "EFER_WRITE_TRAP", "CR0_WRITE_TRAP"));
  EXPECT_THAT(names(VmcbId::Intercept5, 0xc1), ElementsAre("INVLPGB", "IDLE_HLT", "bit 7?"));
}

TEST(VmcbFields, BitsHaveNamesAndGroupsHaveValues) {
  EXPECT_THAT(names(VmcbId::VirtualInterrupt, 0x2081080105),
              ElementsAre("V_TPR=5h", "V_IRQ", "V_INTR_PRIO=8h", "V_INTR_MASKING", "AVIC_ENABLE",
                          "V_INTR_VECTOR=20h"));
  EXPECT_THAT(names(VmcbId::VirtualInterrupt, 1 << 10), ElementsAre("bit 10?"));
  EXPECT_THAT(names(VmcbId::NestedControl, 1 | 1 << 9), ElementsAre("NP_ENABLE", "bit 9?"));
  EXPECT_THAT(names(VmcbId::CsAttrib, 0x29b), ElementsAre("type=Bh", "S", "P", "L"));
  EXPECT_THAT(names(VmcbId::Rflags, 0x3002), ElementsAre("IOPL=3h"));
  EXPECT_THAT(names(VmcbId::CleanBits, 0x21), ElementsAre("I", "CRx"));
  EXPECT_THAT(names(VmcbId::Rip, 0x3002), IsEmpty());
  EXPECT_THAT(names(VmcbId::EventInj, ~0ull), Contains("ERRORCODE=FFFFFFFFh"));
}

struct Page {
  Page() { put(VmcbId::Asid, 5); }
  void put(VmcbId id, std::uint64_t value) { put_vmcb(bytes, id, value); }
  Vmcb vmcb() const { return Vmcb(bytes); }
  VmcbBytes bytes{};
};

TEST(Vmcb, EachFieldReadsWhatWasPut) {
  for (const VmcbField& field : vmcb_fields()) {
    if (!field.is_number()) continue;
    Page page;
    page.put(VmcbId::Asid, 0);
    page.put(field.id, 0xfedcba9876543210);
    const std::uint64_t mask = field.size == 8 ? ~0ull : (1ull << 8 * field.size) - 1;
    EXPECT_EQ(page.vmcb().get(field.id), 0xfedcba9876543210 & mask) << field.name;
    EXPECT_EQ(page.bytes[field.offset], 0x10) << field.name;
    // And nothing else.
    EXPECT_THAT(decode_vmcb(page.vmcb()), SizeIs(1)) << field.name;
  }
}

TEST(Vmcb, OtherSizesAreRefused) {
  const std::vector<std::uint8_t> bytes(4095);
  const auto view = Vmcb::view(bytes);
  ASSERT_FALSE(view);
  EXPECT_THAT(view.error().text(), HasSubstr("it has 4095 bytes, a VMCB is a page of 4096"));
  EXPECT_TRUE(Vmcb::view(VmcbBytes{}));
}

TEST(Vmcb, EmptyPageHasNothingToShow) {
  const VmcbBytes bytes{};
  EXPECT_THAT(describe(Vmcb(bytes)), IsEmpty());
  EXPECT_THAT(describe(Vmcb(bytes), VmcbShow::All), SizeIs(vmcb_fields().size()));
}

TEST(Vmcb, LinesHaveNameValueBitsAndWords) {
  Page page;
  page.put(VmcbId::Intercept4, 3);
  page.put(VmcbId::ExitCode, 0x400);
  page.put(VmcbId::ExitInfo1, 0x100000006);
  page.put(VmcbId::ExitInfo2, 0xfee00000);
  page.put(VmcbId::EventInj, 0x80000b0e | 2ull << 32);
  page.put(VmcbId::Cr0, 0x80000011);
  EXPECT_THAT(
      describe(page.vmcb()),
      ElementsAre("010h Intercept vector 4 = 00000003h VMRUN VMMCALL",
                  "058h Guest ASID = 00000005h",
                  "070h EXITCODE = 0000000000000400h: VMEXIT_NPF (400h): nested page fault",
                  "078h EXITINFO1 = 0000000100000006h: write to guest physical address FEE00000h: "
                  "not present in the nested tables (W|U|final)",
                  "080h EXITINFO2 = 00000000FEE00000h",
                  "0A8h EVENTINJ = 0000000280000B0Eh VECTOR=Eh TYPE=3h EV V ERRORCODE=2h: #PF "
                  "(exception 14), error code 2h",
                  "558h CR0 = 0000000080000011h PE ET PG"));
}

TEST(Vmcb, WideFieldsAreCut) {
  Page page;
  const VmcbField& irr = vmcb_field(VmcbId::RequestedIrr);
  std::fill_n(page.bytes.begin() + irr.offset, irr.size, std::uint8_t{0xab});
  const auto values = decode_vmcb(page.vmcb());
  ASSERT_THAT(values, SizeIs(2));
  EXPECT_EQ(values[1].shown, "AB AB AB AB AB AB AB AB AB AB AB AB AB AB AB AB ... (32 bytes)");
}

TEST(Vmcb, SevEsSaysWhereTheStateIs) {
  Page page;
  page.put(VmcbId::NestedControl, 6);
  EXPECT_TRUE(page.vmcb().is_sev_es());
  EXPECT_THAT(describe(page.vmcb()), Contains(HasSubstr("in the encrypted VMSA")));
}

}  // namespace
}  // namespace vmm::nested
