// Where a vCPU stands between L1 and L2, and what it crosses to: the entry before it, the exit
// behind.
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "vmm/machine/explain_facts.h"
#include "vmm/machine/explain_nested_parts.h"
#include "vmm/nested/ept_memory.h"
#include "vmm/nested/npt_memory.h"
#include "vmm/nested/svm_exits.h"
#include "vmm/nested/vmcb.h"
#include "vmm/nested/vmx_exits.h"

namespace vmm {
namespace {

using nested::VmcbId;
using nested::VmcsField;

constexpr unsigned kEntryBytes = 3;  // of each of the three instructions
constexpr std::uint32_t kVmCr = 0xc0010114;

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

std::shared_ptr<const NestedMemory> ept_memory(const CrashScene& scene, unsigned vcpu,
                                               const nested::Vmcs& vmcs) {
  const MemoryReader* memory = physical_memory(scene);
  if (memory == nullptr || !vmcs.secondary(nested::kEnableEpt)) return nullptr;
  return std::make_shared<nested::EptMemory>(*memory, vmcs.get(VmcsField::EptPointer),
                                             ept_features(scene, vcpu, vmcs));
}

// EFER is not in every VMCS: without it the processor's stays, but for LME and LMA.
std::uint64_t efer_behind(std::uint64_t efer, bool long_mode) {
  constexpr std::uint64_t kLong = spec::EFER_LME | spec::EFER_LMA;
  return (efer & ~kLong) | (long_mode ? kLong : 0);
}

// Of L2 as it left.
PagingContext paging_of_l2(const CrashScene& scene, const CpuState& l1, const nested::Vmcs& vmcs) {
  PagingContext paging = paging_of(scene, l1);
  paging.cr0 = vmcs.get(VmcsField::GuestCr0);
  paging.cr3 = vmcs.get(VmcsField::GuestCr3);
  paging.cr4 = vmcs.get(VmcsField::GuestCr4);
  paging.rflags = vmcs.get(VmcsField::GuestRflags);
  if (vmcs.control(VmcsField::VmEntryControls, nested::kEntryLoadEfer))
    paging.efer = vmcs.get(VmcsField::GuestEfer);
  paging.efer =
      efer_behind(paging.efer, vmcs.control(VmcsField::VmEntryControls, nested::kIa32eModeGuest));
  return paging;
}

// Of L1 where it goes on after an exit.
PagingContext paging_of_l1(const CrashScene& scene, const CpuState& l2, const nested::Vmcs& vmcs) {
  PagingContext paging = paging_of(scene, l2);
  paging.cr0 = vmcs.get(VmcsField::HostCr0);
  paging.cr3 = vmcs.get(VmcsField::HostCr3);
  paging.cr4 = vmcs.get(VmcsField::HostCr4);
  paging.rflags = spec::RFLAGS_FIXED;
  if (vmcs.control(VmcsField::VmExitControls, nested::kExitLoadEfer))
    paging.efer = vmcs.get(VmcsField::HostEfer);
  paging.efer = efer_behind(paging.efer,
                            vmcs.control(VmcsField::VmExitControls, nested::kHostAddressSpaceSize));
  return paging;
}

void look_at_l2(const CrashScene& scene, unsigned vcpu, const nested::NestedState& state,
                NestedPosition& position) {
  position.level = 2;
  position.memory = l2_memory(scene, vcpu);
  const CpuState& l2 = *cpu_of(scene, vcpu);
  if (state.vmcs) {
    position.landings = {state.vmcs->get(VmcsField::HostRip)};
    position.other = {paging_of_l1(scene, l2, *state.vmcs), nullptr};
    if (position.memory) position.tables = state.vmcs->get(VmcsField::EptPointer);
    return;
  }
  const auto vmcb = nested::Vmcb::view(state.vmcb);
  if (!has_svm(state) || !vmcb) return;
  position.block = state.vmcb_address;
  position.landings = {linear_of(*vmcb)};
  // The save area is the hypervisor's.
  PagingContext l1 = paging_of(scene, l2);
  l1.cr0 = vmcb->get(VmcbId::Cr0);
  l1.cr3 = vmcb->get(VmcbId::Cr3);
  l1.cr4 = vmcb->get(VmcbId::Cr4);
  l1.efer = vmcb->get(VmcbId::Efer);
  l1.rflags = vmcb->get(VmcbId::Rflags);
  position.other = {l1, nullptr};
  if (position.memory) position.tables = vmcb->get(VmcbId::NCr3);
}

// Rules about the instruction alone: where there is no control block to look at.
void keep_rules_until(nested::CheckReport& report, std::string_view last) {
  std::erase_if(report.violations, [&](const nested::Violation& v) { return v.rule->id > last; });
}

void judge(const CrashScene& scene, EntryAhead& ahead) {
  NestedFinding& finding = ahead.finding;
  finding.what = fmt::format("{} on vCPU {} would fail", ahead.instruction, finding.vcpu);
  if (!finding.report.clean()) {
    finding.failure = nested::result_text(finding.report.violations.front().rule->result);
    finding.lines.push_back("it would give " + finding.failure);
  }
  describe_violations(scene, finding);
}

void look_at_vmx(const CrashScene& scene, unsigned vcpu, EntryAhead& ahead) {
  NestedFinding& finding = ahead.finding;
  const nested::NestedState& state = finding.state;
  nested::NestedState with_vmcs = state;
  if (!with_vmcs.vmcs) with_vmcs.vmcs = nested::empty_vmcs();
  nested::VmxEntry entry = vmx_entry_of(scene, vcpu, with_vmcs);
  entry.instruction = ahead.instruction == "VMLAUNCH" ? nested::VmxInstruction::Vmlaunch
                                                      : nested::VmxInstruction::Vmresume;
  finding.report = nested::check_vm_entry(entry);
  if (state.vmcs) {
    ahead.block = state.vmcs_address;
    ahead.l2_rip = state.vmcs->get(VmcsField::GuestRip);
  } else {
    keep_rules_until(finding.report, "I006");
  }
  finding.lines.push_back(fmt::format("vCPU {} is in L1 at {} {:X}h: {}, {}{}", vcpu,
                                      ahead.instruction, ahead.address,
                                      region_text("VMXON region", state.vmxon_address),
                                      region_text("current VMCS", state.vmcs_address),
                                      !state.vmcs                       ? ""
                                      : state.vmcs->launch_state() == 0 ? " (clear)"
                                                                        : " (launched)"));
  judge(scene, ahead);
}

void look_at_svm(const CrashScene& scene, unsigned vcpu, EntryAhead& ahead) {
  NestedFinding& finding = ahead.finding;
  const Gpa address = cpu_of(scene, vcpu)->regs.rax;
  const auto vmcb = vmcb_at(scene, address);
  const nested::VmcbBytes bytes = vmcb.value_or(nested::VmcbBytes{});
  nested::SvmEntry entry = svm_entry_of(scene, vcpu, bytes, address);
  entry.host.rflags = cpu_of(scene, vcpu)->regs.rflags;
  const auto& msrs = scene.hypervisors[vcpu].msrs;
  if (const auto found = msrs.find(kVmCr); found != msrs.end()) entry.host.vm_cr = found->second;
  finding.report = nested::check_vmrun(entry);
  ahead.block = address;
  if (vmcb) {
    ahead.l2_rip = nested::Vmcb(bytes).get(VmcbId::Rip);
    finding.bytes.assign(bytes.begin(), bytes.end());
    finding.bytes_name = fmt::format("VMCB at {:X}h", address);
  } else {
    keep_rules_until(finding.report, "A05");
  }
  finding.lines.push_back(fmt::format("vCPU {} is in L1 at VMRUN {:X}h: VMCB at {:X}h{}", vcpu,
                                      ahead.address, address, vmcb ? "" : ", where no RAM is"));
  judge(scene, ahead);
}

}  // namespace

PagingContext paging_of(const CrashScene& scene, const CpuState& cpu) {
  return PagingContext::from(cpu, scene.cpuid.entries().empty()
                                      ? PagingFeatures::all_allowed()
                                      : PagingFeatures::from(scene.cpuid));
}

std::optional<EntryAhead> entry_ahead(const CrashScene& scene, unsigned vcpu) {
  const CpuState* cpu = cpu_of(scene, vcpu);
  auto state = state_of(scene, vcpu);
  if (cpu == nullptr || !state || state->guest_mode) return std::nullopt;
  EntryAhead ahead{.instruction = entry_at(scene, *cpu), .address = linear_rip(*cpu)};
  if (ahead.instruction.empty() || (ahead.instruction == "VMRUN") != has_svm(*state))
    return std::nullopt;
  ahead.finding.vcpu = vcpu;
  ahead.finding.state = std::move(*state);
  if (has_svm(ahead.finding.state))
    look_at_svm(scene, vcpu, ahead);
  else
    look_at_vmx(scene, vcpu, ahead);
  return ahead;
}

std::optional<ExitBehind> exit_behind(const CrashScene& scene, unsigned vcpu) {
  const CpuState* cpu = cpu_of(scene, vcpu);
  const auto state = state_of(scene, vcpu);
  if (cpu == nullptr || !state || state->guest_mode) return std::nullopt;
  if (has_svm(*state)) {
    const auto bytes = vmcb_at(scene, cpu->regs.rax);
    if (!bytes) return std::nullopt;
    const nested::Vmcb vmcb(*bytes);
    const std::uint64_t code = vmcb.get(VmcbId::ExitCode);
    const std::string info =
        nested::svm_exit_info_text(code, vmcb.get(VmcbId::ExitInfo1), vmcb.get(VmcbId::ExitInfo2));
    return ExitBehind{code, vmcb.get(VmcbId::Rip),
                      nested::svm_exit_text(code) + (info.empty() ? "" : ", " + info)};
  }
  if (!state->vmcs) return std::nullopt;
  const nested::Vmcs& vmcs = *state->vmcs;
  const auto reason = static_cast<std::uint32_t>(vmcs.get(VmcsField::VmExitReason));
  const std::string qualification =
      nested::vmx_qualification_text(reason, vmcs.get(VmcsField::ExitQualification));
  return ExitBehind{
      reason, vmcs.get(VmcsField::GuestRip),
      nested::vmx_exit_text(reason) + (qualification.empty() ? "" : ", " + qualification)};
}

std::shared_ptr<const NestedMemory> l2_memory(const CrashScene& scene, unsigned vcpu) {
  const MemoryReader* memory = physical_memory(scene);
  const auto state = state_of(scene, vcpu);
  if (memory == nullptr || !state || !state->guest_mode) return nullptr;
  if (state->vmcs) return ept_memory(scene, vcpu, *state->vmcs);
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
  position.may_nest = true;
  if (state->vmcs) position.block = state->vmcs_address;
  if (state->guest_mode) {
    look_at_l2(scene, vcpu, *state, position);
    return position;
  }
  if (state->vmcs && state->vmcs->launch_state() != 0)
    position.other = {paging_of_l2(scene, *cpu, *state->vmcs),
                      ept_memory(scene, vcpu, *state->vmcs)};
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
