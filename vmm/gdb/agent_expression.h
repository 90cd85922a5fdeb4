// Conditions that gdb compiles for the target to ask (the GDB manual, appendix "Agent
// Expressions"): bytecode over a stack of 64-bit values, the guest's registers and its memory.
//
// A client may send anything: what would not end, or asks for what is not here (traces, floats), is
// refused or ends in an error, never in a crash.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "vmm/base/result.h"

namespace vmm::gdb {

// Where the values come from.
struct AgentContext {
  // By its number in the target description, zero-extended.
  std::function<Result<std::uint64_t>(unsigned number)> read_register;
  // 1, 2, 4 or 8 bytes, little endian.
  std::function<Result<std::uint64_t>(std::uint64_t address, unsigned size)> read_memory;
};

class AgentExpression {
 public:
  static constexpr std::size_t kMostBytes = 4096;
  static constexpr std::size_t kMostStack = 256;
  // gdb's own have no loops; a read of memory walks the guest's tables.
  static constexpr unsigned kMostSteps = 10'000;

  // Usage errors: an unknown or unsupported instruction, one that is cut off, a jump to anywhere
  // but the beginning of one.
  static Result<AgentExpression> parse(std::span<const std::uint8_t> bytecode);
  // The value on top of the stack where the expression ends. An error says what could not be had.
  Result<std::uint64_t> evaluate(const AgentContext& context) const;

 private:
  enum class Op : std::uint8_t {
    Add = 0x02,
    Sub = 0x03,
    Mul = 0x04,
    DivSigned = 0x05,
    DivUnsigned = 0x06,
    RemSigned = 0x07,
    RemUnsigned = 0x08,
    Lsh = 0x09,
    RshSigned = 0x0a,
    RshUnsigned = 0x0b,
    LogNot = 0x0e,
    BitAnd = 0x0f,
    BitOr = 0x10,
    BitXor = 0x11,
    BitNot = 0x12,
    Equal = 0x13,
    LessSigned = 0x14,
    LessUnsigned = 0x15,
    Ext = 0x16,
    Ref8 = 0x17,
    Ref16 = 0x18,
    Ref32 = 0x19,
    Ref64 = 0x1a,
    IfGoto = 0x20,
    Goto = 0x21,
    Const8 = 0x22,
    Const16 = 0x23,
    Const32 = 0x24,
    Const64 = 0x25,
    Reg = 0x26,
    End = 0x27,
    Dup = 0x28,
    Pop = 0x29,
    ZeroExt = 0x2a,
    Swap = 0x2b,
    Pick = 0x32,
    Rot = 0x33,
  };
  struct Form {
    Op op;
    std::uint8_t operand_bytes;
    std::uint8_t takes;  // values that it needs on the stack
    bool grows;          // by one
  };
  struct Instruction {
    const Form* form = nullptr;
    std::uint64_t operand = 0;  // of jumps: the index of the instruction
  };
  class Machine;
  static const Form* form_of(std::uint8_t opcode);
  static std::string name(const Instruction& instruction);

  std::vector<Instruction> instructions_;
};

}  // namespace vmm::gdb
