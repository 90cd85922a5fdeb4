// How an exercise of ring 3 is written: its name, its instructions, and what must hold of RAX, RCX
// and RDX (a, c, d) after them. RDI points to user_area, RAX, RCX and RDX begin with 0.
//
// No vector registers are declared as clobbered: the compiler may not use any.
#pragma once

#include "vmm/probe/guest/guest.h"

#define USER_EXERCISE(name, text, condition)                  \
  USER_CODE uint64_t exercise_##name() {                      \
    uint64_t a = 0, c = 0, d = 0;                             \
    uint8_t* area = user_area;                                \
    asm volatile(text                                         \
                 : "+a"(a), "+c"(c), "+d"(d), "+D"(area)      \
                 :                                            \
                 : "rbx", "rsi", "r8", "r9", "memory", "cc"); \
    return works_if(condition);                               \
  }

// Nothing to check but that it is no #UD.
#define USER_RUNS(name, text) USER_EXERCISE(name, text, (void(a), void(c), void(d), true))
