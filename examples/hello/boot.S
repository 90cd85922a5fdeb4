// A 64-bit kernel's first instructions: the loader has switched to long mode with the low 4 GiB
// identity-mapped; a stack is all that C++ still needs.
        .section .text.entry, "ax"
        .globl  _start
        .type   _start, @function
_start: lea     stack_top(%rip), %rsp
        xor     %ebp, %ebp
        call    kernel_main
        out     %eax, $0xf4             // the debug-exit port ends the run with this value
1:      hlt
        jmp     1b
        .size   _start, . - _start

        .bss
        .balign 16
        .skip   8192
stack_top:
        .section .note.GNU-stack, "", @progbits
