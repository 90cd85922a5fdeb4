// Exercises of ring 3 on general registers, x87 and memory.
#include "vmm/probe/guest/user_macros.h"

namespace probe {

USER_EXERCISE(fpu, "fninit; fld1; fld1; faddp; fistpl (%%rdi); mov (%%rdi), %%eax", a == 2)
USER_EXERCISE(tsc, "rdtsc", (a | d) != 0)
USER_EXERCISE(cx8,
              "movl $7, (%%rdi); movl $0, 4(%%rdi); mov $7, %%eax; mov $9, %%ebx;"
              "cmpxchg8b (%%rdi); mov (%%rdi), %%eax",
              a == 9)
USER_EXERCISE(cmov, "mov $3, %%ecx; test %%eax, %%eax; cmovz %%ecx, %%eax", a == 3)
USER_RUNS(clflush, "clflush (%%rdi)")
USER_EXERCISE(popcnt, "mov $0xff00, %%ecx; popcnt %%rcx, %%rax", a == 8)
USER_EXERCISE(movbe, "movl $0x01020304, (%%rdi); movbe (%%rdi), %%eax", a == 0x04030201)
USER_EXERCISE(cx16,
              "movq $7, (%%rdi); movq $0, 8(%%rdi); mov $7, %%eax; mov $9, %%ebx;"
              "cmpxchg16b (%%rdi); mov (%%rdi), %%rax",
              a == 9)
// AH: the flags of a zero result, ZF and PF.
USER_EXERCISE(lahf_lm, "xor %%ecx, %%ecx; lahf; sahf", (a >> 8 & 0x44) == 0x44)
// CF says that there was a number; ten tries, as Intel recommends.
USER_EXERCISE(rdrand, "mov $10, %%ecx; 1: rdrand %%rdx; jc 2f; dec %%ecx; jnz 1b; 2: setc %%al",
              a == 1)
USER_EXERCISE(rdseed,
              "mov $1000, %%ecx; 1: rdseed %%rdx; jc 2f; pause; dec %%ecx; jnz 1b; 2: setc %%al",
              a == 1)
USER_EXERCISE(rdtscp, "rdtscp", (a | d) != 0)
USER_RUNS(rdpid, ".byte 0xf3, 0x0f, 0xc7, 0xf8")  // rdpid %rax
USER_EXERCISE(bmi1, "mov $0xf0, %%ecx; mov $0xff, %%edx; andn %%edx, %%ecx, %%eax", a == 0x0f)
USER_EXERCISE(bmi2, "mov $4, %%ecx; mov $1, %%edx; shlx %%ecx, %%edx, %%eax", a == 16)
// Without it this is BSR, and the result 0.
USER_EXERCISE(abm, "mov $1, %%ecx; lzcnt %%rcx, %%rax", a == 63)
USER_EXERCISE(adx, "mov $3, %%ecx; mov $4, %%eax; clc; adcx %%rcx, %%rax", a == 7)
USER_RUNS(clflushopt, "clflushopt (%%rdi)")
USER_RUNS(clwb, "clwb (%%rdi)")
// RAX has the address; a line of 64 bytes becomes zero.
USER_EXERCISE(clzero, "movq $-1, (%%rdi); mov %%rdi, %%rax; clzero; mov (%%rdi), %%rax", a == 0)
// A transaction may abort at once for as long as it lives; both ways are RTM.
USER_RUNS(rtm, "xbegin 1f; xend; 1:")
USER_RUNS(tsx_ldtrk, ".byte 0xf2, 0x0f, 0x01, 0xe8; .byte 0xf2, 0x0f, 0x01, 0xe9")
USER_RUNS(serialize, ".byte 0x0f, 0x01, 0xe8")
// tpause %ecx, for a time that is long past: it clears ZF, which the MFENCE that some processors
// take it for does not.
USER_EXERCISE(waitpkg, "xor %%ecx, %%ecx; .byte 0x66, 0x0f, 0xae, 0xf1; setz %%al", a == 0)
USER_EXERCISE(movdiri, "mov $5, %%ecx; .byte 0x0f, 0x38, 0xf9, 0x0f; mov (%%rdi), %%eax", a == 5)
USER_EXERCISE(movdir64b,
              "movl $6, (%%rdi); lea 64(%%rdi), %%rcx; .byte 0x66, 0x0f, 0x38, 0xf8, 0x0f;"
              "mov (%%rcx), %%eax",
              a == 6)
// cmpoxadd %edx, %eax, (%rdi): the memory's old value comes into RAX
USER_EXERCISE(cmpccxadd, "movl $6, (%%rdi); .byte 0xc4, 0xe2, 0x69, 0xe0, 0x07", a == 6)

// XSAVE's area is at user_area, its header at 512; XCR0 was set up in ring 0.
USER_RUNS(xsaveopt, "mov $7, %%eax; xsaveopt (%%rdi)")
// XCOMP_BV's bit 63 tells the compacted form.
USER_EXERCISE(xsavec, "mov $7, %%eax; xsavec (%%rdi); mov 520(%%rdi), %%rax", a >> 63 == 1)
USER_RUNS(xgetbv1, "mov $1, %%ecx; xgetbv")
// XMM1 becomes its middle 8 bits.
USER_RUNS(lwp, ".byte 0x8f, 0xe9, 0x78, 0x12, 0xc8")                             // slwpcb %rax
USER_EXERCISE(tbm, "mov $7, %%ecx; .byte 0x8f, 0xe9, 0x78, 0x01, 0xc9", a == 0)  // blcfill

}  // namespace probe
