// The smallest real-mode guest.
        .code16
        .globl _start
_start: xor     %ax, %ax
        out     %al, $0xf4
1:      hlt
        jmp     1b
        .section .note.GNU-stack, "", @progbits
