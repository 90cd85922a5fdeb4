// What the tables of VMX rules share. Each row's code looks at `entry` and tells `findings`.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "vmm/nested/vmx_entry.h"

namespace vmm::nested {

class VmxCheck {
 public:
  explicit VmxCheck(const VmxEntry& the_entry) : entry(the_entry) {}

  const VmxEntry& entry;
  Findings findings = {};

  std::uint64_t get(VmcsField field) const { return entry.vmcs.get(field); }
  bool has(VmcsField field, unsigned index) const { return entry.vmcs.control(field, index); }
  bool pin(unsigned index) const { return has(VmcsField::PinBasedControls, index); }
  bool primary(unsigned index) const { return has(VmcsField::ProcBasedControls, index); }
  bool secondary(unsigned index) const { return entry.vmcs.secondary(index); }
  bool on_exit(unsigned index) const { return has(VmcsField::VmExitControls, index); }
  bool on_entry(unsigned index) const { return has(VmcsField::VmEntryControls, index); }
  bool unrestricted() const { return secondary(kUnrestrictedGuest); }
  bool ia32e_guest() const { return on_entry(kIa32eModeGuest); }
  // The event that the entry injects: its type (SDM 24.8.3), or nothing.
  std::optional<unsigned> injected_type() const;
  unsigned injected_vector() const;
  // Whether the guest is in virtual-8086 mode; in PAE paging.
  bool v8086() const;
  bool pae_paging() const;

  Violation& violate(VmcsField field, std::string allowed, std::string why = {});
  // Bits of the field that break the rule, when there are any.
  void no_bits(VmcsField field, std::uint64_t bad, const std::string& why = {});

  // A capability MSR, or the rule becomes unchecked.
  std::optional<std::uint64_t> capability(std::uint32_t msr);
  // MAXPHYADDR of the hypervisor's CPU, or the rule becomes unchecked. 32 where IA32_VMX_BASIC[48]
  // confines physical addresses in the VMCS.
  std::optional<unsigned> phys_bits();
  std::optional<bool> cpuid_bit(std::uint32_t leaf, std::uint32_t subleaf, CpuidReg reg,
                                unsigned index);

  // A control field against its MSR, a violation for each bit.
  void allowed_settings(VmcsField field);
  // CR0 or CR4 against its two MSRs; `exempt` bits are free.
  void fixed_bits(VmcsField field, std::uint32_t fixed0, std::uint32_t fixed1,
                  std::uint64_t exempt);
  // Aligned to `alignment`, and no bit beyond MAXPHYADDR.
  void physical(VmcsField field, std::uint64_t alignment);
  void within_phys_bits(VmcsField field);
  // Canonical for the processor (57 bits with LA57, else 48), `low` bits left out.
  void canonical(VmcsField field, unsigned low = 0);
  bool is_canonical(std::uint64_t address);
  // Each byte is 0, 1, 4, 5, 6 or 7.
  void pat(VmcsField field);
  void efer_reserved(VmcsField field);
  void perf_global_reserved(VmcsField field);
  void s_cet(VmcsField field);
  void cr3(VmcsField field);

 private:
  void within(VmcsField field, std::uint64_t value, unsigned width);
};

std::span<const CheckedRule<VmxCheck>> vmx_instruction_rules();
std::span<const CheckedRule<VmxCheck>> vmx_execution_rules();
std::span<const CheckedRule<VmxCheck>> vmx_exit_and_entry_rules();
std::span<const CheckedRule<VmxCheck>> vmx_host_rules();
std::span<const CheckedRule<VmxCheck>> vmx_guest_register_rules();
std::span<const CheckedRule<VmxCheck>> vmx_guest_segment_rules();
std::span<const CheckedRule<VmxCheck>> vmx_guest_pointer_rules();
std::span<const CheckedRule<VmxCheck>> vmx_guest_state_rules();
std::span<const CheckedRule<VmxCheck>> vmx_loading_rules();

}  // namespace vmm::nested
