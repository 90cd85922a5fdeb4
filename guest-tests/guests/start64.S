// Start of a 64-bit guest: its own stack and GDT, then guest_main; the result ends the run.
        .section .text.entry, "ax"
        .code64
        .globl _start
        .type _start, @function
_start: cli
        cld
        lea     stack_top(%rip), %rsp
        lgdt    gdt_register(%rip)
        pushq   $0x08
        lea     1f(%rip), %rax
        push    %rax
        lretq
1:      mov     $0x10, %eax
        mov     %eax, %ds
        mov     %eax, %es
        mov     %eax, %ss
        xor     %ebp, %ebp
        xor     %edi, %edi
        xor     %esi, %esi
        call    guest_main
        out     %eax, $0xf4
2:      cli
        hlt
        jmp     2b
        .size   _start, . - _start

        .section .rodata
        .balign 8
gdt:    .quad   0
        .quad   0x00af9b000000ffff      // 08h: 64-bit code
        .quad   0x00cf93000000ffff      // 10h: data
gdt_register:
        .word   . - gdt - 1
        .quad   gdt

        .bss
        .balign 16
        .skip   16384
stack_top:
        .section .note.GNU-stack, "", @progbits
