// L2's general registers, in the order in which vmx_enter() and svm_enter() keep them.
#pragma once

#include <stdint.h>

namespace guest {

struct Registers {
  uint64_t rax, rcx, rdx, rbx, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15;
};

}  // namespace guest
