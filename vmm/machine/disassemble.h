// One instruction: its text, and what the explanations ask of it (which memory, which CPUID bit).
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/core/cpu_state.h"
#include "vmm/core/cpuid_table.h"
#include "vmm/core/symbols.h"

namespace vmm {

// A CPUID bit under the name that people know.
struct CpuidBit {
  std::string_view name;
  std::uint32_t leaf;
  std::uint32_t subleaf;
  CpuidReg reg;
  unsigned index;

  // "CPUID 7.0.ECX[28]", "CPUID 80000001h.EDX[26]".
  std::string place() const;
  bool in(const CpuidTable& cpuid) const { return cpuid.bit(leaf, subleaf, reg, index); }
};

// Memory that an instruction touches, the stack included.
struct MemoryUse {
  Gva linear = 0;     // of the first byte
  unsigned size = 1;  // bytes, 1 to 4096
  bool read = false;
  bool write = false;
  bool stack = false;  // by PUSH, CALL, RET, ...
};

struct Instruction {
  unsigned length = 0;              // bytes, 1 to 15
  std::string text;                 // "mov [rdi], ax", a branch target with its symbol behind it
  std::string_view mnemonic;        // "mov"
  const CpuidBit* needs = nullptr;  // without this bit it is #UD; null: none is known
  bool uses_sse = false;            // legacy SSE: #UD unless CR4.OSFXSR is 1 and CR0.EM is 0
  bool uses_vex = false;            // VEX, EVEX: #UD unless CR4.OSXSAVE is 1
  bool is_ud = false;               // UD0, UD1, UD2
  bool ring0_only = false;
  std::optional<std::uint8_t> interrupt;        // INT n, INT3, INT1
  std::optional<std::uint16_t> loads_selector;  // into a segment register, when the value is known
  std::string_view selector_target;             // "ds", "cs", "tr"
  std::optional<unsigned>
      pops_selector;                 // IRET, far RET: bytes from the stack pointer to the new CS
  std::optional<unsigned> loads_cr;  // MOV to CRn
  std::uint64_t source = 0;          // the value that goes there
  bool divides_by_zero = false;
  std::vector<MemoryUse> memory;  // only those whose address follows from the registers
};

// Decodes the instruction at the start of `bytes` (at most 15 count). `state` gives the registers
// for addresses; without it `memory` stays empty. Nothing when the bytes are no instruction.
std::optional<Instruction> decode_instruction(std::span<const std::uint8_t> bytes, CpuMode mode,
                                              Gva rip, const CpuState* state = nullptr,
                                              const SymbolTable* symbols = nullptr);
// True when `bytes` ends before the instruction does.
bool instruction_is_cut(std::span<const std::uint8_t> bytes, CpuMode mode);
// The text alone, in Intel syntax with hex as the manuals write it; "(bad)" for no instruction.
std::string disassemble(std::span<const std::uint8_t> bytes, CpuMode mode, Gva rip,
                        const SymbolTable* symbols = nullptr);

// "AVX512F_512" -> avx512f: the bit behind an instruction set's name; null when none is known.
const CpuidBit* cpuid_bit_of_isa(std::string_view isa_set);

}  // namespace vmm
