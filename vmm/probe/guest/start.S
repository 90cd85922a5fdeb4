// Start of the probe's kernel, its traps, and the guards that its exercises run behind.
//
// A guard calls a function in ring 0 or ring 3 and comes back whatever happens: when the function
// returns, or at its first exception, whose vector, error code, RIP and CR2 are left in trap_*.
#include "vmm/probe/guest/callee_saved.inc"

#define KERNEL_CODE 0x08
#define KERNEL_DATA 0x10
#define USER_DATA 0x1b
#define USER_CODE 0x23
#define TSS 0x28
#define HAVE_ERROR_CODE 0x60227d00      // vectors 8, 10-14, 17, 21, 29, 30
#define NO_VECTOR 0xffffffff
#define SYSCALL_VECTOR 0x100

        .section .text.entry, "ax"
        .code64
        .globl _start
        .type _start, @function
_start: cli
        cld
        lea     stack_top(%rip), %rsp
        lea     tss(%rip), %rax         // its base, in pieces
        mov     %ax, gdt_tss + 2(%rip)
        shr     $16, %rax
        mov     %al, gdt_tss + 4(%rip)
        mov     %ah, gdt_tss + 7(%rip)
        lea     trap_stack_top(%rip), %rax
        mov     %rax, tss + 4(%rip)     // RSP0
        lgdt    gdt_register(%rip)
        pushq   $KERNEL_CODE
        lea     1f(%rip), %rax
        push    %rax
        lretq
1:      mov     $KERNEL_DATA, %eax
        mov     %eax, %ds
        mov     %eax, %es
        mov     %eax, %ss
        mov     $TSS, %eax
        ltr     %ax
        xor     %ebp, %ebp
        call    probe_main
        out     %eax, $0xf4
2:      cli
        hlt
        jmp     2b
        .size   _start, . - _start

        .macro  save_frame
        push_callee_saved
        push    guard_frame(%rip)       // of the guard around this one
        mov     %rsp, guard_frame(%rip)
        movl    $NO_VECTOR, trap_vector(%rip)
        .endm

        .text
// uint64_t guard_kernel(uint64_t (*function)(uint64_t), uint64_t argument)
        .globl  guard_kernel
        .type   guard_kernel, @function
guard_kernel:
        save_frame
        mov     %rdi, %rax
        mov     %rsi, %rdi
        call    *%rax
        movl    $NO_VECTOR, trap_vector(%rip)   // not that of a guard inside
        // Jumped to by the others.
leave_guard:
        mov     guard_frame(%rip), %rsp
        pushq   $2                      // RFLAGS: above all AC, IF and TF clear
        popfq
        pop     guard_frame(%rip)
        pop_callee_saved
        ret
        .size   guard_kernel, . - guard_kernel

// uint64_t guard_user(uint64_t (*function)()): the function lies in .user.text
        .globl  guard_user
        .type   guard_user, @function
guard_user:
        save_frame
        pushq   $USER_DATA
        lea     user_stack_top(%rip), %rax
        push    %rax
        pushq   $2
        pushq   $USER_CODE
        lea     user_start(%rip), %rax
        push    %rax
        iretq
        .size   guard_user, . - guard_user

// Where SYSCALL arrives (the exercise puts it into IA32_LSTAR).
        .globl  syscall_entry
syscall_entry:
        movl    $SYSCALL_VECTOR, trap_vector(%rip)
        jmp     leave_guard

        .globl  trap_stubs
        .balign 16
trap_stubs:
        vector = 0
        .rept   32
        .balign 16
        .if     ((HAVE_ERROR_CODE >> vector) & 1) == 0
        pushq   $0
        .endif
        pushq   $vector
        jmp     any_trap
        vector = vector + 1
        .endr

any_trap:
        cld
        pop     trap_vector_wide(%rip)
        pop     trap_error(%rip)
        mov     trap_vector_wide(%rip), %ecx
        mov     (%rsp), %rdx
        mov     %rdx, trap_rip(%rip)
        mov     %cr2, %rbx
        mov     %rbx, trap_cr2(%rip)
        // The end of a function in ring 3 is a #UD at a known place.
        lea     user_done(%rip), %rbx
        cmp     %rbx, %rdx
        jne     1f
        mov     $NO_VECTOR, %ecx
1:      mov     %ecx, trap_vector(%rip)
        jmp     leave_guard

        .section .user.text, "awx", @progbits
user_start:
        call    *%rdi
user_done:
        ud2

        .section .user.data, "awx", @progbits
        .balign 4096
        .globl  user_area
user_area:
        .skip   16384
user_stack:
        .skip   4096
user_stack_top:

        .data
        .balign 16
gdt:    .quad   0
        .quad   0x00af9b000000ffff      // 08h: code
        .quad   0x00cf93000000ffff      // 10h: data
        .quad   0x00cff3000000ffff      // 18h: data of ring 3
        .quad   0x00affb000000ffff      // 20h: code of ring 3
gdt_tss:                                // 28h: the TSS, 68h bytes below 4 GiB
        .quad   0x0000890000000067
        .quad   0
gdt_register:
        .word   . - gdt - 1
        .quad   gdt
        .balign 16
tss:    .skip   102
        .word   104                     // no I/O permission bitmap

        .globl  trap_vector, trap_error, trap_rip, trap_cr2
        .bss
        .balign 16
guard_frame: .skip 8
trap_vector_wide: .skip 8
trap_error: .skip 8
trap_rip: .skip 8
trap_cr2: .skip 8
trap_vector: .skip 8
        .balign 16
        .skip   4096
trap_stack_top:
        .skip   16384
stack_top:
        .section .note.GNU-stack, "", @progbits
