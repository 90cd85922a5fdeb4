// A hypervisor as a Linux module: what the part that Linux sees (main.c) and the two vendors'
// share.
#pragma once

#include <linux/mm.h>
#include <linux/types.h>

// L2's general registers, in the order of guest-tests/guests/registers.h.
struct registers {
  u64 rax, rcx, rdx, rbx, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15;
};

#define HOST_STACK_ORDER 2

// One CPU's. Whatever the hardware reads by physical address is a page of its own.
struct processor {
  struct registers l2;
  u64 exits;
  int error;         // why this CPU is not L2, an errno
  u32 error_detail;  // the VM-instruction error, or bits 31:0 of EXITCODE
  u8 *host_stack;
  pgd_t *host_pgd;  // the kernel's half, which lasts longer than any process
  void *page[3];    // the vendor's
};

// Of VMCALL and VMMCALL, in RAX. Others are KVM's and go to it.
#define HYPERCALL_HELLO 0x766d6d00  // RAX: HYPERCALL_ANSWER, RBX: the exits so far
#define HYPERCALL_LEAVE 0x766d6d01
#define HYPERCALL_ANSWER 0x6c32  // "l2"

void answer_hello(struct processor *processor);
#define CALL_KVM(instruction, l2)                                               \
  asm volatile(instruction                                                      \
               : "+a"((l2)->rax)                                                \
               : "b"((l2)->rbx), "c"((l2)->rcx), "d"((l2)->rdx), "S"((l2)->rsi) \
               : "memory")

struct vendor {
  const char *error_name;  // of error_detail
  u64 (*hypercall)(u64 number, u64 *exits);
  // All on one CPU, interrupts off. An errno, or 0: it may enter.
  int (*turn_on)(struct processor *);
  void (*turn_off)(struct processor *);
  // On the host's stack: L2 goes on at rip. Comes back only when there was no entry.
  void (*serve)(struct processor *, u64 rip, u64 rsp);
};
extern const struct vendor vmx, svm;

// The next two do not come back. objtool has a list of its own of such functions: callers say
// unreachable().

// What ended L2 for good: Linux itself is what is left, and panics.
void unexpected_exit(u64 reason, u64 rip);

// Puts L2's registers back and goes on as it, on its stack (examples/blue-pill/blue_pill.S).
void blue_pill_leave(const struct registers *l2, u64 rip, u64 rsp, u64 rflags);

// What a VM exit leaves otherwise than L2 had it.
struct left_state {
  u64 cr0, cr3, cr4, fs_base, dr7;
  u16 es, ds, fs, ldtr;
  struct desc_ptr gdt, idt;
};
void restore_left_state(const struct left_state *left);

// The descriptor's second half as LAR gives it, access rights in bits 23:8; 0 for a null selector.
static inline u32 load_access_rights(u16 selector) {
  u32 rights = 0;

  if (selector & ~7) asm("lar %1, %0" : "+r"(rights) : "r"((u32)selector) : "cc");
  return rights;
}
static inline u32 segment_limit(u16 selector) {
  u32 limit = 0;

  if (selector & ~7) asm("lsl %1, %0" : "+r"(limit) : "r"((u32)selector) : "cc");
  return limit;
}
