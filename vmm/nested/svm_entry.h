// VMRUN before it is executed: the VMCB and what else its checks look at, and what they would say.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "vmm/core/cpuid_table.h"
#include "vmm/core/guest_memory.h"
#include "vmm/nested/rule.h"
#include "vmm/nested/vmcb_fields.h"

namespace vmm::nested {

// The hypervisor's own registers at VMRUN, as far as they are known.
struct SvmHost {
  std::optional<std::uint64_t> cr0 = {};
  std::optional<std::uint64_t> efer = {};
  std::optional<std::uint64_t> rflags = {};
  std::optional<unsigned> cpl = {};
  std::optional<std::uint64_t> hsave_pa = {};  // VM_HSAVE_PA, MSR C0010117h
  std::optional<std::uint64_t> vm_cr = {};     // VM_CR, MSR C0010114h
  std::optional<std::uint64_t> u_cet = {};     // MSR 6A0h: VMRUN leaves it as it is
};

// An input that is missing makes the rules that need it unchecked, with the reason; never kept.
struct SvmEntry {
  std::span<const std::uint8_t, kVmcbSize> vmcb;
  std::optional<Gpa> vmcb_pa = {};       // rAX of VMRUN
  const CpuidTable* cpuid = nullptr;     // of the processor that the hypervisor runs on
  const MemoryReader* memory = nullptr;  // the hypervisor's physical memory
  SvmHost host = {};
};

// All that VMRUN would complain of. What is no failure is no rule here, though it may surprise:
// base addresses that are not canonical are sign-extended, and a rIP that is not canonical faults
// in the guest (15.5.1); EFER.LMA is computed from LME and PG; segment attributes are taken as they
// are, and the CPL comes from its own field; illegal host state shuts the processor down at #VMEXIT
// (15.6). Nor is GIF: VMRUN sets it, whatever it was.
CheckReport check_vmrun(const SvmEntry& entry);

}  // namespace vmm::nested
