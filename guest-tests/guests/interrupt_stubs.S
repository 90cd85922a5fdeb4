// One entry for each of the 256 vectors, all of which come to on_interrupt(vector, frame,
// has_error_code). An 8259A may raise any vector, so whether there is an error code is seen by what
// lies where CS would be: no code runs at address 8.
#define CODE_SELECTOR 0x08
#define STUB_SIZE 16

        .macro  restore
        pop     %r11
        pop     %r10
        pop     %r9
        pop     %r8
        pop     %rdi
        pop     %rsi
        pop     %rdx
        pop     %rcx
        pop     %rax
        .endm

        .text
        .globl  interrupt_stubs
        .balign STUB_SIZE
interrupt_stubs:
        vector = 0
        .rept   256
        .balign STUB_SIZE
        pushq   $vector
        jmp     any_interrupt
        vector = vector + 1
        .endr

        .balign STUB_SIZE
any_interrupt:
        push    %rax
        push    %rcx
        push    %rdx
        push    %rsi
        push    %rdi
        push    %r8
        push    %r9
        push    %r10
        push    %r11
        cld
        mov     72(%rsp), %rdi          // the vector
        lea     80(%rsp), %rsi          // RIP and CS, if there is no error code
        xor     %edx, %edx
        cmpq    $CODE_SELECTOR, 8(%rsi)
        je      1f
        add     $8, %rsi
        inc     %edx
1:      push    %rdx
        call    on_interrupt
        pop     %rdx
        test    %edx, %edx
        jnz     2f
        restore
        add     $8, %rsp                // the vector
        iretq
2:      restore
        add     $16, %rsp               // and the error code
        iretq
        .section .note.GNU-stack, "", @progbits
