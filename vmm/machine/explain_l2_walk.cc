// Where addresses of a guest's guest lead, step by step.
#include "vmm/machine/explain_facts.h"
#include "vmm/machine/explain_nested_parts.h"
#include "vmm/nested/ept.h"
#include "vmm/nested/npt.h"
#include "vmm/nested/vmcb.h"

namespace vmm {
namespace {

using nested::VmcbId;
using nested::VmcsField;

// Both kinds of tables tell their steps alike.
template <typename Steps>
std::vector<NestedWalk::Step> steps_of(const Steps& steps) {
  std::vector<NestedWalk::Step> result;
  for (const auto& step : steps)
    result.push_back({std::string(step.entry_name), step.index, step.entry_gpa, step.entry});
  return result;
}

NestedWalk of_ept(Gpa address, const nested::EptWalk& walk) {
  return {.address = address,
          .steps = steps_of(walk.steps),
          .gpa = walk.address,
          .page_size = walk.page_size,
          .writable = walk.writable,
          .executable = walk.executable,
          .failure = walk.failure};
}

NestedWalk of_npt(Gpa address, const Walk& walk) {
  return {.address = address,
          .steps = steps_of(walk.steps),
          .gpa = walk.gpa,
          .page_size = walk.page_size,
          .writable = walk.writable,
          .executable = walk.executable,
          .failure = walk.failure ? walk.failure->text : ""};
}

}  // namespace

std::optional<NestedWalk> walk_nested(const CrashScene& scene, unsigned vcpu, Gpa l2_address,
                                      bool fetch) {
  const MemoryReader* memory = physical_memory(scene);
  if (memory == nullptr || vcpu >= scene.hypervisors.size()) return std::nullopt;
  const auto state = nested::parse_nested_state(scene.hypervisors[vcpu].nested);
  if (!state || !state->guest_mode) return std::nullopt;
  if (state->vmcs) {
    if (!state->vmcs->secondary(nested::kEnableEpt)) return std::nullopt;
    return of_ept(l2_address, nested::walk_ept(*memory, state->vmcs->get(VmcsField::EptPointer),
                                               ept_features(scene, vcpu, *state->vmcs), l2_address,
                                               {.fetch = fetch}));
  }
  const auto vmcb = nested::Vmcb::view(state->vmcb);
  if (!vmcb || !vmcb->bit(VmcbId::NestedControl, 0)) return std::nullopt;
  // The save area is the hypervisor's.
  const auto context =
      nested::NptContext::from(*vmcb, vmcb->get(VmcbId::Cr4), vmcb->get(VmcbId::Efer),
                               scene.cpuid.entries().empty() ? nullptr : &scene.cpuid);
  return of_npt(l2_address, nested::walk_npt(*memory, context, l2_address, {.fetch = fetch}).walk);
}

std::vector<L2Walk> l2_walks(const CrashScene& scene, unsigned vcpu) {
  std::vector<L2Walk> walks;
  const CpuState* cpu = cpu_of(scene, vcpu);
  const MemoryReader* machine = physical_memory(scene);
  if (cpu == nullptr || machine == nullptr) return walks;
  const auto l2 = l2_memory(scene, vcpu);
  const MemoryReader& memory = l2 != nullptr ? *l2 : *machine;
  const auto add = [&](const char* of, Gva address, bool fetch) {
    L2Walk walk{.of = of, .address = address};
    walk.walk = walk_page(memory, paging_of(scene, *cpu), address, {.fetch = fetch});
    if (walk.walk.gpa) walk.nested = walk_nested(scene, vcpu, *walk.walk.gpa, fetch);
    walks.push_back(std::move(walk));
  };
  add("rip", linear_rip(*cpu), true);
  if (cpu->sregs.cr2 != 0) add("cr2", cpu->sregs.cr2, false);
  return walks;
}

}  // namespace vmm
