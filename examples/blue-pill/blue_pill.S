// The two crossings of the pill that a compiler cannot write: into L2 as one's own copy, and out of
// it again, on VT-x and on SVM.
#include "guest-tests/guests/l2_registers.inc"

        .text
        .globl  blue_pill_enter
        .type   blue_pill_enter, @function
blue_pill_enter:                        // processor, end of the host's stack
        push_callee_saved
        mov     %rsp, %rbx
        mov     %rsi, %rax
        lea     1f(%rip), %rsi          // where L2 begins ...
        mov     %rsp, %rdx              // ... with this very stack
        mov     %rax, %rsp
        call    blue_pill_serve
        mov     %rbx, %rsp              // no entry
        xor     %eax, %eax
        jmp     2f
1:      mov     $1, %eax
2:      pop_callee_saved
        ret
        .size   blue_pill_enter, . - blue_pill_enter

        .globl  blue_pill_leave
        .type   blue_pill_leave, @function
blue_pill_leave:                        // registers, RIP, RSP, RFLAGS
        mov     %rdx, %rsp
        push    %rsi                    // for the RET below
        push    %rcx
        load_l2_registers
        mov     0x00(%rdi), %rax
        mov     0x30(%rdi), %rdi
        popf
        ret
        .size   blue_pill_leave, . - blue_pill_leave
        .section .note.GNU-stack, "", @progbits
