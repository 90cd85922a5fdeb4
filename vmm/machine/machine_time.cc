// The guest's clocks stand still while the machine is paused: those of our board by themselves,
// those in KVM because what they said at the pause is written back at the end of it.
#include <fmt/format.h>

#include "vmm/base/bytes.h"
#include "vmm/machine/machine.h"

namespace vmm {
namespace {

constexpr std::uint32_t kIa32Tsc = 0x10;
constexpr std::uint32_t kIa32TscDeadline = 0x6e0;

// KVM's LAPIC page, SDM vol. 3A Table 11-1.
constexpr std::size_t kIrr = 0x200;  // eight words, 10h apart
constexpr std::size_t kLvtTimer = 0x320;
constexpr std::size_t kCurrentCount = 0x390;
constexpr unsigned kTscDeadlineMode = 18;  // bit of the LVT entry

struct IrrBit {
  std::size_t word;
  std::uint32_t mask;
};
IrrBit timer_request(std::span<const std::uint8_t> page) {
  const auto vector = load<std::uint32_t>(page, kLvtTimer) & 0xff;
  return {kIrr + vector / 32 * 0x10, 1u << (vector % 32)};
}

std::span<std::uint8_t> bytes_of(kvm_lapic_state& page) {
  return {reinterpret_cast<std::uint8_t*>(page.regs), sizeof page.regs};
}

}  // namespace

VcpuTime VcpuTime::of(const VcpuState& state) {
  VcpuTime time{.tsc = state.tsc, .tsc_deadline = state.tsc_deadline};
  if (!state.lapic.empty()) time.read_page(state.lapic);
  return time;
}

void VcpuTime::read_page(std::span<const std::uint8_t> page) {
  current_count = load<std::uint32_t>(page, kCurrentCount);
  const IrrBit request = timer_request(page);
  timer_requested = (load<std::uint32_t>(page, request.word) & request.mask) != 0;
}

void VcpuTime::put_into(std::span<std::uint8_t> page) const {
  // A stopped timer needs nothing: one that runs may have run out since.
  if (current_count == 0) return;
  store(page, kCurrentCount, current_count);
  if (timer_requested) return;
  const IrrBit request = timer_request(page);
  store(page, request.word, load<std::uint32_t>(page, request.word) & ~request.mask);
}

Result<void> Machine::hold_time() {
  HeldTime held;
  const std::uint64_t tsc = VMM_TRY(vcpus_[0]->tsc());
  const auto offset = VMM_TRY(vcpus_[0]->tsc_offset());
  for (unsigned i = 0; i < vcpu_count(); ++i) {
    VcpuTime time;
    // By the offsets the processors stay as far apart as they are, to the tick.
    const auto own = i == 0 ? offset : VMM_TRY(vcpus_[i]->tsc_offset());
    time.tsc = offset && own ? tsc + (*own - *offset) : VMM_TRY(vcpus_[i]->tsc());
    if (kernel_chip_ != nullptr) {
      kvm_lapic_state page = VMM_TRY(vcpus_[i]->lapic());
      time.read_page(bytes_of(page));
      time.tsc_deadline = VMM_TRY(vcpus_[i]->tsc_deadline());
    }
    held.vcpus.push_back(time);
  }
  const VmState vm = VMM_TRY(vm_->state());
  held.clock = vm.clock;
  if (vm.chips) {
    held.pit = vm.chips->pit;
    VMM_TRY(vm_->stop_pit(*held.pit));
  }
  held_ = std::move(held);
  return {};
}

Result<void> Machine::release_time() {
  if (!held_) return {};
  std::vector<std::string> moving;
  const bool tsc_held = VMM_TRY(restore_tscs(held_->vcpus));
  if (!tsc_held)
    moving.emplace_back(
        "the TSC: this host's KVM keeps another value than the one that is written to it");
  for (unsigned i = 0; i < vcpu_count(); ++i) {
    if (kernel_chip_ == nullptr) break;
    VMM_TRY_CONTEXT(restore_lapic_timer(i, held_->vcpus[i], tsc_held),
                    fmt::format("resume the LAPIC timer of vCPU {}", i));
  }
  // Our LAPIC's deadline was put down as a moment of our clock, and the TSC is past that one.
  if (!tsc_held) (*board_.lock())->rearm_tsc_deadlines();
  if (VMM_TRY(vm_->set_clock(held_->clock)))
    for (const auto& vcpu : vcpus_) vcpu->tell_paused();
  else
    moving.emplace_back("kvmclock: this host's KVM cannot set it (KVM_CAP_ADJUST_CLOCK)");
  if (held_->pit) VMM_TRY(vm_->set_pit(*held_->pit));
  held_.reset();
  moving_clocks_ = std::move(moving);
  return {};
}

// False: the host does not let it be written.
Result<bool> Machine::restore_tscs(const std::vector<VcpuTime>& vcpus) {
  if (const auto offset = VMM_TRY(vcpus_[0]->tsc_offset())) {
    // The host's TSC at the guest's rate, now.
    const std::uint64_t base = VMM_TRY(vcpus_[0]->tsc()) - *offset;
    for (unsigned i = 0; i < vcpu_count(); ++i)
      if (!VMM_TRY(vcpus_[i]->set_tsc_offset(vcpus[i].tsc - base))) return false;
    return true;
  }
  // Linux before 5.16: KVM takes a value within a second of its own for an attempt to synchronize
  // processors, and keeps its own.
  const std::uint64_t allowed = std::uint64_t{tsc_khz_} * 20;
  for (unsigned i = 0; i < vcpu_count(); ++i) {
    VMM_TRY(vcpus_[i]->set_msr(kIa32Tsc, vcpus[i].tsc));
    if (VMM_TRY(vcpus_[i]->tsc()) - vcpus[i].tsc > allowed) return false;
  }
  return true;
}

// KVM's timer went on and may have fired; what it requested is taken back by the page, what it has
// pending by setting it anew. A one-shot timer that had run out before is left alone: KVM lets it
// fire again when its registers are written.
Result<void> Machine::restore_lapic_timer(unsigned index, const VcpuTime& time, bool tsc_held) {
  Vcpu& vcpu = *vcpus_[index];
  kvm_lapic_state page = VMM_TRY(vcpu.lapic());
  if (bit(load<std::uint32_t>(bytes_of(page), kLvtTimer), kTscDeadlineMode)) {
    if (tsc_held && time.tsc_deadline != 0)
      VMM_TRY(vcpu.set_msr(kIa32TscDeadline, time.tsc_deadline));
    return {};
  }
  if (time.current_count == 0) return {};
  time.put_into(bytes_of(page));
  return vcpu.set_lapic(page);
}

}  // namespace vmm
