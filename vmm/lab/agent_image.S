// The built agent, byte for byte; VMM_LAB_AGENT is its path.
        .section .rodata, "a", @progbits
        .balign 16
        .global vmm_lab_agent_begin
        .type vmm_lab_agent_begin, @object
vmm_lab_agent_begin:
        .incbin VMM_LAB_AGENT
        .global vmm_lab_agent_end
        .type vmm_lab_agent_end, @object
vmm_lab_agent_end:
        .byte 0
        .section .note.GNU-stack, "", @progbits
