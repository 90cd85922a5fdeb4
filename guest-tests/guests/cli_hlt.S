// Halts with interrupts off: nothing can wake it but an NMI, and there is none.
        .section .text.entry, "ax"
        .globl  _start
        .type   halt_for_ever, @function
_start:
halt_for_ever:
        cli
        hlt
        jmp     halt_for_ever
        .size   halt_for_ever, . - halt_for_ever
        .section .note.GNU-stack, "", @progbits
