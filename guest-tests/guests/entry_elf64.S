// Takes down the registers as they were at entry, then lets entry_elf64.cc judge them.
        .section .text.entry, "ax"
        .code64
        .globl _start
        .type _start, @function
_start: mov     %rsp, entry_rsp(%rip)
        pushfq                          // needs the stack that the loader promises
        pop     entry_rflags(%rip)
        sidt    entry_idt(%rip)
        sgdt    entry_gdt(%rip)
        mov     %cs, entry_cs(%rip)
        cld
        lea     stack_top(%rip), %rsp
        xor     %ebp, %ebp
        call    guest_main
        out     %eax, $0xf4
1:      cli
        hlt
        jmp     1b
        .size   _start, . - _start

        .bss
        .balign 16
        .skip   8192
stack_top:
        .globl  entry_rflags, entry_rsp, entry_idt, entry_gdt, entry_cs
entry_rflags: .skip 8
entry_rsp:    .skip 8
entry_idt:    .skip 16
entry_gdt:    .skip 16
entry_cs:     .skip 8
        .section .note.GNU-stack, "", @progbits
