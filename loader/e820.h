// Fixed addresses of the PC's memory map; make_e820() is declared in loader/boot.h.
#pragma once

#include "vmm/base/units.h"
#include "vmm/core/guest_memory.h"

namespace vmm {

constexpr Gpa kLowRamEnd = 0x9fc00;      // 639 KiB; the extended BIOS data area begins
constexpr Gpa kBiosArea = 0xe0000;       // up to 1 MiB: ACPI and MP tables, firmware_tables.h
constexpr Gpa kExtendedRam = 0x10'0000;  // 1 MiB
// KVM's identity-map page and its three TSS pages, which hosts with VT-x put into the guest.
constexpr Gpa kKvmPages = 0xfeff'c000;
constexpr std::uint64_t kKvmPagesSize = 0x4000;

}  // namespace vmm
