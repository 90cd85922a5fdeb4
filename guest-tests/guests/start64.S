// Start of a 64-bit guest: its own stack and GDT, then guest_main; the result ends the run. With
// MULTIBOOT it is entered in protected mode and maps the first 4 GiB itself, for loaders that know no
// 64-bit images: objcopy makes its file a 32-bit one.
#ifdef MULTIBOOT
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
        mov     $boot_tables + 0x2000, %edi
        mov     $0x83, %eax             // present, writable, 2 MiB
        mov     $2048, %ecx
1:      mov     %eax, (%edi)
        add     $8, %edi
        add     $0x200000, %eax
        dec     %ecx
        jnz     1b
        mov     $boot_tables, %edi
        lea     0x1003(%edi), %eax
        mov     %eax, (%edi)
        lea     0x2003(%edi), %eax
        mov     %eax, 0x1000(%edi)
        add     $0x1000, %eax
        mov     %eax, 0x1008(%edi)
        add     $0x1000, %eax
        mov     %eax, 0x1010(%edi)
        add     $0x1000, %eax
        mov     %eax, 0x1018(%edi)
        mov     %cr4, %eax
        or      $0x20, %eax             // PAE
        mov     %eax, %cr4
        mov     %edi, %cr3
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
#else
        .section .text.entry, "ax"
        .code64
        .globl _start
        .type _start, @function
_start: cli
        cld
#endif
        lea     stack_top(%rip), %rsp
        lgdt    gdt_register(%rip)
        pushq   $0x08
        lea     1f(%rip), %rax
        push    %rax
        lretq
1:      mov     $0x10, %eax
        mov     %eax, %ds
        mov     %eax, %es
        mov     %eax, %ss
        xor     %ebp, %ebp
        xor     %edi, %edi
        xor     %esi, %esi
        call    guest_main
        out     %eax, $0xf4
2:      cli
        hlt
        jmp     2b
        .size   _start, . - _start

        .section .rodata
        .balign 8
gdt:    .quad   0
        .quad   0x00af9b000000ffff      // 08h: 64-bit code
        .quad   0x00cf93000000ffff      // 10h: data
gdt_register:
        .word   . - gdt - 1
        .quad   gdt

        .bss
#ifdef MULTIBOOT
        .balign 4096
boot_tables:
        .skip   0x6000
#endif
        .balign 16
        .skip   16384
stack_top:
        .section .note.GNU-stack, "", @progbits
