#include "loader/firmware_items.h"

#include <fmt/format.h>

#include "loader/e820.h"
#include "loader/table_bytes.h"

namespace vmm {
namespace spec {
namespace {

// fw_cfg's keys of a kernel (QEMU's include/standard-headers/linux/qemu_fw_cfg.h).
constexpr std::uint16_t KEY_KERNEL_SIZE = 0x08;
constexpr std::uint16_t KEY_INITRD_SIZE = 0x0b;
constexpr std::uint16_t KEY_KERNEL_DATA = 0x11;
constexpr std::uint16_t KEY_INITRD_DATA = 0x12;
constexpr std::uint16_t KEY_COMMAND_LINE_SIZE = 0x14;
constexpr std::uint16_t KEY_COMMAND_LINE = 0x15;

constexpr std::uint32_t E820_RAM = 1;
constexpr std::uint32_t E820_RESERVED = 2;

}  // namespace
}  // namespace spec

namespace {

using Bytes = std::vector<std::uint8_t>;

template <typename T>
Bytes little(T value) {
  Bytes bytes;
  append_number(bytes, value);
  return bytes;
}

// RAM, and what is none though it looks free. What the firmware itself takes it knows.
Bytes memory_map(const GuestMemory& memory) {
  Bytes map;
  const auto add = [&map](Gpa base, std::uint64_t size, std::uint32_t type) {
    append_number(map, base);
    append_number(map, size);
    append_number(map, type);
  };
  add(0, memory.low_end(), spec::E820_RAM);
  add(kKvmPages, kKvmPagesSize, spec::E820_RESERVED);
  if (memory.end() > kHoleEnd) add(kHoleEnd, memory.end() - kHoleEnd, spec::E820_RAM);
  return map;
}

// Open Firmware device paths, a line each, with a 0 at the end.
Bytes boot_order(const std::vector<unsigned>& disk_devices) {
  std::string order;
  for (const unsigned device : disk_devices)
    order += fmt::format("{}/pci@i0cf8/scsi@{:x}/disk@0,0", order.empty() ? "" : "\n", device);
  Bytes bytes(order.begin(), order.end());
  bytes.push_back(0);
  return bytes;
}

// A byte for each of S0 to S5, bit 7: it is there. S3 would need the firmware's own way back.
constexpr std::uint8_t kState = 0x80;
constexpr std::uint16_t kCom1 = 0x3f8;
constexpr std::uint8_t kNoS3 = 1;
constexpr std::uint8_t kNoS4 = 2;

}  // namespace

FirmwareItems make_firmware_items(const FirmwareFacts& facts) {
  FirmwareItems items;
  const FirmwareKernel& kernel = facts.kernel;
  if (!kernel.image.empty()) {
    items.keys.push_back(
        {spec::KEY_KERNEL_SIZE, little(static_cast<std::uint32_t>(kernel.image.size()))});
    items.keys.push_back({spec::KEY_KERNEL_DATA, {kernel.image.begin(), kernel.image.end()}});
    if (!kernel.initrd.empty()) {
      items.keys.push_back(
          {spec::KEY_INITRD_SIZE, little(static_cast<std::uint32_t>(kernel.initrd.size()))});
      items.keys.push_back({spec::KEY_INITRD_DATA, {kernel.initrd.begin(), kernel.initrd.end()}});
    }
    Bytes line(kernel.command_line.begin(), kernel.command_line.end());
    line.push_back(0);
    items.keys.push_back(
        {spec::KEY_COMMAND_LINE_SIZE, little(static_cast<std::uint32_t>(line.size()))});
    items.keys.push_back({spec::KEY_COMMAND_LINE, std::move(line)});
  }

  items.files = make_acpi_files(facts.board);
  items.files.push_back({"etc/e820", memory_map(*facts.memory)});
  SmbiosTables smbios = make_smbios(facts.smbios);
  items.files.push_back({"etc/smbios/smbios-anchor", std::move(smbios.anchor)});
  items.files.push_back({"etc/smbios/smbios-tables", std::move(smbios.tables)});
  items.files.push_back({"etc/system-states", {kState, 0, 0, kNoS3, kNoS4, kState}});
  // SeaBIOS has no screen without a VGA BIOS, and writes to a serial port that it is told of.
  items.files.push_back({"etc/sercon-port", little(kCom1)});
  if (!facts.disk_devices.empty())
    items.files.push_back({"bootorder", boot_order(facts.disk_devices)});
  if (facts.feature_control)
    items.files.push_back({"etc/msr_feature_control", little(*facts.feature_control)});
  return items;
}

}  // namespace vmm
