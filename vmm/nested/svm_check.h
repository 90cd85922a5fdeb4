// The tables of rules behind check_vmrun() and what their code works with. The ids are stable; A06
// and A39 to A43 are no failures of VMRUN (see svm_entry.h) and have no row.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "vmm/core/cpuid_table.h"
#include "vmm/nested/rule.h"
#include "vmm/nested/svm_entry.h"
#include "vmm/nested/vmcb.h"

namespace vmm::nested {

// A feature bit, for the reason in a violation.
struct CpuidFlag {
  std::uint32_t leaf;
  CpuidReg reg;
  unsigned index;
  std::string_view name;

  std::string text() const;  // "CPUID 8000000Ah.EDX[0] (NP)"
};

class SvmCheck {
 public:
  explicit SvmCheck(const SvmEntry& entry);

  Findings findings;

  const SvmEntry& entry() const { return entry_; }
  const SvmHost& host() const { return entry_.host; }
  std::uint64_t get(VmcbId id) const { return vmcb_.get(id); }
  bool bit(VmcbId id, unsigned index) const { return vmcb_.bit(id, index); }

  // `bits` are those at fault.
  void violate(VmcbId id, std::uint64_t bits, std::string allowed, std::string why = {});
  void violate_host(std::string field, std::uint64_t found, std::string allowed,
                    std::string why = {});

  // These note what is missing: the rule is then unchecked.
  void missing(std::string_view what);
  const CpuidTable* cpuid();
  std::optional<bool> has(const CpuidFlag& flag);
  // 2^MAXPHYADDR.
  std::optional<std::uint64_t> physical_end();
  std::string physical_text() const;  // "CPUID 80000008h.EAX[7:0] (MAXPHYADDR) is 48"
  // False under SEV-ES: the guest's registers are not in this page.
  bool has_guest_state();

  // Of the guest's registers: EFER.LME and CR0.PG; 64-bit mode; EFER.LMA does not count.
  bool long_mode() const;
  bool mode_64() const { return long_mode() && bit(VmcbId::CsAttrib, 9); }
  bool np_enabled() const { return bit(VmcbId::NestedControl, 0); }
  // Set in the VMCB, and not ignored for want of the feature.
  bool sev_es_enabled() const { return sev_es_; }

 private:
  const SvmEntry& entry_;
  Vmcb vmcb_;
  bool sev_es_;
};

using SvmRules = std::span<const CheckedRule<SvmCheck>>;
SvmRules svm_instruction_rules();  // A01 to A05
SvmRules svm_control_rules();      // A07 to A22, A44, A45
SvmRules svm_state_rules();        // A23 to A38

}  // namespace vmm::nested
