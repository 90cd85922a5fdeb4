// A firmware of 16 KiB, one volume with nothing in it but the reset vector's code, which uses the
// 16 KiB of flash below it: FFFF8000h, offset 8000h of the segment that a processor starts in. It
// programs a byte in each of two blocks, erases one of them and ends with 0, or with the number of
// what went wrong: 1 no status after a clear, 2 or 3 a byte that did not come, 4 an erased block
// that is not, 5 a byte that was lost, 6 an error in the status. With a byte 5Ah at the end of the
// flash it only looks whether the first byte is there, 7 when it is not.
        .equ    FLASH, 0x8000
        .equ    ONE, FLASH + 0x1100
        .equ    TWO, FLASH + 0x2200
        .equ    SEEN, FLASH + 0x3fff

        .code16
        .globl _start
_start:
        // EFI_FIRMWARE_VOLUME_HEADER; the format is FFS version 2.
        .zero   16
        .byte   0x78, 0xe5, 0x8c, 0x8c, 0x3d, 0x8a, 0x1c, 0x4f
        .byte   0x99, 0x35, 0x89, 0x61, 0x85, 0xc3, 0x2d, 0xd3
        .quad   0x4000
        .ascii  "_FVH"
        .long   0x0004feff
        .word   0x48, 0xa6cb, 0         // header's size, checksum, no extension
        .byte   0, 2
        .long   4, 0x1000, 0, 0
        .org    0x48
        .fill   0x100 - 0x48, 1, 0xff

        .org    0x100
code:   cmpb    $0x5a, %cs:SEEN
        je      again
        mov     $1, %bl
        movb    $0x50, %cs:FLASH
        movb    $0x70, %cs:FLASH
        cmpb    $0, %cs:FLASH
        jne     done
        movb    $0x10, %cs:ONE
        movb    $0x12, %cs:ONE
        movb    $0x10, %cs:TWO
        movb    $0x34, %cs:TWO
        movb    $0xff, %cs:FLASH
        mov     $2, %bl
        cmpb    $0x12, %cs:ONE
        jne     done
        mov     $3, %bl
        cmpb    $0x34, %cs:TWO
        jne     done
        movb    $0x20, %cs:TWO
        movb    $0xd0, %cs:TWO
        mov     $6, %bl
        movb    $0x70, %cs:FLASH
        cmpb    $0x80, %cs:FLASH
        jne     done
        movb    $0x10, %cs:SEEN
        movb    $0x5a, %cs:SEEN
        movb    $0xff, %cs:FLASH
        // Often enough that the flash becomes memory again.
        mov     $4, %bl
        mov     $200, %cx
1:      cmpb    $0xff, %cs:TWO
        jne     done
        loop    1b
        mov     $5, %bl
        jmp     last
again:  mov     $7, %bl
last:   cmpb    $0x12, %cs:ONE
        jne     done
        xor     %bl, %bl
done:   mov     %bl, %al
        mov     $0xf4, %dx
        out     %al, %dx
2:      cli
        hlt
        jmp     2b

        .org    0x3ff0, 0xff
        jmp     code
        .org    0x4000, 0xff
        .section .note.GNU-stack, "", @progbits
