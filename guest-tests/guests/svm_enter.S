// svm_enter(registers, vmcb, host, gif): one VMRUN and its #VMEXIT (guest-tests/guests/svm.h).
#define VMCB_RAX 0x5f8

        .text
        .globl  svm_enter
        .type   svm_enter, @function
svm_enter:
        push    %rbx
        push    %rbp
        push    %r12
        push    %r13
        push    %r14
        push    %r15
        push    %rcx                    // gif
        push    %rdx                    // host
        push    %rsi                    // vmcb
        push    %rdi                    // registers
        clgi
        mov     %rdx, %rax
        vmsave  %rax
        mov     0x00(%rdi), %rax        // VMRUN takes RAX from the VMCB
        mov     %rax, VMCB_RAX(%rsi)
        mov     %rsi, %rax
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
        mov     0x30(%rdi), %rdi
        vmload  %rax
        .globl  svm_vmrun
svm_vmrun:
        vmrun   %rax
        vmsave  %rax                    // RAX and RSP are this side's again
        push    %rdi
        mov     8(%rsp), %rdi
        mov     %rcx, 0x08(%rdi)
        mov     %rdx, 0x10(%rdi)
        mov     %rbx, 0x18(%rdi)
        mov     %rbp, 0x20(%rdi)
        mov     %rsi, 0x28(%rdi)
        mov     %r8, 0x38(%rdi)
        mov     %r9, 0x40(%rdi)
        mov     %r10, 0x48(%rdi)
        mov     %r11, 0x50(%rdi)
        mov     %r12, 0x58(%rdi)
        mov     %r13, 0x60(%rdi)
        mov     %r14, 0x68(%rdi)
        mov     %r15, 0x70(%rdi)
        mov     VMCB_RAX(%rax), %rcx
        mov     %rcx, 0x00(%rdi)
        pop     %rcx
        mov     %rcx, 0x30(%rdi)
        add     $16, %rsp
        pop     %rax                    // host
        vmload  %rax
        pop     %rcx
        test    %cl, %cl
        jz      1f
        stgi
1:      pop     %r15
        pop     %r14
        pop     %r13
        pop     %r12
        pop     %rbp
        pop     %rbx
        ret
        .size   svm_enter, . - svm_enter
        .section .note.GNU-stack, "", @progbits
