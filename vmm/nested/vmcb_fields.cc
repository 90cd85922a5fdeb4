#include "vmm/nested/vmcb_fields.h"

#include <fmt/format.h>

#include <array>

#include "vmm/base/bytes.h"
#include "vmm/base/check.h"
#include "vmm/nested/svm_exits.h"

namespace vmm::nested {

namespace {

using Id = VmcbId;

constexpr std::int8_t kNotCached = -1;

constexpr VmcbBits kRapControl[] = {{"ALLOW_LARGER_RAP", 0, 0}, {"CLEAR_RAP", 1, 1}};
constexpr VmcbBits kVirtualInterrupt[] = {{"V_TPR", 3, 0},
                                          {"V_IRQ", 8, 8},
                                          {"VGIF", 9, 9},
                                          {"V_NMI", 11, 11},
                                          {"V_NMI_MASK", 12, 12},
                                          {"V_INTR_PRIO", 19, 16},
                                          {"V_IGN_TPR", 20, 20},
                                          {"V_INTR_MASKING", 24, 24},
                                          {"VGIF_ENABLE", 25, 25},
                                          {"V_NMI_ENABLE", 26, 26},
                                          {"x2AVIC_ENABLE", 30, 30},
                                          {"AVIC_ENABLE", 31, 31},
                                          {"V_INTR_VECTOR", 39, 32}};
constexpr VmcbBits kInterruptShadow[] = {{"INTERRUPT_SHADOW", 0, 0},
                                         {"GUEST_INTERRUPT_MASK", 1, 1}};
constexpr VmcbBits kEvent[] = {
    {"VECTOR", 7, 0}, {"TYPE", 10, 8}, {"EV", 11, 11}, {"V", 31, 31}, {"ERRORCODE", 63, 32}};
constexpr VmcbBits kNestedControl[] = {
    {"NP_ENABLE", 0, 0},  {"SEV", 1, 1}, {"SEV-ES", 2, 2}, {"GMET", 3, 3},
    {"SSSCheckEn", 4, 4}, {"VTE", 5, 5}, {"ROGPT", 6, 6},  {"INVLPGB/TLBSYNC", 7, 7}};
constexpr VmcbBits kVirtExt[] = {{"LBR_VIRTUALIZATION_ENABLE", 0, 0},
                                 {"VMSAVE/VMLOAD virtualization", 1, 1},
                                 {"IBS virtualization", 2, 2},
                                 {"PMC virtualization", 3, 3}};
constexpr VmcbBits kCleanBits[] = {
    {"I", 0, 0},     {"IOPM", 1, 1},   {"ASID", 2, 2}, {"TPR", 3, 3}, {"NP", 4, 4},
    {"CRx", 5, 5},   {"DRx", 6, 6},    {"DT", 7, 7},   {"SEG", 8, 8}, {"CR2", 9, 9},
    {"LBR", 10, 10}, {"AVIC", 11, 11}, {"CET", 12, 12}};
constexpr VmcbBits kPhysicalTable[] = {{"AVIC_PHYSICAL_MAX_INDEX", 11, 0},
                                       {"PHYSICAL_TABLE[51:12]", 51, 12}};
constexpr VmcbBits kUpdateIrr[] = {{"UPDATE_IRR", 0, 0}};
constexpr VmcbBits kAllowedSev[] = {{"ALLOWED_SEV_FEATURES_MASK", 61, 0},
                                    {"ALLOWED_SEV_FEATURES_EN", 63, 63}};
constexpr VmcbBits kSevFeatures[] = {{"SNPActive", 0, 0},
                                     {"vTOM", 1, 1},
                                     {"ReflectVC", 2, 2},
                                     {"RestrictedInjection", 3, 3},
                                     {"AlternateInjection", 4, 4},
                                     {"DebugVirtualization", 5, 5},
                                     {"PreventHostIBS", 6, 6},
                                     {"BTBIsolation", 7, 7},
                                     {"VmplSSS", 8, 8},
                                     {"SecureTSC", 9, 9},
                                     {"VmgexitParameter", 10, 10},
                                     {"PmcVirtualization", 11, 11},
                                     {"IbsVirtualization", 12, 12},
                                     {"GuestInterceptCtl", 13, 13},
                                     {"VmsaRegProt", 14, 14},
                                     {"SmtProtection", 15, 15},
                                     {"SecureAvic", 16, 16},
                                     {"IbpbOnEntry", 21, 21}};
// Bits 55:52 and 47:40 of a descriptor (15.5.1).
constexpr VmcbBits kAttributes[] = {{"type", 3, 0}, {"S", 4, 4}, {"DPL", 6, 5},   {"P", 7, 7},
                                    {"AVL", 8, 8},  {"L", 9, 9}, {"D/B", 10, 10}, {"G", 11, 11}};
constexpr VmcbBits kEfer[] = {{"SCE", 0, 0},     {"LME", 8, 8},    {"LMA", 10, 10},
                              {"NXE", 11, 11},   {"SVME", 12, 12}, {"LMSLE", 13, 13},
                              {"FFXSR", 14, 14}, {"TCE", 15, 15},  {"MCOMMIT", 17, 17},
                              {"INTWB", 18, 18}, {"UAIE", 20, 20}, {"AIBRSE", 21, 21}};
constexpr VmcbBits kCr0[] = {{"PE", 0, 0},   {"MP", 1, 1},   {"EM", 2, 2},   {"TS", 3, 3},
                             {"ET", 4, 4},   {"NE", 5, 5},   {"WP", 16, 16}, {"AM", 18, 18},
                             {"NW", 29, 29}, {"CD", 30, 30}, {"PG", 31, 31}};
constexpr VmcbBits kCr4[] = {
    {"VME", 0, 0},    {"PVI", 1, 1},        {"TSD", 2, 2},          {"DE", 3, 3},
    {"PSE", 4, 4},    {"PAE", 5, 5},        {"MCE", 6, 6},          {"PGE", 7, 7},
    {"PCE", 8, 8},    {"OSFXSR", 9, 9},     {"OSXMMEXCPT", 10, 10}, {"UMIP", 11, 11},
    {"LA57", 12, 12}, {"FSGSBASE", 16, 16}, {"PCIDE", 17, 17},      {"OSXSAVE", 18, 18},
    {"SMEP", 20, 20}, {"SMAP", 21, 21},     {"PKE", 22, 22},        {"CET", 23, 23}};
// Bit 1 is always set and says nothing.
constexpr VmcbBits kRflags[] = {{"CF", 0, 0},   {"PF", 2, 2},     {"AF", 4, 4},    {"ZF", 6, 6},
                                {"SF", 7, 7},   {"TF", 8, 8},     {"IF", 9, 9},    {"DF", 10, 10},
                                {"OF", 11, 11}, {"IOPL", 13, 12}, {"NT", 14, 14},  {"RF", 16, 16},
                                {"VM", 17, 17}, {"AC", 18, 18},   {"VIF", 19, 19}, {"VIP", 20, 20},
                                {"ID", 21, 21}};
constexpr VmcbBits kCet[] = {{"SH_STK_EN", 0, 0}, {"WR_SHSTK_EN", 1, 1}};
constexpr VmcbBits kDbgCtl[] = {{"LBR", 0, 0}, {"BTF", 1, 1}};

constexpr VmcbField kFields[] = {
    {"Intercept vector 0 (CR)", Id::InterceptCr, 0, 0x000, 4},
    {"Intercept vector 1 (DR)", Id::InterceptDr, 0, 0x004, 4},
    {"Intercept vector 2 (exceptions)", Id::InterceptExceptions, 0, 0x008, 4},
    {"Intercept vector 3", Id::Intercept3, 0, 0x00c, 4},
    {"Intercept vector 4", Id::Intercept4, 0, 0x010, 4},
    {"Intercept vector 5", Id::Intercept5, 0, 0x014, 4},
    {"PAUSE Filter Threshold", Id::PauseFilterThreshold, kNotCached, 0x03c, 2},
    {"PAUSE Filter Count", Id::PauseFilterCount, kNotCached, 0x03e, 2},
    {"IOPM_BASE_PA", Id::IopmBasePa, 1, 0x040, 8},
    {"MSRPM_BASE_PA", Id::MsrpmBasePa, 1, 0x048, 8},
    {"TSC_OFFSET", Id::TscOffset, 0, 0x050, 8},
    {"Guest ASID", Id::Asid, 2, 0x058, 4},
    {"TLB_CONTROL", Id::TlbControl, kNotCached, 0x05c, 1},
    {"RAP control", Id::RapControl, kNotCached, 0x05d, 1, kRapControl},
    {"Virtual Interrupt Control", Id::VirtualInterrupt, 3, 0x060, 8, kVirtualInterrupt},
    {"Interrupt shadow", Id::InterruptShadow, kNotCached, 0x068, 8, kInterruptShadow},
    {"EXITCODE", Id::ExitCode, kNotCached, 0x070, 8},
    {"EXITINFO1", Id::ExitInfo1, kNotCached, 0x078, 8},
    {"EXITINFO2", Id::ExitInfo2, kNotCached, 0x080, 8},
    {"EXITINTINFO", Id::ExitIntInfo, kNotCached, 0x088, 8, kEvent},
    {"Nested paging and SEV control", Id::NestedControl, kNotCached, 0x090, 8, kNestedControl},
    {"AVIC APIC_BAR", Id::AvicApicBar, 11, 0x098, 8},
    {"GHCB address", Id::GhcbGpa, kNotCached, 0x0a0, 8},
    {"EVENTINJ", Id::EventInj, kNotCached, 0x0a8, 8, kEvent},
    {"N_CR3", Id::NCr3, 4, 0x0b0, 8},
    {"LBR and VMSAVE virtualization", Id::VirtExt, kNotCached, 0x0b8, 8, kVirtExt},
    {"VMCB Clean Bits", Id::CleanBits, kNotCached, 0x0c0, 4, kCleanBits},
    {"nRIP", Id::NRip, kNotCached, 0x0c8, 8},
    {"Number of bytes fetched", Id::BytesFetched, kNotCached, 0x0d0, 1},
    {"Guest instruction bytes", Id::InstructionBytes, kNotCached, 0x0d1, 15},
    {"AVIC APIC_BACKING_PAGE Pointer", Id::AvicBackingPage, 11, 0x0e0, 8},
    {"AVIC LOGICAL_TABLE Pointer", Id::AvicLogicalTable, 11, 0x0f0, 8},
    {"AVIC PHYSICAL_TABLE Pointer", Id::AvicPhysicalTable, 11, 0x0f8, 8, kPhysicalTable},
    {"VMSA Pointer", Id::VmsaPointer, kNotCached, 0x108, 8},
    {"VMGEXIT_RAX", Id::VmgexitRax, kNotCached, 0x110, 8},
    {"VMGEXIT_CPL", Id::VmgexitCpl, kNotCached, 0x118, 1},
    {"Bus Lock Threshold Counter", Id::BusLockCounter, kNotCached, 0x120, 2},
    {"UPDATE_IRR", Id::UpdateIrr, kNotCached, 0x134, 4, kUpdateIrr},
    {"ALLOWED_SEV_FEATURES", Id::AllowedSevFeatures, kNotCached, 0x138, 8, kAllowedSev},
    {"GUEST_SEV_FEATURES", Id::GuestSevFeatures, kNotCached, 0x140, 8, kSevFeatures},
    {"REQUESTED_IRR", Id::RequestedIrr, kNotCached, 0x150, 32},
    {"Reserved for Host usage", Id::HostUse, kNotCached, 0x3e0, 32},
    {"ES selector", Id::EsSelector, 8, 0x400, 2},
    {"ES attrib", Id::EsAttrib, 8, 0x402, 2, kAttributes},
    {"ES limit", Id::EsLimit, 8, 0x404, 4},
    {"ES base", Id::EsBase, 8, 0x408, 8},
    {"CS selector", Id::CsSelector, 8, 0x410, 2},
    {"CS attrib", Id::CsAttrib, 8, 0x412, 2, kAttributes},
    {"CS limit", Id::CsLimit, 8, 0x414, 4},
    {"CS base", Id::CsBase, 8, 0x418, 8},
    {"SS selector", Id::SsSelector, 8, 0x420, 2},
    {"SS attrib", Id::SsAttrib, 8, 0x422, 2, kAttributes},
    {"SS limit", Id::SsLimit, 8, 0x424, 4},
    {"SS base", Id::SsBase, 8, 0x428, 8},
    {"DS selector", Id::DsSelector, 8, 0x430, 2},
    {"DS attrib", Id::DsAttrib, 8, 0x432, 2, kAttributes},
    {"DS limit", Id::DsLimit, 8, 0x434, 4},
    {"DS base", Id::DsBase, 8, 0x438, 8},
    {"FS selector", Id::FsSelector, kNotCached, 0x440, 2},
    {"FS attrib", Id::FsAttrib, kNotCached, 0x442, 2, kAttributes},
    {"FS limit", Id::FsLimit, kNotCached, 0x444, 4},
    {"FS base", Id::FsBase, kNotCached, 0x448, 8},
    {"GS selector", Id::GsSelector, kNotCached, 0x450, 2},
    {"GS attrib", Id::GsAttrib, kNotCached, 0x452, 2, kAttributes},
    {"GS limit", Id::GsLimit, kNotCached, 0x454, 4},
    {"GS base", Id::GsBase, kNotCached, 0x458, 8},
    {"GDTR limit", Id::GdtrLimit, 7, 0x464, 4},
    {"GDTR base", Id::GdtrBase, 7, 0x468, 8},
    {"LDTR selector", Id::LdtrSelector, kNotCached, 0x470, 2},
    {"LDTR attrib", Id::LdtrAttrib, kNotCached, 0x472, 2, kAttributes},
    {"LDTR limit", Id::LdtrLimit, kNotCached, 0x474, 4},
    {"LDTR base", Id::LdtrBase, kNotCached, 0x478, 8},
    {"IDTR limit", Id::IdtrLimit, 7, 0x484, 4},
    {"IDTR base", Id::IdtrBase, 7, 0x488, 8},
    {"TR selector", Id::TrSelector, kNotCached, 0x490, 2},
    {"TR attrib", Id::TrAttrib, kNotCached, 0x492, 2, kAttributes},
    {"TR limit", Id::TrLimit, kNotCached, 0x494, 4},
    {"TR base", Id::TrBase, kNotCached, 0x498, 8},
    {"CPL", Id::Cpl, 8, 0x4cb, 1},
    {"EFER", Id::Efer, 5, 0x4d0, 8, kEfer},
    {"PERF_CTL0", Id::PerfCtl0, kNotCached, 0x4e0, 8},
    {"PERF_CTR0", Id::PerfCtr0, kNotCached, 0x4e8, 8},
    {"PERF_CTL1", Id::PerfCtl1, kNotCached, 0x4f0, 8},
    {"PERF_CTR1", Id::PerfCtr1, kNotCached, 0x4f8, 8},
    {"PERF_CTL2", Id::PerfCtl2, kNotCached, 0x500, 8},
    {"PERF_CTR2", Id::PerfCtr2, kNotCached, 0x508, 8},
    {"PERF_CTL3", Id::PerfCtl3, kNotCached, 0x510, 8},
    {"PERF_CTR3", Id::PerfCtr3, kNotCached, 0x518, 8},
    {"PERF_CTL4", Id::PerfCtl4, kNotCached, 0x520, 8},
    {"PERF_CTR4", Id::PerfCtr4, kNotCached, 0x528, 8},
    {"PERF_CTL5", Id::PerfCtl5, kNotCached, 0x530, 8},
    {"PERF_CTR5", Id::PerfCtr5, kNotCached, 0x538, 8},
    {"CR4", Id::Cr4, 5, 0x548, 8, kCr4},
    {"CR3", Id::Cr3, 5, 0x550, 8},
    {"CR0", Id::Cr0, 5, 0x558, 8, kCr0},
    {"DR7", Id::Dr7, 6, 0x560, 8},
    {"DR6", Id::Dr6, 6, 0x568, 8},
    {"RFLAGS", Id::Rflags, kNotCached, 0x570, 8, kRflags},
    {"RIP", Id::Rip, kNotCached, 0x578, 8},
    {"INSTR_RETIRED_CTR", Id::InstrRetiredCtr, kNotCached, 0x5c0, 8},
    {"PERF_CTR_GLOBAL_STS", Id::PerfGlobalStatus, kNotCached, 0x5c8, 8},
    {"PERF_CTR_GLOBAL_CTL", Id::PerfGlobalControl, kNotCached, 0x5d0, 4},
    {"RSP", Id::Rsp, kNotCached, 0x5d8, 8},
    {"S_CET", Id::SCet, 12, 0x5e0, 8, kCet},
    {"SSP", Id::Ssp, 12, 0x5e8, 8},
    {"ISST_ADDR", Id::IsstAddr, 12, 0x5f0, 8},
    {"RAX", Id::Rax, kNotCached, 0x5f8, 8},
    {"STAR", Id::Star, kNotCached, 0x600, 8},
    {"LSTAR", Id::Lstar, kNotCached, 0x608, 8},
    {"CSTAR", Id::Cstar, kNotCached, 0x610, 8},
    {"SFMASK", Id::Sfmask, kNotCached, 0x618, 8},
    {"KernelGsBase", Id::KernelGsBase, kNotCached, 0x620, 8},
    {"SYSENTER_CS", Id::SysenterCs, kNotCached, 0x628, 8},
    {"SYSENTER_ESP", Id::SysenterEsp, kNotCached, 0x630, 8},
    {"SYSENTER_EIP", Id::SysenterEip, kNotCached, 0x638, 8},
    {"CR2", Id::Cr2, 9, 0x640, 8},
    {"G_PAT", Id::GPat, 4, 0x668, 8},
    {"DBGCTL", Id::DbgCtl, 10, 0x670, 8, kDbgCtl},
    {"BR_FROM", Id::BrFrom, 10, 0x678, 8},
    {"BR_TO", Id::BrTo, 10, 0x680, 8},
    {"LASTEXCPFROM", Id::LastExcpFrom, 10, 0x688, 8},
    {"LASTEXCPTO", Id::LastExcpTo, 10, 0x690, 8},
    {"DBGEXTNCTL", Id::DbgExtnCtl, kNotCached, 0x698, 8},
    {"SPEC_CTRL", Id::SpecCtrl, kNotCached, 0x6e0, 8},
    {"LBR_STACK_FROM, LBR_STACK_TO", Id::LbrStack, kNotCached, 0xa70, 256},
    {"LBR_SELECT", Id::LbrSelect, kNotCached, 0xb70, 8},
    {"IBS_FETCH_CTL", Id::IbsFetchCtl, kNotCached, 0xb78, 8},
    {"IBS_FETCH_LINADDR", Id::IbsFetchLinaddr, kNotCached, 0xb80, 8},
    {"IBS_OP_CTL", Id::IbsOpCtl, kNotCached, 0xb88, 8},
    {"IBS_OP_RIP", Id::IbsOpRip, kNotCached, 0xb90, 8},
    {"IBS_OP_DATA", Id::IbsOpData, kNotCached, 0xb98, 8},
    {"IBS_OP_DATA2", Id::IbsOpData2, kNotCached, 0xba0, 8},
    {"IBS_OP_DATA3", Id::IbsOpData3, kNotCached, 0xba8, 8},
    {"IBS_DC_LINADDR", Id::IbsDcLinaddr, kNotCached, 0xbb0, 8},
    {"BP_IBSTGT_RIP", Id::BpIbstgtRip, kNotCached, 0xbb8, 8},
    {"IC_IBS_EXTD_CTL", Id::IcIbsExtdCtl, kNotCached, 0xbc0, 8},
};

// A bit that means something only by being clear, or nothing at all.
bool is_silent(const VmcbField& field, unsigned index) {
  return field.id == VmcbId::Rflags && index == 1;
}

}  // namespace

std::string VmcbField::place() const { return fmt::format("{} ({:03X}h)", name, offset); }

std::span<const VmcbField> vmcb_fields() { return kFields; }

const VmcbField& vmcb_field(VmcbId id) {
  const auto index = static_cast<std::size_t>(id);
  VMM_CHECK(index < std::size(kFields), "a field of the VMCB");
  return kFields[index];
}

std::string VmcbBitValue::text() const {
  if (high == low) return name;
  return fmt::format("{}={:X}h", name, value);
}

std::vector<VmcbBitValue> vmcb_bits(const VmcbField& field, std::uint64_t value) {
  std::vector<VmcbBitValue> found;
  if (field.is_intercepts()) {
    const unsigned vector = static_cast<unsigned>(field.id);
    for (std::uint8_t i = 0; i < 32; ++i) {
      if (!bit(value, i)) continue;
      const std::string name = svm_intercept_name(vector * 32 + i);
      found.push_back({name.empty() ? fmt::format("bit {}", i) : name, i, i, 1, name.empty()});
    }
    return found;
  }
  if (field.bits.empty()) return found;
  std::size_t next = 0;
  for (std::uint8_t i = 0; i < 64; ++i) {
    while (next < field.bits.size() && field.bits[next].high < i) ++next;
    if (next < field.bits.size() && field.bits[next].low == i) {
      const VmcbBits& group = field.bits[next];
      const std::uint64_t part = bits(value, group.high, group.low);
      if (part != 0) found.push_back({std::string(group.name), group.high, group.low, part});
      i = group.high;
    } else if (bit(value, i) && !is_silent(field, i)) {
      found.push_back({fmt::format("bit {}", i), i, i, 1, true});
    }
  }
  return found;
}

std::string_view vmcb_clean_name(unsigned bit) {
  return bit < std::size(kCleanBits) ? kCleanBits[bit].name : std::string_view();
}

}  // namespace vmm::nested
