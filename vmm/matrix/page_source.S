// The parts of the report's page, byte for byte; the assembler looks in their folder.
        .macro part name, file
        .global vmm_page_\name\()_begin
        .type vmm_page_\name\()_begin, @object
vmm_page_\name\()_begin:
        .incbin "\file"
        .global vmm_page_\name\()_end
        .type vmm_page_\name\()_end, @object
vmm_page_\name\()_end:
        .byte 0
        .endm

        .section .rodata, "a", @progbits
        part frame, "page.html"
        part style, "page.css"
        part model, "model.js"
        part grid, "grid.js"
        part panel, "panel.js"
        part main, "page.js"
        .section .note.GNU-stack, "", @progbits
