#include "vmm/machine/disassemble.h"

#include <gtest/gtest.h>

#include <random>

namespace vmm {
namespace {

using Bytes = std::vector<std::uint8_t>;

CpuState long_state() {
  CpuState s;
  s.regs.rax = 0x1111;
  s.regs.rbx = 0x2000;
  s.regs.rsp = 0x9000;
  s.regs.rdi = 0xb8000;
  s.regs.rsi = 0x3000;
  s.sregs.fs.base = 0x10000;
  return s;
}

TEST(Disassemble, writes_intel_syntax_with_hex_as_the_manuals) {
  EXPECT_EQ(disassemble(Bytes{0xb8, 0x00, 0x80, 0x0b, 0x00}, CpuMode::Protected32, 0),
            "mov eax, b8000h");
  EXPECT_EQ(disassemble(Bytes{0x48, 0x8b, 0x43, 0x08}, CpuMode::Long64, 0), "mov rax, [rbx+8h]");
  EXPECT_EQ(disassemble(Bytes{0x66, 0xb8, 0x34, 0x12}, CpuMode::Protected32, 0), "mov ax, 1234h");
}

TEST(Disassemble, the_mode_decides_what_bytes_mean) {
  const Bytes bytes{0xb8, 0x34, 0x12, 0x78, 0x56};
  EXPECT_EQ(disassemble(bytes, CpuMode::Real, 0), "mov ax, 1234h");
  EXPECT_EQ(disassemble(bytes, CpuMode::Protected32, 0), "mov eax, 56781234h");
  EXPECT_EQ(disassemble(bytes, CpuMode::Compat16, 0), "mov ax, 1234h");
  EXPECT_EQ(disassemble(Bytes{0x40}, CpuMode::Protected32, 0), "inc eax");
}

TEST(Disassemble, a_branch_target_has_its_symbol) {
  SymbolTable symbols;
  symbols.add("handler", 0x1010, 0x20);
  EXPECT_EQ(disassemble(Bytes{0xe8, 0x0f, 0, 0, 0}, CpuMode::Long64, 0x1000, &symbols),
            "call 1014h  ; handler+4h");
}

TEST(Disassemble, what_is_no_instruction_is_bad) {
  EXPECT_EQ(disassemble(Bytes{0xff, 0xff}, CpuMode::Long64, 0), "(bad)");
  EXPECT_EQ(disassemble({}, CpuMode::Long64, 0), "(bad)");
  EXPECT_FALSE(decode_instruction(Bytes{0x06}, CpuMode::Long64, 0));  // push es
  EXPECT_TRUE(instruction_is_cut(Bytes{0x48, 0x8b}, CpuMode::Long64));
  EXPECT_FALSE(instruction_is_cut(Bytes{0x90}, CpuMode::Long64));
  EXPECT_FALSE(instruction_is_cut(Bytes{0xff, 0xff}, CpuMode::Long64));
}

TEST(Disassemble, memory_operands_become_linear_addresses) {
  const CpuState s = long_state();
  auto i = decode_instruction(Bytes{0x66, 0x89, 0x07}, CpuMode::Long64, 0, &s);  // mov [rdi], ax
  ASSERT_EQ(i->memory.size(), 1u);
  EXPECT_EQ(i->memory[0].linear, 0xb8000u);
  EXPECT_EQ(i->memory[0].size, 2u);
  EXPECT_TRUE(i->memory[0].write && !i->memory[0].read && !i->memory[0].stack);
  // mov rax, fs:[rbx+rsi*4-8]
  i = decode_instruction(Bytes{0x64, 0x48, 0x8b, 0x44, 0xb3, 0xf8}, CpuMode::Long64, 0, &s);
  EXPECT_EQ(i->memory.at(0).linear, 0x10000u + 0x2000 + 0xc000 - 8);
  // mov eax, [rip+10h] counts from the next instruction.
  i = decode_instruction(Bytes{0x8b, 0x05, 0x10, 0, 0, 0}, CpuMode::Long64, 0x1000, &s);
  EXPECT_EQ(i->memory.at(0).linear, 0x1016u);
  // lea touches nothing.
  i = decode_instruction(Bytes{0x48, 0x8d, 0x03}, CpuMode::Long64, 0, &s);
  EXPECT_TRUE(i->memory.empty());
}

TEST(Disassemble, the_stack_counts_as_memory) {
  const CpuState s = long_state();
  auto i = decode_instruction(Bytes{0x50}, CpuMode::Long64, 0, &s);  // push rax
  ASSERT_EQ(i->memory.size(), 1u);
  EXPECT_EQ(i->memory[0].linear, 0x8ff8u);
  EXPECT_TRUE(i->memory[0].stack && i->memory[0].write);
  i = decode_instruction(Bytes{0xe8, 0, 0, 0, 0}, CpuMode::Long64, 0, &s);  // call
  ASSERT_EQ(i->memory.size(), 1u);
  EXPECT_EQ(i->memory[0].linear, 0x8ff8u);
  i = decode_instruction(Bytes{0xc3}, CpuMode::Long64, 0, &s);  // ret
  ASSERT_EQ(i->memory.size(), 1u);
  EXPECT_EQ(i->memory[0].linear, 0x9000u);
  EXPECT_TRUE(i->memory[0].read);
}

TEST(Disassemble, segment_bases_count_outside_64_bit_mode) {
  CpuState s = long_state();
  s.sregs.ds.base = 0x1230;
  s.regs.rbx = 0xffff0005;
  const auto i = decode_instruction(Bytes{0x8a, 0x07}, CpuMode::Real, 0, &s);  // mov al, [bx]
  EXPECT_EQ(i->memory.at(0).linear, 0x1235u);
}

TEST(Disassemble, a_repeated_string_instruction_without_a_count_touches_nothing) {
  CpuState s = long_state();
  const Bytes stosb{0xf3, 0xaa};
  EXPECT_TRUE(decode_instruction(stosb, CpuMode::Long64, 0, &s)->memory.empty());
  s.regs.rcx = 1;
  EXPECT_EQ(decode_instruction(stosb, CpuMode::Long64, 0, &s)->memory.at(0).linear, 0xb8000u);
}

struct NeedCase {
  Bytes bytes;
  const char* name;
  const char* place;
};

TEST(Disassemble, knows_the_cpuid_bit_of_an_instruction) {
  const NeedCase kCases[] = {
      {{0x0f, 0x57, 0xc0}, "sse", "CPUID 1.EDX[25]"},          // xorps
      {{0x66, 0x0f, 0xef, 0xc0}, "sse2", "CPUID 1.EDX[26]"},   // pxor
      {{0xc5, 0xf8, 0x57, 0xc0}, "avx", "CPUID 1.ECX[28]"},    // vxorps
      {{0xc5, 0xfd, 0xef, 0xc0}, "avx2", "CPUID 7.0.EBX[5]"},  // vpxor ymm
      {{0x62, 0xf1, 0x7d, 0x48, 0xef, 0xc0}, "avx512f", "CPUID 7.0.EBX[16]"},
      {{0x66, 0x0f, 0x38, 0xf8, 0x00}, "movdir64b", "CPUID 7.0.ECX[28]"},
      {{0x0f, 0x38, 0xf9, 0x00}, "movdiri", "CPUID 7.0.ECX[27]"},
      {{0x0f, 0xc7, 0x28}, "xsaves", "CPUID Dh.1.EAX[3]"},
      {{0x0f, 0x01, 0xf9}, "rdtscp", "CPUID 80000001h.EDX[27]"},
      {{0x0f, 0x01, 0xc2}, "vmx", "CPUID 1.ECX[5]"},          // vmlaunch
      {{0x0f, 0x01, 0xd8}, "svm", "CPUID 80000001h.ECX[2]"},  // vmrun
      {{0x0f, 0xc7, 0xf0}, "rdrand", "CPUID 1.ECX[30]"},
      {{0xf3, 0x0f, 0xae, 0xc0}, "fsgsbase", "CPUID 7.0.EBX[0]"},
      {{0x66, 0x0f, 0x38, 0x82, 0x00}, "invpcid", "CPUID 7.0.EBX[10]"},
  };
  for (const NeedCase& c : kCases) {
    const auto i = decode_instruction(c.bytes, CpuMode::Long64, 0);
    ASSERT_TRUE(i && i->needs != nullptr) << c.name;
    EXPECT_EQ(i->needs->name, c.name);
    EXPECT_EQ(i->needs->place(), c.place);
  }
  for (const Bytes& plain : {Bytes{0x90}, Bytes{0xf3, 0x0f, 0xbc, 0xc0},  // tzcnt runs as bsf
                             Bytes{0xf3, 0x0f, 0x1e, 0xfa}, Bytes{0x0f, 0x18, 0x00}}) {
    EXPECT_EQ(decode_instruction(plain, CpuMode::Long64, 0)->needs, nullptr);
  }
}

TEST(Disassemble, tells_sse_from_avx) {
  EXPECT_TRUE(decode_instruction(Bytes{0x0f, 0x57, 0xc0}, CpuMode::Long64, 0)->uses_sse);
  const auto avx = decode_instruction(Bytes{0xc5, 0xf8, 0x57, 0xc0}, CpuMode::Long64, 0);
  EXPECT_TRUE(avx->uses_vex && !avx->uses_sse);
}

TEST(Disassemble, software_interrupts_and_undefined_instructions) {
  EXPECT_EQ(decode_instruction(Bytes{0xcc}, CpuMode::Long64, 0)->interrupt, 3);
  EXPECT_EQ(decode_instruction(Bytes{0xcd, 0x80}, CpuMode::Long64, 0)->interrupt, 0x80);
  EXPECT_TRUE(decode_instruction(Bytes{0x0f, 0x0b}, CpuMode::Long64, 0)->is_ud);
  EXPECT_TRUE(decode_instruction(Bytes{0xf4}, CpuMode::Long64, 0)->ring0_only);
  EXPECT_TRUE(decode_instruction(Bytes{0x0f, 0x30}, CpuMode::Long64, 0)->ring0_only);
  EXPECT_FALSE(decode_instruction(Bytes{0x0f, 0xa2}, CpuMode::Long64, 0)->ring0_only);
}

TEST(Disassemble, loads_of_selectors_and_control_registers) {
  CpuState s = long_state();
  s.regs.rax = 0x80000011;
  auto i = decode_instruction(Bytes{0x0f, 0x22, 0xe0}, CpuMode::Long64, 0, &s);  // mov cr4, rax
  EXPECT_EQ(i->loads_cr, 4u);
  EXPECT_EQ(i->source, 0x80000011u);
  i = decode_instruction(Bytes{0x8e, 0xd8}, CpuMode::Long64, 0, &s);  // mov ds, ax
  EXPECT_EQ(i->loads_selector, 0x11);
  EXPECT_EQ(i->selector_target, "ds");
  i = decode_instruction(Bytes{0xea, 1, 0, 0, 0, 8, 0}, CpuMode::Protected32, 0, &s);  // jmp far
  EXPECT_EQ(i->loads_selector, 8);
  EXPECT_EQ(i->selector_target, "cs");
  s.regs.rbx = 0;
  EXPECT_TRUE(decode_instruction(Bytes{0xf7, 0xf3}, CpuMode::Long64, 0, &s)->divides_by_zero);
}

TEST(Disassemble, survives_random_bytes_in_every_mode) {
  std::mt19937 random(3);
  const CpuState s = long_state();
  for (int i = 0; i < 100000; ++i) {
    Bytes bytes(random() % 17);
    for (auto& byte : bytes) byte = static_cast<std::uint8_t>(random());
    const auto mode = static_cast<CpuMode>(random() % 6);
    const auto insn = decode_instruction(bytes, mode, random(), &s);
    EXPECT_LE(insn ? insn->length : 0, std::min<std::size_t>(bytes.size(), 15));
  }
}

}  // namespace
}  // namespace vmm
