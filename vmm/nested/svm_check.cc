#include "vmm/nested/svm_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "vmm/base/bytes.h"
#include "vmm/core/cpu_state.h"

namespace vmm::nested {

namespace {

unsigned physical_bits(const CpuidTable& cpuid) { return std::clamp(cpuid.phys_bits(), 32u, 52u); }

// A01: the processor is in protected mode and EFER.SVME is set.
void svm_is_on(SvmCheck& check) {
  const SvmHost& host = check.host();
  if (!host.efer)
    check.missing("EFER of the hypervisor");
  else if ((*host.efer & spec::EFER_SVME) == 0)
    check.violate_host("EFER of the hypervisor", *host.efer, "SVME (bit 12) set");
  if (!host.cr0)
    check.missing("CR0 of the hypervisor");
  else if ((*host.cr0 & spec::CR0_PE) == 0)
    check.violate_host("CR0 of the hypervisor", *host.cr0, "PE (bit 0) set");
  if (!host.rflags)
    check.missing("RFLAGS of the hypervisor");
  else if ((*host.rflags & spec::RFLAGS_VM) != 0)
    check.violate_host("RFLAGS of the hypervisor", *host.rflags, "VM (bit 17) clear");
}

void cpl_is_0(SvmCheck& check) {
  const SvmHost& host = check.host();
  if (!host.cpl)
    check.missing("the CPL of the hypervisor");
  else if (*host.cpl != 0)
    check.violate_host("CPL of the hypervisor", *host.cpl, "0");
}

void vmcb_address(SvmCheck& check) {
  if (!check.entry().vmcb_pa) return check.missing("the physical address of the VMCB");
  const Gpa address = *check.entry().vmcb_pa;
  if (bits(address, 11, 0) != 0)
    check.violate_host("rAX", address, "bits 11:0 clear", "a VMCB is a page");
  const auto end = check.physical_end();
  if (end && address >= *end)
    check.violate_host("rAX", address, fmt::format("below {:X}h", *end), check.physical_text());
}

void hsave_address(SvmCheck& check) {
  if (!check.host().hsave_pa) return check.missing("VM_HSAVE_PA (MSR C0010117h)");
  const std::uint64_t address = *check.host().hsave_pa;
  if (address == 0)
    check.violate_host("VM_HSAVE_PA (MSR C0010117h)", address, "the address of a page",
                       "the processor keeps the state of the hypervisor there");
  // WRMSR refuses the following.
  if (bits(address, 11, 0) != 0)
    check.violate_host("VM_HSAVE_PA (MSR C0010117h)", address, "bits 11:0 clear");
  const auto end = check.physical_end();
  if (end && address >= *end)
    check.violate_host("VM_HSAVE_PA (MSR C0010117h)", address, fmt::format("below {:X}h", *end),
                       check.physical_text());
}

void svm_is_not_disabled(SvmCheck& check) {
  if (!check.host().vm_cr) return check.missing("VM_CR (MSR C0010114h)");
  if (bit(*check.host().vm_cr, 4))
    check.violate_host("VM_CR (MSR C0010114h)", *check.host().vm_cr, "SVMDIS (bit 4) clear",
                       bit(*check.host().vm_cr, 3) ? "LOCK (bit 3) is set: firmware decides"
                                                   : "while it is set EFER.SVME must be 0");
}

constexpr CheckedRule<SvmCheck> kRules[] = {
    {{"A01", "15.5.1", "VMRUN", "must be executed in protected mode with EFER.SVME set",
      EntryResult::InvalidOpcode, Finder::KvmSilent},
     svm_is_on},
    {{"A02", "15.5.1", "VMRUN", "must be executed at CPL 0", EntryResult::GeneralProtection,
      Finder::KvmSilent},
     cpl_is_0},
    {{"A03", "15.5.1", "rAX", "must hold the physical address of a page for the VMCB",
      EntryResult::GeneralProtection, Finder::KvmSilent},
     vmcb_address},
    {{"A04", "15.36.12", "VM_HSAVE_PA", "must be set up before VMRUN",
      EntryResult::GeneralProtection, Finder::KvmSilent},
     hsave_address},
    {{"A05", "15.30.1", "VM_CR.SVMDIS", "must be clear, so that WRMSR may set EFER.SVME",
      EntryResult::GeneralProtection, Finder::KvmSilent},
     svm_is_not_disabled},
};

}  // namespace

std::string CpuidFlag::text() const {
  constexpr std::string_view kRegs[] = {"EAX", "EBX", "ECX", "EDX"};
  return fmt::format("CPUID {:X}h.{}[{}] ({})", leaf, kRegs[static_cast<unsigned>(reg)], index,
                     name);
}

void SvmCheck::violate(VmcbId id, std::uint64_t bits, std::string allowed, std::string why) {
  const VmcbField& field = vmcb_field(id);
  // 15.5.1: the checks see what the processor merged, where it takes a clean bit at its word.
  if (field.clean_bit >= 0 && bit(VmcbId::CleanBits, static_cast<unsigned>(field.clean_bit))) {
    if (!why.empty()) why += "; ";
    why +=
        fmt::format("VMCB clean bit {} ({}) is set, so that the processor may check its own copy",
                    field.clean_bit, vmcb_clean_name(static_cast<unsigned>(field.clean_bit)));
  }
  findings.violate(field.place(), get(id), field.digits(), std::move(allowed), std::move(why))
      .bits = bits;
}

void SvmCheck::violate_host(std::string field, std::uint64_t found, std::string allowed,
                            std::string why) {
  findings.violate(std::move(field), found, found > 0xff ? 16 : 1, std::move(allowed),
                   std::move(why));
}

void SvmCheck::missing(std::string_view what) {
  findings.unknown(fmt::format("{} is not known", what));
}

SvmCheck::SvmCheck(const SvmEntry& entry)
    : entry_(entry),
      vmcb_(entry.vmcb),
      sev_es_(vmcb_.is_sev_es() &&
              (entry.cpuid == nullptr || entry.cpuid->bit(0x8000001f, 0, CpuidReg::Eax, 3))) {}

const CpuidTable* SvmCheck::cpuid() {
  if (entry_.cpuid == nullptr) missing("the CPUID of the hypervisor's processor");
  return entry_.cpuid;
}

std::optional<bool> SvmCheck::has(const CpuidFlag& flag) {
  const CpuidTable* table = cpuid();
  if (table == nullptr) return std::nullopt;
  return table->bit(flag.leaf, 0, flag.reg, flag.index);
}

std::optional<std::uint64_t> SvmCheck::physical_end() {
  const CpuidTable* table = cpuid();
  if (table == nullptr) return std::nullopt;
  return 1ull << physical_bits(*table);
}

std::string SvmCheck::physical_text() const {
  if (entry_.cpuid == nullptr) return {};
  return fmt::format("CPUID 80000008h.EAX[7:0] (MAXPHYADDR) is {}", physical_bits(*entry_.cpuid));
}

bool SvmCheck::has_guest_state() {
  if (!sev_es_enabled()) return true;
  findings.unknown("SEV-ES: the guest's registers are in the encrypted VMSA");
  return false;
}

bool SvmCheck::long_mode() const {
  return (get(VmcbId::Efer) & spec::EFER_LME) != 0 && (get(VmcbId::Cr0) & spec::CR0_PG) != 0;
}

SvmRules svm_instruction_rules() { return kRules; }

CheckReport check_vmrun(const SvmEntry& entry) {
  SvmCheck check(entry);
  run_rules(svm_instruction_rules(), check);
  run_rules(svm_control_rules(), check);
  run_rules(svm_state_rules(), check);
  return check.findings.take();
}

}  // namespace vmm::nested
