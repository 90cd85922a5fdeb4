#include "loader/boot_state.h"

#include "loader/multiboot1.h"
#include "loader/multiboot2.h"
#include "vmm/base/bytes.h"

namespace vmm {
namespace {

// Descriptor types (SDM vol. 3A tables 3-1 and 3-2).
constexpr std::uint8_t kDataType = 0x3;  // read/write, accessed
constexpr std::uint8_t kCodeType = 0xb;  // execute/read, accessed
constexpr std::uint8_t kLdtType = 0x2;
constexpr std::uint8_t kBusyTssType = 0xb;  // 32-bit, or 64-bit in long mode

// Paging-structure entries (SDM vol. 3A section 4.5).
constexpr std::uint64_t kPresentWritable = 0x3;
constexpr std::uint64_t kPageSize = 1ull << 7;

// What the CPU keeps of a descriptor, as the 8 bytes in the GDT (SDM vol. 3A figure 3-8).
std::uint64_t descriptor(const kvm_segment& s) {
  const std::uint64_t limit = s.g != 0 ? s.limit >> 12 : s.limit;
  const auto flag = [](unsigned value, unsigned position) {
    return std::uint64_t{value} << position;
  };
  return bits(limit, 15, 0) | bits(s.base, 23, 0) << 16 | flag(s.type, 40) | flag(s.s, 44) |
         flag(s.dpl, 45) | flag(s.present, 47) | bits(limit, 19, 16) << 48 | flag(s.avl, 52) |
         flag(s.l, 53) | flag(s.db, 54) | flag(s.g, 55) | bits(s.base, 31, 24) << 56;
}

kvm_segment flat_segment(std::uint16_t selector, std::uint8_t type, bool long_code) {
  kvm_segment s{};
  s.limit = 0xffff'ffff;
  s.selector = selector;
  s.type = type;
  s.present = 1;
  s.s = 1;
  s.g = 1;
  s.l = long_code ? 1 : 0;
  s.db = long_code ? 0 : 1;
  return s;
}

kvm_segment code_segment(const BootBlock& block) {
  return flat_segment(block.code_selector(), kCodeType, block.long_mode());
}

kvm_segment data_segment(const BootBlock& block) {
  return flat_segment(block.data_selector(), kDataType, false);
}

kvm_segment tss_segment(const BootBlock& block) {
  kvm_segment s{};
  s.base = block.tss();
  s.limit = BootBlock::kTssLimit;
  s.selector = block.tss_selector();
  s.type = kBusyTssType;
  s.present = 1;
  return s;
}

// What all entry states share: values after reset (SDM vol. 3A table 9-1) where nothing says
// otherwise, interrupts off.
CpuState common_state() {
  CpuState state;
  state.regs.rflags = spec::RFLAGS_FIXED;
  state.sregs.apic_base = 0xfee0'0900;  // enabled, bootstrap processor
  state.sregs.ldt.type = kLdtType;
  state.sregs.ldt.unusable = 1;
  state.debugregs.dr6 = 0xffff'0ff0;
  state.debugregs.dr7 = 0x400;
  return state;
}

CpuState protected_state(const BootBlock& block, std::uint64_t entry) {
  CpuState state = common_state();
  state.regs.rip = entry;
  kvm_sregs& s = state.sregs;
  s.cs = code_segment(block);
  s.ds = s.es = s.fs = s.gs = s.ss = data_segment(block);
  s.tr = tss_segment(block);
  s.gdt.base = block.gdt();
  s.gdt.limit = block.gdt_limit();
  // No interrupt table: the first fault is a triple fault at once, with the registers as they were.
  s.idt.base = 0;
  s.idt.limit = 0;
  s.cr0 = spec::CR0_PE | spec::CR0_ET;
  return state;
}

void set_arguments(CpuState& state, const ElfArguments& arguments) {
  state.regs.rdi = arguments.command_line;
  state.regs.rsi = arguments.e820;
  state.regs.rdx = arguments.e820_count;
}

// Long mode with the block's page tables.
CpuState long_mode_state(const BootBlock& block, std::uint64_t entry) {
  CpuState state = protected_state(block, entry);
  // A function called in C finds RSP + 8 at a multiple of 16 (System V ABI, section 3.2.2). The
  // return address that is not there reads as 0.
  state.regs.rsp = block.stack_top() - 8;
  state.sregs.cr0 |= spec::CR0_NE | spec::CR0_WP | spec::CR0_PG;
  state.sregs.cr3 = block.page_tables();
  // Compilers use SSE in 64-bit code unless told otherwise.
  state.sregs.cr4 = spec::CR4_PAE | spec::CR4_OSFXSR | spec::CR4_OSXMMEXCPT;
  state.sregs.efer = spec::EFER_LME | spec::EFER_LMA;
  return state;
}

}  // namespace

std::vector<std::uint8_t> BootBlock::bytes(std::span<const std::uint8_t> info) const {
  std::vector<std::uint8_t> block(fixed_size());
  const auto put = [&](Gpa address, std::uint64_t value) { store(block, address - base_, value); };

  if (long_mode_) {
    const Gpa pml4 = page_tables();
    const Gpa pdpt = pml4 + 4_KiB;
    const Gpa directories = pdpt + 4_KiB;
    put(pml4, pdpt | kPresentWritable);
    for (std::uint64_t i = 0; i < kMappedGiB; ++i)
      put(pdpt + i * 8, (directories + i * 4_KiB) | kPresentWritable);
    for (std::uint64_t i = 0; i < kMappedGiB * 512; ++i)
      put(directories + i * 8, i * 2_MiB | kPresentWritable | kPageSize);
  }
  put(gdt() + code_selector(), descriptor(code_segment(*this)));
  put(gdt() + data_selector(), descriptor(data_segment(*this)));
  put(gdt() + tss_selector(), descriptor(tss_segment(*this)));
  // The upper half of a 64-bit TSS descriptor is base[63:32], which is 0 below 4 GiB.
  block.insert(block.end(), info.begin(), info.end());
  return block;
}

CpuState elf64_state(const BootBlock& block, std::uint64_t entry, const ElfArguments& arguments) {
  CpuState state = long_mode_state(block, entry);
  set_arguments(state, arguments);
  return state;
}

CpuState elf32_state(const BootBlock& block, std::uint64_t entry, const ElfArguments& arguments) {
  CpuState state = protected_state(block, entry);
  set_arguments(state, arguments);
  state.regs.rsp = block.stack_top() - 4;
  return state;
}

CpuState multiboot1_state(const BootBlock& block, std::uint64_t entry) {
  CpuState state = protected_state(block, entry);
  state.regs.rsp = block.stack_top();
  state.regs.rax = spec::MULTIBOOT_BOOTLOADER_MAGIC;
  state.regs.rbx = block.info();
  return state;
}

CpuState multiboot2_state(const BootBlock& block, std::uint64_t entry) {
  CpuState state = multiboot1_state(block, entry);
  state.regs.rax = spec::MULTIBOOT2_BOOTLOADER_MAGIC;
  return state;
}

CpuState pvh_state(const BootBlock& block, std::uint64_t entry) {
  CpuState state = protected_state(block, entry);
  state.regs.rsp = block.stack_top();
  state.regs.rbx = block.info();
  return state;
}

CpuState linux64_state(const BootBlock& block, std::uint64_t entry) {
  CpuState state = long_mode_state(block, entry);
  state.regs.rsi = block.info();
  return state;
}

CpuState linux32_state(const BootBlock& block, std::uint64_t entry) {
  CpuState state = protected_state(block, entry);
  state.regs.rsp = block.stack_top();
  state.regs.rsi = block.info();
  return state;
}

CpuState flat_state(Gpa address) {
  CpuState state = common_state();
  // The offset is the low 16 bits of the address: code linked for that address finds its labels,
  // and a boot sector starts at 0000:7C00 as under a BIOS.
  const auto offset = static_cast<std::uint16_t>(bits(address, 15, 0));
  const auto selector = static_cast<std::uint16_t>(bits(address, 19, 16) << 12);
  kvm_segment s{};
  s.base = std::uint64_t{selector} << 4;
  s.limit = 0xffff;
  s.selector = selector;
  s.type = kDataType;
  s.present = 1;
  s.s = 1;
  kvm_sregs& sregs = state.sregs;
  sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = s;
  s.type = kCodeType;
  sregs.cs = s;
  sregs.tr.limit = 0xffff;
  sregs.tr.type = kBusyTssType;
  sregs.tr.present = 1;
  // The interrupt table of real mode, 256 far pointers from address 0.
  sregs.idt.limit = 0x3ff;
  sregs.gdt.limit = 0xffff;
  sregs.cr0 = spec::CR0_ET;
  state.regs.rip = offset;
  // The stack grows down from the image where there is room for one, else from the segment's end.
  constexpr std::uint16_t kLeastStack = 0x1000;
  state.regs.rsp = offset >= kLeastStack ? bits(offset, 15, 1) << 1 : 0xfffe;
  return state;
}

}  // namespace vmm
