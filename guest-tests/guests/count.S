// Counts to 11000 in RBX and at 2 MiB, then ends with 0: for breakpoints that are hit often.
        .section .text.entry, "ax"
        .globl  _start
        .type   count, @function
_start: xor     %ebx, %ebx
count:  inc     %rbx
        mov     %rbx, 0x200000
        .globl  counted
counted:
        cmp     $11000, %rbx
        jne     count
        xor     %eax, %eax
        out     %eax, $0xf4
1:      hlt
        jmp     1b
        .size   count, . - count
        .section .note.GNU-stack, "", @progbits
