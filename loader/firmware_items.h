// What a firmware finds in fw_cfg, beside what every guest does.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "loader/acpi_files.h"
#include "loader/board_description.h"
#include "loader/smbios.h"
#include "vmm/core/guest_memory.h"

namespace vmm {

struct FirmwareItems {
  struct Key {
    std::uint16_t key = 0;
    std::vector<std::uint8_t> bytes;
  };
  std::vector<Key> keys;
  std::vector<FirmwareFile> files;  // those of make_acpi_files() among them
};

// What the firmware is to start before it looks at any disk: an EFI image, or a Linux with an EFI
// stub.
struct FirmwareKernel {
  std::span<const std::uint8_t> image = {};  // empty: nothing
  std::string command_line = {};
  std::span<const std::uint8_t> initrd = {};
};

struct FirmwareFacts {
  const GuestMemory* memory = nullptr;
  BoardDescription board;
  SmbiosFacts smbios = {};
  FirmwareKernel kernel = {};
  std::vector<unsigned> disk_devices =
      {};  // device numbers on PCI bus 0, in the order to boot from
  // IA32_FEATURE_CONTROL as the firmware is to set it on every processor; nothing: not at all.
  std::optional<std::uint64_t> feature_control = {};
};

FirmwareItems make_firmware_items(const FirmwareFacts& facts);

}  // namespace vmm
