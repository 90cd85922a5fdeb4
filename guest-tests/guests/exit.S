// Writes VALUE to the debug-exit port.
        .section .text.entry, "ax"
        .globl _start
_start: mov     $VALUE, %eax
        out     %eax, $0xf4
1:      hlt
        jmp     1b
        .section .note.GNU-stack, "", @progbits
