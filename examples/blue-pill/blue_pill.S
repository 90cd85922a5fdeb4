// The two crossings of the pill that a compiler cannot write: into L2 as one's own copy, and out of
// it again, on VT-x and on SVM.
        .text
        .globl  blue_pill_enter
        .type   blue_pill_enter, @function
blue_pill_enter:                        // processor, end of the host's stack
        push    %rbx
        push    %rbp
        push    %r12
        push    %r13
        push    %r14
        push    %r15
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
2:      pop     %r15
        pop     %r14
        pop     %r13
        pop     %r12
        pop     %rbp
        pop     %rbx
        ret
        .size   blue_pill_enter, . - blue_pill_enter

        .globl  blue_pill_leave
        .type   blue_pill_leave, @function
blue_pill_leave:                        // registers, RIP, RSP, RFLAGS
        mov     %rdx, %rsp
        push    %rsi                    // for the RET below
        push    %rcx
        mov     0x08(%rdi), %rcx
        mov     0x10(%rdi), %rdx
        mov     0x18(%rdi), %rbx
        mov     0x20(%rdi), %rbp
        mov     0x28(%rdi), %rsi
        mov     0x38(%rdi), %r8
        mov     0x40(%rdi), %r9
        mov     0x48(%rdi), %r10
        mov     0x50(%rdi), %r11
        mov     0x58(%rdi), %r12
        mov     0x60(%rdi), %r13
        mov     0x68(%rdi), %r14
        mov     0x70(%rdi), %r15
        mov     0x00(%rdi), %rax
        mov     0x30(%rdi), %rdi
        popf
        ret
        .size   blue_pill_leave, . - blue_pill_leave
        .section .note.GNU-stack, "", @progbits
