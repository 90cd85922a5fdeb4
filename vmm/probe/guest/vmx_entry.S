// Into a nested guest and out of it, and what it runs: one short piece for each control that shows,
// all with VMCALL at the end. The pieces have a page of their own, for EPT.
#include "vmm/probe/guest/callee_saved.inc"

#define HOST_RSP 0x6c14
#define HOST_RIP 0x6c16

        .text
// uint64_t vmx_enter(): 0 when the guest ran and exited (or its state was refused), 1 VMfailInvalid,
// 2 VMfailValid
        .globl  vmx_enter
        .type   vmx_enter, @function
vmx_enter:
        push_callee_saved
        mov     $HOST_RSP, %eax
        vmwrite %rsp, %rax
        lea     1f(%rip), %rcx
        mov     $HOST_RIP, %eax
        vmwrite %rcx, %rax
        vmlaunch
        mov     $1, %eax
        jc      2f
        mov     $2, %eax
        jmp     2f
1:      xor     %eax, %eax
2:      cld
        pop_callee_saved
        ret
        .size   vmx_enter, . - vmx_enter

        .macro  piece name
        .globl  l2_\name
l2_\name:
        .endm
        .macro  done
        vmcall
        jmp     l2_vmcall
        .endm

        .section .text.l2, "ax", @progbits
        .balign 4096
        .globl  l2_page
l2_page:
        .globl  l2_vmcall
l2_vmcall:
        vmcall
        jmp     l2_vmcall
        piece   hlt; hlt; done
        piece   invlpg; invlpg (%rsp); done
        piece   rdpmc; xor %ecx, %ecx; rdpmc; done
        piece   rdtsc; rdtsc; done
        piece   mov_cr3; mov %cr3, %rax; mov %rax, %cr3; done
        piece   load_cr8; xor %eax, %eax; mov %rax, %cr8; done
        piece   store_cr8; mov %cr8, %rax; done
        piece   mov_dr; mov %dr0, %rax; done
        piece   out; out %al, $0x80; done
        piece   rdmsr; mov $0xc0000080, %ecx; rdmsr; done
        piece   pause; pause; done
        piece   wbinvd; wbinvd; done
        piece   rdrand; rdrand %rax; done
        piece   rdseed; rdseed %rax; done
        piece   sgdt; sgdt -16(%rsp); done
        piece   rdtscp; rdtscp; done
        piece   vmfunc; xor %eax, %eax; xor %ecx, %ecx; vmfunc; done
        piece   monitor; lea l2_page(%rip), %rax; xor %ecx, %ecx; xor %edx, %edx; monitor; done
        piece   mwait; xor %eax, %eax; xor %ecx, %ecx; mwait; done
        piece   invpcid; push $0; push $0; mov $2, %eax; invpcid (%rsp), %rax; done
        piece   xsaves; lea l2_area(%rip), %rdi; mov $1, %eax; xor %edx, %edx; xsaves (%rdi); done
        .balign 4096

        .bss
        .balign 64
l2_area: .skip  4096
        .skip   4096
        .globl  l2_stack_top
l2_stack_top:
        .section .note.GNU-stack, "", @progbits
