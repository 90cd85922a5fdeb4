#include "vmm/core/trap_flag.h"

#include <algorithm>
#include <array>

#include "vmm/base/bytes.h"

namespace vmm {
namespace {

// The memory of a vCPU by linear address, a byte at a time: what is looked at may cross pages.
class Memory {
 public:
  Memory(DebugTarget& target, unsigned vcpu, const CpuState& state, const PagingFeatures& features)
      : target_(target),
        context_(PagingContext::from(state, features)),
        l2_(target.nested_position(vcpu).memory) {}

  std::optional<std::uint8_t> read(Gva address) const {
    const auto at = place(address);
    std::uint8_t byte = 0;
    if (!at || !target_.memory().read(*at, std::span(&byte, 1))) return std::nullopt;
    return byte;
  }
  std::optional<std::uint64_t> read(Gva address, unsigned size) const {
    std::array<std::uint8_t, 8> bytes{};
    for (unsigned i = 0; i < size; ++i) {
      const auto byte = read(address + i);
      if (!byte) return std::nullopt;
      bytes[i] = *byte;
    }
    return load<std::uint64_t>(bytes, 0);
  }
  // TF is the lowest bit of the second byte.
  void clear_trap_flag(Gva flags) {
    const auto byte = read(flags + 1);
    if (!byte) return;
    const auto cleared = static_cast<std::uint8_t>(*byte & ~1u);
    (void)target_.write_memory(*place(flags + 1), std::span(&cleared, 1));
  }

 private:
  std::optional<Gpa> place(Gva address) const {
    const MemoryReader& physical = l2_ != nullptr ? *l2_ : target_.memory();
    const auto gpa = walk_page(physical, context_, address, {}).gpa;
    return gpa && l2_ != nullptr ? l2_->place(*gpa) : gpa;
  }

  DebugTarget& target_;
  PagingContext context_;
  std::shared_ptr<const NestedMemory> l2_;
};

bool is_long_mode(const CpuState& state) { return (state.sregs.efer & spec::EFER_LMA) != 0; }

// What a delivery pushes at a time.
unsigned frame_word(const CpuState& state) {
  if (is_long_mode(state)) return 8;
  return (state.sregs.cr0 & spec::CR0_PE) != 0 ? 4 : 2;
}

Gva stack_address(const CpuState& state) {
  if (cpu_mode(state.sregs) == CpuMode::Long64) return Gva{state.regs.rsp};
  const std::uint64_t mask = state.sregs.ss.db != 0 ? 0xffff'ffff : 0xffff;
  return static_cast<std::uint32_t>(state.sregs.ss.base + (state.regs.rsp & mask));
}

bool is_frame_of(const CpuState& before, const Memory& memory, Gva at, unsigned word) {
  constexpr unsigned kLongestInstruction = 15;
  const std::uint64_t mask = word == 8 ? ~0ull : (1ull << (8 * word)) - 1;
  const auto field = [&](unsigned i) { return memory.read(at + Gva{i} * word, word); };
  const auto rip = field(0), cs = field(1), flags = field(2);
  if (!rip || !cs || !flags) return false;
  const std::uint64_t changed = (*flags ^ before.regs.rflags) & mask;
  if (((*rip - before.regs.rip) & mask) > kLongestInstruction ||
      (*cs & 0xffff) != before.sregs.cs.selector || (changed & ~spec::RFLAGS_RF) != spec::RFLAGS_TF)
    return false;
  return word != 8 || (field(3) == before.regs.rsp && field(4) == before.sregs.ss.selector);
}

bool may_be_syscall(const kvm_regs& before, const kvm_regs& after) {
  return after.rcx == before.rip + 2 && (after.r11 & spec::RFLAGS_TF) != 0;
}

}  // namespace

bool may_have_stored_trap_flag(const kvm_regs& before, const kvm_regs& after) {
  // Its own, as far as anybody can tell.
  if ((before.rflags & spec::RFLAGS_TF) != 0) return false;
  return after.rsp != before.rsp || may_be_syscall(before, after);
}

Result<void> remove_stored_trap_flag(DebugTarget& target, unsigned vcpu, const CpuState& before,
                                     const CpuState& after, const PagingFeatures& features) {
  if (!may_have_stored_trap_flag(before.regs, after.regs)) return {};
  Memory memory(target, vcpu, after, features);
  const Gva stack = stack_address(after);
  const unsigned word = frame_word(after);
  // Below the frame: an error code, and what the handler's first instruction may have pushed.
  constexpr unsigned kMostBelow = 2;
  for (unsigned below = 0; below <= kMostBelow; ++below) {
    const Gva at = stack + Gva{below} * word;
    if (!is_frame_of(before, memory, at, word)) continue;
    memory.clear_trap_flag(at + Gva{2} * word);
    return {};
  }
  const bool long64 = cpu_mode(before.sregs) == CpuMode::Long64;
  const Gva code = before.regs.rip + (long64 ? 0 : before.sregs.cs.base);
  constexpr std::uint8_t kOperandSize = 0x66, kPushf = 0x9c;
  auto first = memory.read(code);
  auto second = memory.read(code + 1);
  if (may_be_syscall(before.regs, after.regs) && first == 0x0f && second == 0x05) {
    CpuState cleared = after;
    cleared.regs.r11 &= ~spec::RFLAGS_TF;
    return target.set_cpu_state(vcpu, cleared);
  }
  if (first == kOperandSize || (long64 && first && (*first & 0xf0) == 0x40)) first = second;
  const std::uint64_t pushed = before.regs.rsp - after.regs.rsp;
  if (first == kPushf && (pushed == 2 || pushed == 4 || pushed == 8)) memory.clear_trap_flag(stack);
  return {};
}

}  // namespace vmm
