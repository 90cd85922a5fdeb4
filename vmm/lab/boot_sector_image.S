// boot_sector.S as it was linked to 7C00h, for make_boot_disk().
  .section .rodata
  .globl vmm_boot_sector
  .globl vmm_boot_sector_end
vmm_boot_sector:
  .incbin VMM_BOOT_SECTOR
vmm_boot_sector_end:
  .section .note.GNU-stack, "", @progbits
