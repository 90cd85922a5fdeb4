// A VMCB as a value: 4096 bytes, read by field, decoded into lines.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "vmm/base/result.h"
#include "vmm/nested/vmcb_fields.h"

namespace vmm::nested {

using VmcbBytes = std::array<std::uint8_t, kVmcbSize>;

class Vmcb {
 public:
  // A VMCB is not owned: `bytes` outlive it.
  explicit Vmcb(std::span<const std::uint8_t, kVmcbSize> bytes) : bytes_(bytes) {}
  // A Usage error for another number of bytes than 4096.
  static Result<Vmcb> view(std::span<const std::uint8_t> bytes);

  // The value of a field of up to 8 bytes; a wider one is a check.
  std::uint64_t get(VmcbId id) const;
  bool bit(VmcbId id, unsigned index) const;
  std::span<const std::uint8_t> bytes(VmcbId id) const;
  std::span<const std::uint8_t, kVmcbSize> bytes() const { return bytes_; }

  // Where the processor has SEV-ES the guest's registers are in an encrypted page then (15.35.8),
  // and the state-save area here says nothing.
  bool is_sev_es() const { return bit(VmcbId::NestedControl, 1) && bit(VmcbId::NestedControl, 2); }

 private:
  std::span<const std::uint8_t, kVmcbSize> bytes_;
};

// For tests and tools that make one: `value`, cut to the field's size.
void put_vmcb(std::span<std::uint8_t, kVmcbSize> bytes, VmcbId id, std::uint64_t value);

// One field, decoded.
struct VmcbValue {
  const VmcbField* field;
  std::uint64_t value;  // 0 where the field is wider than 8 bytes
  std::string shown;    // in hexadecimal, or some of the bytes of a wide field
  std::vector<VmcbBitValue> bits;
  std::string words;  // what an exit code, an event or such says; may be empty

  // "058h Guest ASID = 00000001h"
  std::string text() const;
};

enum class VmcbShow { NonZero, All };

// The fields in the order of their offsets. In a wide field no more than 16 bytes are shown.
std::vector<VmcbValue> decode_vmcb(const Vmcb& vmcb, VmcbShow show = VmcbShow::NonZero);
// One line a field.
std::vector<std::string> describe(const Vmcb& vmcb, VmcbShow show = VmcbShow::NonZero);
// Three lines for each field in which two differ: its name, the old value, the new one.
std::string vmcb_diff_text(const Vmcb& left, const Vmcb& right);

}  // namespace vmm::nested
