// Entered in real mode at the load address, wherever that is: the code finds its own place. Checks
// that paging and protection are off and that interrupts are, says so, and ends with 0; with 1 or 2
// when the check fails.
        .code16
        .globl _start
_start: cld
        mov     %cs, %ax
        mov     %ax, %ds
        mov     %ax, %ss
        mov     $0x7c00, %sp
        pushf
        pop     %cx
        call    here
here:   pop     %bp                     // offset of `here` in CS
        mov     $1, %bl
        smsw    %ax
        test    $1, %al                 // CR0.PE
        jnz     done
        mov     $2, %bl
        test    $0x0200, %cx            // IF
        jnz     done
        lea     (text - here)(%bp), %si
        call    print
        xor     %bl, %bl
done:   mov     %bl, %al
        out     %al, $0xf4
1:      cli
        hlt
        jmp     1b

print:  lodsb
        test    %al, %al
        jz      2f
        mov     %al, %bh
        mov     $0x3fd, %dx
1:      in      %dx, %al
        test    $0x20, %al
        jz      1b
        mov     $0x3f8, %dx
        mov     %bh, %al
        out     %al, %dx
        jmp     print
2:      ret

text:   .asciz  "flat: real mode, interrupts off\n"
        .section .note.GNU-stack, "", @progbits
