#include "vmm/gdb/agent_expression.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>

#include "vmm/base/bytes.h"
#include "vmm/base/units.h"

namespace vmm::gdb {
namespace {

constexpr unsigned kWordBits = 64;

std::uint64_t shifted_right_signed(std::uint64_t value, std::uint64_t count) {
  // As often as one likes: nothing but the sign is left.
  return static_cast<std::uint64_t>(static_cast<std::int64_t>(value) >>
                                    std::min<std::uint64_t>(count, kWordBits - 1));
}

std::uint64_t sign_extended(std::uint64_t value, unsigned bits) {
  if (bits >= kWordBits) return value;
  const std::uint64_t sign = 1ull << (bits - 1);
  return ((value & low_mask(bits)) ^ sign) - sign;
}

bool less_signed(std::uint64_t a, std::uint64_t b) {
  return static_cast<std::int64_t>(a) < static_cast<std::int64_t>(b);
}

// Operands are stored the highest byte first.
std::uint64_t operand_of(std::span<const std::uint8_t> bytes) {
  std::uint64_t value = 0;
  for (const std::uint8_t byte : bytes) value = value << 8 | byte;
  return value;
}

}  // namespace

const AgentExpression::Form* AgentExpression::form_of(std::uint8_t opcode) {
  static constexpr std::array kForms = {
      Form{Op::Add, 0, 2, false},         Form{Op::Sub, 0, 2, false},
      Form{Op::Mul, 0, 2, false},         Form{Op::DivSigned, 0, 2, false},
      Form{Op::DivUnsigned, 0, 2, false}, Form{Op::RemSigned, 0, 2, false},
      Form{Op::RemUnsigned, 0, 2, false}, Form{Op::Lsh, 0, 2, false},
      Form{Op::RshSigned, 0, 2, false},   Form{Op::RshUnsigned, 0, 2, false},
      Form{Op::LogNot, 0, 1, false},      Form{Op::BitAnd, 0, 2, false},
      Form{Op::BitOr, 0, 2, false},       Form{Op::BitXor, 0, 2, false},
      Form{Op::BitNot, 0, 1, false},      Form{Op::Equal, 0, 2, false},
      Form{Op::LessSigned, 0, 2, false},  Form{Op::LessUnsigned, 0, 2, false},
      Form{Op::Ext, 1, 1, false},         Form{Op::Ref8, 0, 1, false},
      Form{Op::Ref16, 0, 1, false},       Form{Op::Ref32, 0, 1, false},
      Form{Op::Ref64, 0, 1, false},       Form{Op::IfGoto, 2, 1, false},
      Form{Op::Goto, 2, 0, false},        Form{Op::Const8, 1, 0, true},
      Form{Op::Const16, 2, 0, true},      Form{Op::Const32, 4, 0, true},
      Form{Op::Const64, 8, 0, true},      Form{Op::Reg, 2, 0, true},
      Form{Op::End, 0, 1, false},         Form{Op::Dup, 0, 1, true},
      Form{Op::Pop, 0, 1, false},         Form{Op::ZeroExt, 1, 1, false},
      Form{Op::Swap, 0, 2, false},        Form{Op::Pick, 1, 1, true},
      Form{Op::Rot, 0, 3, false},
  };
  const auto* form = std::ranges::find(kForms, static_cast<Op>(opcode), &Form::op);
  return form == kForms.end() ? nullptr : form;
}

std::string AgentExpression::name(const Instruction& instruction) {
  return fmt::format("agent instruction {:02x}h", static_cast<unsigned>(instruction.form->op));
}

Result<AgentExpression> AgentExpression::parse(std::span<const std::uint8_t> bytecode) {
  if (bytecode.empty() || bytecode.size() > kMostBytes)
    return fail(Error::usage(fmt::format("an agent expression of {} bytes: 1 to {} are taken",
                                         bytecode.size(), kMostBytes)));
  AgentExpression result;
  std::vector<std::optional<std::size_t>> index_of(bytecode.size());
  for (std::size_t at = 0; at < bytecode.size();) {
    const Form* form = form_of(bytecode[at]);
    const auto refused = [&](std::string_view why) {
      return fail(Error::usage(
          fmt::format("agent expression, byte {}: {:02x}h {}", at, bytecode[at], why)));
    };
    if (form == nullptr)
      return refused("is no instruction of a condition (traces and floats are not supported)");
    if (form->operand_bytes > bytecode.size() - at - 1) return refused("is cut off");
    const std::uint64_t operand = operand_of(bytecode.subspan(at + 1, form->operand_bytes));
    if ((form->op == Op::Ext || form->op == Op::ZeroExt) && operand == 0)
      return refused("extends from no bit at all");
    index_of[at] = result.instructions_.size();
    result.instructions_.push_back({form, operand});
    at += 1u + form->operand_bytes;
  }
  for (Instruction& i : result.instructions_) {
    if (i.form->op != Op::IfGoto && i.form->op != Op::Goto) continue;
    if (i.operand >= index_of.size() || !index_of[i.operand])
      return fail(Error::usage(fmt::format(
          "agent expression: a jump to byte {}, where no instruction begins", i.operand)));
    i.operand = *index_of[i.operand];
  }
  return result;
}

// What one evaluation changes.
class AgentExpression::Machine {
 public:
  explicit Machine(const AgentContext& context) : context_(context) {}

  Result<std::uint64_t> run(std::span<const Instruction> instructions) {
    std::size_t at = 0;
    for (unsigned steps = 0; steps < kMostSteps; ++steps) {
      if (at >= instructions.size())
        return fail(Error::usage("agent expression: it goes on past its last byte"));
      const Instruction& i = instructions[at++];
      VMM_TRY(check_stack(i));
      switch (i.form->op) {
        case Op::End:
          return top();
        case Op::Goto:
          at = i.operand;
          break;
        case Op::IfGoto:
          if (pop() != 0) at = i.operand;
          break;
        default:
          VMM_TRY(execute(i));
      }
    }
    return fail(
        Error::usage(fmt::format("agent expression: no end after {} instructions", kMostSteps)));
  }

 private:
  std::uint64_t& top() { return stack_.back(); }
  std::uint64_t pop() {
    const std::uint64_t value = stack_.back();
    stack_.pop_back();
    return value;
  }

  Result<void> check_stack(const Instruction& i) const {
    const std::size_t needed =
        i.form->op == Op::Pick ? std::size_t{i.operand} + 1 : std::size_t{i.form->takes};
    if (stack_.size() < needed)
      return fail(Error::usage(
          fmt::format("{}: {} values on the stack, it needs {}", name(i), stack_.size(), needed)));
    if (i.form->grows && stack_.size() == kMostStack)
      return fail(
          Error::usage(fmt::format("{}: more than {} values on the stack", name(i), kMostStack)));
    return {};
  }

  Result<void> execute(const Instruction& i) {
    switch (i.form->op) {
      case Op::LogNot:
        top() = top() == 0 ? 1 : 0;
        return {};
      case Op::BitNot:
        top() = ~top();
        return {};
      case Op::Ext:
        top() = sign_extended(top(), static_cast<unsigned>(i.operand));
        return {};
      case Op::ZeroExt:
        if (i.operand < kWordBits) top() &= low_mask(static_cast<unsigned>(i.operand));
        return {};
      case Op::Ref8:
        return refer(1);
      case Op::Ref16:
        return refer(2);
      case Op::Ref32:
        return refer(4);
      case Op::Ref64:
        return refer(8);
      case Op::Const8:
      case Op::Const16:
      case Op::Const32:
      case Op::Const64:
        stack_.push_back(i.operand);
        return {};
      case Op::Reg:
        stack_.push_back(VMM_TRY(context_.read_register(static_cast<unsigned>(i.operand))));
        return {};
      case Op::Dup:
        stack_.push_back(top());
        return {};
      case Op::Pop:
        pop();
        return {};
      case Op::Swap:
        std::swap(stack_[stack_.size() - 1], stack_[stack_.size() - 2]);
        return {};
      case Op::Pick:
        stack_.push_back(stack_[stack_.size() - 1 - i.operand]);
        return {};
      case Op::Rot:
        // a b c -> c a b
        std::rotate(stack_.end() - 3, stack_.end() - 1, stack_.end());
        return {};
      default:
        return combine(i);
    }
  }

  Result<void> refer(unsigned size) {
    top() = VMM_TRY(context_.read_memory(top(), size));
    return {};
  }

  // Those of two values, the right one on top.
  Result<void> combine(const Instruction& i) {
    const std::uint64_t b = pop();
    const std::uint64_t a = top();
    switch (i.form->op) {
      case Op::Add:
        top() = a + b;
        return {};
      case Op::Sub:
        top() = a - b;
        return {};
      case Op::Mul:
        top() = a * b;
        return {};
      case Op::Lsh:
        top() = b < kWordBits ? a << b : 0;
        return {};
      case Op::RshSigned:
        top() = shifted_right_signed(a, b);
        return {};
      case Op::RshUnsigned:
        top() = b < kWordBits ? a >> b : 0;
        return {};
      case Op::BitAnd:
        top() = a & b;
        return {};
      case Op::BitOr:
        top() = a | b;
        return {};
      case Op::BitXor:
        top() = a ^ b;
        return {};
      case Op::Equal:
        top() = a == b ? 1 : 0;
        return {};
      case Op::LessSigned:
        top() = less_signed(a, b) ? 1 : 0;
        return {};
      case Op::LessUnsigned:
        top() = a < b ? 1 : 0;
        return {};
      default:
        top() = VMM_TRY(divided(i, a, b));
        return {};
    }
  }

  static Result<std::uint64_t> divided(const Instruction& i, std::uint64_t a, std::uint64_t b) {
    if (b == 0) return fail(Error::usage(name(i) + ": a division by zero"));
    // The one quotient that does not fit (-2^63 / -1) wraps around.
    const bool wraps = b == ~std::uint64_t{0};
    const auto x = static_cast<std::int64_t>(a);
    const auto y = static_cast<std::int64_t>(b);
    switch (i.form->op) {
      case Op::DivSigned:
        return wraps ? 0 - a : static_cast<std::uint64_t>(x / y);
      case Op::RemSigned:
        return wraps ? 0 : static_cast<std::uint64_t>(x % y);
      case Op::DivUnsigned:
        return a / b;
      case Op::RemUnsigned:
        return a % b;
      default:
        return fail(Error::internal(name(i) + " is executed nowhere"));
    }
  }

  const AgentContext& context_;
  std::vector<std::uint64_t> stack_;
};

Result<std::uint64_t> AgentExpression::evaluate(const AgentContext& context) const {
  return Machine(context).run(instructions_);
}

}  // namespace vmm::gdb
