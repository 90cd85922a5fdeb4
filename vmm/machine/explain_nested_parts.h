// What the files of explain_nested.h have in common; not for others.
#pragma once

#include "vmm/machine/explain_nested.h"
#include "vmm/nested/ept.h"
#include "vmm/nested/svm_entry.h"
#include "vmm/nested/vmx_entry.h"

namespace vmm {

inline const CpuState* cpu_of(const CrashScene& scene, unsigned vcpu) {
  return vcpu < scene.vcpus.size() ? &scene.vcpus[vcpu] : nullptr;
}

inline const MemoryReader* physical_memory(const CrashScene& scene) {
  return scene.hypervisor_memory != nullptr ? scene.hypervisor_memory : scene.memory;
}

PagingContext paging_of(const CrashScene& scene, const CpuState& cpu);
nested::EptFeatures ept_features(const CrashScene& scene, unsigned vcpu, const nested::Vmcs& vmcs);
// As far as it is known; with the registers of the vCPU, which is in L1.
nested::VmxEntry vmx_entry_of(const CrashScene& scene, unsigned vcpu,
                              const nested::NestedState& state);
nested::SvmEntry svm_entry_of(const CrashScene& scene, unsigned vcpu,
                              std::span<const std::uint8_t, nested::kVmcbSize> vmcb, Gpa address);
// Those that are broken, as lines of the finding.
void describe_violations(const CrashScene& scene, NestedFinding& finding);
// "VMXON region 2000h", "no VMXON region".
std::string region_text(std::string_view name, std::uint64_t address);

}  // namespace vmm
