// Into a nested guest under SVM and out of it, and what it runs, with VMMCALL at the end.
#include "vmm/probe/guest/callee_saved.inc"

        .text
// void svm_enter(uint64_t vmcb): GIF is 1 before and after
        .globl  svm_enter
        .type   svm_enter, @function
svm_enter:
        push_callee_saved
        mov     %rdi, %rax
        clgi
        vmrun   %rax
        stgi
        cld
        pop_callee_saved
        ret
        .size   svm_enter, . - svm_enter

        .globl  svm_l2_vmmcall, svm_l2_after, svm_l2_pause, svm_l2_clgi, svm_l2_debugctl
svm_l2_vmmcall:
        vmmcall
svm_l2_after:
        jmp     svm_l2_vmmcall
svm_l2_pause:
        pause
        vmmcall
svm_l2_clgi:
        clgi
        vmmcall
svm_l2_debugctl:
        mov     $0x1d9, %ecx
        rdmsr
        vmmcall
        .section .note.GNU-stack, "", @progbits
