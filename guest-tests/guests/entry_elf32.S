// Takes down the registers as they were at entry, then lets entry_elf32.cc judge them.
        .section .text.entry, "ax"
        .code32
        .globl _start
        .type _start, @function
_start: mov     %esp, entry_esp
        mov     $stack_top, %esp
        pushf
        pop     entry_eflags
        sidt    entry_idt
        cld
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
        .globl  entry_esp, entry_eflags, entry_idt
entry_esp:    .skip 4
entry_eflags: .skip 4
entry_idt:    .skip 8
        .section .note.GNU-stack, "", @progbits
