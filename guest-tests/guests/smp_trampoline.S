// Where the other processors start: real mode at 8000h, then long mode with the first processor's
// page tables, a stack of one's own, ap_main.
#define PLACE 0x8000
#define AT(label) (PLACE + label - trampoline)

        .section .rodata
        .globl  trampoline, trampoline_end, trampoline_cr3
        .balign 16
        .code16
trampoline:
        cli
        xor     %ax, %ax
        mov     %ax, %ds
        lgdtl   AT(trampoline_gdtr)
        mov     %cr0, %eax
        or      $1, %eax
        mov     %eax, %cr0
        ljmpl   $0x18, $AT(protected)
        .code32
protected:
        mov     $0x10, %ax
        mov     %ax, %ds
        mov     %ax, %es
        mov     %ax, %ss
        mov     %cr4, %eax
        or      $0x20, %eax             // PAE
        mov     %eax, %cr4
        mov     AT(trampoline_cr3), %eax
        mov     %eax, %cr3
        mov     $0xc0000080, %ecx       // EFER
        rdmsr
        or      $0x100, %eax            // LME
        wrmsr
        mov     %cr0, %eax
        or      $0x80000000, %eax
        mov     %eax, %cr0
        ljmp    $0x08, $AT(long_mode)
        .code64
long_mode:
        mov     $1, %eax
        mov     $ap_next_stack, %rdi
        lock xadd %eax, (%rdi)
        inc     %eax
        shl     $12, %rax               // 4 KiB each
        lea     ap_stacks(%rax), %rsp
        xor     %ebp, %ebp
        mov     $ap_main, %rax
        call    *%rax
1:      cli
        hlt
        jmp     1b
        .balign 8
trampoline_gdt:
        .quad   0
        .quad   0x00af9b000000ffff      // 08h: 64-bit code, as the first processor has it
        .quad   0x00cf93000000ffff      // 10h: data
        .quad   0x00cf9b000000ffff      // 18h: 32-bit code
trampoline_gdtr:
        .word   . - trampoline_gdt - 1
        .long   AT(trampoline_gdt)
        .balign 4
trampoline_cr3:
        .long   0
trampoline_end:
        .section .note.GNU-stack, "", @progbits
