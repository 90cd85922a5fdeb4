// The tables of the MultiProcessor Specification 1.4 (Intel 242016), for guests without ACPI.
#pragma once

#include <cstdint>
#include <vector>

#include "loader/board_description.h"

namespace vmm {

// The floating pointer structure, 16 bytes; stands on a multiple of 16 in the EBDA or
// F0000h-FFFFFh. `table` is the address of the configuration table.
std::vector<std::uint8_t> make_mp_pointer(std::uint32_t table);
// The configuration table: processors, buses, IOAPIC, interrupts. Local APIC IDs of more than 8
// bits cannot be listed here and are left out.
std::vector<std::uint8_t> make_mp_table(const BoardDescription& board);

}  // namespace vmm
