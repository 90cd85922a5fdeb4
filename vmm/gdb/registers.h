// The registers that gdb's user sees: their order, names and widths, and where in a vCPU's state
// each one is. The names and the order of the org.gnu.gdb.i386.* features are gdb's demand (the GDB
// manual, "Standard Target Features", "i386 Features"); the org.vmm.x86.* features are our own.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/base/result.h"
#include "vmm/core/cpuid_table.h"
#include "vmm/core/debug_registers.h"
#include "vmm/core/nested_position.h"
#include "vmm/gdb/control_registers.h"
#include "vmm/gdb/xsave_area.h"

namespace vmm::gdb {

// What gdb takes the guest for. It does not follow the guest's mode: gdb cannot change the layout
// of `g` within a session.
enum class Arch : std::uint8_t { X86_64, I386, I8086 };
// "x86-64", "i386", "i8086".
std::string_view arch_name(Arch arch);
std::optional<Arch> arch_of(std::string_view name);

// Of a segment or a descriptor table: an index into the lists of registers.cc.
enum class Segment : std::uint8_t { Cs, Ss, Ds, Es, Fs, Gs, Ldtr, Tr };
enum class Table : std::uint8_t { Gdtr, Idtr };
// Where a vCPU is among the levels of virtualization, of a guest that may be a hypervisor.
enum class NestedPlace : std::uint8_t { Level, Block, Tables };

struct RegisterPlace {
  enum class Kind : std::uint8_t {
    General,  // `index` counts rax rbx rcx rdx rsi rdi rbp rsp r8-r15
    Rip,
    Rflags,
    Selector,  // `index` is a Segment, in the next three as well
    Base,
    Limit,
    Attributes,
    TableBase,  // `index` is a Table
    TableLimit,
    Control,   // `index` is a Control
    Xsave,     // `stored` bytes at `index` of XSAVE component `component`
    FloatTag,  // the full tag word: XSAVE keeps one bit of each tag
    Mxcsr,
    Msr,     // `index` is its number
    Nested,  // `index` is a NestedPlace
  };
  Kind kind = Kind::General;
  std::uint32_t index = 0;
  std::uint8_t component = 0;
  std::uint8_t stored = 0;
};

struct Register {
  std::string name;
  unsigned bits = 0;         // on the wire, a multiple of 8
  std::string_view type;     // in target.xml
  std::string_view group;    // "general", "system", "msr", "vector", "float"
  std::string_view feature;  // "org.gnu.gdb.i386.core"
  RegisterPlace place;
  unsigned number = 0;     // in `p` and `P`
  bool in_g = true;        // a part of the reply to `g`: all that come with the vCPU's state
  std::size_t offset = 0;  // there, in bytes

  std::size_t size() const { return bits / 8; }
};

class RegisterSet {
 public:
  RegisterSet(Arch arch, const CpuidTable& guest_cpuid);

  Arch arch() const { return arch_; }
  // By number, without gaps; those of `g` come first.
  std::span<const Register> registers() const { return registers_; }
  const Register* find(std::string_view name) const;
  // The MSR behind a register; its value is the caller's matter.
  std::optional<std::uint32_t> msr(unsigned number) const;
  // And what tells the level; its value is the caller's matter too, and only read.
  std::optional<NestedPlace> nested(unsigned number) const;

  // The bytes as on the wire, lowest first. Nothing for a number that does not exist, what is not
  // in `g`, and a register whose part of the XSAVE area is missing ("xx" in `g`).
  std::optional<std::vector<std::uint8_t>> read(unsigned number, const DebugRegisters& from) const;
  // Usage errors say what the hardware could not hold; nothing is changed then. The value that a
  // register has is always taken, and changes nothing either.
  Result<void> write(unsigned number, DebugRegisters& to,
                     std::span<const std::uint8_t> bytes) const;

  // Bytes of `g` and `G`.
  std::size_t g_size() const { return g_size_; }
  // The reply to `g`, in hexadecimal; 'x' for the digits of what is not available.
  std::string read_all(const DebugRegisters& from) const;
  // `G`: writes what differs, all or nothing. What is not available is passed over.
  Result<void> write_all(DebugRegisters& to, std::span<const std::uint8_t> bytes) const;

 private:
  Arch arch_;
  std::vector<Register> registers_;
  std::size_t g_size_ = 0;
  XsaveLayout xsave_;
  ControlLimits limits_;
};

// -1 where there is no such block.
std::uint64_t nested_value(NestedPlace which, const NestedPosition& position);

// The list for `arch` and this CPUID, not numbered yet (registers_table.cc).
std::vector<Register> register_table(Arch arch, const CpuidTable& guest_cpuid);

}  // namespace vmm::gdb
