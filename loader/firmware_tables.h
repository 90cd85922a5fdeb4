// Puts into guest memory what a PC's firmware leaves behind: ACPI and MP tables, and a stub of a
// BIOS for code in real mode.
#pragma once

#include <cstdint>

#include "loader/board_description.h"
#include "vmm/base/result.h"
#include "vmm/base/units.h"
#include "vmm/core/guest_memory.h"

namespace vmm {

// Fixed addresses, all of them in the reserved range from kBiosArea to 1 MiB, which loaders leave
// free. E0000h-EFFFFh is ACPI's, F0000h-FFFFFh holds what is looked for there.
constexpr Gpa kRsdp = 0xe0000;
constexpr Gpa kFacs = 0xe0040;
constexpr Gpa kRsdt = 0xe0080;
constexpr Gpa kXsdt = 0xe00c0;
constexpr Gpa kFadt = 0xe0100;
constexpr Gpa kDsdt = 0xe0200;
constexpr Gpa kMadt = 0xe1000;
constexpr Gpa kMadtEnd = 0xf0000;
constexpr Gpa kMpPointer = 0xf0000;
constexpr Gpa kMpTable = 0xf0010;
constexpr Gpa kMpTableEnd = 0xff000;
constexpr Gpa kBiosStub = 0xff000;  // to kResetVector
constexpr Gpa kResetVector = 0xffff0;

// Writes the tables. Usage errors for a board that they cannot describe: no vCPU, two with one APIC
// ID, more vCPUs than there is room for (3800 or so), an SCI that is no free ISA interrupt, a PM
// base that is no multiple of 16. Nothing is written when it fails.
Result<void> place_firmware_tables(GuestMemory& memory, const BoardDescription& board);

// Writes the stub: 256 interrupt vectors at 0 whose handlers acknowledge the 8259As (08h-0Fh,
// 70h-77h) and return, the BIOS data area at 400h, the first byte of the EBDA, and a far jump at
// FFFF0h to code that resets the machine. Has to come before the image, which may be loaded over
// it. Services are not there: INT 10h and the others come back with all registers as they were.
void place_bios_stub(GuestMemory& memory);

}  // namespace vmm
