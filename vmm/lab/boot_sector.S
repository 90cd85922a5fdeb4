// The boot sector of the vmx lab. The BIOS puts it at 7C00h and jumps there in real mode, with the
// drive in DL. It asks for the memory map, copies what its table lists from the disk to memory above
// 1 MiB, and enters Linux by the 64-bit boot protocol (Documentation/x86/boot.rst): long mode, the
// first GiB mapped as it is, RSI at boot_params, CS 10h and DS 18h flat, interrupts off.
//
// boot_disk.cc fills in the table and has prepared boot_params, the page tables and the entry point
// at 100000h; the offsets below stand there as well.

.equ PARAMETERS, 0x100000
.equ E820_ENTRIES, PARAMETERS + 0x1e8
.equ E820_TABLE, PARAMETERS + 0x2d0
.equ ENTRY_POINT, PARAMETERS + 0x1ff8
.equ PML4, PARAMETERS + 0x2000
.equ MAP, 0x600          // where the memory map is collected
.equ MAP_ENTRY, 20
.equ MAP_ENTRIES, 32
.equ BUFFER, 0x10000     // what the BIOS reads at a time
.equ BUFFER_SECTORS, 64

.code16
.globl _start
_start:
  cli
  cld
  xorw %ax, %ax
  movw %ax, %ds
  movw %ax, %es
  movw %ax, %ss
  movw $0x7c00, %sp
  movb %dl, drive

  // INT 15h, AX = E820h: one entry a call, EBX says whether there are more.
  xorl %ebx, %ebx
  xorw %bp, %bp
  movw $MAP, %di
next_range:
  movl $0xe820, %eax
  movl $0x534d4150, %edx
  movl $MAP_ENTRY, %ecx
  int $0x15
  jc ranges_done
  incw %bp
  addw $MAP_ENTRY, %di
  testl %ebx, %ebx
  jz ranges_done
  cmpw $MAP_ENTRIES, %bp
  jb next_range
ranges_done:
  movw %bp, ranges

  // Port 92h bit 1 is A20, bit 0 would be a reset.
  inb $0x92, %al
  orb $2, %al
  andb $0xfe, %al
  outb %al, $0x92

  // DS and ES get a limit of 4 GiB, which they keep in real mode.
  cli
  lgdtl gdtr
  movl %cr0, %eax
  orb $1, %al
  movl %eax, %cr0
  movw $0x18, %bx
  movw %bx, %ds
  movw %bx, %es
  andb $0xfe, %al
  movl %eax, %cr0
  xorw %ax, %ax
  movw %ax, %ds
  movw %ax, %es

  // Each entry of the table: first sector, sectors, address.
  movw $table, %si
next_image:
  movl (%si), %eax
  movl %eax, packet_sector
  movl 4(%si), %ebp
  movl 8(%si), %edi
next_piece:
  testl %ebp, %ebp
  jz image_done
  movl $BUFFER_SECTORS, %ecx
  cmpl %ecx, %ebp
  jae 1f
  movl %ebp, %ecx
1:
  movw %cx, packet_count
  pushl %ecx
  pushl %ebp
  pushl %edi
  pushw %si
  movw $packet, %si
  movb $0x42, %ah
  movb drive, %dl
  int $0x13
  popw %si
  popl %edi
  popl %ebp
  popl %ecx
  jc failed
  subl %ecx, %ebp
  addl %ecx, packet_sector
  shll $7, %ecx
  pushl %esi
  movl $BUFFER, %esi
  addr32 rep movsl
  popl %esi
  jmp next_piece
image_done:
  addw $12, %si
  cmpl $0, 4(%si)
  jne next_image

  // Straight from real mode into long mode (SDM volume 3, 9.8.5, without the stop in between).
  cli
  movl $0x20, %eax             // CR4.PAE
  movl %eax, %cr4
  movl $PML4, %eax
  movl %eax, %cr3
  movl $0xc0000080, %ecx       // IA32_EFER.LME
  rdmsr
  orw $0x100, %ax
  wrmsr
  movl $0x80000011, %eax       // CR0.PG, ET, PE
  movl %eax, %cr0
  ljmpl $0x10, $long_mode

failed:                        // the console of Bochs' port E9h, if someone looks
  movb $'!', %al
  outb %al, $0xe9
  hlt
  jmp failed

.code64
long_mode:
  movl $0x18, %eax
  movl %eax, %ds
  movl %eax, %es
  movl %eax, %ss
  movl $MAP, %esi
  movl $E820_TABLE, %edi
  movzwl ranges, %eax
  movb %al, E820_ENTRIES
  imull $MAP_ENTRY, %eax, %ecx
  rep movsb
  movl $PARAMETERS, %esi
  xorl %ebp, %ebp
  xorl %edi, %edi
  xorl %ebx, %ebx
  jmp *ENTRY_POINT

.align 8
gdt:
  .quad 0, 0, 0x00af9b000000ffff, 0x00cf93000000ffff
gdtr:
  .word gdtr - gdt - 1
  .long gdt
drive:
  .byte 0
ranges:
  .word 0
.align 4
packet:                        // the disk address packet of INT 13h, AH = 42h
  .byte 16, 0
packet_count:
  .word 0
  .word 0, BUFFER >> 4
packet_sector:
  .long 0, 0

.org 0x1bc
table:
  .fill 12 * 5, 1, 0           // the first entry without sectors ends it
.org 510
  .word 0xaa55
