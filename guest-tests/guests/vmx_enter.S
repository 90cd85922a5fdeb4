// vmx_enter(registers, launch): the switch into L2 and back (guest-tests/guests/vmx.h).
#define HOST_RSP 0x6c14
#define HOST_RIP 0x6c16
#define SUCCEEDED 0
#define FAIL_INVALID 1
#define FAIL_VALID 2

        .text
        .globl  vmx_enter
        .type   vmx_enter, @function
vmx_enter:
        push    %rbx
        push    %rbp
        push    %r12
        push    %r13
        push    %r14
        push    %r15
        push    %rdi                    // registers, for the way back
        mov     $HOST_RSP, %eax
        vmwrite %rsp, %rax
        mov     $HOST_RIP, %eax
        lea     vmx_exit(%rip), %rdx
        vmwrite %rdx, %rax
        test    %sil, %sil              // the loads below leave the flags
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
        pop     %rax
        mov     %rax, 0x30(%rdi)
        add     $8, %rsp
        xor     %eax, %eax              // SUCCEEDED
3:      pop     %r15
        pop     %r14
        pop     %r13
        pop     %r12
        pop     %rbp
        pop     %rbx
        ret
        .size   vmx_enter, . - vmx_enter
        .section .note.GNU-stack, "", @progbits
