#include "vmm/machine/pc_board.h"

#include <fmt/format.h>

#include <algorithm>

namespace vmm {
namespace {

constexpr unsigned kIrqPins = 24;
constexpr unsigned kPitIrq = 0;
constexpr unsigned kKeyboardIrq = 1;
constexpr unsigned kCom1Irq = 4;
constexpr unsigned kRtcIrq = 8;
constexpr unsigned kSci = 9;
constexpr Gpa kIoapicBase = 0xfec00000;

}  // namespace

Result<std::unique_ptr<Board>> Board::create(const Wiring& wiring) {
  std::unique_ptr<Board> board(new Board);
  VMM_TRY(board->wire(wiring));
  return board;
}

// Interrupt controllers of ours, from the processors outwards. With KVM's there is nothing on the
// board but the lines that lead to it.
Result<void> Board::wire_interrupts(const Wiring& wiring) {
  if (wiring.irqchip == IrqChipKind::Kernel) {
    tap_ = std::make_unique<LineTap>(*this, *wiring.kernel_irq);
    pins_ = std::make_unique<IrqPins>(*tap_, kIrqPins);
    return {};
  }
  if (wiring.irqchip == IrqChipKind::User) {
    user_chip_ = std::make_unique<UserIrqChip>(
        wiring.apic_ids, UserIrqChip::Wires{
                             .wake = wiring.wake,
                             .extint_pending = [this] { return pic_->pending().has_value(); },
                             .extint_acknowledge = [this] { return pic_->acknowledge(); },
                             .broadcast_eoi = [this](std::uint8_t v) { ioapic_->eoi(v); },
                             .note = [this](const TraceEvent& event) { note(event); },
                         });
    for (unsigned i = 0; i < user_chip_->vcpu_count(); ++i) {
      user_chip_->lapic(i).allow_tsc_deadline(wiring.tsc_deadline);
      // The older IOAPIC has no EOI register, so it needs the broadcast.
      user_chip_->lapic(i).offer_eoi_suppression(wiring.ioapic_version >= 0x20);
    }
  }
  pic_ = make<Pic8259>("pic", [this](bool level) {
    if (user_chip_ != nullptr)
      user_chip_->set_intr(level);
    else if (level)
      wiring_.wake(0);
  });
  pic_->set_bios_defaults();
  VMM_TRY(ports.map({.base = 0x20, .size = 2, .width = BusWidth::Byte}, *pic_));
  VMM_TRY(ports.map({.base = 0xa0, .size = 2, .displacement = 2, .width = BusWidth::Byte}, *pic_));
  VMM_TRY(ports.map({.base = 0x4d0, .size = 2, .displacement = 4, .width = BusWidth::Byte}, *pic_));
  ioapic_ = make<Ioapic>("ioapic", wiring.ioapic_version, [this](const ApicMessage& message) {
    note({.vcpu = kNoVcpu,
          .kind = "message",
          .address = message.destination,
          .value = message_bits(message),
          .device = "ioapic"});
    return user_chip_ != nullptr ? user_chip_->send(message) : wiring_.send(message);
  });
  VMM_TRY(mmio.map({.base = kIoapicBase, .size = 0x1000}, *ioapic_));
  router_ = std::make_unique<IsaRouter>(*pic_, *ioapic_);
  tap_ = std::make_unique<LineTap>(*this, *router_);
  pins_ = std::make_unique<IrqPins>(*tap_, kIrqPins);
  pit_ = make<Pit8254>("pit", pins_->line(kPitIrq));
  pit_->on_expiry = [this] { note({.vcpu = kNoVcpu, .kind = "pit-timer", .device = "pit"}); };
  VMM_TRY(ports.map({.base = 0x40, .size = 4, .width = BusWidth::Byte}, *pit_));
  VMM_TRY(ports.map({.base = 0x61, .size = 1, .displacement = 4, .width = BusWidth::Byte}, *pit_));
  return {};
}

// The wiring diagram: make, map, connect, from low ports to high.
Result<void> Board::wire(const Wiring& wiring) {
  wiring_ = wiring;
  ports.keep_time(clock);
  mmio.keep_time(clock);
  VMM_TRY(wire_interrupts(wiring));
  const auto end_as = [this](RunOutcome outcome) {
    if (!ending) ending = std::move(outcome);
  };

  // The keyboard controller. Keys come from the terminal that shows the screen; command FEh resets
  // the machine.
  i8042_ = make<I8042>("i8042", pins_->line(kKeyboardIrq),
                       [end_as] { end_as(ending::Reset{"i8042 command FEh at port 64h"}); });
  VMM_TRY(ports.map({.base = 0x60, .size = 1, .width = BusWidth::Byte}, *i8042_));
  VMM_TRY(
      ports.map({.base = 0x64, .size = 1, .displacement = 4, .width = BusWidth::Byte}, *i8042_));

  rtc_ = make<RtcCmos>("rtc", pins_->line(kRtcIrq), wiring.start_seconds);
  rtc_->on_alarm = [this] { acpi_pm_->rtc_alarm(); };
  rtc_->on_expiry = [this](std::uint8_t flags) {
    note({.vcpu = kNoVcpu, .kind = "rtc-timer", .value = flags, .device = "rtc"});
  };
  rtc_->set_cpu_count(wiring.vcpus);
  VMM_TRY(ports.map({.base = 0x70, .size = 2, .width = BusWidth::Byte}, *rtc_));

  post_ = make<PostPort>("post");
  VMM_TRY(ports.map({.base = 0x80, .size = 1, .width = BusWidth::Byte}, *post_));

  port92_ = make<Port92>("port92", [end_as] { end_as(ending::Reset{"port 92h bit 0"}); });
  VMM_TRY(ports.map({.base = 0x92, .size = 1, .width = BusWidth::Byte}, *port92_));

  // Debug console and debug exit, as Bochs and QEMU have them.
  debugcon_ = make<Debugcon>("debugcon", wiring.debugcon_out);
  VMM_TRY(ports.map({.base = 0xe9, .size = 1, .width = BusWidth::Byte}, *debugcon_));
  if (wiring.debug_port)
    VMM_TRY(ports.map({.base = 0x402, .size = 1, .width = BusWidth::Byte}, *debugcon_));
  debug_exit_ = make<DebugExit>(
      "debug-exit", [end_as](std::uint64_t value) { end_as(ending::GuestExit{value}); });
  VMM_TRY(ports.map({.base = 0xf4, .size = 4}, *debug_exit_));

  // The VGA's registers; its memory is guest RAM unless accesses are to be trapped.
  vga_ = make<VgaText>("vga", wiring.vga_window);
  VMM_TRY(ports.map({.base = 0x3b0, .size = 0x30, .width = BusWidth::Byte}, *vga_));
  if (wiring.vga_trap) {
    vga_window_ = std::make_unique<VgaWindow>("vga-memory", *vga_);
    VMM_TRY(mmio.map({.base = kVgaWindow, .size = kVgaWindowSize}, *vga_window_));
  }

  serial_ =
      make<Serial16550>("serial0", pins_->line(kCom1Irq), wiring.serial_out, wiring.serial_in);
  VMM_TRY(ports.map({.base = 0x3f8, .size = 8, .width = BusWidth::Byte}, *serial_));

  fw_cfg_ = make<FwCfg>("fw-cfg", wiring.memory);
  VMM_TRY(ports.map({.base = 0x510, .size = 12}, *fw_cfg_));
  if (wiring.memory != nullptr) {
    const GuestMemory& memory = *wiring.memory;
    add_machine_items(*fw_cfg_, wiring.vcpus, wiring.vcpus, memory.size());
    const std::uint64_t below_4g = std::min(memory.size(), kHoleStart);
    rtc_->set_memory_size(below_4g, memory.size() - below_4g);
  }
  if (wiring.firmware != nullptr) {
    for (const auto& [key, bytes] : wiring.firmware->keys) fw_cfg_->add(key, bytes);
    for (const auto& [name, bytes] : wiring.firmware->files) fw_cfg_->add_file(name, bytes);
  }

  if (wiring.vars != nullptr) {
    vars_ = make<FlashWindow>("vars", *wiring.vars, wiring.vars_memory);
    VMM_TRY(mmio.map({.base = wiring.vars_base, .size = wiring.vars->bytes().size()}, *vars_));
    vars_->start();
  }

  // Ways to switch the machine off or reset it.
  reset_port_ = make<ResetPort>("reset", [end_as] { end_as(ending::Reset{"port CF9h"}); });
  // CF9h lies within CONFIG_ADDRESS, so the way to the reset port is through the PCI host.
  pci_host_ =
      make<PciHost>("pci", reset_port_.get(),
                    wiring.firmware != nullptr ? PciHost::SetUp::ByFirmware : PciHost::SetUp::Done);
  VMM_TRY(ports.map({.base = 0xcf8, .size = 8}, *pci_host_));
  acpi_pm_ = make<AcpiPm>("acpi-pm", pins_->line(kSci),
                          AcpiPm::Calls{.power_off =
                                            [this, end_as] {
                                              end_as(ending::PowerOff{fmt::format(
                                                  "port {:X}h", pm_base_.value_or(0) + 4)});
                                            },
                                        .suspend = wiring.suspend});
  map_power_management();
  pci_host_->on_pm_change = [this] { map_power_management(); };
  VMM_TRY(wire_disks(wiring));
  bochs_shutdown_ = make<BochsShutdownPort>(
      "bochs-shutdown", [end_as] { end_as(ending::PowerOff{"\"Shutdown\" at port 8900h"}); });
  VMM_TRY(ports.map({.base = 0x8900, .size = 1, .width = BusWidth::Byte}, *bochs_shutdown_));
  if (wiring.testdev) VMM_TRY(wire_testdev(wiring));
  return {};
}

// What kvm-unit-tests expect; E9h, in the middle of its ports, is the debug console.
Result<void> Board::wire_testdev(const Wiring& wiring) {
  std::array<IrqLine, PcTestdev::kLines> lines;
  for (unsigned gsi = 0; gsi < PcTestdev::kLines; ++gsi) lines[gsi] = pins_->line(gsi);
  testdev_ = make<PcTestdev>("testdev", std::move(lines), nullptr);
  // Those tests were written for a firmware that leaves the timer ticking, 18.2 times a second.
  if (pit_ != nullptr) pit_->set_bios_defaults();
  VMM_TRY(ports.map({.base = 0xe0, .size = 8}, *testdev_));
  VMM_TRY(
      ports.map({.base = 0xe8, .size = 1, .displacement = 8, .width = BusWidth::Byte}, *testdev_));
  VMM_TRY(
      ports.map({.base = 0xea, .size = 2, .displacement = 10, .width = BusWidth::Byte}, *testdev_));
  VMM_TRY(ports.map(
      {.base = 0x2000, .size = PcTestdev::kLines, .displacement = PcTestdev::kLinesOffset},
      *testdev_));
  if (wiring.ask_vcpu) {
    vmware_port_ = make<VmwarePort>(
        "vmware-port",
        VmwarePort::Caller{
            .ask = [this, ask = wiring.ask_vcpu]() -> std::optional<VmwarePort::Question> {
              if (served_vcpu_ == kNoVcpu) return std::nullopt;
              return ask(served_vcpu_);
            },
            .set_ebx = [this,
                        set = wiring.set_vcpu_ebx](std::uint32_t ebx) { set(served_vcpu_, ebx); }});
    VMM_TRY(ports.map({.base = 0x5658, .size = 4}, *vmware_port_));
  }
  return mmio.map({.base = 0xff000000,
                   .size = PcTestdev::kMemorySize,
                   .displacement = PcTestdev::kMemoryOffset},
                  *testdev_);
}

void Board::wake_up() {
  for (Device* device : devices_)
    if (device != rtc_.get() && device != acpi_pm_.get() && device != fw_cfg_.get())
      device->reset();
  if (pic_ != nullptr) pic_->set_bios_defaults();
  if (user_chip_ != nullptr) user_chip_->reset();
  assign_pci_resources();
  acpi_pm_->woken();
}

EntryPlan Board::before_entry(unsigned vcpu, const EntryState& state) {
  if (user_chip_ != nullptr) return user_chip_->before_entry(vcpu, state, clock.now());
  // KVM's LAPIC takes the 8259A's interrupts like any other controller's, when it is let in.
  EntryPlan plan;
  if (!pic_->pending()) return plan;
  if (state.ready && state.interrupts_on) {
    plan.interrupt = pic_->acknowledge();
    note({.vcpu = vcpu, .kind = "inject", .value = *plan.interrupt, .device = "pic"});
  }
  plan.window = pic_->pending().has_value();
  return plan;
}

bool Board::set_tsc_deadline(unsigned vcpu, std::uint64_t tsc) {
  if (user_chip_ == nullptr || !wiring_.tsc_deadline) return false;
  const VmTime expiry = tsc == 0 ? VmTime{0} : clock.now() + wiring_.until_tsc(vcpu, tsc);
  user_chip_->lapic(vcpu).set_tsc_deadline(tsc, expiry);
  return true;
}

void Board::rearm_tsc_deadlines() {
  if (!has_tsc_deadline()) return;
  for (unsigned i = 0; i < user_chip_->vcpu_count(); ++i)
    if (const std::uint64_t tsc = user_chip_->lapic(i).tsc_deadline(); tsc != 0)
      set_tsc_deadline(i, tsc);
}

// Split: what KVM has been told of the IOAPIC's pins, past ones too (sync_routes()).
void Board::visit(Archive& archive) {
  archive.block("board", 1);
  if (wiring_.irqchip != IrqChipKind::Split) return;
  routes_.resize(std::size_t{2} * kIrqPins);
  for (std::size_t i = 0; i < routes_.size(); ++i) {
    const std::string name = fmt::format("route{}", i);
    bool present = routes_[i].has_value();
    archive(name, present);
    ApicMessage message = routes_[i].value_or(ApicMessage{});
    if (present) {
      archive(name + ".mode", message.mode)(name + ".vector", message.vector);
      archive(name + ".destination", message.destination)(name + ".logical", message.logical);
      archive(name + ".level_triggered", message.level_triggered);
      archive(name + ".asserted", message.asserted);
    }
    routes_[i] = present ? std::optional<ApicMessage>(message) : std::nullopt;
  }
  seen_routes_ = ~std::uint64_t{0};  // KVM is to be told
}

void Board::sync_routes() {
  if (wiring_.irqchip != IrqChipKind::Split || ioapic_->generation() == seen_routes_) return;
  seen_routes_ = ioapic_->generation();
  // A masked pin keeps its route, and one that was led elsewhere its last one too: the EOI of what
  // was sent before is still to come, and KVM reports EOIs of vectors in this table alone (Linux
  // 6.1 looks at the present destination, whatever is in service).
  routes_.resize(std::size_t{2} * kIrqPins);
  for (unsigned pin = 0; pin < kIrqPins; ++pin) {
    const Ioapic::Route route = ioapic_->route(pin);
    if (route.masked && route.message.vector == 0) continue;
    if (routes_[pin] && *routes_[pin] != route.message) routes_[kIrqPins + pin] = routes_[pin];
    routes_[pin] = route.message;
  }
  wiring_.routes_changed(routes_);
}

void Board::advance() {
  const VmTime now = clock.now();
  for (Device* device : devices_) device->advance(now);
  if (user_chip_ != nullptr) user_chip_->advance(now);
}

std::optional<VmTime> Board::next_deadline() const {
  std::optional<VmTime> soonest;
  const auto consider = [&](std::optional<VmTime> deadline) {
    if (deadline && (!soonest || *deadline < *soonest)) soonest = deadline;
  };
  for (const Device* device : timed_) consider(device->next_deadline());
  if (user_chip_ != nullptr) consider(user_chip_->next_deadline());
  return soonest;
}

void Board::LineTap::set_pin(unsigned gsi, bool level) {
  board_.note({.vcpu = kNoVcpu, .kind = "line", .address = gsi, .value = level ? 1u : 0u});
  sink_.set_pin(gsi, level);
}

void Board::note(TraceEvent noted) {
  noted.time = clock.now();
  if (served_vcpu_ != kNoVcpu && (noted.vcpu == served_vcpu_ || noted.other == served_vcpu_))
    noted.rip = served_rip_;
  event(noted);
}

void Board::note_for_trace(TraceEvent noted) {
  if (trace == nullptr) return;
  noted.time = clock.now();
  trace->event(noted);
}

void Board::event(const TraceEvent& event) {
  recorder.event(event);
  if (trace != nullptr) trace->event(event);
}

}  // namespace vmm
