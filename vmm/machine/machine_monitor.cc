// What the monitor's commands ask of the machine while it is paused (monitor_machine.h).
#include <fmt/format.h>
#include <signal.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "devices/lapic_spec.h"
#include "vmm/machine/explain_facts.h"
#include "vmm/machine/machine.h"
#include "vmm/machine/trace_file.h"

namespace vmm {
namespace {

constexpr std::size_t kEveryExit = 256;  // of the flight recorder
constexpr std::uint8_t kKvmIoapicVersion = 0x11;

auto refused(Gpa gpa, std::string_view why) {
  return fail(Error::usage(fmt::format("{:x}h: {}", gpa, why)));
}

}  // namespace

MachineAbout Machine::about() {
  MachineAbout about = about_;
  about.irqchip = irqchip_name(irqchip_);
  about.irqchip_reason = irqchip_reason_;
  about.tsc_khz = tsc_khz_;
  about.tsc_lost = tsc_lost_;
  about.memory = spec_.memory;
  return about;
}

void Machine::remember_model(const ResolvedCpu& cpu, const HostGrant& host) {
  about_.model = cpu.text;
  about_.policy = policy_name(cpu.policy);
  for (const MissingBit& bit : cpu.missing) about_.missing.push_back(bit.name);
  about_.notes = cpu.notes;
  about_.backend = backend_name(host.backend);
  about_.kernel = host.kernel;
  about_.host_has_pdpe1gb = host.supported.bit(0x80000001, 0, CpuidReg::Edx, 26);
  const auto npt = host.module_parameters.find("kvm_amd.npt");
  about_.nested_paging = host.backend == KvmBackend::Svm && npt != host.module_parameters.end() &&
                         (npt->second == "Y" || npt->second == "1");
}

Result<LapicView> Machine::lapic_view(unsigned vcpu) {
  LapicView view;
  auto board = board_.lock();
  if (UserIrqChip* chip = (*board)->user_chip()) {
    Lapic& lapic = chip->lapic(vcpu);
    lapic.advance((*board)->clock.now());
    view.id = lapic.id();
    view.base = lapic.base();
    for (unsigned i = 0; i < LapicView::kRegisters; ++i) view.registers[i] = lapic.peek(i);
    view.tsc_deadline = lapic.tsc_deadline();
    return view;
  }
  const kvm_lapic_state page = VMM_TRY(vcpus_[vcpu]->lapic());
  view.kvms = true;
  for (std::size_t i = 0; i < LapicView::kRegisters; ++i)
    std::memcpy(&view.registers[i], page.regs + i * 0x10, sizeof view.registers[i]);
  view.base = VMM_TRY(vcpus_[vcpu]->state()).sregs.apic_base;
  view.tsc_deadline = VMM_TRY(vcpus_[vcpu]->tsc_deadline());
  // KVM's page has the id at bits 31:24 in both modes, unless it was asked for the new format.
  view.id = (view.base & spec::BASE_EXTD) != 0 ? apic_id_of_vcpu(spec_.topology, vcpu)
                                               : view.registers[spec::APIC_ID] >> 24;
  return view;
}

Result<IoapicView> Machine::ioapic_view() {
  IoapicView view;
  {
    auto board = board_.lock();
    if (const Ioapic* ioapic = (*board)->ioapic()) {
      const Ioapic::State& state = ioapic->state();
      view.id = state.id;
      view.version = spec_.ioapic_version;
      view.entries = state.entries;
      view.pins = state.pins;
      return view;
    }
  }
  const VmState state = VMM_TRY(vm_->state());
  if (!state.chips) return fail(Error::internal("this machine has no IOAPIC"));
  const kvm_ioapic_state& kvms = state.chips->ioapic.chip.ioapic;
  view.kvms = true;
  view.id = static_cast<std::uint8_t>(kvms.id);
  view.version = kKvmIoapicVersion;
  for (std::size_t i = 0; i < view.entries.size(); ++i) view.entries[i] = kvms.redirtbl[i].bits;
  view.pins = kvms.irr;
  return view;
}

std::vector<TraceEvent> Machine::exits(unsigned vcpu, std::size_t count) {
  std::vector<TraceEvent> events = (*board_.lock())->recorder.last_exits(kEveryExit);
  std::erase_if(events, [&](const TraceEvent& event) { return event.vcpu != vcpu; });
  if (events.size() > count)
    events.erase(events.begin(), events.end() - static_cast<std::ptrdiff_t>(count));
  return events;
}

VgaSnapshot Machine::screen() {
  const auto board = board_.lock();
  return screen_of(**board);
}

VgaSnapshot Machine::screen_of(Board& board) const {
  VgaSnapshot vga = board.vga().snapshot();
  return terminal_screen_ != nullptr && is_blank(vga) ? terminal_screen_->screen() : vga;
}

std::optional<TraceAbout> Machine::trace_about() {
  if (trace_ == nullptr) return std::nullopt;
  const TraceFormat::Totals totals = trace_->totals();
  return TraceAbout{.path = trace_->path(),
                    .events = totals.events,
                    .dropped = totals.dropped,
                    .error = trace_->error_number() != 0 ? errno_name(trace_->error_number()) : ""};
}

// As the exit of a vCPU would be served, but that nobody's address is not counted as touched by the
// guest.
template <typename OnLapic, typename OnBus>
Result<std::string> Machine::access_mmio(unsigned vcpu, Gpa gpa, std::size_t size,
                                         const OnLapic& on_lapic, const OnBus& on_bus) {
  std::array<std::uint8_t, 8> bytes{};
  if (memory_.read(gpa, std::span(bytes).first(size)))
    return refused(gpa, "RAM is there; phys reads it");
  auto board = board_.lock();
  std::string name;
  UserIrqChip* chip = (*board)->user_chip();
  const auto offset = chip != nullptr ? chip->register_at(vcpu, gpa) : std::nullopt;
  if (offset) {
    Lapic& lapic = chip->lapic(vcpu);
    lapic.advance((*board)->clock.now());
    if (on_lapic(lapic, *offset) != Access::Ok)
      return refused(gpa, fmt::format("{} has no register of {} bytes there", lapic.name(), size));
    name = lapic.name();
    // before_run() must not take CR8 for the newer of both.
    vcpus_[vcpu]->set_cr8(static_cast<std::uint8_t>(lapic.tpr() >> 4));
  } else if ((*board)->mmio.find(gpa) != nullptr) {
    const Device* device = on_bus((*board)->mmio);
    if (device == nullptr) return refused(gpa, "no device took the access");
    name = device->name();
  } else {
    return refused(gpa, fmt::format("nothing of vmm's is there ({}); lapic and ioapic show KVM's "
                                    "own chips",
                                    hole_name(gpa)));
  }
  (*board)->sync_routes();
  hear_deadline(**board);
  if ((*board)->ending) end_by_device(**board, *(*board)->ending);
  return name;
}

Result<std::string> Machine::mmio_read(unsigned vcpu, Gpa gpa, std::span<std::uint8_t> data) {
  return access_mmio(
      vcpu, gpa, data.size(),
      [&](Lapic& lapic, std::uint64_t offset) { return lapic.read(offset, data); },
      [&](Bus& bus) { return bus.read(gpa, data); });
}

Result<std::string> Machine::mmio_write(unsigned vcpu, Gpa gpa,
                                        std::span<const std::uint8_t> data) {
  return access_mmio(
      vcpu, gpa, data.size(),
      [&](Lapic& lapic, std::uint64_t offset) { return lapic.write(offset, data); },
      [&](Bus& bus) { return bus.write(gpa, data); });
}

void Machine::quit() {
  released_ = true;
  threads_->end(ending::Quit{});
}

void Machine::hang_up() {
  released_ = true;
  threads_->end(ending::Stopped{SIGHUP});
}

}  // namespace vmm
