// The probe's built kernel, byte for byte; VMM_PROBE_GUEST is its path.
        .section .rodata, "a", @progbits
        .balign 16
        .global vmm_probe_guest_begin
        .type vmm_probe_guest_begin, @object
vmm_probe_guest_begin:
        .incbin VMM_PROBE_GUEST
        .global vmm_probe_guest_end
        .type vmm_probe_guest_end, @object
vmm_probe_guest_end:
        .byte 0
        .section .note.GNU-stack, "", @progbits
