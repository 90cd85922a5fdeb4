#include "devices/pci_host.h"

#include <algorithm>
#include <utility>

#include "vmm/base/bytes.h"
#include "vmm/base/check.h"

namespace vmm {
namespace spec {
namespace {

constexpr std::uint64_t CONFIG_ADDRESS = 0;
constexpr std::uint64_t CF9 = 1;
constexpr std::uint64_t CONFIG_DATA = 4;
constexpr std::uint64_t END = 8;

constexpr std::uint32_t CONFIG_ADDRESS_BITS =
    0x80ff'fffc;  // enable, bus, device, function, register
constexpr std::uint32_t CONFIG_ENABLE = 0x8000'0000;

constexpr std::uint8_t PIRQRC = 0x60;  // 4 bytes, one a line
constexpr std::uint8_t PIRQ_DISABLED = 0x80;
constexpr std::uint8_t PMBASE = 0x40;
constexpr std::uint8_t PMREGMISC = 0x80;
constexpr std::uint8_t PMIOSE = 0x01;

}  // namespace
}  // namespace spec

namespace {

using ConfigSpace = PciHost::ConfigSpace;

constexpr void put16(ConfigSpace& bytes, std::size_t offset, unsigned value) {
  bytes[offset] = static_cast<std::uint8_t>(value);
  bytes[offset + 1] = static_cast<std::uint8_t>(value >> 8);
}

// The part of a header that all have: identification, command, status, class, header type.
constexpr ConfigSpace header(unsigned device_id, unsigned command, unsigned status,
                             unsigned revision, unsigned class_code, unsigned header_type) {
  ConfigSpace bytes{};
  put16(bytes, 0x00, 0x8086);
  put16(bytes, 0x02, device_id);
  put16(bytes, 0x04, command);
  put16(bytes, 0x06, status);
  bytes[0x08] = static_cast<std::uint8_t>(revision);
  put16(bytes, 0x0a, class_code);
  bytes[0x0e] = static_cast<std::uint8_t>(header_type);
  return bytes;
}

constexpr ConfigSpace make_isa_bridge() {
  ConfigSpace bytes = header(0x7000, 0x0007, 0x0200, 0x00, 0x0601, 0x80);
  for (std::size_t i = 0; i < 4; ++i) bytes[spec::PIRQRC + i] = spec::PIRQ_DISABLED;
  return bytes;
}

constexpr ConfigSpace make_power_management() {
  ConfigSpace bytes = header(0x7113, 0x0001, 0x0280, 0x03, 0x0680, 0x00);
  bytes[0x3c] = 9;                     // the SCI
  bytes[0x3d] = 1;                     // INTA#
  put16(bytes, spec::PMBASE, 0x0601);  // 600h, I/O
  bytes[0x5b] = 0x02;                  // DEVACTB bit 25, APMC_EN
  bytes[spec::PMREGMISC] = spec::PMIOSE;
  return bytes;
}

constexpr ConfigSpace make_writable(std::initializer_list<std::pair<unsigned, unsigned>> masks) {
  ConfigSpace bytes{};
  for (const auto& [offset, mask] : masks) bytes[offset] = static_cast<std::uint8_t>(mask);
  return bytes;
}

constexpr ConfigSpace kHostBridgeWritable = make_writable({{0x59, 0x30},  // PAM
                                                           {0x5a, 0x33},
                                                           {0x5b, 0x33},
                                                           {0x5c, 0x33},
                                                           {0x5d, 0x33},
                                                           {0x5e, 0x33},
                                                           {0x5f, 0x33}});
constexpr ConfigSpace kIsaBridgeWritable =
    make_writable({{0x60, 0x8f}, {0x61, 0x8f}, {0x62, 0x8f}, {0x63, 0x8f}});
constexpr ConfigSpace kPowerManagementWritable = make_writable({{0x3c, 0xff}});
// Before any firmware: PMBASE's bits 15:6 and the bit of PMREGMISC that puts it to use.
constexpr ConfigSpace make_raw_power_management() {
  ConfigSpace bytes = make_power_management();
  put16(bytes, spec::PMBASE, 0x0001);
  bytes[spec::PMREGMISC] = 0;
  return bytes;
}
constexpr ConfigSpace kRawPowerManagement = make_raw_power_management();
constexpr ConfigSpace kRawPowerManagementWritable =
    make_writable({{0x3c, 0xff},
                   {spec::PMBASE, 0xc0},
                   {spec::PMBASE + 1, 0xff},
                   {spec::PMREGMISC, spec::PMIOSE}});

constexpr std::uint8_t place_of(unsigned device, unsigned function) {
  return static_cast<std::uint8_t>(device << 3 | function);
}

// Bits that cannot be written keep their power-on value.
void restore_fixed(ConfigSpace& bytes, const ConfigSpace& power_on, const ConfigSpace& writable) {
  for (std::size_t i = 0; i < bytes.size(); ++i)
    bytes[i] = static_cast<std::uint8_t>((bytes[i] & writable[i]) | (power_on[i] & ~writable[i]));
}

}  // namespace

constexpr ConfigSpace PciHost::kHostBridge = header(0x1237, 0x0006, 0x0280, 0x02, 0x0600, 0x00);
constexpr ConfigSpace PciHost::kIsaBridge = make_isa_bridge();
constexpr ConfigSpace PciHost::kPowerManagement = make_power_management();

PciHost::PciHost(std::string name, Device* cf9, SetUp set_up)
    : name_(std::move(name)),
      cf9_(cf9),
      set_up_(set_up),
      host_bridge_(state_.host_bridge, kHostBridgeWritable),
      isa_bridge_(state_.isa_bridge, kIsaBridgeWritable),
      power_management_(state_.power_management, power_management_writable()) {
  reset();
  attach(0, 0, host_bridge_);
  attach(1, 0, isa_bridge_);
  attach(1, 3, power_management_);
}

void PciHost::reset() {
  state_ = {};
  state_.power_management = power_management_at_start();
}

const ConfigSpace& PciHost::power_management_at_start() const {
  return set_up_ == SetUp::Done ? kPowerManagement : kRawPowerManagement;
}

const ConfigSpace& PciHost::power_management_writable() const {
  return set_up_ == SetUp::Done ? kPowerManagementWritable : kRawPowerManagementWritable;
}

std::optional<std::uint16_t> PciHost::pm_base() const {
  const ConfigSpace& bytes = state_.power_management;
  const auto base = static_cast<std::uint16_t>(load<std::uint16_t>(bytes, spec::PMBASE) & 0xffc0);
  if ((bytes[spec::PMREGMISC] & spec::PMIOSE) == 0 || base == 0) return std::nullopt;
  return base;
}

void PciHost::attach(unsigned device, unsigned function, PciFunction& pci_function) {
  VMM_CHECK(device < 32 && function < 8, "a PCI bus has 32 devices of 8 functions");
  VMM_CHECK(functions_.emplace(place_of(device, function), &pci_function).second,
            "a PCI function is there already");
}

// The function that CONFIG_ADDRESS names, or nullptr.
PciFunction* PciHost::selected() const {
  if (bits(state_.config_address, 23, 16) != 0) return nullptr;
  const auto found = functions_.find(static_cast<std::uint8_t>(bits(state_.config_address, 15, 8)));
  return found != functions_.end() ? found->second : nullptr;
}

Access PciHost::read(std::uint64_t offset, std::span<std::uint8_t> data) {
  if (offset == spec::CONFIG_ADDRESS) {
    if (data.size() != 4) return Access::BadWidth;
    store(data, 0, state_.config_address);
    return Access::Ok;
  }
  if (offset == spec::CF9 && cf9_ != nullptr) return cf9_->read(0, data);
  if (offset < spec::CONFIG_DATA || offset >= spec::END) return Access::NoRegister;
  if (data.size() > spec::END - offset) return Access::BadWidth;
  if ((state_.config_address & spec::CONFIG_ENABLE) == 0) return Access::NoRegister;
  if (PciFunction* const function = selected())
    function->read_config(
        static_cast<std::uint8_t>((state_.config_address & 0xfc) + offset - spec::CONFIG_DATA),
        data);
  else
    fill_ones(data);
  return Access::Ok;
}

Access PciHost::write(std::uint64_t offset, std::span<const std::uint8_t> data) {
  if (offset == spec::CONFIG_ADDRESS) {
    if (data.size() != 4) return Access::BadWidth;
    state_.config_address = load<std::uint32_t>(data) & spec::CONFIG_ADDRESS_BITS;
    return Access::Ok;
  }
  if (offset == spec::CF9 && cf9_ != nullptr) return cf9_->write(0, data);
  if (offset < spec::CONFIG_DATA || offset >= spec::END) return Access::NoRegister;
  if (data.size() > spec::END - offset) return Access::BadWidth;
  if ((state_.config_address & spec::CONFIG_ENABLE) == 0) return Access::NoRegister;
  if (PciFunction* const function = selected()) {
    function->write_config(
        static_cast<std::uint8_t>((state_.config_address & 0xfc) + offset - spec::CONFIG_DATA),
        data);
    if (function == &isa_bridge_ && on_route_change) on_route_change();
    if (function == &power_management_ && on_pm_change) on_pm_change();
  }
  return Access::Ok;
}

void PciHost::BuiltIn::read_config(std::uint8_t offset, std::span<std::uint8_t> data) {
  std::copy_n(bytes_.begin() + offset, data.size(), data.begin());
}

void PciHost::BuiltIn::write_config(std::uint8_t offset, std::span<const std::uint8_t> data) {
  for (std::size_t i = 0; i < data.size(); ++i) {
    const std::uint8_t mask = writable_[offset + i];
    std::uint8_t& byte = bytes_[offset + i];
    byte = static_cast<std::uint8_t>((byte & ~mask) | (data[i] & mask));
  }
}

void PciHost::route_pirqs(const std::array<std::uint8_t, 4>& irqs) {
  for (std::size_t i = 0; i < irqs.size(); ++i) {
    VMM_CHECK(irqs[i] >= 3 && irqs[i] < 16, "a PIRQ is led to an ISA interrupt from 3 to 15");
    state_.isa_bridge[spec::PIRQRC + i] = irqs[i];
  }
  if (on_route_change) on_route_change();
}

std::optional<unsigned> PciHost::pirq_route(unsigned pirq) const {
  VMM_CHECK(pirq < 4, "there are PIRQ A to D");
  const std::uint8_t route = state_.isa_bridge[spec::PIRQRC + pirq];
  if ((route & spec::PIRQ_DISABLED) != 0) return std::nullopt;
  return route & 0x0fU;
}

void PciHost::visit(Archive& archive) {
  archive.block("pci_host", 1);
  State& s = state_;
  archive("config_address", s.config_address)("host_bridge", s.host_bridge);
  archive("isa_bridge", s.isa_bridge)("power_management", s.power_management);
  s.config_address &= spec::CONFIG_ADDRESS_BITS;
  restore_fixed(s.host_bridge, kHostBridge, kHostBridgeWritable);
  restore_fixed(s.isa_bridge, kIsaBridge, kIsaBridgeWritable);
  restore_fixed(s.power_management, power_management_at_start(), power_management_writable());
}

}  // namespace vmm
