#include "vmm/machine/disassemble.h"

#include <Zydis/Zydis.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "vmm/base/bytes.h"

namespace vmm {
namespace {

constexpr auto kEax = CpuidReg::Eax;
constexpr auto kEbx = CpuidReg::Ebx;
constexpr auto kEcx = CpuidReg::Ecx;
constexpr auto kEdx = CpuidReg::Edx;

struct IsaBit {
  std::string_view isa;  // the name itself or up to an underscore
  CpuidBit bit;
};

// SDM vol. 2 "CPUID feature flag" columns; APM vol. 3 appendix D. What runs as something else where
// the bit is 0 (TZCNT as BSF, ENDBR as NOP, PREFETCHW) is left out: it raises no #UD.
constexpr IsaBit kIsaBits[] = {
    {"PENTIUMMMX", {"mmx", 1, 0, kEdx, 23}},
    {"X87", {"fpu", 1, 0, kEdx, 0}},
    {"FCMOV", {"cmov", 1, 0, kEdx, 15}},
    {"CMOV", {"cmov", 1, 0, kEdx, 15}},
    {"CLFSH", {"clflush", 1, 0, kEdx, 19}},
    {"FXSAVE", {"fxsr", 1, 0, kEdx, 24}},
    {"FXSAVE64", {"fxsr", 1, 0, kEdx, 24}},
    {"SSE", {"sse", 1, 0, kEdx, 25}},
    {"SSEMXCSR", {"sse", 1, 0, kEdx, 25}},
    {"SSE2", {"sse2", 1, 0, kEdx, 26}},
    {"SSE2MMX", {"sse2", 1, 0, kEdx, 26}},
    {"SSE3", {"sse3", 1, 0, kEcx, 0}},
    {"SSE3X87", {"sse3", 1, 0, kEcx, 0}},
    {"SSSE3", {"ssse3", 1, 0, kEcx, 9}},
    {"SSSE3MMX", {"ssse3", 1, 0, kEcx, 9}},
    {"SSE4", {"sse4.1", 1, 0, kEcx, 19}},
    {"SSE42", {"sse4.2", 1, 0, kEcx, 20}},
    {"SSE4A", {"sse4a", 0x80000001, 0, kEcx, 6}},
    {"PCLMULQDQ", {"pclmulqdq", 1, 0, kEcx, 1}},
    {"MONITOR", {"monitor", 1, 0, kEcx, 3}},
    {"VTX", {"vmx", 1, 0, kEcx, 5}},
    {"VMFUNC", {"vmx", 1, 0, kEcx, 5}},
    {"SMX", {"smx", 1, 0, kEcx, 6}},
    {"FMA", {"fma", 1, 0, kEcx, 12}},
    {"CMPXCHG16B", {"cx16", 1, 0, kEcx, 13}},
    {"MOVBE", {"movbe", 1, 0, kEcx, 22}},
    {"POPCNT", {"popcnt", 1, 0, kEcx, 23}},
    {"AES", {"aes", 1, 0, kEcx, 25}},
    {"XSAVE", {"xsave", 1, 0, kEcx, 26}},
    {"AVX", {"avx", 1, 0, kEcx, 28}},
    {"AVXAES", {"avx", 1, 0, kEcx, 28}},
    {"F16C", {"f16c", 1, 0, kEcx, 29}},
    {"RDRAND", {"rdrand", 1, 0, kEcx, 30}},
    {"RDWRFSGS", {"fsgsbase", 7, 0, kEbx, 0}},
    {"BMI1", {"bmi1", 7, 0, kEbx, 3}},
    {"AVX2", {"avx2", 7, 0, kEbx, 5}},
    {"AVX2GATHER", {"avx2", 7, 0, kEbx, 5}},
    {"BMI2", {"bmi2", 7, 0, kEbx, 8}},
    {"INVPCID", {"invpcid", 7, 0, kEbx, 10}},
    {"RTM", {"rtm", 7, 0, kEbx, 11}},
    {"AVX512F", {"avx512f", 7, 0, kEbx, 16}},
    {"AVX512DQ", {"avx512dq", 7, 0, kEbx, 17}},
    {"RDSEED", {"rdseed", 7, 0, kEbx, 18}},
    {"ADOX_ADCX", {"adx", 7, 0, kEbx, 19}},
    {"SMAP", {"smap", 7, 0, kEbx, 20}},
    {"AVX512_IFMA", {"avx512ifma", 7, 0, kEbx, 21}},
    {"CLFLUSHOPT", {"clflushopt", 7, 0, kEbx, 23}},
    {"CLWB", {"clwb", 7, 0, kEbx, 24}},
    {"AVX512PF", {"avx512pf", 7, 0, kEbx, 26}},
    {"AVX512ER", {"avx512er", 7, 0, kEbx, 27}},
    {"AVX512CD", {"avx512cd", 7, 0, kEbx, 28}},
    {"SHA", {"sha-ni", 7, 0, kEbx, 29}},
    {"AVX512BW", {"avx512bw", 7, 0, kEbx, 30}},
    {"AVX512_VBMI", {"avx512vbmi", 7, 0, kEcx, 1}},
    {"PKU", {"pku", 7, 0, kEcx, 3}},
    {"WAITPKG", {"waitpkg", 7, 0, kEcx, 5}},
    {"AVX512_VBMI2", {"avx512vbmi2", 7, 0, kEcx, 6}},
    {"GFNI", {"gfni", 7, 0, kEcx, 8}},
    {"AVX_GFNI", {"gfni", 7, 0, kEcx, 8}},
    {"AVX512_GFNI", {"gfni", 7, 0, kEcx, 8}},
    {"VAES", {"vaes", 7, 0, kEcx, 9}},
    {"AVX512_VAES", {"vaes", 7, 0, kEcx, 9}},
    {"VPCLMULQDQ", {"vpclmulqdq", 7, 0, kEcx, 10}},
    {"AVX512_VPCLMULQDQ", {"vpclmulqdq", 7, 0, kEcx, 10}},
    {"AVX512_VNNI", {"avx512vnni", 7, 0, kEcx, 11}},
    {"AVX512_BITALG", {"avx512bitalg", 7, 0, kEcx, 12}},
    {"AVX512_VPOPCNTDQ", {"avx512-vpopcntdq", 7, 0, kEcx, 14}},
    {"RDPID", {"rdpid", 7, 0, kEcx, 22}},
    {"KEYLOCKER", {"kl", 7, 0, kEcx, 23}},
    {"ENQCMD", {"enqcmd", 7, 0, kEcx, 29}},
    {"AVX512_4VNNIW", {"avx512-4vnniw", 7, 0, kEdx, 2}},
    {"AVX512_4FMAPS", {"avx512-4fmaps", 7, 0, kEdx, 3}},
    {"UINTR", {"uintr", 7, 0, kEdx, 5}},
    {"AVX512_VP2INTERSECT", {"avx512-vp2intersect", 7, 0, kEdx, 8}},
    {"SERIALIZE", {"serialize", 7, 0, kEdx, 14}},
    {"TSX_LDTRK", {"tsx-ldtrk", 7, 0, kEdx, 16}},
    {"PCONFIG", {"pconfig", 7, 0, kEdx, 18}},
    {"AMX_BF16", {"amx-bf16", 7, 0, kEdx, 22}},
    {"AVX512_FP16", {"avx512-fp16", 7, 0, kEdx, 23}},
    {"AMX_TILE", {"amx-tile", 7, 0, kEdx, 24}},
    {"AMX_INT8", {"amx-int8", 7, 0, kEdx, 25}},
    {"AVX_VNNI", {"avx-vnni", 7, 1, kEax, 4}},
    {"AVX512_BF16", {"avx512-bf16", 7, 1, kEax, 5}},
    {"HRESET", {"hreset", 7, 1, kEax, 22}},
    {"XSAVEOPT", {"xsaveopt", 0xd, 1, kEax, 0}},
    {"XSAVEC", {"xsavec", 0xd, 1, kEax, 1}},
    {"XSAVES", {"xsaves", 0xd, 1, kEax, 3}},
    {"SVM", {"svm", 0x80000001, 0, kEcx, 2}},
    {"XOP", {"xop", 0x80000001, 0, kEcx, 11}},
    {"LWP", {"lwp", 0x80000001, 0, kEcx, 15}},
    {"FMA4", {"fma4", 0x80000001, 0, kEcx, 16}},
    {"TBM", {"tbm", 0x80000001, 0, kEcx, 21}},
    {"MONITORX", {"monitorx", 0x80000001, 0, kEcx, 29}},
    {"RDTSCP", {"rdtscp", 0x80000001, 0, kEdx, 27}},
    {"LONGMODE", {"lm", 0x80000001, 0, kEdx, 29}},
    {"AMD3DNOW", {"3dnow", 0x80000001, 0, kEdx, 31}},
    {"CLZERO", {"clzero", 0x80000008, 0, kEbx, 0}},
    {"RDPRU", {"rdpru", 0x80000008, 0, kEbx, 4}},
};
constexpr CpuidBit kMovdiri{"movdiri", 7, 0, kEcx, 27};
constexpr CpuidBit kMovdir64b{"movdir64b", 7, 0, kEcx, 28};

struct Decoded {
  ZydisDecodedInstruction insn{};
  std::array<ZydisDecodedOperand, ZYDIS_MAX_OPERAND_COUNT> operands{};
};

ZyanStatus decode(std::span<const std::uint8_t> bytes, CpuMode mode, Decoded& out) {
  ZydisMachineMode machine = ZYDIS_MACHINE_MODE_LONG_64;
  ZydisStackWidth stack = ZYDIS_STACK_WIDTH_64;
  switch (mode) {
    case CpuMode::Real:
      machine = ZYDIS_MACHINE_MODE_REAL_16;
      stack = ZYDIS_STACK_WIDTH_16;
      break;
    case CpuMode::Protected16:
    case CpuMode::Compat16:
      machine = ZYDIS_MACHINE_MODE_LEGACY_16;
      stack = ZYDIS_STACK_WIDTH_16;
      break;
    case CpuMode::Protected32:
    case CpuMode::Compat32:
      machine = ZYDIS_MACHINE_MODE_LEGACY_32;
      stack = ZYDIS_STACK_WIDTH_32;
      break;
    case CpuMode::Long64:
      break;
  }
  ZydisDecoder decoder;
  ZydisDecoderInit(&decoder, machine, stack);
  return ZydisDecoderDecodeFull(&decoder, bytes.data(), std::min<std::size_t>(bytes.size(), 15),
                                &out.insn, out.operands.data());
}

// The value of a general register, cut to its width; nothing for other registers and AH to DIL.
std::optional<std::uint64_t> general_register(const kvm_regs& r, ZydisRegister reg) {
  const std::array<std::uint64_t, 16> values = {r.rax, r.rcx, r.rdx, r.rbx, r.rsp, r.rbp,
                                                r.rsi, r.rdi, r.r8,  r.r9,  r.r10, r.r11,
                                                r.r12, r.r13, r.r14, r.r15};
  const ZydisRegisterClass kind = ZydisRegisterGetClass(reg);
  const ZyanI8 id = ZydisRegisterGetId(reg);
  if (id < 0 || static_cast<ZyanU8>(id) >= values.size()) return std::nullopt;
  const std::uint64_t value = values[static_cast<ZyanU8>(id)];
  if (kind == ZYDIS_REGCLASS_GPR64) return value;
  if (kind == ZYDIS_REGCLASS_GPR32) return value & 0xffffffff;
  if (kind == ZYDIS_REGCLASS_GPR16) return value & 0xffff;
  return std::nullopt;
}

std::uint64_t segment_base(const CpuState& state, CpuMode mode, ZydisRegister segment) {
  const kvm_sregs& s = state.sregs;
  if (segment == ZYDIS_REGISTER_FS) return s.fs.base;
  if (segment == ZYDIS_REGISTER_GS) return s.gs.base;
  if (mode == CpuMode::Long64) return 0;
  if (segment == ZYDIS_REGISTER_ES) return s.es.base;
  if (segment == ZYDIS_REGISTER_CS) return s.cs.base;
  if (segment == ZYDIS_REGISTER_SS) return s.ss.base;
  return s.ds.base;
}

bool is_stack_register(ZydisRegister reg) {
  return reg == ZYDIS_REGISTER_RSP || reg == ZYDIS_REGISTER_ESP || reg == ZYDIS_REGISTER_SP;
}

std::optional<MemoryUse> memory_use(const Decoded& d, const ZydisDecodedOperand& op, CpuMode mode,
                                    Gva rip, const CpuState& state) {
  if (op.type != ZYDIS_OPERAND_TYPE_MEMORY || op.mem.type != ZYDIS_MEMOP_TYPE_MEM)
    return std::nullopt;
  std::uint64_t offset = 0;
  if (op.mem.base == ZYDIS_REGISTER_RIP || op.mem.base == ZYDIS_REGISTER_EIP) {
    offset = rip + d.insn.length;
  } else if (op.mem.base != ZYDIS_REGISTER_NONE) {
    const auto base = general_register(state.regs, op.mem.base);
    if (!base) return std::nullopt;
    offset = *base;
  }
  if (op.mem.index != ZYDIS_REGISTER_NONE) {
    const auto index = general_register(state.regs, op.mem.index);
    if (!index) return std::nullopt;
    offset += *index * op.mem.scale;
  }
  if (op.mem.disp.has_displacement) offset += static_cast<std::uint64_t>(op.mem.disp.value);
  MemoryUse use;
  use.size = std::clamp<unsigned>(op.size / 8u, 1, 4096);
  use.read = (op.actions & ZYDIS_OPERAND_ACTION_MASK_READ) != 0;
  use.write = (op.actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) != 0;
  use.stack = op.visibility == ZYDIS_OPERAND_VISIBILITY_HIDDEN && is_stack_register(op.mem.base);
  // What is pushed lies below the stack pointer.
  if (use.stack && use.write && !use.read) offset -= use.size;
  unsigned width = d.insn.address_width;
  if (use.stack) width = mode == CpuMode::Long64 ? 64 : state.sregs.ss.db != 0 ? 32 : 16;
  use.linear = segment_base(state, mode, op.mem.segment) + (offset & low_mask(width));
  if (mode != CpuMode::Long64) use.linear &= 0xffffffff;
  return use;
}

void add_memory(const Decoded& d, CpuMode mode, Gva rip, const CpuState& state, Instruction& out) {
  constexpr auto kRep = ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE;
  if ((d.insn.attributes & kRep) != 0 && (state.regs.rcx & low_mask(d.insn.address_width)) == 0)
    return;
  // These take an address and touch nothing there, or are not held to it.
  if (out.mnemonic == "invlpg" || out.mnemonic == "nop" || out.mnemonic.starts_with("prefetch"))
    return;
  for (unsigned i = 0; i < d.insn.operand_count; ++i)
    if (const auto use = memory_use(d, d.operands[i], mode, rip, state)) out.memory.push_back(*use);
}

// Loads of segment and control registers whose value is in a register or in the instruction.
void add_loads(const Decoded& d, const CpuState* state, Instruction& out) {
  const ZydisDecodedOperand& first = d.operands[0];
  const ZydisDecodedOperand& second = d.operands[1];
  const auto value_of = [&](const ZydisDecodedOperand& op) -> std::optional<std::uint64_t> {
    if (op.type == ZYDIS_OPERAND_TYPE_REGISTER && state != nullptr)
      return general_register(state->regs, op.reg.value);
    return std::nullopt;
  };
  if (d.insn.operand_count_visible >= 1 && first.type == ZYDIS_OPERAND_TYPE_POINTER) {
    out.loads_selector = first.ptr.segment;
    out.selector_target = "cs";
  }
  if (out.mnemonic == "ltr" || out.mnemonic == "lldt") {
    if (const auto value = value_of(first)) {
      out.loads_selector = static_cast<std::uint16_t>(*value);
      out.selector_target = out.mnemonic == "ltr" ? "tr" : "ldtr";
    }
  }
  if (out.mnemonic == "mov" && first.type == ZYDIS_OPERAND_TYPE_REGISTER) {
    const ZydisRegisterClass kind = ZydisRegisterGetClass(first.reg.value);
    const auto value = value_of(second);
    if (kind == ZYDIS_REGCLASS_SEGMENT && value) {
      out.loads_selector = static_cast<std::uint16_t>(*value);
      out.selector_target = ZydisRegisterGetString(first.reg.value);
    }
    if (kind == ZYDIS_REGCLASS_CONTROL && value) {
      out.loads_cr = static_cast<unsigned>(first.reg.value - ZYDIS_REGISTER_CR0);
      out.source = *value;
    }
  }
  if (out.mnemonic.starts_with("iret") ||
      (out.mnemonic == "ret" && d.insn.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR))
    out.pops_selector = d.insn.operand_width / 8u;
  if (out.mnemonic == "div" || out.mnemonic == "idiv") {
    const auto value = value_of(first);
    out.divides_by_zero = value && *value == 0;
  }
}

// Registers of a vector unit among the operands.
bool touches_vectors(const Decoded& d) {
  for (unsigned i = 0; i < d.insn.operand_count; ++i) {
    if (d.operands[i].type != ZYDIS_OPERAND_TYPE_REGISTER) continue;
    const ZydisRegisterClass kind = ZydisRegisterGetClass(d.operands[i].reg.value);
    if (kind == ZYDIS_REGCLASS_XMM || kind == ZYDIS_REGCLASS_YMM || kind == ZYDIS_REGCLASS_ZMM)
      return true;
  }
  return false;
}

const ZydisFormatter& formatter() {
  static const ZydisFormatter made = [] {
    ZydisFormatter f;
    ZydisFormatterInit(&f, ZYDIS_FORMATTER_STYLE_INTEL);
    ZydisFormatterSetProperty(&f, ZYDIS_FORMATTER_PROP_HEX_PREFIX, 0);
    ZydisFormatterSetProperty(&f, ZYDIS_FORMATTER_PROP_HEX_SUFFIX,
                              reinterpret_cast<ZyanUPointer>("h"));
    ZydisFormatterSetProperty(&f, ZYDIS_FORMATTER_PROP_HEX_UPPERCASE, ZYAN_FALSE);
    for (const auto padding :
         {ZYDIS_FORMATTER_PROP_ADDR_PADDING_ABSOLUTE, ZYDIS_FORMATTER_PROP_ADDR_PADDING_RELATIVE,
          ZYDIS_FORMATTER_PROP_DISP_PADDING, ZYDIS_FORMATTER_PROP_IMM_PADDING})
      ZydisFormatterSetProperty(&f, padding, static_cast<ZyanUPointer>(ZYDIS_PADDING_DISABLED));
    return f;
  }();
  return made;
}

std::string text_of(const Decoded& d, Gva rip, const SymbolTable* symbols) {
  std::array<char, 256> buffer{};
  if (!ZYAN_SUCCESS(ZydisFormatterFormatInstruction(&formatter(), &d.insn, d.operands.data(),
                                                    d.insn.operand_count_visible, buffer.data(),
                                                    buffer.size(), rip, nullptr)))
    return "(bad)";
  std::string text = buffer.data();
  if (symbols == nullptr) return text;
  for (unsigned i = 0; i < d.insn.operand_count_visible; ++i) {
    ZyanU64 target = 0;
    if (!ZYAN_SUCCESS(ZydisCalcAbsoluteAddress(&d.insn, &d.operands[i], rip, &target))) continue;
    if (const auto name = symbols->name_of(target)) {
      text += fmt::format("  ; {}", *name);
      break;
    }
  }
  return text;
}

}  // namespace

std::string CpuidBit::place() const {
  // A leaf of the lower range has its subleaf when it has several.
  const std::string leaf_text = leaf >= 0x10 ? fmt::format("{:x}h", leaf)
                                : leaf > 9   ? fmt::format("{:X}h", leaf)
                                             : fmt::format("{}", leaf);
  constexpr std::array<std::string_view, 4> kRegs = {"EAX", "EBX", "ECX", "EDX"};
  return fmt::format("CPUID {}{}.{}[{}]", leaf_text,
                     has_subleaves(leaf) ? fmt::format(".{}", subleaf) : "",
                     kRegs[static_cast<std::size_t>(reg)], index);
}

const CpuidBit* cpuid_bit_of_isa(std::string_view isa_set) {
  const IsaBit* best = nullptr;
  for (const IsaBit& entry : kIsaBits) {
    if (isa_set == entry.isa) return &entry.bit;
    if (isa_set.size() > entry.isa.size() && isa_set.starts_with(entry.isa) &&
        isa_set[entry.isa.size()] == '_' && isa_set != "SSE_PREFETCH" &&
        (best == nullptr || best->isa.size() < entry.isa.size()))
      best = &entry;
  }
  return best == nullptr ? nullptr : &best->bit;
}

std::optional<Instruction> decode_instruction(std::span<const std::uint8_t> bytes, CpuMode mode,
                                              Gva rip, const CpuState* state,
                                              const SymbolTable* symbols) {
  Decoded d;
  if (bytes.empty() || !ZYAN_SUCCESS(decode(bytes, mode, d))) return std::nullopt;
  Instruction out;
  out.length = d.insn.length;
  out.text = text_of(d, rip, symbols);
  out.mnemonic = ZydisMnemonicGetString(d.insn.mnemonic);
  const char* isa = ZydisISASetGetString(d.insn.meta.isa_set);
  if (isa != nullptr && out.mnemonic != "tzcnt") out.needs = cpuid_bit_of_isa(isa);
  if (out.mnemonic == "movdiri") out.needs = &kMovdiri;
  if (out.mnemonic == "movdir64b") out.needs = &kMovdir64b;
  const bool legacy = d.insn.encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY;
  out.uses_sse = legacy && touches_vectors(d);
  out.uses_vex = !legacy && touches_vectors(d);
  out.is_ud = out.mnemonic == "ud0" || out.mnemonic == "ud1" || out.mnemonic == "ud2";
  out.ring0_only = (d.insn.attributes & ZYDIS_ATTRIB_IS_PRIVILEGED) != 0 || out.mnemonic == "hlt";
  if (out.mnemonic == "int3") out.interrupt = std::uint8_t{3};
  if (out.mnemonic == "int1") out.interrupt = std::uint8_t{1};
  if (out.mnemonic == "int") out.interrupt = static_cast<std::uint8_t>(d.operands[0].imm.value.u);
  add_loads(d, state, out);
  if (state != nullptr) add_memory(d, mode, rip, *state, out);
  return out;
}

bool instruction_is_cut(std::span<const std::uint8_t> bytes, CpuMode mode) {
  Decoded d;
  return bytes.size() < 15 &&
         (bytes.empty() || decode(bytes, mode, d) == ZYDIS_STATUS_NO_MORE_DATA);
}

std::string disassemble(std::span<const std::uint8_t> bytes, CpuMode mode, Gva rip,
                        const SymbolTable* symbols) {
  Decoded d;
  if (bytes.empty() || !ZYAN_SUCCESS(decode(bytes, mode, d))) return "(bad)";
  return text_of(d, rip, symbols);
}

}  // namespace vmm
