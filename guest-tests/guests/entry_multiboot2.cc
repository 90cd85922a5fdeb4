// Prints what a Multiboot 2 loader handed over, tag by tag. Ends with 0, or the number of the claim
// that does not hold.
#include "guest-tests/guests/guest.h"
#include "guest-tests/guests/multiboot.h"

using guest::at_address;
using guest::decimal;
using guest::hex;
using guest::print;
using guest::require;
using guest::word;

namespace {

struct Tag {
  uint32_t type, size;
};
struct [[gnu::packed]] MapEntry {
  uint64_t base, length;
  uint32_t type, reserved;
};

void print_map(uint32_t content, uint32_t size) {
  require(word(content) == sizeof(MapEntry), "entries of the map have 24 bytes", 5);
  for (uint32_t at = 8; at < size; at += sizeof(MapEntry)) {
    const auto& entry = *at_address<MapEntry>(content + at);
    print("memory  ", hex(entry.base), "-", hex(entry.base + entry.length - 1), " type ",
          decimal(entry.type), "\n");
  }
}

void print_module(uint32_t content) {
  const uint32_t start = word(content);
  const uint32_t end = word(content + 4);
  print("module  ", decimal(end - start), " bytes '", at_address<char>(content + 8), "': ");
  for (const char* c = at_address<char>(start); c < at_address<char>(end) && *c != '\n'; ++c)
    print(*c);
  print("\n");
  require((start & 0xfff) == 0, "the module starts at a page", 6);
}

bool is_rsdp(uint32_t content) {
  return word(content) == 0x20445352 && word(content + 4) == 0x20525450;  // "RSD PTR "
}

}  // namespace

extern "C" uint32_t guest_main(uint32_t magic, uint32_t info) {
  guest::serial_init();
  require(magic == 0x36d76289, "EAX is 36d76289h", 1);
  require((guest::read_cr0() & 0x80000001) == 1, "CR0.PE set, CR0.PG clear", 2);
  require((info & 7) == 0, "EBX is a multiple of 8", 3);
  uint32_t at = info + 8;
  for (; word(at) != 0; at = (at + word(at + 4) + 7) & ~7u) {
    const uint32_t content = at + 8;
    const uint32_t size = word(at + 4) - 8;
    switch (word(at)) {
      case 1:
        print("cmdline '", at_address<char>(content), "'\n");
        break;
      case 2:
        print("loader  '", at_address<char>(content), "'\n");
        break;
      case 3:
        print_module(content);
        break;
      case 4:
        print("lower   ", decimal(word(content)), " KiB, upper ", decimal(word(content + 4)),
              " KiB\n");
        break;
      case 6:
        print_map(content, size);
        break;
      case 9:
        // The headers of an ELF64 copy of this file are 64-bit ones.
        if (word(content + 4) == 40)
          require(guest::sections_name_guest_main(content + 12, word(content), 40),
                  "symbols are there", 7);
        print("sections ", decimal(word(content)), "\n");
        break;
      case 14:
      case 15:
        require(is_rsdp(content), "the RSDP has its signature", 8);
        print("rsdp    tag ", decimal(word(at)), "\n");
        break;
      default:
        print("tag     ", decimal(word(at)), "\n");
    }
  }
  require(at + 8 == info + word(info), "the end tag is where the size says", 4);
  return 0;
}
