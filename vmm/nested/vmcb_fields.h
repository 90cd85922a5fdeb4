// The layout of a VMCB (APM vol. 2, appendix B, tables B-1 and B-2): each field by its name in the
// manual, and each bit of it that has a name.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace vmm::nested {

constexpr std::size_t kVmcbSize = 4096;
constexpr std::size_t kVmcbSaveArea = 0x400;  // the state-save area; the control area is before it

// In the order of their offsets.
enum class VmcbId : std::uint8_t {
  InterceptCr,
  InterceptDr,
  InterceptExceptions,
  Intercept3,
  Intercept4,
  Intercept5,
  PauseFilterThreshold,
  PauseFilterCount,
  IopmBasePa,
  MsrpmBasePa,
  TscOffset,
  Asid,
  TlbControl,
  RapControl,
  VirtualInterrupt,
  InterruptShadow,
  ExitCode,
  ExitInfo1,
  ExitInfo2,
  ExitIntInfo,
  NestedControl,
  AvicApicBar,
  GhcbGpa,
  EventInj,
  NCr3,
  VirtExt,
  CleanBits,
  NRip,
  BytesFetched,
  InstructionBytes,
  AvicBackingPage,
  AvicLogicalTable,
  AvicPhysicalTable,
  VmsaPointer,
  VmgexitRax,
  VmgexitCpl,
  BusLockCounter,
  UpdateIrr,
  AllowedSevFeatures,
  GuestSevFeatures,
  RequestedIrr,
  HostUse,
  EsSelector,
  EsAttrib,
  EsLimit,
  EsBase,
  CsSelector,
  CsAttrib,
  CsLimit,
  CsBase,
  SsSelector,
  SsAttrib,
  SsLimit,
  SsBase,
  DsSelector,
  DsAttrib,
  DsLimit,
  DsBase,
  FsSelector,
  FsAttrib,
  FsLimit,
  FsBase,
  GsSelector,
  GsAttrib,
  GsLimit,
  GsBase,
  GdtrLimit,
  GdtrBase,
  LdtrSelector,
  LdtrAttrib,
  LdtrLimit,
  LdtrBase,
  IdtrLimit,
  IdtrBase,
  TrSelector,
  TrAttrib,
  TrLimit,
  TrBase,
  Cpl,
  Efer,
  PerfCtl0,
  PerfCtr0,
  PerfCtl1,
  PerfCtr1,
  PerfCtl2,
  PerfCtr2,
  PerfCtl3,
  PerfCtr3,
  PerfCtl4,
  PerfCtr4,
  PerfCtl5,
  PerfCtr5,
  Cr4,
  Cr3,
  Cr0,
  Dr7,
  Dr6,
  Rflags,
  Rip,
  InstrRetiredCtr,
  PerfGlobalStatus,
  PerfGlobalControl,
  Rsp,
  SCet,
  Ssp,
  IsstAddr,
  Rax,
  Star,
  Lstar,
  Cstar,
  Sfmask,
  KernelGsBase,
  SysenterCs,
  SysenterEsp,
  SysenterEip,
  Cr2,
  GPat,
  DbgCtl,
  BrFrom,
  BrTo,
  LastExcpFrom,
  LastExcpTo,
  DbgExtnCtl,
  SpecCtrl,
  LbrStack,
  LbrSelect,
  IbsFetchCtl,
  IbsFetchLinaddr,
  IbsOpCtl,
  IbsOpRip,
  IbsOpData,
  IbsOpData2,
  IbsOpData3,
  IbsDcLinaddr,
  BpIbstgtRip,
  IcIbsExtdCtl
};

// Bits high:low of a field.
struct VmcbBits {
  std::string_view name;
  std::uint8_t high;
  std::uint8_t low;
};

struct VmcbField {
  std::string_view name;
  VmcbId id;
  // The VMCB clean bit of its group (15.15.3): while it is set the processor may use its own copy.
  // -1: such a field is read at each VMRUN, or not at all by VMRUN.
  std::int8_t clean_bit;
  std::uint16_t offset;  // from the start of the VMCB, in the state-save area too
  std::uint16_t size;    // bytes
  // Empty: the value is a number. The bits of the intercept vectors have the names of their exits.
  std::span<const VmcbBits> bits = {};

  unsigned digits() const { return size >= 8 ? 16 : 2u * size; }  // in hexadecimal
  bool is_number() const { return size <= 8; }
  bool is_intercepts() const { return id <= VmcbId::Intercept5; }
  std::string place() const;  // "CR0 (558h)"
};

// All of them; a field's index is its id.
std::span<const VmcbField> vmcb_fields();
const VmcbField& vmcb_field(VmcbId id);

// Some bits of a field's value: one that is set, or a group whose value is not 0.
struct VmcbBitValue {
  std::string name;  // "NP_ENABLE", "CR0_WRITE"; "bit 13" where the manual has no name for it
  std::uint8_t high;
  std::uint8_t low;
  std::uint64_t value;
  bool reserved = false;

  std::string text() const;  // "NP_ENABLE", "V_TPR=3h"
};

// The bits of `value` that are not 0, from bit 0 up; empty for a field that is a plain number.
std::vector<VmcbBitValue> vmcb_bits(const VmcbField& field, std::uint64_t value);

// The VMCB clean bits, by name: "ASID", "CRx"; empty beyond them.
std::string_view vmcb_clean_name(unsigned bit);

}  // namespace vmm::nested
