// ACPI tables (ACPI Specification 6.4, chapter 5) for the board as pure functions from its
// description to bytes, checksums included.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "loader/board_description.h"

namespace vmm {

// Where the waking vectors are in the FACS: the real-mode one, a physical address of which CS:IP is
// made (4 bytes), and the protected-mode one, which is 0 unless the guest sets it (8 bytes).
constexpr std::uint64_t kFacsWakingVector = 12;
constexpr std::uint64_t kFacsXWakingVector = 24;

constexpr std::size_t kRsdpSize = 36;
// Root System Description Pointer, revision 2, 36 bytes; stands on a multiple of 16 in
// E0000h-FFFFFh.
std::vector<std::uint8_t> make_rsdp(std::uint32_t rsdt, std::uint64_t xsdt);
// The lists of all tables, with addresses of 4 and of 8 bytes.
std::vector<std::uint8_t> make_rsdt(std::span<const std::uint32_t> tables);
std::vector<std::uint8_t> make_xsdt(std::span<const std::uint32_t> tables);
// Fixed ACPI Description Table, revision 3, 244 bytes.
std::vector<std::uint8_t> make_fadt(const BoardDescription& board, std::uint32_t facs,
                                    std::uint32_t dsdt);
// Firmware ACPI Control Structure, 64 bytes; stands on a multiple of 64, has no checksum, and the
// guest writes to it.
std::vector<std::uint8_t> make_facs();
// Multiple APIC Description Table: processors, IOAPIC, overrides of ISA interrupts, NMI on LINT1.
std::vector<std::uint8_t> make_madt(const BoardDescription& board);
// Differentiated System Description Table: sleep states S3 and S5, the PCI bus, COM1 and the RTC.
std::vector<std::uint8_t> make_dsdt(const BoardDescription& board);

}  // namespace vmm
