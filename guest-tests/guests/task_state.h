// A GDT with a TSS of one's own: VM exits and VMRUN want a TR that is loaded.
#pragma once

#include "guest-tests/guests/idt.h"

namespace guest {

constexpr uint16_t kCodeSelector = 0x08, kDataSelector = 0x10, kTssSelector = 0x18;

struct alignas(16) TaskState {
  uint64_t gdt[5];
  uint8_t tss[104];

  // The segments stay as the start files have them; the TSS holds nothing but its size.
  void load() {
    for (uint8_t& byte : tss) byte = 0;
    tss[102] = sizeof tss;  // no I/O bitmap
    const auto base = reinterpret_cast<uint64_t>(tss);
    gdt[0] = 0;
    gdt[1] = 0x00af9b000000ffff;
    gdt[2] = 0x00cf93000000ffff;
    // A 64-bit TSS that is available; LTR makes it busy.
    gdt[3] = (sizeof tss - 1) | (base & 0xffffff) << 16 | 0x89ull << 40 | (base >> 24 & 0xff) << 56;
    gdt[4] = base >> 32;
    const TableRegister gdtr{sizeof gdt - 1, reinterpret_cast<uint64_t>(gdt)};
    asm volatile("lgdt %0\n\tltr %w1" : : "m"(gdtr), "r"(kTssSelector) : "memory");
  }
};

inline TableRegister stored_gdtr() {
  TableRegister value;
  asm volatile("sgdt %0" : "=m"(value));
  return value;
}
inline TableRegister stored_idtr() {
  TableRegister value;
  asm volatile("sidt %0" : "=m"(value));
  return value;
}

}  // namespace guest
