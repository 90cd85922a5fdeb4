// The rules on the state-save area of the VMCB: what the guest starts with.
#include <fmt/format.h>

#include <array>
#include <utility>

#include "vmm/base/bytes.h"
#include "vmm/core/cpu_state.h"
#include "vmm/nested/svm_check.h"

namespace vmm::nested {

namespace {

using Id = VmcbId;

constexpr std::uint64_t kHigh32 = 0xffffffff00000000;

constexpr std::uint32_t kExtended = 0x80000001;
constexpr CpuidFlag kLongMode{kExtended, CpuidReg::Edx, 29, "LM"};
constexpr CpuidFlag kShadowStacks{7, CpuidReg::Ecx, 7, "CET_SS"};

// A register's bit that is must-be-zero without a feature.
struct FeatureBit {
  CpuidFlag needs;
  std::string_view name;
  unsigned index;
  bool when_clear = false;  // the CPUID bit says that the feature is missing
};

// 3.1.7; bits 7:1 read as zero and are no must-be-zero bits. LME and LMA are A31's, SVME is A23's.
constexpr std::uint64_t kEferReserved = ~low_mask(22) | 1ull << 19 | 1ull << 16 | 1ull << 9;
constexpr FeatureBit kEferFeatures[] = {
    {{kExtended, CpuidReg::Edx, 11, "SysCallSysRet"}, "SCE", 0},
    {{kExtended, CpuidReg::Edx, 20, "NX"}, "NXE", 11},
    {{0x80000008, CpuidReg::Ebx, 20, "EferLmsleUnsupported"}, "LMSLE", 13, true},
    {{kExtended, CpuidReg::Edx, 25, "FFXSR"}, "FFXSR", 14},
    {{kExtended, CpuidReg::Ecx, 17, "TCE"}, "TCE", 15},
    {{0x80000008, CpuidReg::Ebx, 8, "MCOMMIT"}, "MCOMMIT", 17},
    {{0x80000008, CpuidReg::Ebx, 13, "INT_WBINVD"}, "INTWB", 18},
    {{0x80000021, CpuidReg::Eax, 7, "UpperAddressIgnore"}, "UAIE", 20},
    {{0x80000021, CpuidReg::Eax, 8, "AutomaticIBRS"}, "AIBRSE", 21},
};

// 3.1.3. PCE (bit 8) is on each processor.
constexpr std::uint64_t kCr4Reserved = ~low_mask(24) | 1ull << 19 | 7ull << 13;
constexpr FeatureBit kCr4Features[] = {
    {{1, CpuidReg::Edx, 1, "VME"}, "VME", 0},
    {{1, CpuidReg::Edx, 1, "VME"}, "PVI", 1},
    {{1, CpuidReg::Edx, 4, "TSC"}, "TSD", 2},
    {{1, CpuidReg::Edx, 2, "DE"}, "DE", 3},
    {{1, CpuidReg::Edx, 3, "PSE"}, "PSE", 4},
    {{1, CpuidReg::Edx, 6, "PAE"}, "PAE", 5},
    {{1, CpuidReg::Edx, 7, "MCE"}, "MCE", 6},
    {{1, CpuidReg::Edx, 13, "PGE"}, "PGE", 7},
    {{1, CpuidReg::Edx, 24, "FXSR"}, "OSFXSR", 9},
    {{1, CpuidReg::Edx, 25, "SSE"}, "OSXMMEXCPT", 10},
    {{7, CpuidReg::Ecx, 2, "UMIP"}, "UMIP", 11},
    {{7, CpuidReg::Ecx, 16, "LA57"}, "LA57", 12},
    {{7, CpuidReg::Ebx, 0, "FSGSBASE"}, "FSGSBASE", 16},
    {{1, CpuidReg::Ecx, 17, "PCID"}, "PCIDE", 17},
    {{1, CpuidReg::Ecx, 26, "XSAVE"}, "OSXSAVE", 18},
    {{7, CpuidReg::Ebx, 7, "SMEP"}, "SMEP", 20},
    {{7, CpuidReg::Ebx, 20, "SMAP"}, "SMAP", 21},
    {{7, CpuidReg::Ecx, 3, "PKU"}, "PKE", 22},
    {kShadowStacks, "CET", 23},
};

void must_be_zero(SvmCheck& check, VmcbId id, std::uint64_t mask, std::string why = {}) {
  const std::uint64_t bad = check.get(id) & mask;
  if (bad != 0) check.violate(id, bad, bits_text(bad) + " clear", std::move(why));
}

void features_exist(SvmCheck& check, VmcbId id, std::span<const FeatureBit> features) {
  for (const FeatureBit& feature : features) {
    if (!check.bit(id, feature.index)) continue;
    const auto flag = check.has(feature.needs);
    if (flag && *flag == feature.when_clear)
      check.violate(id, 1ull << feature.index,
                    fmt::format("{} (bit {}) clear", feature.name, feature.index),
                    fmt::format("{} is {}", feature.needs.text(), feature.when_clear ? 1 : 0));
  }
}

void svme(SvmCheck& check) {
  if (!check.has_guest_state()) return;
  if ((check.get(Id::Efer) & spec::EFER_SVME) == 0)
    check.violate(Id::Efer, spec::EFER_SVME, "SVME (bit 12) set");
}

void cr0_cache_bits(SvmCheck& check) {
  if (!check.has_guest_state()) return;
  if ((check.get(Id::Cr0) & (spec::CR0_CD | spec::CR0_NW)) == spec::CR0_NW)
    check.violate(Id::Cr0, spec::CR0_CD | spec::CR0_NW, "NW (bit 29) clear, or CD (bit 30) set");
}

void cr0_high(SvmCheck& check) {
  if (check.has_guest_state()) must_be_zero(check, Id::Cr0, kHigh32);
}

// 3.1: address bits that the processor lacks must be zero, in each mode. Bit 63 is free while PCIDs
// are in use (5.3.2). There is no LAM; UAI has no bit in CR3.
void cr3(SvmCheck& check) {
  if (!check.has_guest_state()) return;
  std::uint64_t mask = ~low_mask(52);
  if (check.long_mode() && (check.get(Id::Cr4) & spec::CR4_PCIDE) != 0) mask &= ~(1ull << 63);
  if (const auto end = check.physical_end()) mask |= low_mask(52) & ~(*end - 1);
  must_be_zero(check, Id::Cr3, mask, check.physical_text());
}

void cr4(SvmCheck& check) {
  if (!check.has_guest_state()) return;
  must_be_zero(check, Id::Cr4, kCr4Reserved, "reserved on each processor");
  features_exist(check, Id::Cr4, kCr4Features);
}

void dr6(SvmCheck& check) {
  if (check.has_guest_state()) must_be_zero(check, Id::Dr6, kHigh32);
}
void dr7(SvmCheck& check) {
  if (check.has_guest_state()) must_be_zero(check, Id::Dr7, kHigh32);
}

void efer(SvmCheck& check) {
  if (!check.has_guest_state()) return;
  must_be_zero(check, Id::Efer, kEferReserved, "reserved on each processor");
  features_exist(check, Id::Efer, kEferFeatures);
}

void long_mode_exists(SvmCheck& check) {
  if (!check.has_guest_state()) return;
  const std::uint64_t set = check.get(Id::Efer) & (spec::EFER_LME | spec::EFER_LMA);
  if (set == 0) return;
  const auto can = check.has(kLongMode);
  if (can && !*can)
    check.violate(Id::Efer, set, "LME (bit 8) and LMA (bit 10) clear", kLongMode.text() + " is 0");
}

void long_mode_has_pae(SvmCheck& check) {
  if (!check.has_guest_state()) return;
  if (check.long_mode() && (check.get(Id::Cr4) & spec::CR4_PAE) == 0)
    check.violate(Id::Cr4, spec::CR4_PAE, "PAE (bit 5) set",
                  "EFER.LME (4D0h) and CR0.PG (558h) are set");
}

void long_mode_is_protected(SvmCheck& check) {
  if (!check.has_guest_state()) return;
  if (check.long_mode() && (check.get(Id::Cr0) & spec::CR0_PE) == 0)
    check.violate(Id::Cr0, spec::CR0_PE, "PE (bit 0) set",
                  "EFER.LME (4D0h) and CR0.PG (558h) are set");
}

void cs_is_64_or_32(SvmCheck& check) {
  if (!check.has_guest_state()) return;
  if (check.mode_64() && (check.get(Id::Cr4) & spec::CR4_PAE) != 0 && check.bit(Id::CsAttrib, 10))
    check.violate(Id::CsAttrib, 0x600, "not both L (bit 9) and D (bit 10)",
                  "EFER.LME, CR0.PG and CR4.PAE are set");
}

void cet_needs_wp(SvmCheck& check) {
  if (!check.has_guest_state()) return;
  if ((check.get(Id::Cr4) & spec::CR4_CET) != 0 && (check.get(Id::Cr0) & spec::CR0_WP) == 0)
    check.violate(Id::Cr0, spec::CR0_WP, "WP (bit 16) set", "CR4.CET (548h bit 23) is set");
}

// A processor without shadow stacks does not know the field.
void s_cet(SvmCheck& check) {
  if (!check.has_guest_state()) return;
  const std::uint64_t bad = check.get(Id::SCet) & ~3ull;
  if (bad == 0) return;
  const auto known = check.has(kShadowStacks);
  if (known && *known) must_be_zero(check, Id::SCet, ~3ull, kShadowStacks.text() + " is 1");
}

void u_cet(SvmCheck& check) {
  if (!check.has_guest_state()) return;
  if ((check.get(Id::Cr4) & spec::CR4_CET) == 0 || (check.get(Id::Rflags) & spec::RFLAGS_VM) == 0)
    return;
  if (!check.host().u_cet) return check.missing("U_CET (MSR 6A0h)");
  if (bit(*check.host().u_cet, 0))
    check.violate(Id::Rflags, spec::RFLAGS_VM, "VM (bit 17) clear",
                  "CR4.CET and U_CET.SH_STK_EN are set");
}

// Without nested paging VMRUN reads the four entries, in the format of 5.2.3.
void pdptes(SvmCheck& check) {
  if (!check.has_guest_state()) return;
  const bool pae = (check.get(Id::Cr0) & spec::CR0_PG) != 0 &&
                   (check.get(Id::Cr4) & spec::CR4_PAE) != 0 && !check.long_mode();
  if (!pae || check.np_enabled()) return;
  if (check.entry().memory == nullptr) return check.missing("the hypervisor's memory");
  const auto end = check.physical_end();
  if (!end) return;
  const Gpa table = check.get(Id::Cr3) & 0xffffffe0;
  for (unsigned i = 0; i < 4; ++i) {
    const auto entry = check.entry().memory->read_value<std::uint64_t>(table + 8 * i);
    if (!entry)
      return check.findings.unknown(
          fmt::format("PDPE[{}] would be at {:X}h, which is not RAM", i, table + 8 * i));
    const std::uint64_t bad = *entry & (0x1e6 | ~(*end - 1));
    if (bit(*entry, 0) && bad != 0)
      check.findings
          .violate(fmt::format("PDPE[{}] at {:X}h", i, table + 8 * i), *entry, 16,
                   bits_text(bad) + " clear",
                   fmt::format("PAE paging without nested paging, CR3 (550h) is {:X}h, {}",
                               check.get(Id::Cr3), check.physical_text()))
          .bits = bad;
  }
}

constexpr auto kInvalid = EntryResult::VmexitInvalid;

constexpr CheckedRule<SvmCheck> kRules[] = {
    {{"A23", "15.5.1", "EFER.SVME", "must be set in the guest's EFER", kInvalid, Finder::KvmNamed},
     svme},
    {{"A24", "15.5.1", "CR0", "must not have NW without CD", kInvalid, Finder::KvmNamed},
     cr0_cache_bits},
    {{"A25", "15.5.1", "CR0[63:32]", "must be 0", kInvalid, Finder::KvmNamed}, cr0_high},
    {{"A26", "15.5.1", "CR3", "must have its must-be-zero bits clear", kInvalid, Finder::KvmNamed},
     cr3},
    {{"A27", "15.5.1", "CR4", "must have its must-be-zero bits clear", kInvalid, Finder::KvmNamed},
     cr4},
    {{"A28", "15.5.1", "DR6[63:32]", "must be 0", kInvalid, Finder::KvmNamed}, dr6},
    {{"A29", "15.5.1", "DR7[63:32]", "must be 0", kInvalid, Finder::KvmNamed}, dr7},
    {{"A30", "15.5.1", "EFER", "must have its must-be-zero bits clear", kInvalid, Finder::KvmNamed},
     efer},
    {{"A31", "15.5.1", "EFER.LME and LMA", "must be set only with long mode", kInvalid,
      Finder::KvmNamed},
     long_mode_exists},
    {{"A32", "15.5.1", "CR4.PAE", "must be set in long mode", kInvalid, Finder::KvmNamed},
     long_mode_has_pae},
    {{"A33", "15.5.1", "CR0.PE", "must be set in long mode", kInvalid, Finder::KvmNamed},
     long_mode_is_protected},
    {{"A34", "15.5.1", "CS", "must not have both L and D in long mode", kInvalid,
      Finder::Processor},
     cs_is_64_or_32},
    {{"A35", "15.5.1", "CR0.WP", "must be set with CR4.CET", kInvalid, Finder::Processor},
     cet_needs_wp},
    {{"A36", "15.5.1", "S_CET", "must have its reserved bits clear", kInvalid, Finder::Processor},
     s_cet},
    {{"A37", "15.5.1", "RFLAGS.VM", "must be clear with shadow stacks of user mode", kInvalid,
      Finder::Processor},
     u_cet},
    {{"A38", "15.5.1", "PDPEs", "must have their reserved bits clear where VMRUN reads them",
      kInvalid, Finder::KvmNamed},
     pdptes},
};

}  // namespace

SvmRules svm_state_rules() { return kRules; }

}  // namespace vmm::nested
