// The parts of the Multiboot 0.6.96 information structure that the guests read.
#pragma once

#include <stdint.h>

namespace guest {

constexpr uint32_t kMultibootMagic = 0x2badb002;

struct MultibootModule {
  uint32_t start, end, string, reserved;
};

struct [[gnu::packed]] MultibootMapEntry {
  uint32_t size;  // of what follows
  uint64_t base;
  uint64_t length;
  uint32_t type;  // 1 is RAM
};

struct MultibootInfo {
  uint32_t flags;
  uint32_t mem_lower, mem_upper;  // KiB below and above 1 MiB, flag 0
  uint32_t boot_device;
  uint32_t cmdline;                                               // flag 2
  uint32_t mods_count, mods_addr;                                 // flag 3
  uint32_t section_count, section_size, sections, section_names;  // flag 5
  uint32_t mmap_length, mmap_addr;                                // flag 6
};

template <typename T>
const T* at_address(uint32_t address) {
  return reinterpret_cast<const T*>(static_cast<uintptr_t>(address));
}

// The command line from behind its first word on, which is the image's path and may hold numbers
// and names of its own. Empty where the loader gives none.
inline const char* arguments_of(const MultibootInfo& info) {
  if ((info.flags & 4) == 0) return "";
  const char* text = at_address<char>(info.cmdline);
  while (*text != '\0' && *text != ' ') ++text;
  return text;
}

inline uint32_t word(uint32_t address) { return *at_address<uint32_t>(address); }

// Whether the symbols of `count` ELF32 section headers have the name of the guest's own function.
inline bool sections_name_guest_main(uint32_t headers, uint32_t count, uint32_t size) {
  for (uint32_t i = 0; i < count; ++i) {
    const uint32_t section = headers + i * size;
    if (word(section + 4) != 2) continue;  // SHT_SYMTAB
    const uint32_t link = headers + word(section + 24) * size;
    const uint32_t names = word(link + 12);
    for (uint32_t at = 0; at < word(section + 20); at += 16) {
      const char* name = at_address<char>(names + word(word(section + 12) + at));
      const char* wanted = "guest_main";
      while (*wanted != 0 && *wanted == *name) ++wanted, ++name;
      if (*wanted == 0) return true;
    }
  }
  return false;
}

}  // namespace guest
