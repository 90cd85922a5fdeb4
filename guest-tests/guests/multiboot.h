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
  uint32_t cmdline;                // flag 2
  uint32_t mods_count, mods_addr;  // flag 3
  uint32_t symbols[4];
  uint32_t mmap_length, mmap_addr;  // flag 6
};

template <typename T>
const T* at_address(uint32_t address) {
  return reinterpret_cast<const T*>(static_cast<uintptr_t>(address));
}

}  // namespace guest
