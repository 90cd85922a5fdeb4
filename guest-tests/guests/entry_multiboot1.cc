// Prints what a Multiboot 1 loader handed over: command line, memory map, modules with their first
// line. Ends with 0, or the number of the claim that does not hold.
#include "guest-tests/guests/guest.h"
#include "guest-tests/guests/multiboot.h"

using guest::decimal;
using guest::hex;
using guest::print;
using guest::require;

static void print_memory_map(const guest::MultibootInfo& info) {
  uint32_t at = info.mmap_addr;
  while (at < info.mmap_addr + info.mmap_length) {
    const auto& entry = *guest::at_address<guest::MultibootMapEntry>(at);
    print("memory  ", hex(entry.base), "-", hex(entry.base + entry.length - 1), " type ",
          decimal(entry.type), "\n");
    at += entry.size + 4;
  }
}

static void print_modules(const guest::MultibootInfo& info) {
  for (uint32_t i = 0; i < info.mods_count; ++i) {
    const auto& module = guest::at_address<guest::MultibootModule>(info.mods_addr)[i];
    print("module  ", decimal(module.end - module.start), " bytes '",
          guest::at_address<char>(module.string), "': ");
    for (const char* c = guest::at_address<char>(module.start);
         c < guest::at_address<char>(module.end) && *c != '\n'; ++c)
      print(*c);
    print("\n");
    require((module.start & 0xfff) == 0, "the module starts at a page", 4);
  }
}

uint32_t guest_main(uint32_t magic, uint32_t info_address) {
  guest::serial_init();
  require(magic == guest::kMultibootMagic, "EAX is 2badb002h", 1);
  require((guest::read_cr0() & 0x80000001) == 1, "CR0.PE set, CR0.PG clear", 2);
  const auto& info = *guest::at_address<guest::MultibootInfo>(info_address);
  require((info.flags & 0x41) == 0x41, "memory sizes and memory map are there", 3);
  print("flags   ", hex(info.flags), "\n");
  if ((info.flags & 4) != 0) print("cmdline '", guest::at_address<char>(info.cmdline), "'\n");
  print("lower   ", decimal(info.mem_lower), " KiB, upper ", decimal(info.mem_upper), " KiB\n");
  print_memory_map(info);
  if ((info.flags & 8) != 0) print_modules(info);
  if ((info.flags & 0x20) != 0) {
    print("sections ", decimal(info.section_count), "\n");
    // The headers of an ELF64 copy of this file are 64-bit ones.
    if (info.section_size == 40)
      require(guest::sections_name_guest_main(info.sections, info.section_count, 40),
              "symbols are there", 5);
  }
  return 0;
}
