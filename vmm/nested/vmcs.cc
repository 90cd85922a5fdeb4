#include "vmm/nested/vmcs.h"

#include <fmt/format.h>

#include <algorithm>

#include "vmm/base/bytes.h"
#include "vmm/nested/vmx_controls.h"

namespace vmm::nested {
namespace {

constexpr std::size_t kUsedBytes = 998;
constexpr std::size_t kAbort = 4;
constexpr std::size_t kLaunchState = 8;

}  // namespace

Result<Vmcs> Vmcs::from(std::span<const std::uint8_t> bytes) {
  if (bytes.size() < kUsedBytes)
    return fail(Error::image(
        fmt::format("a VMCS in KVM's layout has {} bytes of which {} are in use, here are {}",
                    kVmcsBytes, kUsedBytes, bytes.size())));
  Vmcs vmcs;
  std::copy_n(bytes.begin(), std::min(bytes.size(), kVmcsBytes), vmcs.bytes_.begin());
  if (vmcs.revision() != kVmcs12Revision)
    return fail(Error::image(
        fmt::format("no VMCS in KVM's layout: its revision identifier is {:X}h, KVM's is {:X}h",
                    vmcs.revision(), kVmcs12Revision)));
  return vmcs;
}

Vmcs empty_vmcs() {
  std::array<std::uint8_t, kVmcsBytes> bytes{};
  store(std::span<std::uint8_t>(bytes), 0, kVmcs12Revision);
  return *Vmcs::from(bytes);
}

std::uint64_t Vmcs::get(VmcsField field) const {
  const VmcsFieldInfo& info = vmcs_field(field);
  return load_uint(bytes().subspan(info.offset, info.bytes));
}

void Vmcs::set(VmcsField field, std::uint64_t value) {
  const VmcsFieldInfo& info = vmcs_field(field);
  store_uint(std::span<std::uint8_t>(bytes_).subspan(info.offset, info.bytes), value);
}

std::uint32_t Vmcs::revision() const { return load<std::uint32_t>(bytes()) & 0x7fffffff; }

bool Vmcs::is_shadow() const { return bit(load<std::uint32_t>(bytes()), 31); }

std::uint32_t Vmcs::abort() const { return load<std::uint32_t>(bytes(), kAbort); }

std::uint32_t Vmcs::launch_state() const { return load<std::uint32_t>(bytes(), kLaunchState); }

void Vmcs::set_launch_state(std::uint32_t state) {
  store(std::span<std::uint8_t>(bytes_), kLaunchState, state);
}

void Vmcs::set_shadow(bool shadow) {
  store(std::span<std::uint8_t>(bytes_), 0, revision() | (shadow ? 1u << 31 : 0));
}

bool Vmcs::control(VmcsField field, unsigned index) const { return bit(get(field), index); }

bool Vmcs::secondary(unsigned index) const {
  return control(VmcsField::ProcBasedControls, kActivateSecondary) &&
         control(VmcsField::ProcBasedControls2, index);
}

}  // namespace vmm::nested
