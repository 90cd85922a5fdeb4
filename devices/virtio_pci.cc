#include "devices/virtio_pci.h"

#include <utility>

#include "devices/virtio_spec.h"
#include "vmm/base/bytes.h"

namespace vmm {

VirtioPci::VirtioPci(std::string name, Identity identity, GuestMemory& memory, Wires wires)
    : name_(std::move(name)), identity_(identity), memory_(memory), wires_(std::move(wires)) {}

void VirtioPci::reset() {
  const bool decoded = !windows().empty();
  state_ = {};
  problem_ = {};
  forget();
  update_line();
  if (decoded && wires_.remap) wires_.remap();
}

void VirtioPci::assign(const Resources& resources) {
  state_.io_base = static_cast<std::uint32_t>(align_down(resources.io_base, kIoSize));
  state_.msix_base = static_cast<std::uint32_t>(align_down(resources.msix_base, kMsixWindowSize));
  state_.modern_base = static_cast<std::uint32_t>(align_down(resources.modern_base, kModernSize));
  state_.interrupt_line = resources.interrupt_line;
  state_.command = spec::COMMAND_IO | spec::COMMAND_MEMORY;
  if (wires_.remap) wires_.remap();
}

std::vector<PciWindow> VirtioPci::windows() const {
  std::vector<PciWindow> windows;
  if ((state_.command & spec::COMMAND_IO) != 0)
    windows.push_back({false, state_.io_base, kIoSize, 0});
  if ((state_.command & spec::COMMAND_MEMORY) != 0) {
    windows.push_back({true, state_.msix_base, kMsixWindowSize, kMsixOffset});
    windows.push_back({true, state_.modern_base, kModernSize, kModernOffset});
  }
  return windows;
}

std::uint64_t VirtioPci::offered() const {
  return device_features() | std::uint64_t{1} << spec::F_VERSION_1 |
         std::uint64_t{1} << spec::F_INDIRECT_DESC | std::uint64_t{1} << spec::F_EVENT_IDX;
}

bool VirtioPci::negotiated(unsigned feature) const {
  return bit(state_.driver_features & offered(), feature);
}

VirtQueueFeatures VirtioPci::ring_features() const {
  return {.indirect = negotiated(spec::F_INDIRECT_DESC),
          .event_idx = negotiated(spec::F_EVENT_IDX)};
}

// 2.1.2: the bit is part of version 1; a legacy driver would not know it.
std::uint8_t VirtioPci::status() const {
  const bool told = state_.broken && negotiated(spec::F_VERSION_1);
  return static_cast<std::uint8_t>(state_.status | (told ? spec::STATUS_DEVICE_NEEDS_RESET : 0));
}

bool VirtioPci::line_level() const {
  return state_.isr != 0 && !state_.msix.enabled &&
         (state_.command & spec::COMMAND_INTX_DISABLE) == 0;
}

void VirtioPci::update_line() { wires_.line.set(line_level()); }

void VirtioPci::interrupt(std::uint8_t isr_bit, std::uint16_t vector) {
  if (state_.msix.enabled) {
    msix_signal(state_.msix, vector, wires_.msi);
    return;
  }
  state_.isr = static_cast<std::uint8_t>(state_.isr | isr_bit);
  update_line();
}

// 2.4: everything but the PCI side of it, and its MSI-X table.
void VirtioPci::reset_device() {
  State fresh;
  fresh.command = state_.command;
  fresh.interrupt_line = state_.interrupt_line;
  fresh.io_base = state_.io_base;
  fresh.msix_base = state_.msix_base;
  fresh.modern_base = state_.modern_base;
  fresh.window = state_.window;
  fresh.msix = state_.msix;
  fresh.msix.pending = 0;
  state_ = fresh;
  problem_ = {};
  forget();
  update_line();
}

void VirtioPci::set_status(std::uint8_t value) {
  if (value == 0) return reset_device();
  // 2.1.1: a driver takes no bit back; 3.1.1: the device tells by FEATURES_OK whether it can work
  // with what the driver chose.
  const bool asks = (value & ~state_.status & spec::STATUS_FEATURES_OK) != 0;
  const bool can = (state_.driver_features & ~offered()) == 0 && negotiated(spec::F_VERSION_1);
  if (asks && !can) value = static_cast<std::uint8_t>(value & ~spec::STATUS_FEATURES_OK);
  state_.status =
      static_cast<std::uint8_t>((state_.status | value) & ~spec::STATUS_DEVICE_NEEDS_RESET);
  if ((value & spec::STATUS_DRIVER_OK) != 0) ask_for_work();
}

void VirtioPci::set_driver_features(unsigned half, std::uint32_t value) {
  if (half > 1 || (state_.status & spec::STATUS_FEATURES_OK) != 0) return;
  const unsigned shift = half * 32;
  state_.driver_features &= ~(low_mask(32) << shift);
  state_.driver_features |= std::uint64_t{value} << shift;
}

void VirtioPci::set_queue_size(std::uint16_t size) {
  if (state_.queue_select == 0 && !state_.queue.enabled) state_.queue.size = size;
}

void VirtioPci::enable_queue() {
  if (state_.queue_select != 0 || state_.queue.enabled) return;
  state_.queue.enabled = true;
  ask_for_work();
}

void VirtioPci::notify(std::uint64_t queue) {
  if (queue == 0) ask_for_work();
}

bool VirtioPci::running() const {
  return state_.queue.enabled && !state_.broken && (state_.status & spec::STATUS_DRIVER_OK) != 0 &&
         (state_.status & spec::STATUS_FAILED) == 0 && (state_.command & spec::COMMAND_MASTER) != 0;
}

bool VirtioPci::next(VirtChain& chain) {
  if (!running()) return false;
  const auto found = next_chain(state_.queue, memory_, ring_features(), chain);
  if (!found) break_device(found.error());
  return found.value_or(false);
}

void VirtioPci::use(std::uint16_t head, std::uint32_t written) {
  const auto wanted = use_chain(state_.queue, memory_, ring_features(), head, written);
  if (!wanted) return break_device(wanted.error());
  if (*wanted) interrupt(spec::ISR_QUEUE, state_.queue_vector);
}

// 2.1.2: with an interrupt for the change of configuration, which tells the driver to look.
void VirtioPci::break_device(std::string_view rule) {
  state_.broken = true;
  problem_ = rule;
  if (negotiated(spec::F_VERSION_1) && (state_.status & spec::STATUS_DRIVER_OK) != 0)
    interrupt(spec::ISR_CONFIG, state_.config_vector);
}

Access VirtioPci::read(std::uint64_t offset, std::span<std::uint8_t> data) {
  if (offset < kIoSize) return read_legacy(offset, data);
  if (offset >= kModernOffset) return read_modern(offset - kModernOffset, data);
  if (offset >= kMsixOffset) return msix_read(state_.msix, offset - kMsixOffset, data);
  return Access::NoRegister;
}

Access VirtioPci::write(std::uint64_t offset, std::span<const std::uint8_t> data) {
  if (offset < kIoSize) return write_legacy(offset, data);
  if (offset >= kModernOffset) return write_modern(offset - kModernOffset, data);
  if (offset >= kMsixOffset) return msix_write(state_.msix, offset - kMsixOffset, data, wires_.msi);
  return Access::NoRegister;
}

void VirtioPci::visit(Archive& archive) {
  archive.block("virtio_pci", 1);
  State& s = state_;
  archive("command", s.command)("interrupt_line", s.interrupt_line);
  archive("io_base", s.io_base)("msix_base", s.msix_base)("modern_base", s.modern_base);
  archive("window.bar", s.window.bar)("window.offset", s.window.offset);
  archive("window.length", s.window.length);
  s.msix.visit(archive);
  archive("device_feature_select", s.device_feature_select);
  archive("driver_feature_select", s.driver_feature_select)("driver_features", s.driver_features);
  archive("status", s.status)("broken", s.broken)("isr", s.isr);
  archive("config_vector", s.config_vector)("queue_vector", s.queue_vector);
  archive("queue_select", s.queue_select);
  s.queue.visit(archive);
  // Bits that no register holds; what cannot be right in the rest is seen where it is used.
  absorb(config());
  s.isr &= spec::ISR_QUEUE | spec::ISR_CONFIG;
  s.status = static_cast<std::uint8_t>(s.status & ~spec::STATUS_DEVICE_NEEDS_RESET);
  problem_ = s.broken ? std::string_view("a rule was broken before the state was saved")
                      : std::string_view();
  forget();
  wires_.line.restore_level(line_level());
}

}  // namespace vmm
