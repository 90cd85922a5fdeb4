// The built library, byte for byte; VMM_QEMU_LOCK is its path.
        .section .rodata, "a", @progbits
        .balign 16
        .global vmm_qemu_lock_begin
        .type vmm_qemu_lock_begin, @object
vmm_qemu_lock_begin:
        .incbin VMM_QEMU_LOCK
        .global vmm_qemu_lock_end
        .type vmm_qemu_lock_end, @object
vmm_qemu_lock_end:
        .byte 0
        .section .note.GNU-stack, "", @progbits
