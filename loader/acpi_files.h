// The ACPI tables as a firmware takes them: files, and a script that says how to place them (QEMU's
// docs/specs/fw_cfg and hw/acpi/bios-linker-loader, the file etc/table-loader).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "loader/board_description.h"

namespace vmm {

constexpr std::string_view kAcpiTablesFile = "etc/acpi/tables";
constexpr std::string_view kAcpiRsdpFile = "etc/acpi/rsdp";
constexpr std::string_view kTableLoaderFile = "etc/table-loader";

// One file of fw_cfg.
struct FirmwareFile {
  std::string name;
  std::vector<std::uint8_t> bytes;
};

// The files of those three names. Pointers in the tables hold offsets in the tables' file, and all
// checksums are 0: the firmware adds where it put the file, and sums up. The sizes depend on
// nothing but the number of processors and of PCI interrupts.
std::vector<FirmwareFile> make_acpi_files(const BoardDescription& board);

}  // namespace vmm
