// Start of a 32-bit guest, entered in protected mode with paging off, which hands EAX and EBX on.
// With MULTIBOOT it carries a header, with AOUT_KLUDGE one that says itself where the file goes; with
// MULTIBOOT2 one of that version, with PVH a note.
#ifdef MULTIBOOT2
        .section .multiboot, "a"
        .balign 8
header: .long   0xe85250d6              // magic
        .long   0                       // i386
        .long   header_end - header
        .long   -(0xe85250d6 + header_end - header)
        .word   1, 0                    // information that must be there
        .long   8 + 4 * 8
        .long   1, 2, 4, 6, 8, 9, 14, 15
        .word   6, 0                    // modules on pages
        .long   8
        .word   7, 1                    // EFI boot services, if there are any
        .long   8
        .word   0, 0
        .long   8
header_end:
#endif
#ifdef PVH
        .section .note.pvh, "a", @note
        .balign 4
        .long   4, 4, 18                // XEN_ELFNOTE_PHYS32_ENTRY
        .asciz  "Xen"
        .long   _start
#endif
#ifdef MULTIBOOT
#define MAGIC 0x1badb002
#ifdef AOUT_KLUDGE
#define FLAGS 0x00010003                // page-aligned modules, memory map, addresses are here
#else
#define FLAGS 0x00000003
#endif
        .section .multiboot, "a"
        .balign 4
multiboot_header:
        .long   MAGIC
        .long   FLAGS
        .long   -(MAGIC + FLAGS)
#ifdef AOUT_KLUDGE
        .long   multiboot_header        // header_addr
        .long   image_start             // load_addr
        .long   image_data_end          // load_end_addr
        .long   image_end               // bss_end_addr
        .long   _start                  // entry_addr

        .data                           // load_end_addr is the end of the file only with data
        .long   MAGIC
#endif
#endif
        .section .text.entry, "ax"
        .code32
        .globl _start
        .type _start, @function
_start: cli
        cld
        mov     $stack_top, %esp
        xor     %ebp, %ebp
        sub     $8, %esp                // keeps the stack at 16 bytes at the call
        push    %ebx
        push    %eax
        call    guest_main
        out     %eax, $0xf4
1:      cli
        hlt
        jmp     1b
        .size   _start, . - _start

        .bss
        .balign 16
        .skip   16384
stack_top:
        .section .note.GNU-stack, "", @progbits
