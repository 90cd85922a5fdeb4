// The PC's memory map: fixed addresses, and the list that guests are given.
#pragma once

#include <cstdint>
#include <vector>

#include "vmm/base/units.h"
#include "vmm/core/guest_memory.h"

namespace vmm {

constexpr Gpa kLowRamEnd = 0x9fc00;      // 639 KiB; the extended BIOS data area begins
constexpr Gpa kBiosArea = 0xe0000;       // up to 1 MiB: ACPI and MP tables, firmware_tables.h
constexpr Gpa kExtendedRam = 0x10'0000;  // 1 MiB
// KVM's identity-map page and its three TSS pages, which hosts with VT-x put into the guest.
constexpr Gpa kKvmPages = 0xfeff'c000;
constexpr std::uint64_t kKvmPagesSize = 0x4000;

// One line of the guest's memory map.
struct E820Entry {
  Gpa base = 0;
  std::uint64_t size = 0;
  std::uint32_t type = 1;  // 1 RAM, 2 reserved
  bool operator==(const E820Entry&) const = default;
};
// As firmware reports it through INT 15h, AX=E820h.
std::vector<E820Entry> make_e820(const GuestMemory& memory);

}  // namespace vmm
