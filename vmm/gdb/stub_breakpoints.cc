// The packets about breakpoints, and their conditions.
#include <fmt/format.h>

#include <algorithm>

#include "vmm/base/bytes.h"
#include "vmm/gdb/stub.h"
#include "vmm/gdb/stub_answers.h"

namespace vmm::gdb {
namespace {

// Of all conditions of a breakpoint: gdb sends one for each of its own at the place.
constexpr std::size_t kMostBytes = AgentExpression::kMostBytes;

// What a condition may ask of one vCPU. Its state is read once, and only when it is needed: each
// part costs a call of the kernel.
class StoppedVcpu {
 public:
  StoppedVcpu(DebugTarget& target, unsigned vcpu, const RegisterSet& set)
      : target_(target), vcpu_(vcpu), set_(set) {}

  Result<std::uint64_t> read_register(unsigned number) {
    if (number >= set_.registers().size())
      return fail(Error::usage(fmt::format("there is no register {}", number)));
    const Register& r = set_.registers()[number];
    if (const auto index = set_.msr(number)) return target_.msr(vcpu_, *index);
    if (const auto which = set_.nested(number)) {
      if (!position_) position_ = target_.nested_position(vcpu_);
      return nested_value(*which, *position_);
    }
    if (r.size() > 8)
      return fail(Error::usage(fmt::format("{} has {} bits, a condition 64", r.name, r.bits)));
    const auto bytes = set_.read(number, *VMM_TRY(state_for(r)));
    if (!bytes) return fail(Error::usage(r.name + " is not available"));
    return load_uint(*bytes);
  }

 private:
  // Control registers count among them XCR0, which comes with the XSAVE area.
  Result<const DebugRegisters*> state_for(const Register& r) {
    if (r.place.kind < RegisterPlace::Kind::Control) {
      if (!few_) few_ = DebugRegisters{.cpu = VMM_TRY(target_.cpu_state(vcpu_)), .xsave = {}};
      return &*few_;
    }
    if (!all_) all_ = VMM_TRY(target_.registers(vcpu_));
    return &*all_;
  }

  DebugTarget& target_;
  unsigned vcpu_;
  const RegisterSet& set_;
  std::optional<DebugRegisters> few_;
  std::optional<DebugRegisters> all_;
  std::optional<NestedPosition> position_;
};

// [;]Xlen,BYTES... in a row.
Result<std::vector<AgentExpression>> parse_conditions(Arguments& a) {
  const auto bad = [] { return fail(Error::usage("a condition is ;Xlength,bytes")); };
  std::vector<AgentExpression> conditions;
  std::size_t left = kMostBytes;
  while (!a.at_end()) {
    (void)a.accept(';');
    // Commands are offered to no client.
    if (!a.accept('X')) return bad();
    const std::uint64_t length = a.number();
    a.expect(',');
    if (!a.good()) return bad();
    if (length > left)
      return fail(Error::usage(fmt::format("the conditions have more than {} bytes", kMostBytes)));
    left -= length;
    const auto bytes = from_hex(a.take(2 * length));
    if (!a.good() || !bytes) return bad();
    conditions.push_back(VMM_TRY(AgentExpression::parse(*bytes)));
  }
  return conditions;
}

}  // namespace

// One is enough. What cannot be asked stops as well: the user will see why.
bool Stub::wants_stop(const std::vector<AgentExpression>& conditions, unsigned vcpu) const {
  StoppedVcpu stopped(target_, vcpu, registers_);
  const AgentContext context{
      .read_register = [&](unsigned number) { return stopped.read_register(number); },
      .read_memory = [&](std::uint64_t address, unsigned size) -> Result<std::uint64_t> {
        const auto bytes = read(vcpu, address, size);
        if (bytes.size() != size)
          return fail(Error::usage(fmt::format("no memory at {:x}h", address)));
        return load_uint(bytes);
      }};
  return std::ranges::any_of(conditions, [&](const AgentExpression& condition) {
    const auto value = condition.evaluate(context);
    return !value || *value != 0;
  });
}

Stub::Answer Stub::set_breakpoint(Arguments a, bool insert) {
  const std::uint64_t type = a.number();
  a.expect(',');
  Breakpoint b;
  b.address = a.number();
  a.expect(',');
  const std::uint64_t length = a.number();
  if (!a.good() || length > 0xffff'ffff) return kBadArguments;
  switch (type) {
    case 0:
      b.kind = Breakpoint::Kind::Software;
      break;
    case 1:
      b.kind = Breakpoint::Kind::Hardware;
      break;
    case 2:
      b.kind = Breakpoint::Kind::Write;
      b.length = static_cast<unsigned>(length);
      break;
    case 4:
      b.kind = Breakpoint::Kind::Access;
      b.length = static_cast<unsigned>(length);
      break;
    default:  // the processor has no watchpoints for reads alone
      return "";
  }
  const bool may_have_conditions =
      insert && (b.kind == Breakpoint::Kind::Software || b.kind == Breakpoint::Kind::Hardware);
  if (!a.at_end() && !may_have_conditions) return kBadArguments;
  if (!insert) {
    debugger_.remove(b);
    return "OK";
  }
  auto inserted = this->insert(b, a);
  if (inserted) return "OK";
  note_ = inserted.error().text();
  return "E." + note_;
}

Result<void> Stub::insert(const Breakpoint& breakpoint, Arguments conditions) {
  auto parsed = VMM_TRY(parse_conditions(conditions));
  if (parsed.empty()) return debugger_.insert(breakpoint);
  return debugger_.insert(breakpoint, [this, parsed = std::move(parsed)](unsigned vcpu) {
    return wants_stop(parsed, vcpu);
  });
}

Stub::Answer Stub::on_insert(Arguments a) { return set_breakpoint(a, true); }
Stub::Answer Stub::on_remove(Arguments a) { return set_breakpoint(a, false); }

}  // namespace vmm::gdb
