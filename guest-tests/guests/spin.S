// Runs in a circle; ends by --timeout only.
        .section .text.entry, "ax"
        .globl  _start
        .type   spin, @function
_start:
spin:   pause
        jmp     spin
        .size   spin, . - spin
        .section .note.GNU-stack, "", @progbits
