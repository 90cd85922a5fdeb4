// The VMCS of a guest hypervisor as bytes in KVM's layout (vmcs12).
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "vmm/base/result.h"
#include "vmm/nested/vmcs_fields.h"

namespace vmm::nested {

constexpr std::size_t kVmcsBytes = 4096;
constexpr std::uint32_t kVmcs12Revision = 0x11e57ed0;

class Vmcs {
 public:
  // A copy, since a guest may write while it is looked at. An Image error for less than the 998
  // bytes in use, and for another revision identifier than KVM's: the layout is not known then.
  static Result<Vmcs> from(std::span<const std::uint8_t> bytes);

  // Zero-extended.
  std::uint64_t get(VmcsField field) const;
  void set(VmcsField field, std::uint64_t value);  // cut to the field's size

  std::uint32_t revision() const;      // bits 30:0 of the first word
  bool is_shadow() const;              // its bit 31
  std::uint32_t abort() const;         // VMX-abort indicator
  std::uint32_t launch_state() const;  // 0 clear, 1 launched
  void set_launch_state(std::uint32_t state);
  void set_shadow(bool shadow);

  bool control(VmcsField field, unsigned bit) const;
  // The secondary controls count only while the primary ones activate them.
  bool secondary(unsigned bit) const;

  std::span<const std::uint8_t> bytes() const { return bytes_; }

 private:
  std::array<std::uint8_t, kVmcsBytes> bytes_{};
};

// A VMCS that any VM entry must accept is left to its user; this is one of zeroes with KVM's
// revision identifier.
Vmcs empty_vmcs();

}  // namespace vmm::nested
