// Where a vCPU stands between L1 and L2, and what it crosses to.
#include <array>

#include "vmm/machine/explain_facts.h"
#include "vmm/machine/explain_nested_parts.h"
#include "vmm/nested/ept_memory.h"
#include "vmm/nested/npt_memory.h"
#include "vmm/nested/vmcb.h"

namespace vmm {
namespace {

using nested::VmcbId;
using nested::VmcsField;

constexpr unsigned kEntryBytes = 3;  // of each of the three instructions

std::optional<nested::NestedState> state_of(const CrashScene& scene, unsigned vcpu) {
  if (vcpu >= scene.hypervisors.size()) return std::nullopt;
  auto state = nested::parse_nested_state(scene.hypervisors[vcpu].nested);
  return state ? std::optional(std::move(*state)) : std::nullopt;
}

bool has_svm(const nested::NestedState& state) {
  return state.format == nested::NestedState::Format::Svm;
}

std::optional<nested::VmcbBytes> vmcb_at(const CrashScene& scene, Gpa address) {
  nested::VmcbBytes bytes{};
  const MemoryReader* memory = physical_memory(scene);
  if (memory == nullptr || !memory->read(address, bytes)) return std::nullopt;
  return bytes;
}

// The VM entry that stands at RIP of a vCPU in L1; empty where none does.
std::string_view entry_at(const CrashScene& scene, const CpuState& cpu) {
  const MemoryReader* memory = physical_memory(scene);
  if (memory == nullptr) return {};
  std::array<std::uint8_t, kEntryBytes> code{};
  const PagingContext paging = paging_of(scene, cpu);
  for (unsigned i = 0; i < kEntryBytes; ++i) {
    const Walk walk = walk_page(*memory, paging, linear_rip(cpu) + i, {});
    if (!walk.gpa || !memory->read(*walk.gpa, std::span(code).subspan(i, 1))) return {};
  }
  if (!is_vm_entry(code)) return {};
  return code[2] == 0xc2 ? "VMLAUNCH" : code[2] == 0xc3 ? "VMRESUME" : "VMRUN";
}

// RIP as a linear address: CS has a base outside 64-bit mode alone.
Gva linear_of(const nested::Vmcs& vmcs) {
  const std::uint64_t rip = vmcs.get(VmcsField::GuestRip);
  constexpr unsigned kCsL = 13;
  const bool long_mode = vmcs.control(VmcsField::VmEntryControls, nested::kIa32eModeGuest);
  if (long_mode && (vmcs.get(VmcsField::GuestCsAccessRights) >> kCsL & 1) != 0) return rip;
  return (vmcs.get(VmcsField::GuestCsBase) + rip) & 0xffffffff;
}

Gva linear_of(const nested::Vmcb& vmcb) {
  const std::uint64_t rip = vmcb.get(VmcbId::Rip);
  constexpr unsigned kCsL = 9;
  const bool long_mode =
      (vmcb.get(VmcbId::Efer) & spec::EFER_LME) != 0 && (vmcb.get(VmcbId::Cr0) & spec::CR0_PG) != 0;
  if (long_mode && vmcb.bit(VmcbId::CsAttrib, kCsL)) return rip;
  return (vmcb.get(VmcbId::CsBase) + rip) & 0xffffffff;
}

}  // namespace

PagingContext paging_of(const CrashScene& scene, const CpuState& cpu) {
  return PagingContext::from(cpu, scene.cpuid.entries().empty()
                                      ? PagingFeatures::all_allowed()
                                      : PagingFeatures::from(scene.cpuid));
}

std::shared_ptr<const NestedMemory> l2_memory(const CrashScene& scene, unsigned vcpu) {
  const MemoryReader* memory = physical_memory(scene);
  const auto state = state_of(scene, vcpu);
  if (memory == nullptr || !state || !state->guest_mode) return nullptr;
  if (state->vmcs && state->vmcs->secondary(nested::kEnableEpt))
    return std::make_shared<nested::EptMemory>(*memory, state->vmcs->get(VmcsField::EptPointer),
                                               ept_features(scene, vcpu, *state->vmcs));
  const auto vmcb = nested::Vmcb::view(state->vmcb);
  if (!has_svm(*state) || !vmcb || !vmcb->bit(VmcbId::NestedControl, 0)) return nullptr;
  // The save area is the hypervisor's.
  return std::make_shared<nested::NptMemory>(
      *memory, nested::NptContext::from(*vmcb, vmcb->get(VmcbId::Cr4), vmcb->get(VmcbId::Efer),
                                        scene.cpuid.entries().empty() ? nullptr : &scene.cpuid));
}

NestedPosition nested_position(const CrashScene& scene, unsigned vcpu) {
  NestedPosition position;
  const CpuState* cpu = cpu_of(scene, vcpu);
  const auto state = state_of(scene, vcpu);
  if (cpu == nullptr || !state) return position;
  if (state->guest_mode) {
    position.level = 2;
    position.memory = l2_memory(scene, vcpu);
    const auto vmcb = nested::Vmcb::view(state->vmcb);
    if (state->vmcs) position.landings = {state->vmcs->get(VmcsField::HostRip)};
    if (has_svm(*state) && vmcb) position.landings = {linear_of(*vmcb)};
    return position;
  }
  const std::string_view entry = entry_at(scene, *cpu);
  position.enters = !entry.empty() && (entry == "VMRUN") == has_svm(*state);
  if (!position.enters) return position;
  position.landings = {linear_rip(*cpu) + kEntryBytes};
  if (has_svm(*state)) {
    if (const auto vmcb = vmcb_at(scene, cpu->regs.rax))
      position.landings.push_back(linear_of(nested::Vmcb(*vmcb)));
  } else if (state->vmcs) {
    position.landings.push_back(linear_of(*state->vmcs));
    position.landings.push_back(state->vmcs->get(VmcsField::HostRip));
  }
  return position;
}

}  // namespace vmm
