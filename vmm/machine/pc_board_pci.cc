// The board's PCI side: disks in their slots, windows on the buses, interrupts.
#include <fmt/format.h>

#include "vmm/base/check.h"
#include "vmm/machine/pc_board.h"
#include "vmm/machine/pci_layout.h"

namespace vmm {

// Disks, one a slot.
Result<void> Board::wire_disks(const Wiring& wiring) {
  if (wiring.disks.empty()) return {};
  VMM_CHECK(wiring.memory != nullptr, "disks need the guest's memory");
  VMM_CHECK(wiring.disks.size() <= pci_layout::kMaxDisks, "there are slots for 16 disks");
  pirqs_ = std::make_unique<PirqRouter>(*pins_, *pci_host_);
  pci_host_->on_route_change = [this] { pirqs_->reroute(); };
  for (unsigned i = 0; i < wiring.disks.size(); ++i) {
    const std::string name = fmt::format("disk{}", i);
    const unsigned device = pci_layout::device_of_disk(i);
    disks_.push_back(make<VirtioBlk>(
        name, wiring.disks[i], *wiring.memory,
        VirtioPci::Wires{
            .line = pirqs_->line(pci_layout::pirq_of_device(device)),
            .msi = [this, i](const MsiMessage& message) { send_msi(message, disks_[i]->name()); },
            .remap = [this] { map_pci_windows(); },
            .work = wiring.disk_work}));
    pci_host_->attach(device, 0, *disks_.back());
  }
  assign_pci_resources();
  return {};
}

// The ACPI registers where PMBASE says. What is there already stays, and they are nowhere then.
void Board::map_power_management() {
  const auto wanted = pci_host_->pm_base();
  if (wanted == pm_base_) return;
  if (pm_base_) ports.unmap(*pm_base_);
  pm_base_.reset();
  if (!wanted || !ports.map({.base = *wanted, .size = 0x10}, *acpi_pm_)) return;
  pm_base_ = wanted;
  tell_acpi_files();
}

// A firmware reads them once it has set PMBASE.
void Board::tell_acpi_files() {
  if (!wiring_.acpi_files || !pm_base_) return;
  for (FirmwareFile& file : wiring_.acpi_files(*pm_base_))
    fw_cfg_->replace_file(file.name, std::move(file.bytes));
}

// As firmware leaves it. Those interrupts are levels to the 8259A as well.
void Board::assign_pci_resources() {
  if (disks_.empty() || wiring_.firmware != nullptr) return;
  pci_host_->route_pirqs(pci_layout::kPirqIrqs);
  for (unsigned i = 0; i < disks_.size(); ++i) disks_[i]->assign(pci_layout::resources_of_disk(i));
  if (pic_ != nullptr) pic_->set_elcr(pci_interrupt_levels(disks_.size()));
}

std::uint16_t Board::pci_interrupt_levels(std::size_t disks) {
  unsigned levels = 0;
  for (unsigned i = 0; i < disks; ++i)
    levels |= 1u << pci_layout::irq_of_device(pci_layout::device_of_disk(i));
  return static_cast<std::uint16_t>(levels);
}

// Each window where its function says. What is there already stays: of two that overlap, the one of
// the lower slot answers, and chips of the board before any.
void Board::map_pci_windows() {
  const auto bus = [this](const PciWindow& window) -> Bus& { return window.memory ? mmio : ports; };
  for (const PciWindow& window : pci_windows_) bus(window).unmap(window.base);
  pci_windows_.clear();
  for (const auto& disk : disks_)
    for (const PciWindow& window : disk->windows())
      if (bus(window).map(
              {.base = window.base, .size = window.size, .displacement = window.displacement},
              *disk))
        pci_windows_.push_back(window);
}

void Board::send_msi(const MsiMessage& message, std::string_view device) {
  const auto decoded = decode_msi(message);
  if (!decoded) return;
  note({.vcpu = kNoVcpu,
        .kind = "message",
        .address = decoded->destination,
        .value = message_bits(*decoded),
        .device = device});
  if (user_chip_ != nullptr)
    user_chip_->send(*decoded);
  else
    wiring_.send(*decoded);
}

void Board::restored() {
  map_power_management();
  map_pci_windows();
  if (pirqs_ != nullptr) pirqs_->restore();
  if (!disks_.empty() && wiring_.disk_work) wiring_.disk_work();
}

}  // namespace vmm
