#include "vmm/nested/vmx_denied.h"

#include <fmt/format.h>

#include <array>

namespace vmm::nested {
namespace {

struct Row {
  DeniedInstruction instruction;
  std::uint32_t leaf;
  std::uint32_t subleaf;
  CpuidReg reg;
  unsigned bit;
};

constexpr unsigned kEnableRdtscp = 3, kEnableInvpcid = 12, kEnableUserWait = 26;

constexpr std::array<Row, 4> kRows = {{
    {{"RDTSCP", "rdtscp", "CPUID 80000001h.EDX[27]", kEnableRdtscp},
     0x80000001,
     0,
     CpuidReg::Edx,
     27},
    {{"INVPCID", "invpcid", "CPUID 7.0.EBX[10]", kEnableInvpcid}, 7, 0, CpuidReg::Ebx, 10},
    {{"XSAVES", "xsaves", "CPUID Dh.1.EAX[3]", kEnableXsaves}, 0xd, 1, CpuidReg::Eax, 3},
    {{"TPAUSE", "waitpkg", "CPUID 7.0.ECX[5]", kEnableUserWait}, 7, 0, CpuidReg::Ecx, 5},
}};

}  // namespace

std::string DeniedInstruction::text() const {
  return fmt::format(
      "{} is #UD in L2: \"{}\" (SECONDARY[{}]) is 0{}, while {} offers it", name,
      control_name(VmcsField::ProcBasedControls2, control), control,
      !allowed   ? std::string()
      : *allowed ? fmt::format(" though {} allows it", vmx_msr_text(kMsrVmxProcBased2))
                 : fmt::format(", and {} does not allow it", vmx_msr_text(kMsrVmxProcBased2)),
      cpuid);
}

std::vector<DeniedInstruction> denied_instructions(const Vmcs& vmcs,
                                                   const VmxCapabilities& capabilities,
                                                   const CpuidTable& cpuid) {
  std::vector<DeniedInstruction> denied;
  const auto settings = capabilities.get(kMsrVmxProcBased2);
  for (const Row& row : kRows) {
    if (vmcs.secondary(row.instruction.control)) continue;
    if (!cpuid.bit(row.leaf, row.subleaf, row.reg, row.bit)) continue;
    denied.push_back(row.instruction);
    if (settings) denied.back().allowed = (*settings >> row.instruction.msr_bit() & 1) != 0;
  }
  return denied;
}

}  // namespace vmm::nested
