#include "vmm/gdb/registers.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "vmm/base/bytes.h"
#include "vmm/gdb/packet.h"

namespace vmm::gdb {
namespace {

using Kind = RegisterPlace::Kind;

constexpr std::array<__u64 kvm_regs::*, 16> kGeneralRegisters = {
    &kvm_regs::rax, &kvm_regs::rbx, &kvm_regs::rcx, &kvm_regs::rdx, &kvm_regs::rsi, &kvm_regs::rdi,
    &kvm_regs::rbp, &kvm_regs::rsp, &kvm_regs::r8,  &kvm_regs::r9,  &kvm_regs::r10, &kvm_regs::r11,
    &kvm_regs::r12, &kvm_regs::r13, &kvm_regs::r14, &kvm_regs::r15};
// As `Segment` and `Table` count.
constexpr std::array<kvm_segment kvm_sregs::*, 8> kSegmentRegisters = {
    &kvm_sregs::cs, &kvm_sregs::ss, &kvm_sregs::ds,  &kvm_sregs::es,
    &kvm_sregs::fs, &kvm_sregs::gs, &kvm_sregs::ldt, &kvm_sregs::tr};
constexpr std::array<kvm_dtable kvm_sregs::*, 2> kTableRegisters = {&kvm_sregs::gdt,
                                                                    &kvm_sregs::idt};

const kvm_segment& segment_of(const RegisterPlace& place, const DebugRegisters& from) {
  return from.cpu.sregs.*kSegmentRegisters.at(place.index);
}
kvm_segment& segment_of(const RegisterPlace& place, DebugRegisters& to) {
  return to.cpu.sregs.*kSegmentRegisters.at(place.index);
}

// The layout of the access rights in a VMCS, SDM vol. 3C 25.4.1.
constexpr std::uint32_t kAttributeBits = 0x1f0ff;
std::uint32_t attributes_of(const kvm_segment& s) {
  return (s.type & 15u) | (s.s & 1u) << 4 | (s.dpl & 3u) << 5 | (s.present & 1u) << 7 |
         (s.avl & 1u) << 12 | (s.l & 1u) << 13 | (s.db & 1u) << 14 | (s.g & 1u) << 15 |
         (s.unusable & 1u) << 16;
}
void set_attributes(kvm_segment& s, std::uint32_t value) {
  const auto field = [value](unsigned high, unsigned low) {
    return static_cast<__u8>(bits(value, high, low));
  };
  s.type = field(3, 0);
  s.s = field(4, 4);
  s.dpl = field(6, 5);
  s.present = field(7, 7);
  s.avl = field(12, 12);
  s.l = field(13, 13);
  s.db = field(14, 14);
  s.g = field(15, 15);
  s.unusable = field(16, 16);
}

tl::unexpected<Error> refused(const Register& r, std::uint64_t value, std::string_view why) {
  return fail(Error::usage(fmt::format("{} cannot be {:#x}: {}", r.name, value, why)));
}

Result<void> write_selector(const Register& r, DebugRegisters& to, std::uint64_t value) {
  if (value > 0xffff) return refused(r, value, "a selector has 16 bits");
  kvm_segment& segment = segment_of(r.place, to);
  segment.selector = static_cast<__u16>(value);
  const bool real = (to.cpu.sregs.cr0 & spec::CR0_PE) == 0;
  const bool v86 = (to.cpu.regs.rflags & spec::RFLAGS_VM) != 0;
  // There the selector is the base; elsewhere base, limit and attributes are registers of their
  // own.
  if ((real || v86) && r.place.index <= static_cast<std::uint32_t>(Segment::Gs))
    segment.base = value << 4;
  return {};
}

// What the processor asks of the segments on its way into a guest, SDM vol. 3C 27.3.1.2.
Result<void> write_base(const Register& r, DebugRegisters& to, std::uint64_t value) {
  if (r.place.index < static_cast<std::uint32_t>(Segment::Fs)) {
    if (value >> 32 != 0) return refused(r, value, "this base has 32 bits");
  } else if (!is_canonical(to, value)) {
    return refused(r, value, "it is not canonical");
  }
  segment_of(r.place, to).base = value;
  return {};
}

// G=1 counts pages: the low 12 bits of such a limit are ones. G=0 has 20 bits.
bool fits(std::uint32_t limit, bool granular) {
  return granular ? (limit & 0xfff) == 0xfff : limit <= 0xfffff;
}
Result<void> write_limit(const Register& r, DebugRegisters& to, std::uint64_t value) {
  const auto limit = static_cast<std::uint32_t>(value);
  kvm_segment& segment = segment_of(r.place, to);
  if (!fits(limit, false) && !fits(limit, true))
    return refused(r, value, "a limit past 0xfffff ends in 0xfff (it counts pages)");
  segment.limit = limit;
  if (!fits(limit, segment.g != 0)) segment.g = segment.g != 0 ? 0 : 1;
  return {};
}

Result<void> write_attributes(const Register& r, DebugRegisters& to, std::uint64_t value) {
  const auto rights = static_cast<std::uint32_t>(value);
  kvm_segment& segment = segment_of(r.place, to);
  if ((rights & ~kAttributeBits) != 0)
    return refused(r, value, fmt::format("bits {:#x} are reserved", rights & ~kAttributeBits));
  if (!bit(rights, 16) && !fits(segment.limit, bit(rights, 15)))
    return refused(r, value,
                   fmt::format("G={} does not go with the limit {:#x}; write that first",
                               bit(rights, 15) ? 1 : 0, segment.limit));
  if (r.place.index == static_cast<std::uint32_t>(Segment::Cs) && bit(rights, 13)) {
    if ((to.cpu.sregs.efer & spec::EFER_LMA) == 0)
      return refused(r, value, "L needs long mode (EFER.LMA)");
    if (bit(rights, 14)) return refused(r, value, "L and D do not go together");
  }
  set_attributes(segment, rights);
  return {};
}

Result<void> write_table_base(const Register& r, DebugRegisters& to, std::uint64_t value) {
  if (!is_canonical(to, value)) return refused(r, value, "it is not canonical");
  (to.cpu.sregs.*kTableRegisters.at(r.place.index)).base = value;
  return {};
}

Result<void> write_mxcsr(const Register& r, DebugRegisters& to, std::uint64_t value) {
  const std::uint32_t mask = xsave_mxcsr_mask(to.xsave);
  if ((value & ~std::uint64_t{mask}) != 0)
    return refused(r, value, fmt::format("this CPU's MXCSR has the bits {:#x}", mask));
  xsave_set_mxcsr(to.xsave, static_cast<std::uint32_t>(value));
  return {};
}

// The low `size` bytes of the value; above them a register of a 32-bit description keeps its own.
std::uint64_t merged(std::uint64_t old, std::uint64_t value, std::size_t size) {
  const std::uint64_t mask = low_mask(static_cast<unsigned>(8 * size));
  return (old & ~mask) | (value & mask);
}

std::uint64_t read_word(const Register& r, const DebugRegisters& from) {
  switch (r.place.kind) {
    case Kind::General:
      return from.cpu.regs.*kGeneralRegisters.at(r.place.index);
    case Kind::Rip:
      return from.cpu.regs.rip;
    case Kind::Rflags:
      return from.cpu.regs.rflags;
    case Kind::Selector:
      return segment_of(r.place, from).selector;
    case Kind::Base:
      return segment_of(r.place, from).base;
    case Kind::Limit:
      return segment_of(r.place, from).limit;
    case Kind::Attributes:
      return attributes_of(segment_of(r.place, from));
    case Kind::TableBase:
      return (from.cpu.sregs.*kTableRegisters.at(r.place.index)).base;
    case Kind::TableLimit:
      return (from.cpu.sregs.*kTableRegisters.at(r.place.index)).limit;
    case Kind::Control:
      return read_control(static_cast<Control>(r.place.index), from);
    case Kind::FloatTag:
      return xsave_tag_word(from.xsave).value_or(0);
    case Kind::Mxcsr:
      return xsave_mxcsr(from.xsave).value_or(0);
    case Kind::Xsave:
    case Kind::Msr:
    case Kind::Nested:
      break;
  }
  return 0;
}

Result<void> write_word(const Register& r, DebugRegisters& to, std::uint64_t value,
                        const ControlLimits& limits) {
  switch (r.place.kind) {
    case Kind::General: {
      __u64& word = to.cpu.regs.*kGeneralRegisters.at(r.place.index);
      word = merged(word, value, r.size());
      return {};
    }
    case Kind::Rip:
      return write_rip(to, merged(to.cpu.regs.rip, value, r.size()));
    case Kind::Rflags:
      return write_rflags(to, value);
    case Kind::Selector:
      return write_selector(r, to, value);
    case Kind::Base:
      return write_base(r, to, value);
    case Kind::Limit:
      return write_limit(r, to, value);
    case Kind::Attributes:
      return write_attributes(r, to, value);
    case Kind::TableBase:
      return write_table_base(r, to, value);
    case Kind::TableLimit:
      (to.cpu.sregs.*kTableRegisters.at(r.place.index)).limit = static_cast<__u16>(value);
      return {};
    case Kind::Control:
      return write_control(static_cast<Control>(r.place.index), to, value, limits);
    case Kind::FloatTag:
      if (value > 0xffff) return refused(r, value, "the tag word has 16 bits");
      xsave_set_tag_word(to.xsave, static_cast<std::uint16_t>(value));
      return {};
    case Kind::Mxcsr:
      return write_mxcsr(r, to, value);
    case Kind::Xsave:
    case Kind::Msr:
    case Kind::Nested:
      break;
  }
  return fail(Error::internal(fmt::format("{} is not written as a word", r.name)));
}

Result<void> write_component(const Register& r, DebugRegisters& to, const XsaveLayout& layout,
                             std::span<const std::uint8_t> bytes) {
  if (bytes.size() > r.place.stored && load_uint(bytes.subspan(r.place.stored)) != 0)
    return refused(r, load_uint(bytes), fmt::format("it has {} bits", 8 * r.place.stored));
  if (r.place.component == kX87 && r.place.index == legacy::kFop && load_uint(bytes) > 0x7ff)
    return refused(r, load_uint(bytes), "an x87 opcode has 11 bits");
  xsave_write(to.xsave, layout, r.place.component, r.place.index, bytes.first(r.place.stored));
  return {};
}

}  // namespace

std::string_view arch_name(Arch arch) {
  switch (arch) {
    case Arch::X86_64:
      return "x86-64";
    case Arch::I386:
      return "i386";
    case Arch::I8086:
      break;
  }
  return "i8086";
}

std::optional<Arch> arch_of(std::string_view name) {
  for (const Arch arch : {Arch::X86_64, Arch::I386, Arch::I8086})
    if (arch_name(arch) == name) return arch;
  return std::nullopt;
}

RegisterSet::RegisterSet(Arch arch, const CpuidTable& guest_cpuid)
    : arch_(arch),
      registers_(register_table(arch, guest_cpuid)),
      xsave_(XsaveLayout::of(guest_cpuid)),
      limits_(ControlLimits::of(guest_cpuid)) {
  unsigned number = 0;
  for (Register& r : registers_) {
    r.number = number++;
    r.in_g = r.place.kind != Kind::Msr && r.place.kind != Kind::Nested;
    if (!r.in_g) continue;
    r.offset = g_size_;
    g_size_ += r.size();
  }
}

const Register* RegisterSet::find(std::string_view name) const {
  const auto it = std::ranges::find(registers_, name, &Register::name);
  return it != registers_.end() ? &*it : nullptr;
}

std::optional<std::uint32_t> RegisterSet::msr(unsigned number) const {
  if (number >= registers_.size() || registers_[number].place.kind != Kind::Msr)
    return std::nullopt;
  return registers_[number].place.index;
}

std::optional<NestedPlace> RegisterSet::nested(unsigned number) const {
  if (number >= registers_.size() || registers_[number].place.kind != Kind::Nested)
    return std::nullopt;
  return static_cast<NestedPlace>(registers_[number].place.index);
}

std::uint64_t nested_value(NestedPlace which, const NestedPosition& position) {
  switch (which) {
    case NestedPlace::Level:
      return position.level;
    case NestedPlace::Block:
      return position.block.value_or(~Gpa{0});
    case NestedPlace::Tables:
      break;
  }
  return position.tables;
}

std::optional<std::vector<std::uint8_t>> RegisterSet::read(unsigned number,
                                                           const DebugRegisters& from) const {
  if (number >= registers_.size() || !registers_[number].in_g) return std::nullopt;
  const Register& r = registers_[number];
  std::vector<std::uint8_t> bytes(r.size());
  if (r.place.kind == Kind::Xsave) {
    const auto stored =
        xsave_read(from.xsave, xsave_, r.place.component, r.place.index, r.place.stored);
    if (!stored) return std::nullopt;
    std::copy_n(stored->begin(), r.place.stored, bytes.begin());
    return bytes;
  }
  const bool in_xsave = r.place.kind == Kind::FloatTag || r.place.kind == Kind::Mxcsr;
  if (in_xsave && !xsave_mxcsr(from.xsave)) return std::nullopt;
  store_uint(bytes, read_word(r, from));
  return bytes;
}

Result<void> RegisterSet::write(unsigned number, DebugRegisters& to,
                                std::span<const std::uint8_t> bytes) const {
  if (number >= registers_.size())
    return fail(Error::usage(fmt::format("there is no register {}, they end with {} ({})", number,
                                         registers_.size() - 1, registers_.back().name)));
  const Register& r = registers_[number];
  if (bytes.size() != r.size())
    return fail(Error::usage(
        fmt::format("{} has {} bytes, {} were given", r.name, r.size(), bytes.size())));
  if (!r.in_g) return fail(Error::internal(fmt::format("{} is not a part of this state", r.name)));
  const auto before = read(number, to);
  if (!before)
    return fail(Error::usage(
        fmt::format("{} is not available: the host's XSAVE area ({} bytes) has no room for it",
                    r.name, to.xsave.size())));
  // gdb writes every register back after a call in the guest. What is there is right, and nothing
  // follows from it: the base of CS at reset stays, a component in its initial state stays there.
  if (std::ranges::equal(*before, bytes)) return {};
  if (r.place.kind == Kind::Xsave) return write_component(r, to, xsave_, bytes);
  return write_word(r, to, load_uint(bytes), limits_);
}

std::string RegisterSet::read_all(const DebugRegisters& from) const {
  std::string reply;
  reply.reserve(2 * g_size_);
  for (const Register& r : registers_) {
    if (!r.in_g) continue;
    const auto bytes = read(r.number, from);
    reply += bytes ? to_hex(*bytes) : std::string(2 * r.size(), 'x');
  }
  return reply;
}

Result<void> RegisterSet::write_all(DebugRegisters& to, std::span<const std::uint8_t> bytes) const {
  if (bytes.size() != g_size_)
    return fail(Error::usage(
        fmt::format("the registers have {} bytes together, {} were given", g_size_, bytes.size())));
  DebugRegisters result = to;
  for (const Register& r : registers_) {
    if (!r.in_g) continue;
    const std::span<const std::uint8_t> wanted = bytes.subspan(r.offset, r.size());
    // Against the state before all writes: a selector in real mode takes its base along, and an
    // initial state stays one.
    const auto before = read(r.number, to);
    if (!before || std::ranges::equal(*before, wanted)) continue;
    VMM_TRY(write(r.number, result, wanted));
  }
  to = std::move(result);
  return {};
}

}  // namespace vmm::gdb
