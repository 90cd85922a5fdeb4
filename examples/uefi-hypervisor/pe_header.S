// The headers of a PE32+ image (Microsoft's PE/COFF specification; UEFI 2.1.1) in front of code that
// runs anywhere, so that objcopy makes the image. SUBSYSTEM: 10 application, 11 boot service driver.
// Relative addresses are distances from here, sizes are addresses of efi_image.ld.
#define RVA(label) .long label - image_start

        .section .pe_header, "a"
        .globl  image_start
image_start:
        .ascii  "MZ"
        .skip   0x3c - 2
        .long   signature - image_start
signature:
        .ascii  "PE\0\0"
        .word   0x8664                  // x86-64
        .word   3                       // sections
        .long   0, 0, 0                 // no time, no symbols
        .word   section_table - optional_header
        .word   0x2e                    // executable, no line numbers, no symbols, above 2 GiB too
optional_header:
        .word   0x20b                   // PE32+
        .byte   0, 0
        RVA(text_size)
        RVA(data_size)
        .long   0
        RVA(efi_main)
        RVA(text_start)
        .quad   0                       // preferred address
        .long   0x1000, 0x1000          // alignment in memory and in the file
        .word   0, 0, 0, 0, 0, 0
        .long   0
        RVA(image_end)
        .long   0x1000                  // headers
        .long   0                       // checksum
        .word   SUBSYSTEM
        .word   0
        .quad   0, 0, 0, 0
        .long   0
        .long   16                      // directories, all empty but those two
        .quad   0, 0, 0, 0, 0
        RVA(relocations)
        .long   12
        RVA(debug_directory)
        .long   28
        .quad   0, 0, 0, 0, 0, 0, 0, 0, 0
section_table:
        .ascii  ".rdata\0\0"
        .long   data_directories_end - data_directories
        RVA(data_directories)
        .long   0x1000
        RVA(data_directories)
        .long   0, 0, 0
        .long   0x40000040              // data, readable
        .ascii  ".text\0\0\0"
        RVA(text_size)
        RVA(text_start)
        RVA(text_size)
        RVA(text_start)
        .long   0, 0, 0
        .long   0x60000020              // code, executable, readable
        .ascii  ".data\0\0\0"
        RVA(data_memory_size)
        RVA(data_start)
        RVA(data_size)
        RVA(data_start)
        .long   0, 0, 0
        .long   0xc0000040              // data, readable, writable

        .balign 4096
data_directories:
        // Nothing to relocate, said in the one way that loaders believe: a block of padding.
relocations:
        .long   0x1000, 12
        .word   0, 0
        // Firmware and debuggers name an image by the file of its symbols (CodeView, NB10).
debug_directory:
        .long   0, 0, 0, 2              // CodeView
        .long   data_directories_end - codeview
        RVA(codeview)
        RVA(codeview)                   // files hold each byte where memory has it
codeview:
        .ascii  "NB10"
        .long   0, 0, 0
        .asciz  SYMBOLS
data_directories_end:
        .section .note.GNU-stack, "", @progbits
