// Loops of 1000 turns, without end, for a debugger to step through and to read the memory of. The
// instructions mean the same in 32-bit and in 64-bit mode, and the note is a PVH entry (Xen's note
// 18), so that another monitor can be measured with the same file.
        .section .text.entry, "ax"
        .globl  _start, turn, turned
_start: mov     $1000, %ecx
turn:   dec     %ecx
        jnz     turn
turned: jmp     _start

        .section .note.pvh, "a", @note
        .long   4, 4, 18
        .asciz  "Xen"
        .long   _start
        .section .note.GNU-stack, "", @progbits
