// The handler of #PF, with what a debugger needs to unwind through the frame that the processor
// pushed: error code, RIP, CS, RFLAGS, RSP, SS.
    .cfi_sections .debug_frame
    .text
    .globl page_fault_entry
    .type page_fault_entry, @function
page_fault_entry:
    .cfi_startproc simple
    .cfi_signal_frame
    .cfi_def_cfa rsp, 48
    .cfi_offset rip, -40
    .cfi_offset rsp, -16
    mov (%rsp), %rsi
    mov %cr2, %rdi
    call page_fault
    // The guest ends with 14.
    mov $14, %eax
    out %eax, $0xf4
    hlt
    .cfi_endproc
    .size page_fault_entry, . - page_fault_entry
