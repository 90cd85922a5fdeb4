// The configuration space of a virtio device: header, BARs, capabilities (PCI 3.0 chapter 6, VIRTIO
// 1.2 section 4.1.4).
#include <algorithm>

#include "devices/virtio_pci.h"
#include "devices/virtio_spec.h"
#include "vmm/base/bytes.h"

namespace vmm {
namespace spec {
namespace {

constexpr std::uint16_t VENDOR_REDHAT = 0x1af4;
constexpr std::size_t BAR0 = 0x10, BAR1 = 0x14, BAR4 = 0x20;
constexpr std::uint32_t BAR_IO = 1;

// Where we put the capabilities, each after the other.
constexpr std::size_t CAP_MSIX = 0x40, CAP_COMMON = 0x50, CAP_NOTIFY = 0x60, CAP_ISR = 0x74,
                      CAP_DEVICE = 0x84, CAP_WINDOW = 0x94, CAP_END = 0xa8;
constexpr std::size_t CAP_BAR = 4, CAP_OFFSET = 8, CAP_LENGTH = 12;
constexpr std::size_t WINDOW_DATA = CAP_WINDOW + 16;
static_assert(WINDOW_DATA + 4 == CAP_END);

constexpr std::uint8_t ID_VENDOR = 0x09, ID_MSIX = 0x11;
constexpr std::uint8_t CFG_COMMON = 1, CFG_NOTIFY = 2, CFG_ISR = 3, CFG_DEVICE = 4, CFG_PCI = 5;

}  // namespace
}  // namespace spec

namespace {

struct VirtioCapability {
  std::size_t at;
  std::size_t next;
  std::uint8_t size;
  std::uint8_t type;
  std::uint32_t offset;  // in BAR 4
  std::uint32_t length;
};
constexpr VirtioCapability kCapabilities[] = {
    {spec::CAP_COMMON, spec::CAP_NOTIFY, 16, spec::CFG_COMMON, 0x0000, 0x38},
    {spec::CAP_NOTIFY, spec::CAP_ISR, 20, spec::CFG_NOTIFY, 0x3000, 4},
    {spec::CAP_ISR, spec::CAP_DEVICE, 16, spec::CFG_ISR, 0x1000, 1},
    {spec::CAP_DEVICE, spec::CAP_WINDOW, 16, spec::CFG_DEVICE, 0x2000, VirtioPci::kConfigSize},
    {spec::CAP_WINDOW, 0, 20, spec::CFG_PCI, 0, 0},
};
constexpr std::uint32_t kNotifyMultiplier = 4;

// Which bits a guest can write.
constexpr std::array<std::uint8_t, 256> kWritable = [] {
  std::array<std::uint8_t, 256> mask{};
  const auto set = [&mask](std::size_t at, std::uint32_t bits_of) {
    for (std::size_t i = 0; i < 4; ++i) mask[at + i] = static_cast<std::uint8_t>(bits_of >> 8 * i);
  };
  set(0x04,
      spec::COMMAND_IO | spec::COMMAND_MEMORY | spec::COMMAND_MASTER | spec::COMMAND_INTX_DISABLE);
  // All 32 bits, though ports have 16: SeaBIOS takes zeroes above for a size.
  set(spec::BAR0, static_cast<std::uint32_t>(~(VirtioPci::kIoSize - 1)));
  set(spec::BAR1, static_cast<std::uint32_t>(~(kMsixWindowSize - 1)));
  set(spec::BAR4, static_cast<std::uint32_t>(~(VirtioPci::kModernSize - 1)));
  mask[0x3c] = 0xff;
  mask[spec::CAP_MSIX + 3] = 0xc0;
  mask[spec::CAP_WINDOW + spec::CAP_BAR] = 0xff;
  set(spec::CAP_WINDOW + spec::CAP_OFFSET, 0xffff'ffff);
  set(spec::CAP_WINDOW + spec::CAP_LENGTH, 0xffff'ffff);
  return mask;
}();

}  // namespace

// What it reads, but for the window's data.
VirtioPci::ConfigBytes VirtioPci::config() const {
  ConfigBytes bytes{};
  store(bytes, 0x00, spec::VENDOR_REDHAT);
  store(bytes, 0x02, identity_.device);
  store(bytes, 0x04, state_.command);
  store(bytes, 0x06,
        static_cast<std::uint16_t>(spec::STATUS_CAPABILITIES |
                                   (state_.isr != 0 ? spec::STATUS_INTERRUPT : 0)));
  store(bytes, 0x08, identity_.class_code << 8);  // revision 0: transitional
  store(bytes, spec::BAR0, state_.io_base | spec::BAR_IO);
  store(bytes, spec::BAR1, state_.msix_base);
  store(bytes, spec::BAR4, state_.modern_base);
  store(bytes, 0x2c, spec::VENDOR_REDHAT);
  store(bytes, 0x2e, identity_.subsystem);
  bytes[0x34] = spec::CAP_MSIX;
  bytes[0x3c] = state_.interrupt_line;
  bytes[0x3d] = 1;  // INTA#

  bytes[spec::CAP_MSIX] = spec::ID_MSIX;
  bytes[spec::CAP_MSIX + 1] = spec::CAP_COMMON;
  store(bytes, spec::CAP_MSIX + 2, msix_control(state_.msix));
  store(bytes, spec::CAP_MSIX + 4, std::uint32_t{1});  // the table in BAR 1
  store(bytes, spec::CAP_MSIX + 8, static_cast<std::uint32_t>(kMsixPendingOffset | 1));

  for (const VirtioCapability& capability : kCapabilities) {
    bytes[capability.at] = spec::ID_VENDOR;
    bytes[capability.at + 1] = static_cast<std::uint8_t>(capability.next);
    bytes[capability.at + 2] = capability.size;
    bytes[capability.at + 3] = capability.type;
    bytes[capability.at + spec::CAP_BAR] = 4;
    store(bytes, capability.at + spec::CAP_OFFSET, capability.offset);
    store(bytes, capability.at + spec::CAP_LENGTH, capability.length);
  }
  store(bytes, spec::CAP_NOTIFY + 16, kNotifyMultiplier);
  bytes[spec::CAP_WINDOW + spec::CAP_BAR] = state_.window.bar;
  store(bytes, spec::CAP_WINDOW + spec::CAP_OFFSET, state_.window.offset);
  store(bytes, spec::CAP_WINDOW + spec::CAP_LENGTH, state_.window.length);
  return bytes;
}

// Takes over what of `bytes` can be written.
void VirtioPci::absorb(const ConfigBytes& bytes) {
  const auto field = [&bytes](std::size_t at) {
    return load<std::uint32_t>(bytes, at) & load<std::uint32_t>(kWritable, at);
  };
  state_.command = static_cast<std::uint16_t>(field(0x04));
  state_.io_base = field(spec::BAR0);
  state_.msix_base = field(spec::BAR1);
  state_.modern_base = field(spec::BAR4);
  state_.interrupt_line = bytes[0x3c];
  state_.msix.enabled = bit(bytes[spec::CAP_MSIX + 3], 7);
  state_.msix.function_masked = bit(bytes[spec::CAP_MSIX + 3], 6);
  state_.window = {bytes[spec::CAP_WINDOW + spec::CAP_BAR],
                   field(spec::CAP_WINDOW + spec::CAP_OFFSET),
                   field(spec::CAP_WINDOW + spec::CAP_LENGTH)};
}

// The register that the window shows; nothing where it is set up for none (4.1.4.9.2).
std::optional<std::uint64_t> VirtioPci::window_target() const {
  const ConfigWindow& w = state_.window;
  if (w.bar != 4 || (w.length != 1 && w.length != 2 && w.length != 4)) return std::nullopt;
  if (w.offset % w.length != 0 || w.offset > kModernSize - w.length) return std::nullopt;
  return w.offset;
}

void VirtioPci::read_config(std::uint8_t offset, std::span<std::uint8_t> data) {
  const ConfigBytes bytes = config();
  std::copy_n(bytes.begin() + offset, data.size(), data.begin());
  if (offset != spec::WINDOW_DATA) return;
  const auto target = window_target();
  std::array<std::uint8_t, 4> value{};
  if (target && read_modern(*target, std::span(value).first(state_.window.length)) == Access::Ok)
    std::copy_n(value.begin(), data.size(), data.begin());
}

void VirtioPci::write_config(std::uint8_t offset, std::span<const std::uint8_t> data) {
  if (offset == spec::WINDOW_DATA) {
    const auto target = window_target();
    if (target && data.size() >= state_.window.length)
      (void)write_modern(*target, data.first(state_.window.length));
    return;
  }
  const std::vector<PciWindow> windows_before = windows();
  const bool master_before = (state_.command & spec::COMMAND_MASTER) != 0;
  ConfigBytes bytes = config();
  for (std::size_t i = 0; i < data.size(); ++i) {
    const std::uint8_t mask = kWritable[offset + i];
    std::uint8_t& byte = bytes[offset + i];
    byte = static_cast<std::uint8_t>((byte & ~mask) | (data[i] & mask));
  }
  absorb(bytes);
  set_msix_control(state_.msix, msix_control(state_.msix), wires_.msi);
  update_line();
  if (wires_.remap && windows() != windows_before) wires_.remap();
  if (!master_before && (state_.command & spec::COMMAND_MASTER) != 0) ask_for_work();
}

}  // namespace vmm
