// The smallest guest: it ends at once with 0. For measuring what a run costs. The instructions mean the
// same in 32-bit and in 64-bit mode, and the note is a PVH entry (Xen's note 18), so that another
// monitor can be measured with the same file.
        .section .text.entry, "ax"
        .globl _start
_start: xor     %eax, %eax
        out     %eax, $0xf4
1:      hlt
        jmp     1b

        .section .note.pvh, "a", @note
        .long   4, 4, 18
        .asciz  "Xen"
        .long   _start
        .section .note.GNU-stack, "", @progbits
