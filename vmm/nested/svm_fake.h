// For tests: a VMCB that VMRUN takes, and all that its checks look at.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <string>
#include <vector>

#include "vmm/core/cpu_state.h"
#include "vmm/core/memory_fake.h"
#include "vmm/nested/svm_check.h"
#include "vmm/nested/vmcb.h"

namespace vmm::nested {

// 64-bit, with nested paging, on a processor that has each feature that a rule hangs on.
struct FakeSvm {
  static constexpr Gpa kPdpt = 0x5000;  // of the PAE guest

  FakeSvm() {
    put(VmcbId::Intercept3, 1u << 27 | 1u << 28);
    put(VmcbId::Intercept4, 3);
    put(VmcbId::IopmBasePa, 0x10000);
    put(VmcbId::MsrpmBasePa, 0x14000);
    put(VmcbId::Asid, 1);
    put(VmcbId::NestedControl, 1);
    put(VmcbId::NCr3, 0x1000);
    put(VmcbId::Efer,
        spec::EFER_SVME | spec::EFER_LME | spec::EFER_LMA | spec::EFER_NXE | spec::EFER_SCE);
    put(VmcbId::Cr0, spec::CR0_PG | spec::CR0_WP | spec::CR0_NE | spec::CR0_ET | spec::CR0_PE);
    put(VmcbId::Cr3, 0x2000);
    put(VmcbId::Cr4, spec::CR4_PAE | spec::CR4_PGE | spec::CR4_OSFXSR);
    put(VmcbId::Rflags, spec::RFLAGS_FIXED);
    put(VmcbId::CsSelector, 8);
    put(VmcbId::CsAttrib, 0x29b);
    put(VmcbId::Dr6, 0xffff0ff0);
    put(VmcbId::Dr7, 0x400);
    put(VmcbId::GPat, 0x0007040600070406);

    cpuid.at(0) = {0x10, 0x68747541, 0x444d4163, 0x69746e65};  // AuthenticAMD
    cpuid.at(1) = {0, 0, 1u << 17 | 1u << 26, ~0u};
    cpuid.at(7) = {0, 1u << 0 | 1u << 7 | 1u << 20, 1u << 2 | 1u << 3 | 1u << 7 | 1u << 16, 0};
    cpuid.at(0x80000001) = {0, 0, 1u << 2 | 1u << 17,
                            1u << 11 | 1u << 20 | 1u << 25 | 1u << 26 | 1u << 29};
    cpuid.at(0x80000008) = {48, 1u << 8 | 1u << 13, 0, 0};
    cpuid.at(0x8000000a) = {1, 16, 0, ~0u};
    cpuid.at(0x8000001f) = {1u << 1 | 1u << 3 | 1u << 16, 0, 8, 1};
    cpuid.at(0x80000021) = {1u << 7 | 1u << 8, 0, 0, 0};

    vmcb_pa = 0x3000;
    host = {.cr0 = spec::CR0_PG | spec::CR0_PE,
            .efer = spec::EFER_SVME | spec::EFER_LME | spec::EFER_LMA,
            .rflags = spec::RFLAGS_FIXED,
            .cpl = 0,
            .hsave_pa = 0x4000,
            .vm_cr = 0,
            .u_cet = 0};
  }

  void put(VmcbId id, std::uint64_t value) { put_vmcb(bytes, id, value); }
  std::uint64_t get(VmcbId id) const { return Vmcb(bytes).get(id); }
  void set(VmcbId id, std::uint64_t bits) { put(id, get(id) | bits); }
  void clear(VmcbId id, std::uint64_t bits) { put(id, get(id) & ~bits); }

  // A guest in PAE mode without nested paging, whose PDPEs VMRUN reads.
  void make_pae() {
    clear(VmcbId::NestedControl, 1);
    clear(VmcbId::Efer, spec::EFER_LME | spec::EFER_LMA);
    put(VmcbId::CsAttrib, 0x49b);
    put(VmcbId::Cr3, kPdpt);
    for (unsigned i = 0; i < 4; ++i) ram.put64(kPdpt + 8 * i, (0x6000 + 0x1000 * i) | 1);
  }

  SvmEntry entry() const {
    return {.vmcb = bytes, .vmcb_pa = vmcb_pa, .cpuid = &cpuid, .memory = &ram, .host = host};
  }

  VmcbBytes bytes{};
  CpuidTable cpuid;
  FakeRam ram{64_KiB};
  std::optional<Gpa> vmcb_pa;
  SvmHost host;
};

// In the order of their tables.
inline std::vector<const CheckedRule<SvmCheck>*> all_rules() {
  std::vector<const CheckedRule<SvmCheck>*> rules;
  for (const SvmRules table : {svm_instruction_rules(), svm_control_rules(), svm_state_rules()})
    for (const auto& row : table) rules.push_back(&row);
  return rules;
}

inline std::vector<std::string> broken(const CheckReport& report) {
  std::vector<std::string> ids;
  for (const Violation& violation : report.violations) ids.emplace_back(violation.rule->id);
  return ids;
}
inline std::vector<std::string> unchecked(const CheckReport& report) {
  std::vector<std::string> ids;
  for (const Unchecked& rule : report.unchecked) ids.emplace_back(rule.rule->id);
  return ids;
}
// The violations as lines, for the message of a failed expectation.
inline std::string text_of(const CheckReport& report) {
  std::string text;
  for (const Violation& violation : report.violations) text += violation.text() + "\n";
  for (const Unchecked& rule : report.unchecked)
    text += fmt::format("{} unchecked: {}\n", rule.rule->id, rule.why);
  return text;
}

}  // namespace vmm::nested
