// A 64-bit IDT that a guest fills as it needs, and the two PICs that raise vectors in it.
#pragma once

#include "guest-tests/guests/guest.h"

namespace guest {

struct InterruptFrame {
  uint64_t rip, cs, rflags, rsp, ss;
};

struct [[gnu::packed]] Gate {
  uint16_t offset_low;
  uint16_t selector;
  uint8_t ist;
  uint8_t type;
  uint16_t offset_middle;
  uint32_t offset_high;
  uint32_t reserved;
};
static_assert(sizeof(Gate) == 16);

struct [[gnu::packed]] TableRegister {
  uint16_t limit;
  uint64_t base;
};

class Idt {
 public:
  // `handler` is a function with __attribute__((interrupt)); `code` selects the segment it runs in.
  template <typename Function>
  void set(uint8_t vector, Function* handler, uint16_t code = read_cs()) {
    const auto address = reinterpret_cast<uint64_t>(handler);
    gates_[vector] = {static_cast<uint16_t>(address),
                      code,
                      0,
                      0x8e,  // present, interrupt gate
                      static_cast<uint16_t>(address >> 16),
                      static_cast<uint32_t>(address >> 32),
                      0};
  }
  void load() {
    const TableRegister idtr{sizeof(gates_) - 1, reinterpret_cast<uint64_t>(gates_)};
    asm volatile("lidt %0" : : "m"(idtr));
  }

 private:
  Gate gates_[256] = {};
};

// Both 8259s: vectors 20h-2Fh, edge-triggered, every line masked but those of `open`.
inline void init_pics(uint16_t open) {
  out8(0x20, 0x11);
  out8(0xa0, 0x11);
  out8(0x21, 0x20);
  out8(0xa1, 0x28);
  out8(0x21, 0x04);
  out8(0xa1, 0x02);
  out8(0x21, 0x01);
  out8(0xa1, 0x01);
  out8(0x21, static_cast<uint8_t>(~open));
  out8(0xa1, static_cast<uint8_t>(~open >> 8));
}

}  // namespace guest
