// svm_enter(registers, vmcb, host, gif): one VMRUN and its #VMEXIT, of VMCBs by physical address. L2's RAX
// is the caller's to carry between registers and VMCB (guest-tests/guests/svm.h).
#include "guest-tests/guests/l2_registers.inc"

        .text
        .globl  svm_enter
        .type   svm_enter, @function
svm_enter:
        push_callee_saved
        push    %rcx                    // gif
        push    %rdx                    // host
        push    %rsi                    // vmcb
        push    %rdi                    // registers
        clgi
        mov     %rdx, %rax
        vmsave  %rax
        mov     %rsi, %rax
        load_l2_registers
        mov     0x30(%rdi), %rdi
        vmload  %rax
        .globl  svm_vmrun
svm_vmrun:
        vmrun   %rax
        vmsave  %rax                    // RAX and RSP are this side's again
        push    %rdi
        mov     8(%rsp), %rdi
        store_l2_registers
        pop     %rcx
        mov     %rcx, 0x30(%rdi)
        add     $16, %rsp
        pop     %rax                    // host
        vmload  %rax
        pop     %rcx
        test    %cl, %cl
        jz      1f
        stgi
1:      pop_callee_saved
        ret
        .size   svm_enter, . - svm_enter
        .section .note.GNU-stack, "", @progbits
