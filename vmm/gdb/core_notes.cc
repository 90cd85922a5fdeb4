#include "vmm/gdb/core_notes.h"

#include <elf.h>

#include <algorithm>
#include <array>
#include <string_view>

namespace vmm::gdb {
namespace {

using Bytes = std::vector<std::uint8_t>;

template <typename T>
void append(Bytes& bytes, const T& value) {
  const std::size_t at = bytes.size();
  bytes.resize(at + sizeof value);
  store(std::span(bytes), at, value);
}

void append_note(Bytes& notes, std::string_view name, std::uint32_t type, const Bytes& content) {
  append(notes, Elf64_Nhdr{static_cast<Elf64_Word>(name.size() + 1),
                           static_cast<Elf64_Word>(content.size()), type});
  notes.insert(notes.end(), name.begin(), name.end());
  notes.resize(align_up(notes.size() + 1, 4));
  notes.insert(notes.end(), content.begin(), content.end());
  notes.resize(align_up(notes.size(), 4));
}

// struct elf_prstatus of Linux up to its registers: signal at 12, thread at 24 or 32.
Bytes status_header(const CoreThread& thread, bool wide) {
  Bytes bytes(wide ? 112 : 72);
  store(std::span(bytes), 0, std::int32_t{thread.signal});
  store(std::span(bytes), 12, static_cast<std::int16_t>(thread.signal));
  store(std::span(bytes), wide ? 32 : 24, static_cast<std::uint32_t>(thread.number));
  return bytes;
}

// struct user_regs_struct, the order of PTRACE_GETREGS.
Bytes status_64(const CoreThread& thread) {
  const kvm_regs& r = thread.registers.cpu.regs;
  const kvm_sregs& s = thread.registers.cpu.sregs;
  Bytes bytes = status_header(thread, true);
  for (const std::uint64_t value : {r.r15,
                                    r.r14,
                                    r.r13,
                                    r.r12,
                                    r.rbp,
                                    r.rbx,
                                    r.r11,
                                    r.r10,
                                    r.r9,
                                    r.r8,
                                    r.rax,
                                    r.rcx,
                                    r.rdx,
                                    r.rsi,
                                    r.rdi,
                                    ~__u64{0},
                                    r.rip,
                                    __u64{s.cs.selector},
                                    r.rflags,
                                    r.rsp,
                                    __u64{s.ss.selector},
                                    s.fs.base,
                                    s.gs.base,
                                    __u64{s.ds.selector},
                                    __u64{s.es.selector},
                                    __u64{s.fs.selector},
                                    __u64{s.gs.selector}})
    append(bytes, value);
  append(bytes, std::uint64_t{0});  // pr_fpvalid
  return bytes;
}

Bytes status_32(const CoreThread& thread) {
  const kvm_regs& r = thread.registers.cpu.regs;
  const kvm_sregs& s = thread.registers.cpu.sregs;
  Bytes bytes = status_header(thread, false);
  for (const std::uint64_t value :
       {r.rbx, r.rcx, r.rdx, r.rsi, r.rdi, r.rbp, r.rax, __u64{s.ds.selector}, __u64{s.es.selector},
        __u64{s.fs.selector}, __u64{s.gs.selector}, ~__u64{0}, r.rip, __u64{s.cs.selector},
        r.rflags, r.rsp, __u64{s.ss.selector}})
    append(bytes, static_cast<std::uint32_t>(value));
  append(bytes, std::uint32_t{0});
  return bytes;
}

// struct elf_prpsinfo: gdb shows the command, and warns unless the name is that of its executable.
constexpr std::size_t kNameSize = 16, kCommandSize = 80;
Bytes process_info(const CoreSpec& spec, bool wide) {
  const std::size_t name_at = wide ? 40 : 28;
  Bytes bytes(name_at + kNameSize + kCommandSize);
  put_text(bytes, name_at, spec.program);
  put_text(bytes, name_at + kNameSize, std::string_view(spec.command).substr(0, kCommandSize - 1));
  return bytes;
}

// gdb knows one place for each component, that of Intel's processors; AMD's have others.
struct Component {
  XsaveComponentNumber number;
  std::size_t offset;
  std::size_t size;
};
constexpr std::size_t kHeaderEnd = 576;
constexpr std::size_t kXcr0At = 464;  // in the legacy region, for software
constexpr std::size_t kXstateBvAt = 512;
constexpr Component kComponents[] = {
    {kAvx, 576, 256}, {kOpmask, 1088, 64}, {kZmmHi256, 1152, 512}, {kHi16Zmm, 1664, 1024}};

Bytes extended_state(const CoreThread& thread, const XsaveLayout& layout) {
  const std::span<const std::uint8_t> area = thread.registers.xsave;
  const auto legacy = xsave_legacy(area);
  Bytes bytes(legacy.begin(), legacy.end());
  bytes.resize(kHeaderEnd);
  std::uint64_t xcr0 = 3;
  for (const Component& component : kComponents) {
    if (!bit(thread.registers.xcr0, component.number)) continue;
    Bytes content(component.size);
    bool known = true;
    for (std::size_t at = 0; known && at < component.size; at += 64) {
      const auto part = xsave_read(area, layout, component.number, static_cast<std::uint32_t>(at),
                                   std::min<std::size_t>(64, component.size - at));
      known = part.has_value();
      if (part) std::copy_n(part->begin(), 64, content.begin() + static_cast<std::ptrdiff_t>(at));
    }
    if (!known) continue;
    bytes.resize(component.offset);
    bytes.insert(bytes.end(), content.begin(), content.end());
    xcr0 |= 1ull << component.number;
  }
  store(std::span(bytes), kXcr0At, xcr0);
  store(std::span(bytes), kXstateBvAt, xcr0);
  return bytes;
}

void append_segment(Bytes& bytes, const kvm_segment& s) {
  const unsigned flags = s.type | unsigned{s.s} << 4 | unsigned{s.dpl} << 5 |
                         unsigned{s.present} << 7 | unsigned{s.avl} << 12 | unsigned{s.l} << 13 |
                         unsigned{s.db} << 14 | unsigned{s.g} << 15;
  append(bytes, std::uint32_t{s.selector});
  append(bytes, std::uint32_t{s.limit});
  append(bytes, static_cast<std::uint32_t>(flags << 8));
  append(bytes, std::uint32_t{0});
  append(bytes, std::uint64_t{s.base});
}

void append_table(Bytes& bytes, const kvm_dtable& table) {
  kvm_segment segment{};
  segment.base = table.base;
  segment.limit = table.limit;
  append_segment(bytes, segment);
}

// struct QEMUCPUState, version 1.
Bytes system_registers(const CoreThread& thread) {
  constexpr std::uint32_t kVersion = 1, kSize = 8 + 18 * 8 + 10 * 24 + 5 * 8 + 8;
  const kvm_regs& r = thread.registers.cpu.regs;
  const kvm_sregs& s = thread.registers.cpu.sregs;
  Bytes bytes;
  append(bytes, kVersion);
  append(bytes, kSize);
  for (const std::uint64_t value :
       {r.rax, r.rbx, r.rcx, r.rdx, r.rsi, r.rdi, r.rsp, r.rbp, r.r8, r.r9, r.r10, r.r11, r.r12,
        r.r13, r.r14, r.r15, r.rip, r.rflags})
    append(bytes, value);
  for (const kvm_segment* segment : {&s.cs, &s.ds, &s.es, &s.fs, &s.gs, &s.ss, &s.ldt, &s.tr})
    append_segment(bytes, *segment);
  append_table(bytes, s.gdt);
  append_table(bytes, s.idt);
  for (const std::uint64_t value : {s.cr0, __u64{0}, s.cr2, s.cr3, s.cr4}) append(bytes, value);
  append(bytes, thread.kernel_gs_base);
  VMM_CHECK(bytes.size() == kSize, "the size that the note names");
  return bytes;
}

}  // namespace

std::vector<std::uint8_t> core_notes(const CoreSpec& spec) {
  constexpr std::uint32_t kQemuType = 0;
  const bool wide = spec.arch == Arch::X86_64;
  const XsaveLayout layout = XsaveLayout::of(spec.cpuid);
  Bytes notes;
  if (spec.program.size() <= kNameSize)
    append_note(notes, "CORE", NT_PRPSINFO, process_info(spec, wide));
  for (const CoreThread& thread : spec.threads) {
    append_note(notes, "CORE", NT_PRSTATUS, wide ? status_64(thread) : status_32(thread));
    if (thread.registers.xsave.size() >= kHeaderEnd) {
      const auto legacy = xsave_legacy(thread.registers.xsave);
      const Bytes fxsave(legacy.begin(), legacy.end());
      if (wide)
        append_note(notes, "CORE", NT_FPREGSET, fxsave);
      else
        append_note(notes, "LINUX", NT_PRXFPREG, fxsave);
      append_note(notes, "LINUX", NT_X86_XSTATE, extended_state(thread, layout));
    }
    append_note(notes, "QEMU", kQemuType, system_registers(thread));
  }
  return notes;
}

}  // namespace vmm::gdb
