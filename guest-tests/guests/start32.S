// Start of a 32-bit guest, entered in protected mode with paging off. With MULTIBOOT it carries a
// header and hands EAX and EBX on; with AOUT_KLUDGE the header says itself where the file goes.
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
