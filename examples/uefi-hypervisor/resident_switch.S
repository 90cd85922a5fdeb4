// The crossings that a compiler cannot write: under the hypervisor as one's own copy, and, on SVM,
// from a SIPI into the hypervisor.
        .text
        .globl  go_under
        .type   go_under, @function
go_under:                               // processor, end of the host's stack
        pushf
        cli
        push    %rbx
        push    %rbp
        push    %r12
        push    %r13
        push    %r14
        push    %r15
        mov     %rsp, %rbx
        mov     %rsi, %rax
        lea     1f(%rip), %rsi          // where the guest begins ...
        mov     %rsp, %rdx              // ... with this very stack
        mov     %rax, %rsp
        call    serve_processor
        mov     %rbx, %rsp              // no entry
        xor     %eax, %eax
        jmp     2f
1:      mov     $1, %eax
2:      pop     %r15
        pop     %r14
        pop     %r13
        pop     %r12
        pop     %rbp
        pop     %rbx
        popf
        ret
        .size   go_under, . - go_under

// Copied to a page below 1 MiB, where it runs in real mode with nothing but CS. Long mode at once:
// paging and protection by one write of CR0 (APM Vol. 2 14.6.1).
        .section .rodata
        .globl  startup_page, startup_page_end, startup_cr3, startup_entry, startup_gdt_base
        .balign 16
        .code16
startup_page:
        cli
        cld
        mov     %cs, %ax
        mov     %ax, %ds
        lgdtl   startup_gdtr - startup_page
        mov     $0x20, %eax             // PAE
        mov     %eax, %cr4
        mov     startup_cr3 - startup_page, %eax
        mov     %eax, %cr3
        mov     $0xc0000080, %ecx       // EFER
        rdmsr
        or      $0x100, %eax            // LME
        wrmsr
        mov     $0x80000033, %eax       // PG, NE, ET, MP, PE; caches on
        mov     %eax, %cr0
        ljmpl   *(startup_entry - startup_page)
        .balign 8
startup_gdt:
        .quad   0
        .quad   0x00af9b000000ffff      // 08h: 64-bit code, as task_state.h has it
        .quad   0x00cf93000000ffff      // 10h: data
startup_gdtr:
        .word   . - startup_gdt - 1
startup_gdt_base:
        .long   startup_gdt - startup_page
startup_entry:
        .long   0
        .word   0x08
        .balign 4
startup_cr3:
        .long   0
startup_page_end:

        .text
        .code64
        .globl  after_sipi
        .type   after_sipi, @function
after_sipi:
        mov     $0x10, %eax
        mov     %eax, %ds
        mov     %eax, %es
        mov     %eax, %ss
        mov     $1, %eax
        cpuid
        shr     $24, %ebx               // the initial APIC id
        lea     by_apic_id(%rip), %rax
        mov     (%rax,%rbx,8), %rdi
        test    %rdi, %rdi
        jz      1f
        lea     16384(%rdi), %rsp
        xor     %ebp, %ebp
        call    serve_after_sipi
1:      cli
        hlt
        jmp     1b
        .size   after_sipi, . - after_sipi
        .section .note.GNU-stack, "", @progbits
