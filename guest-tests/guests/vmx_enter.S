// vmx_enter(registers, launch): the switch into L2 and back (guest-tests/guests/vmx.h).
#define HOST_RSP 0x6c14
#define HOST_RIP 0x6c16
#define SUCCEEDED 0
#define FAIL_INVALID 1
#define FAIL_VALID 2

#include "guest-tests/guests/l2_registers.inc"

        .text
        .globl  vmx_enter
        .type   vmx_enter, @function
vmx_enter:
        push_callee_saved
        push    %rdi                    // registers, for the way back
        mov     $HOST_RSP, %eax
        vmwrite %rsp, %rax
        mov     $HOST_RIP, %eax
        lea     vmx_exit(%rip), %rdx
        vmwrite %rdx, %rax
        test    %sil, %sil              // the loads below leave the flags
        load_l2_registers
        mov     0x00(%rdi), %rax
        mov     0x30(%rdi), %rdi
        jz      1f
        vmlaunch
        jmp     2f
1:      vmresume
2:      mov     $FAIL_VALID, %eax       // no entry: ZF with an error number, else CF
        mov     $FAIL_INVALID, %ecx
        cmovc   %ecx, %eax
        add     $8, %rsp
        jmp     3f
        .globl  vmx_exit
vmx_exit:
        push    %rdi
        mov     8(%rsp), %rdi
        mov     %rax, 0x00(%rdi)
        store_l2_registers
        pop     %rax
        mov     %rax, 0x30(%rdi)
        add     $8, %rsp
        xor     %eax, %eax              // SUCCEEDED
3:      pop_callee_saved
        ret
        .size   vmx_enter, . - vmx_enter
        .section .note.GNU-stack, "", @progbits
