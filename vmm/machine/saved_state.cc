#include "vmm/machine/saved_state.h"

#include <fmt/format.h>

#include <algorithm>

#include "vmm/base/bytes.h"
#include "vmm/machine/machine.h"

namespace vmm {
namespace {

// What belongs to the machine as a whole.
struct MachineBlock {
  VmTime time{0};
  bool suspended = false;
  std::uint32_t tsc_khz = 0;

  void visit(Archive& archive) {
    archive.block("machine", 1);
    archive("time", time)("suspended", suspended)("tsc_khz", tsc_khz);
  }
};

}  // namespace

const StateBlock* MachineState::find(std::string_view name) const {
  for (const auto& [block_name, block] : blocks)
    if (block_name == name) return &block;
  return nullptr;
}

std::string MachineState::print() const {
  std::string text;
  for (const auto& [name, block] : blocks) text += fmt::format("{}: {}", name, block.print());
  return text;
}

std::vector<std::string> diff(const MachineState& before, const MachineState& after) {
  std::vector<std::string> lines;
  for (const auto& [name, block] : before.blocks) {
    const StateBlock* other = after.find(name);
    if (other == nullptr) {
      lines.push_back(name + ": gone");
      continue;
    }
    for (const std::string& line : diff(block, *other)) lines.push_back(name + "." + line);
  }
  for (const auto& [name, block] : after.blocks)
    if (before.find(name) == nullptr) lines.push_back(name + ": new");
  return lines;
}

// Everything that is saved, by name, in the order of the file: `visit` gets a name and an object.
template <typename Visit>
Result<void> Machine::visit_state(Board& board, Visit&& visit) {
  VMM_TRY(visit("board", board));
  for (Device* device : board.devices()) VMM_TRY(visit(std::string(device->name()), *device));
  if (UserIrqChip* chip = board.user_chip()) {
    VMM_TRY(visit("irqchip", *chip));
    for (unsigned i = 0; i < chip->vcpu_count(); ++i)
      VMM_TRY(visit(std::string(chip->lapic(i).name()), chip->lapic(i)));
  }
  return {};
}

Result<MachineState> Machine::save_state() {
  const std::lock_guard rest(rest_);
  if (!held_) return fail(Error::internal("a machine's state was asked for while it ran"));
  MachineState saved;
  const auto visit = [&saved](std::string name, auto& object) -> Result<void> {
    saved.blocks.emplace_back(std::move(name), vmm::save_state(object));
    return {};
  };
  auto board = board_.lock();
  MachineBlock machine{(*board)->clock.now(), suspended_, tsc_khz_};
  VMM_TRY(visit("machine", machine));
  VMM_TRY(visit_state(**board, visit));
  VmState vm = VMM_TRY(vm_->state());
  vm.clock = held_->clock;
  if (vm.chips) vm.chips->pit = *held_->pit;
  VMM_TRY(visit("kvm", vm));
  for (unsigned i = 0; i < vcpu_count(); ++i) {
    VcpuState vcpu =
        VMM_TRY_CONTEXT(vcpus_[i]->full_state(), fmt::format("save the state of vCPU {}", i));
    const VcpuTime& time = held_->vcpus[i];
    vcpu.tsc = time.tsc;
    vcpu.tsc_deadline = time.tsc_deadline;
    if (!vcpu.lapic.empty()) time.put_into(vcpu.lapic);
    VMM_TRY(visit(fmt::format("vcpu{}", i), vcpu));
  }
  return saved;
}

Result<void> Machine::load_state(const MachineState& state) {
  const std::lock_guard rest(rest_);
  if (!held_) return fail(Error::internal("a machine's state was to be loaded while it ran"));
  std::size_t next = 0;
  const auto visit = [&](const std::string& name, auto& object) -> Result<void> {
    if (next >= state.blocks.size() || state.blocks[next].first != name)
      return fail(Error::usage(fmt::format("the state has no '{}' where this machine has it", name))
                      .hint("load it into a machine of the same options"));
    VMM_TRY_CONTEXT(vmm::load_state(object, state.blocks[next].second),
                    "load the state of '" + name + "'");
    ++next;
    return {};
  };
  // What is there now gives the states their shape.
  MachineBlock machine;
  VmState vm = VMM_TRY(vm_->state());
  std::vector<VcpuState> vcpus;
  for (const auto& vcpu : vcpus_) vcpus.push_back(VMM_TRY(vcpu->full_state()));

  auto board = board_.lock();
  VMM_TRY(visit("machine", machine));
  if (!same_tsc_rate(machine.tsc_khz, tsc_khz_))
    return fail(
        Error::host(fmt::format("the state is of a machine whose TSC has {} kHz, this one's "
                                "has {}",
                                machine.tsc_khz, tsc_khz_))
            .hint(fmt::format("--tsc-khz {}", machine.tsc_khz)));
  VMM_TRY(visit_state(**board, visit));
  (*board)->restored();
  VMM_TRY(visit("kvm", vm));
  for (unsigned i = 0; i < vcpu_count(); ++i) VMM_TRY(visit(fmt::format("vcpu{}", i), vcpus[i]));
  if (next != state.blocks.size())
    return fail(Error::usage(
        fmt::format("this machine has no '{}' that the state has", state.blocks[next].first)));

  // KVM remembers the level of each of its lines; the edge that this may make goes with the
  // controllers' state.
  if (irqchip_ == IrqChipKind::Kernel) {
    const IrqPins& pins = (*board)->pins();
    for (unsigned gsi = 0; gsi < pins.count(); ++gsi)
      VMM_TRY(vm_->set_irq_line(gsi, pins.level(gsi)));
  }
  HeldTime held;
  held.clock = vm.clock;
  if (vm.chips) {
    VMM_TRY(vm_->set_chips(*vm.chips));
    VMM_TRY(vm_->stop_pit(vm.chips->pit));
    held.pit = vm.chips->pit;
  }
  for (unsigned i = 0; i < vcpu_count(); ++i) {
    VMM_TRY_CONTEXT(vcpus_[i]->set_full_state(vcpus[i]),
                    fmt::format("load the state of vCPU {}", i));
    held.vcpus.push_back(VcpuTime::of(vcpus[i]));
  }
  held_ = std::move(held);
  suspended_ = machine.suspended;
  (*board)->clock.set(machine.time);
  (*board)->sync_routes();
  // The event loop looks anew at what is due.
  armed_deadline_ = VmTime::max();
  hear_deadline(**board);
  return {};
}

}  // namespace vmm
