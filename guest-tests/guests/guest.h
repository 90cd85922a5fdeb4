// What a freestanding guest needs: ports, the serial port, the debug-exit port, a few registers.
// Header-only, for 32 and 64 bits, without the standard library and without SSE.
#pragma once

#include <stdint.h>

// The guest's own main, called by start32.S, start64.S or start_multiboot64.S; what it returns is
// written to the debug-exit port. Guests that are not loaded by Multiboot ignore the arguments.
extern "C" uint32_t guest_main(uint32_t multiboot_magic, uint32_t multiboot_info);

namespace guest {

constexpr uint16_t kDebugExit = 0xf4;
constexpr uint16_t kCom1 = 0x3f8;

// Registers of the 16550, relative to kCom1, and their bits.
namespace spec {
constexpr uint16_t RBR = 0, THR = 0, DLL = 0, IER = 1, DLM = 1, IIR = 2, FCR = 2, LCR = 3, MCR = 4,
                   LSR = 5, MSR = 6, SCR = 7;
constexpr uint8_t LSR_DR = 0x01, LSR_THRE = 0x20;
}  // namespace spec

inline void out8(uint16_t port, uint8_t value) {
  asm volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}
inline void out16(uint16_t port, uint16_t value) {
  asm volatile("outw %0, %1" : : "a"(value), "Nd"(port));
}
inline void out32(uint16_t port, uint32_t value) {
  asm volatile("outl %0, %1" : : "a"(value), "Nd"(port));
}
inline uint8_t in8(uint16_t port) {
  uint8_t value;
  asm volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
  return value;
}
inline uint16_t in16(uint16_t port) {
  uint16_t value;
  asm volatile("inw %1, %0" : "=a"(value) : "Nd"(port));
  return value;
}
inline uint32_t in32(uint16_t port) {
  uint32_t value;
  asm volatile("inl %1, %0" : "=a"(value) : "Nd"(port));
  return value;
}

// Stops this CPU for ever.
[[noreturn]] inline void stop() {
  while (true) asm volatile("cli\n\thlt" : : : "memory");
}

// Ends the run: `value` is the exit code of `vmm run` (at most 63 of it).
[[noreturn]] inline void exit_with(uint32_t value) {
  out32(kDebugExit, value);
  stop();
}

struct CpuidRegs {
  uint32_t eax, ebx, ecx, edx;
};
inline CpuidRegs cpuid(uint32_t leaf, uint32_t subleaf = 0) {
  CpuidRegs r;
  asm volatile("cpuid"
               : "=a"(r.eax), "=b"(r.ebx), "=c"(r.ecx), "=d"(r.edx)
               : "a"(leaf), "c"(subleaf));
  return r;
}

inline uint64_t rdmsr(uint32_t index) {
  uint32_t low, high;
  asm volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(index));
  return (static_cast<uint64_t>(high) << 32) | low;
}
inline void wrmsr(uint32_t index, uint64_t value) {
  asm volatile("wrmsr"
               :
               : "a"(static_cast<uint32_t>(value)), "d"(static_cast<uint32_t>(value >> 32)),
                 "c"(index)
               : "memory");
}

inline uintptr_t read_cr0() {
  uintptr_t value;
  asm volatile("mov %%cr0, %0" : "=r"(value));
  return value;
}
inline void write_cr0(uintptr_t value) { asm volatile("mov %0, %%cr0" : : "r"(value) : "memory"); }
inline uintptr_t read_cr3() {
  uintptr_t value;
  asm volatile("mov %%cr3, %0" : "=r"(value));
  return value;
}
inline void write_cr3(uintptr_t value) { asm volatile("mov %0, %%cr3" : : "r"(value) : "memory"); }
inline uintptr_t read_cr4() {
  uintptr_t value;
  asm volatile("mov %%cr4, %0" : "=r"(value));
  return value;
}
inline void write_cr4(uintptr_t value) { asm volatile("mov %0, %%cr4" : : "r"(value) : "memory"); }
inline uintptr_t read_flags() {
  uintptr_t value;
  asm volatile("pushf\n\tpop %0" : "=r"(value));
  return value;
}
inline uint16_t read_cs() {
  uint16_t value;
  asm volatile("mov %%cs, %0" : "=r"(value));
  return value;
}

// One access of exactly this width at a physical (identity-mapped) address.
template <typename T>
T mmio_read(uintptr_t address) {
  T value;
  asm volatile("mov %1, %0" : "=r"(value) : "m"(*reinterpret_cast<volatile T*>(address)));
  return value;
}
template <typename T>
void mmio_write(uintptr_t address, T value) {
  asm volatile("mov %1, %0" : "=m"(*reinterpret_cast<volatile T*>(address)) : "r"(value));
}

// 115200 baud 8N1 with FIFOs, no interrupts.
inline void serial_init() {
  out8(kCom1 + spec::IER, 0);
  out8(kCom1 + spec::LCR, 0x80);
  out8(kCom1 + spec::DLL, 1);
  out8(kCom1 + spec::DLM, 0);
  out8(kCom1 + spec::LCR, 0x03);
  out8(kCom1 + spec::FCR, 0x07);
  out8(kCom1 + spec::MCR, 0x03);
}
inline void put(char c) {
  while ((in8(kCom1 + spec::LSR) & spec::LSR_THRE) == 0) {
  }
  out8(kCom1 + spec::THR, static_cast<uint8_t>(c));
}
inline char get() {
  while ((in8(kCom1 + spec::LSR) & spec::LSR_DR) == 0) {
  }
  return static_cast<char>(in8(kCom1 + spec::RBR));
}

// Numbers as print() shows them: hex as the manuals write it (b8000h), or decimal.
struct Hex {
  uint64_t value;
};
struct Decimal {
  uint32_t value;
};
constexpr Hex hex(uint64_t value) { return {value}; }
constexpr Decimal decimal(uint32_t value) { return {value}; }

inline void print_one(char c) { put(c); }
inline void print_one(const char* text) {
  while (*text != '\0') put(*text++);
}
inline void print_one(Hex number) {
  bool started = false;
  for (int shift = 60; shift >= 0; shift -= 4) {
    const auto digit = static_cast<unsigned>((number.value >> shift) & 15);
    started = started || digit != 0 || shift == 0;
    if (started) put("0123456789abcdef"[digit]);
  }
  put('h');
}
inline void print_one(Decimal number) {
  char digits[10];
  int count = 0;
  do {
    digits[count++] = static_cast<char>('0' + number.value % 10);
    number.value /= 10;
  } while (number.value != 0);
  while (count > 0) put(digits[--count]);
}

// print("CR3 is ", hex(cr3), ", ", decimal(4), " levels\n") on the serial port.
template <typename... Parts>
void print(Parts... parts) {
  (print_one(parts), ...);
}

// Says that a check failed and ends the run with `code`.
inline void require(bool condition, const char* claim, uint32_t code) {
  print(condition ? "ok      " : "FAILED  ", claim, "\n");
  if (!condition) exit_with(code);
}

// A claim that hardware keeps and some KVMs do not: said, never held against the run.
inline void note(bool condition, const char* claim) {
  print(condition ? "ok      " : "MISSING ", claim, "\n");
}

}  // namespace guest
