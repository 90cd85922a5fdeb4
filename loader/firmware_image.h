// Firmware files: what they are, where they stand below 4 GiB, whether they can work here. Source:
// UEFI Platform Initialization 1.7 volume 3 (volumes, files, sections), edk2's OvmfPkg and
// MdeModulePkg/Include/Guid/VariableFormat.h. Pure, for tests and fuzzing.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "vmm/base/result.h"
#include "vmm/base/units.h"

namespace vmm {

enum class FirmwareKind {
  OvmfCode,   // firmware volumes, the last one with the reset vector
  OvmfWhole,  // a variable store and the code behind it, such as OVMF.fd
  OvmfVars,   // a variable store alone
  SeaBios,    // a PC BIOS of 64 KiB to 256 KiB
};

std::string_view firmware_kind_name(FirmwareKind kind);  // "OVMF code", ...

// Firmware ends where the address space of 32 bits does: the first instruction is 16 bytes below.
constexpr Gpa kFirmwareEnd = 4_GiB;
constexpr std::uint64_t kMaxFirmwareSize = 16_MiB;

struct FirmwareImage {
  FirmwareKind kind = FirmwareKind::OvmfCode;
  std::uint64_t size = 0;        // of the file: a multiple of 4 KiB, 16 MiB at most
  std::uint64_t vars_size = 0;   // of the variable store at its start, with its spare blocks
  std::uint64_t store_size = 0;  // of the variables themselves; 0 when a power cut hit its header
  bool authenticated = false;    // the store's variables have signatures' fields

  // Of all kinds but OvmfVars, which stands below its code.
  Gpa base() const { return kFirmwareEnd - size; }
};

// Each takes a whole file and gives Image errors that name `path` and say which file would do.

// For --firmware: code, a whole image or SeaBIOS. Refused are a wrong size, a variable store alone
// and a build that needs SMM.
Result<FirmwareImage> parse_firmware(const std::string& path, std::span<const std::uint8_t> bytes);
// For --vars: a variable store alone. One whose first block is being rewritten (a power cut) is
// recognised by its fault-tolerant-write block, with which the firmware repairs it.
Result<FirmwareImage> parse_variables(const std::string& path, std::span<const std::uint8_t> bytes);

// Where the store stands, which is built into the code: code and store fill a power of two below
// 4 GiB. An Image error for code that has no store beside it, or one of another size.
Result<Gpa> variables_base(const FirmwareImage& code, const FirmwareImage& variables,
                           const std::string& path);

}  // namespace vmm
