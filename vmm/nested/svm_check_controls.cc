// The rules on the control area of the VMCB.
#include <fmt/format.h>

#include "vmm/base/bytes.h"
#include "vmm/base/units.h"
#include "vmm/core/cpu_state.h"
#include "vmm/nested/svm_check.h"
#include "vmm/nested/svm_exits.h"

namespace vmm::nested {

namespace {

using Id = VmcbId;

constexpr std::uint32_t kSvmLeaf = 0x8000000a;
constexpr std::uint32_t kSevLeaf = 0x8000001f;
constexpr CpuidFlag kNp{kSvmLeaf, CpuidReg::Edx, 0, "NP"};
constexpr CpuidFlag kFlushByAsid{kSvmLeaf, CpuidReg::Edx, 6, "FlushByAsid"};
constexpr CpuidFlag kX2AvicExt{kSvmLeaf, CpuidReg::Ecx, 6, "x2AVIC_EXT"};
constexpr CpuidFlag kSev{kSevLeaf, CpuidReg::Eax, 1, "SEV"};
constexpr CpuidFlag kSevEs{kSevLeaf, CpuidReg::Eax, 3, "SEV-ES"};
constexpr CpuidFlag kHost64{kSevLeaf, CpuidReg::Eax, 11, "64BitHost"};
constexpr CpuidFlag kShadowStacks{7, CpuidReg::Ecx, 7, "CET_SS"};

constexpr unsigned kVNmiEnable = 26;
constexpr unsigned kX2Avic = 30;
constexpr unsigned kAvic = 31;
constexpr unsigned kSevBit = 1;
constexpr unsigned kSevEsBit = 2;
constexpr unsigned kSssBit = 4;

constexpr std::uint64_t bit_mask(unsigned index) { return 1ull << index; }

void vmrun_intercept(SvmCheck& check) {
  if (!check.bit(Id::Intercept4, 0)) check.violate(Id::Intercept4, 1, "bit 0 (VMRUN) set");
}

void asid_is_not_0(SvmCheck& check) {
  if (check.get(Id::Asid) == 0) check.violate(Id::Asid, 0, "1 or more", "ASID 0 is the host's");
}

void asid_exists(SvmCheck& check) {
  const CpuidTable* cpuid = check.cpuid();
  if (cpuid == nullptr) return;
  if (cpuid->find(kSvmLeaf) == nullptr)
    return check.findings.unknown("CPUID has no leaf 8000000Ah");
  const std::uint32_t count = cpuid->get(kSvmLeaf).ebx;
  if (check.get(Id::Asid) >= count && check.get(Id::Asid) != 0)
    check.violate(Id::Asid, 0, fmt::format("less than {:X}h", count),
                  fmt::format("CPUID 8000000Ah.EBX (number of ASIDs) is {:X}h", count));
}

// 15.10.1, 15.11: bits 11:0 of the base are ignored. The manual names no intercept as a condition.
void table_is_reachable(SvmCheck& check, VmcbId base, std::uint64_t size, unsigned intercept) {
  const auto end = check.physical_end();
  if (!end) return;
  if (align_down(check.get(base), 4_KiB) <= *end - size) return;
  std::string why = fmt::format("a table of {} KiB ends below 2^MAXPHYADDR, {}", size / 1_KiB,
                                check.physical_text());
  if (!check.bit(Id::Intercept3, intercept))
    why += fmt::format("; checked though the intercept {} is not set",
                       svm_intercept_name(3 * 32 + intercept));
  check.violate(base, 0, fmt::format("at most {:X}h", *end - size), std::move(why));
}
void msrpm_is_reachable(SvmCheck& check) { table_is_reachable(check, Id::MsrpmBasePa, 8_KiB, 28); }
void iopm_is_reachable(SvmCheck& check) { table_is_reachable(check, Id::IopmBasePa, 12_KiB, 27); }

void tlb_control(SvmCheck& check) {
  const std::uint64_t value = check.get(Id::TlbControl);
  if (value == 0 || value == 1) return;
  if (value != 3 && value != 7)
    return check.violate(Id::TlbControl, 0, "0, 1, 3 or 7", "other encodings are reserved");
  const auto can = check.has(kFlushByAsid);
  if (can && !*can) check.violate(Id::TlbControl, 0, "0 or 1", kFlushByAsid.text() + " is 0");
}

void np_is_supported(SvmCheck& check) {
  if (!check.np_enabled()) return;
  const auto can = check.has(kNp);
  if (can && !*can)
    check.violate(Id::NestedControl, 1, "NP_ENABLE (bit 0) clear", kNp.text() + " is 0");
}

void np_needs_paging(SvmCheck& check) {
  if (!check.np_enabled()) return;
  if (!check.host().cr0) return check.missing("CR0 of the hypervisor");
  if ((*check.host().cr0 & spec::CR0_PG) == 0)
    check.violate_host("CR0 of the hypervisor", *check.host().cr0, "PG (bit 31) set",
                       "NP_ENABLE (090h bit 0) is set");
}

// Whatever the hypervisor's mode: the bits below those of the table's address are reserved in
// CR3's figures, and not must-be-zero (5.2.1, 5.3.2).
void nested_cr3(SvmCheck& check) {
  if (!check.np_enabled()) return;
  const auto end = check.physical_end();
  if (!end) return;
  const std::uint64_t bad = check.get(Id::NCr3) & ~(*end - 1);
  if (bad != 0) check.violate(Id::NCr3, bad, bits_text(bad) + " clear", check.physical_text());
}

void guest_pat(SvmCheck& check) {
  if (!check.np_enabled() || !check.has_guest_state()) return;
  const std::uint64_t pat = check.get(Id::GPat);
  std::uint64_t bad = 0;
  for (unsigned i = 0; i < 8; ++i) {
    const std::uint64_t type = bits(pat, 8 * i + 7, 8 * i);
    if (type > 7 || type == 2 || type == 3) bad |= 0xffull << (8 * i);
  }
  if (bad != 0)
    check.violate(Id::GPat, bad, "0, 1, 4, 5, 6 or 7 in each byte",
                  bits_text(bad) + " of no memory type; G_PAT counts as NP_ENABLE is set");
}

// EVENTINJ, where an event is to be injected.
struct Event {
  bool valid;
  unsigned type;
  unsigned vector;
};
Event event_of(const SvmCheck& check) {
  const std::uint64_t value = check.get(Id::EventInj);
  return {bit(value, 31), static_cast<unsigned>(bits(value, 10, 8)),
          static_cast<unsigned>(bits(value, 7, 0))};
}

void event_type(SvmCheck& check) {
  const Event event = event_of(check);
  if (!event.valid || event.type == 0 || (event.type >= 2 && event.type <= 4)) return;
  check.violate(Id::EventInj, 0x700, "TYPE (bits 10:8) 0, 2, 3 or 4",
                fmt::format("type {} is reserved", event.type));
}

void event_vector(SvmCheck& check) {
  const Event event = event_of(check);
  if (!event.valid || event.type != 3) return;
  const auto refuse = [&](std::string why) {
    check.violate(Id::EventInj, 0xff, "the vector of an exception with TYPE 3", std::move(why));
  };
  const std::string_view name = svm_exception_name(event.vector);
  if (name.empty())
    return refuse(event.vector == 2 ? "vector 2 is NMI, which has TYPE 2"
                                    : fmt::format("vector {} is no exception", event.vector));
  // 15.36.16: for guests with Restricted Injection alone, which their VMSA says.
  if (event.vector == 28) {
    if (check.sev_es_enabled())
      return check.findings.unknown("SEV-ES: whether #HV may be injected is in the VMSA");
    return refuse("#HV (vector 28) is for SEV-SNP guests with Restricted Injection");
  }
  const CpuidFlag* needs = event.vector == 21   ? &kShadowStacks
                           : event.vector == 29 ? &kSevEs
                                                : nullptr;
  if (needs == nullptr) return;
  const auto can = check.has(*needs);
  if (can && !*can) refuse(fmt::format("{} needs {}, which is 0", name, needs->text()));
}

// 15.20 has #BR in 64-bit mode for an example. INTO, from which alone #OF comes, is not there
// either. What else might be impossible the manual does not say.
void event_mode(SvmCheck& check) {
  const Event event = event_of(check);
  if (!event.valid || event.type != 3 || (event.vector != 4 && event.vector != 5)) return;
  if (!check.has_guest_state() || !check.mode_64()) return;
  check.violate(Id::EventInj, 0xff, "an event that the guest's mode has",
                fmt::format("{} cannot occur in 64-bit mode: EFER.LME, CR0.PG and CS.L are set",
                            svm_exception_name(event.vector)));
}

void avic_pointer(SvmCheck& check, VmcbId id, std::uint64_t size) {
  const auto end = check.physical_end();
  if (!end) return;
  const std::uint64_t address = check.get(id) & 0x000ffffffffff000;
  if (address > *end - size)
    check.violate(id, 0, fmt::format("an address of at most {:X}h", *end - size),
                  fmt::format("AVIC is enabled, {}", check.physical_text()));
}

void avic(SvmCheck& check) {
  const bool x2avic = check.bit(Id::VirtualInterrupt, kX2Avic);
  if (!check.bit(Id::VirtualInterrupt, kAvic)) {
    if (x2avic)
      check.violate(Id::VirtualInterrupt, bit_mask(kX2Avic) | bit_mask(kAvic),
                    "AVIC_ENABLE (bit 31) set with x2AVIC_ENABLE (bit 30)");
    return;
  }
  if (!check.np_enabled())
    check.violate(Id::NestedControl, 1, "NP_ENABLE (bit 0) set", "AVIC is enabled (060h bit 31)");
  const std::uint64_t index = bits(check.get(Id::AvicPhysicalTable), 11, 0);
  const auto more = check.has(kX2AvicExt);
  // Without x2AVIC_EXT the table is one page.
  std::uint64_t pages = 1;
  if (!x2avic && index > 255) {
    check.violate(Id::AvicPhysicalTable, 0xfff, "AVIC_PHYSICAL_MAX_INDEX of at most 255",
                  "xAVIC mode: 060h bit 30 is clear");
  } else if (more && !*more && index > 511) {
    check.violate(Id::AvicPhysicalTable, 0xfff, "AVIC_PHYSICAL_MAX_INDEX of at most 511",
                  kX2AvicExt.text() + " is 0");
  } else if (more && *more) {
    pages = bits(index, 11, 9) + 1;
  }
  avic_pointer(check, Id::AvicBackingPage, 4_KiB);
  if (!x2avic) avic_pointer(check, Id::AvicLogicalTable, 4_KiB);
  avic_pointer(check, Id::AvicPhysicalTable, pages * 4_KiB);
}

// A bit that turns a feature on. GMET is left out: where it is missing the bit is ignored
// (15.25.13).
struct Enable {
  VmcbId field;
  unsigned bit;
  CpuidFlag needs;
};
constexpr Enable kEnables[] = {
    {Id::Intercept5, 4, {kSvmLeaf, CpuidReg::Edx, 24, "TlbiCtl"}},
    {Id::Intercept5, 5, {kSvmLeaf, CpuidReg::Edx, 29, "BusLockThreshold"}},
    {Id::Intercept5, 6, {kSvmLeaf, CpuidReg::Edx, 30, "IdleHltIntercept"}},
    {Id::VirtualInterrupt, 25, {kSvmLeaf, CpuidReg::Edx, 16, "VGIF"}},
    {Id::VirtualInterrupt, kVNmiEnable, {kSvmLeaf, CpuidReg::Edx, 25, "VNMI"}},
    {Id::VirtualInterrupt, kX2Avic, {kSvmLeaf, CpuidReg::Edx, 18, "x2AVIC"}},
    {Id::VirtualInterrupt, kAvic, {kSvmLeaf, CpuidReg::Edx, 13, "AVIC"}},
    {Id::NestedControl, kSevBit, kSev},
    {Id::NestedControl, kSevEsBit, kSevEs},
    {Id::NestedControl, kSssBit, {kSvmLeaf, CpuidReg::Edx, 19, "SSSCheck"}},
    {Id::NestedControl, 5, {kSevLeaf, CpuidReg::Eax, 16, "VTE"}},
    {Id::NestedControl, 6, {kSvmLeaf, CpuidReg::Edx, 21, "ROGPT"}},
    {Id::NestedControl, 7, {kSvmLeaf, CpuidReg::Edx, 24, "TlbiCtl"}},
    {Id::VirtExt, 0, {kSvmLeaf, CpuidReg::Edx, 1, "LbrVirt"}},
    {Id::VirtExt, 1, {kSvmLeaf, CpuidReg::Edx, 15, "VMSAVEvirt"}},
    {Id::VirtExt, 2, {kSvmLeaf, CpuidReg::Edx, 26, "IbsVirt"}},
    {Id::VirtExt, 3, {kSvmLeaf, CpuidReg::Edx, 8, "PmcVirt"}},
};

void features_exist(SvmCheck& check) {
  for (const Enable& enable : kEnables) {
    if (!check.bit(enable.field, enable.bit)) continue;
    const auto can = check.has(enable.needs);
    if (can && !*can)
      check.violate(enable.field, bit_mask(enable.bit), fmt::format("bit {} clear", enable.bit),
                    enable.needs.text() + " is 0");
  }
}

void vnmi_needs_intercept(SvmCheck& check) {
  if (check.bit(Id::VirtualInterrupt, kVNmiEnable) && !check.bit(Id::Intercept3, 1))
    check.violate(Id::Intercept3, 2, "bit 1 (NMI) set", "V_NMI_ENABLE (060h bit 26) is set");
}

void sss_needs_np(SvmCheck& check) {
  if (check.bit(Id::NestedControl, kSssBit) && !check.np_enabled())
    check.violate(Id::NestedControl, 1 | bit_mask(kSssBit),
                  "NP_ENABLE (bit 0) set with SSSCheckEn (bit 4)");
}

void sev_es(SvmCheck& check) {
  if (!check.bit(Id::NestedControl, kSevBit))
    check.violate(Id::NestedControl, 6, "SEV (bit 1) set with SEV-ES (bit 2)");
  if (!check.bit(Id::VirtExt, 0))
    check.violate(Id::VirtExt, 1, "LBR_VIRTUALIZATION_ENABLE (bit 0) set",
                  "SEV-ES is enabled (090h bit 2)");
  const Event event = event_of(check);
  if (event.valid &&
      (event.type == 4 || (event.type == 3 && (event.vector == 3 || event.vector == 4))))
    check.violate(Id::EventInj, 0x7ff, "no software interrupt, #BP or #OF",
                  "SEV-ES is enabled (090h bit 2)");
}

void sev(SvmCheck& check) {
  const bool with_es = check.bit(Id::NestedControl, kSevEsBit);
  if (!with_es && !check.bit(Id::NestedControl, kSevBit)) return;
  const CpuidTable* cpuid = check.cpuid();
  // Without SEV, SYSCFG.MemEncryptionModEn cannot be set, and without that the bits are ignored
  // (15.34.3): A21 tells.
  if (cpuid == nullptr || !*check.has(kSev)) return;
  if (with_es && *check.has(kSevEs)) sev_es(check);
  if (!check.np_enabled())
    check.violate(Id::NestedControl, 1, "NP_ENABLE (bit 0) set with SEV (bit 1)");
  const CpuidRegs leaf = cpuid->get(kSevLeaf);
  if (check.get(Id::Asid) > leaf.ecx)
    check.violate(Id::Asid, 0, fmt::format("at most {:X}h with SEV", leaf.ecx),
                  fmt::format("CPUID 8000001Fh.ECX (encrypted guests) is {:X}h", leaf.ecx));
  if (!with_es && check.get(Id::Asid) < leaf.edx)
    check.violate(Id::Asid, 0, fmt::format("at least {:X}h with SEV and no SEV-ES", leaf.edx),
                  fmt::format("CPUID 8000001Fh.EDX is {:X}h", leaf.edx));
  if (*check.has(kHost64)) {
    if (!check.host().efer)
      check.missing("EFER of the hypervisor");
    else if ((*check.host().efer & spec::EFER_LMA) == 0)
      check.violate_host("EFER of the hypervisor", *check.host().efer, "LMA (bit 10) set",
                         kHost64.text() + " is 1 and SEV is enabled");
  }
  // The one may make the bits ignored, the other must be set.
  check.missing("whether SYSCFG.MemEncryptionModEn and HWCR.SmmLock are set");
}

constexpr auto kInvalid = EntryResult::VmexitInvalid;
constexpr auto kUndefined = EntryResult::Undefined;

constexpr CheckedRule<SvmCheck> kRules[] = {
    {{"A07", "15.5.1", "VMRUN intercept", "must be set", kInvalid, Finder::KvmNamed},
     vmrun_intercept},
    {{"A08", "15.5.1", "Guest ASID", "must not be 0", kInvalid, Finder::KvmNamed}, asid_is_not_0},
    {{"A09", "15.5.1", "Guest ASID", "must be one that the processor has", kUndefined,
      Finder::Nobody},
     asid_exists},
    {{"A10", "15.11", "MSRPM_BASE_PA", "must lead to two pages below MAXPHYADDR", kInvalid,
      Finder::KvmNamed},
     msrpm_is_reachable},
    {{"A11", "15.10.1", "IOPM_BASE_PA", "must lead to three pages below MAXPHYADDR", kInvalid,
      Finder::KvmNamed},
     iopm_is_reachable},
    {{"A12", "15.16.1", "TLB_CONTROL", "must have a defined encoding", kUndefined, Finder::Nobody},
     tlb_control},
    {{"A13", "15.25.3", "NP_ENABLE", "must be set only with support for nested paging", kUndefined,
      Finder::Nobody},
     np_is_supported},
    {{"A14", "15.25.3", "NP_ENABLE", "must be set only with paging on in the hypervisor", kInvalid,
      Finder::Nobody},
     np_needs_paging},
    {{"A15", "15.25.4", "N_CR3", "must have its must-be-zero bits clear", kInvalid, Finder::Nobody},
     nested_cr3},
    {{"A16", "15.25.4", "G_PAT", "must have valid memory types", kInvalid, Finder::Nobody},
     guest_pat},
    {{"A17", "15.20", "EVENTINJ", "must have a type that is not reserved", kInvalid,
      Finder::Processor},
     event_type},
    {{"A18", "15.20", "EVENTINJ", "must have the vector of an exception where its type is that",
      kInvalid, Finder::Processor},
     event_vector},
    {{"A19", "15.20", "EVENTINJ", "must be possible in the guest's mode", kInvalid,
      Finder::Processor},
     event_mode},
    {{"A20", "15.29.4", "AVIC", "must have legal tables and nested paging", kInvalid,
      Finder::NotOffered},
     avic},
    {{"A21", "B", "Features", "must be enabled only where CPUID has them", kUndefined,
      Finder::Nobody},
     features_exist},
    {{"A44", "15.21.10", "V_NMI_ENABLE", "must be set only with the NMI intercept", kInvalid,
      Finder::KvmNamed},
     vnmi_needs_intercept},
    {{"A45", "15.25.14", "SSSCheckEn", "must be set only with nested paging", kInvalid,
      Finder::NotOffered},
     sss_needs_np},
    {{"A22", "15.34.3", "SEV", "must be enabled with all that it needs", kInvalid,
      Finder::NotOffered},
     sev},
};

}  // namespace

SvmRules svm_control_rules() { return kRules; }

}  // namespace vmm::nested
