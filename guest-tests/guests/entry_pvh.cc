// Prints what a PVH loader handed over. Ends with 0, or the number of the claim that does not hold.
#include "guest-tests/guests/guest.h"
#include "guest-tests/guests/multiboot.h"

using guest::at_address;
using guest::decimal;
using guest::hex;
using guest::print;
using guest::require;

namespace {

struct StartInfo {
  uint32_t magic, version, flags, module_count;
  uint64_t modules, command_line, rsdp, map;
  uint32_t map_count, reserved;
};
struct Module {
  uint64_t address, size, command_line, reserved;
};
struct MapEntry {
  uint64_t base, size;
  uint32_t type, reserved;
};

template <typename T>
const T* at(uint64_t address) {
  return at_address<T>(static_cast<uint32_t>(address));
}

}  // namespace

uint32_t guest_main(uint32_t, uint32_t address) {
  guest::serial_init();
  const auto& info = *at_address<StartInfo>(address);
  require(info.magic == 0x336ec578, "EBX leads to a start_info", 1);
  require((guest::read_cr0() & 0x80000001) == 1, "CR0.PE set, CR0.PG clear", 2);
  require(info.version == 1, "its version is 1", 3);
  print("cmdline '", at<char>(info.command_line), "'\n");
  require(*at<uint32_t>(info.rsdp) == 0x20445352, "the RSDP is there", 4);
  for (uint32_t i = 0; i < info.map_count; ++i) {
    const auto& entry = at<MapEntry>(info.map)[i];
    print("memory  ", hex(entry.base), "-", hex(entry.base + entry.size - 1), " type ",
          decimal(entry.type), "\n");
  }
  for (uint32_t i = 0; i < info.module_count; ++i) {
    const auto& module = at<Module>(info.modules)[i];
    print("module  ", decimal(static_cast<uint32_t>(module.size)), " bytes '",
          module.command_line != 0 ? at<char>(module.command_line) : "", "': ");
    const char* text = at<char>(module.address);
    for (uint32_t c = 0; c < module.size && text[c] != '\n'; ++c) print(text[c]);
    print("\n");
  }
  return 0;
}
