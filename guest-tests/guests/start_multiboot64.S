// Start of a 64-bit guest that has a command line: loaded by Multiboot, entered in protected mode
// with paging off, it maps the low 4 GiB one to one, goes to long mode, and hands EAX and EBX on.
#define MAGIC 0x1badb002
#define FLAGS 0x00000003                // page-aligned modules, memory map

        .section .multiboot, "a"
        .balign 4
        .long   MAGIC
        .long   FLAGS
        .long   -(MAGIC + FLAGS)

        .section .text.entry, "ax"
        .code32
        .globl _start
        .type _start, @function
_start: cli
        cld
        mov     $stack_top, %esp
        push    %ebx
        push    %eax
        movl    $page_directory_pointers + 3, page_map
        mov     $page_directories + 3, %eax
        mov     $page_directory_pointers, %edi
        mov     $4, %ecx
1:      mov     %eax, (%edi)
        add     $8, %edi
        add     $4096, %eax
        loop    1b
        mov     $page_directories, %edi
        mov     $0x83, %eax             // present, writable, 2 MiB
        mov     $2048, %ecx
2:      mov     %eax, (%edi)
        add     $8, %edi
        add     $0x200000, %eax
        loop    2b
        mov     %cr4, %eax
        or      $0x20, %eax             // PAE
        mov     %eax, %cr4
        mov     $page_map, %eax
        mov     %eax, %cr3
        mov     $0xc0000080, %ecx       // EFER
        rdmsr
        or      $0x100, %eax            // LME
        wrmsr
        mov     %cr0, %eax
        or      $0x80000000, %eax
        mov     %eax, %cr0
        lgdt    gdt_register
        ljmp    $0x08, $long_mode
        .code64
long_mode:
        mov     $0x10, %eax
        mov     %eax, %ds
        mov     %eax, %es
        mov     %eax, %ss
        mov     $stack_top, %esp
        mov     -8(%rsp), %edi          // what was pushed above: EAX, then EBX above it
        mov     -4(%rsp), %esi
        xor     %ebp, %ebp
        call    guest_main
        out     %eax, $0xf4
3:      cli
        hlt
        jmp     3b
        .size   _start, . - _start

        .section .rodata
        .balign 8
gdt:    .quad   0
        .quad   0x00af9b000000ffff      // 08h: 64-bit code
        .quad   0x00cf93000000ffff      // 10h: data
gdt_register:
        .word   . - gdt - 1
        .long   gdt
        .long   0

        .bss
        .balign 4096
page_map: .skip 4096
page_directory_pointers: .skip 4096
page_directories: .skip 4 * 4096
        .balign 16
        .skip   16384
stack_top:
        .section .note.GNU-stack, "", @progbits
