// The list of registers: what gdb demands in its order, then ours.
#include <fmt/format.h>

#include <array>

#include "vmm/gdb/registers.h"

namespace vmm::gdb {
namespace {

using Kind = RegisterPlace::Kind;

constexpr std::array<std::string_view, 6> kSegments = {"cs", "ss", "ds", "es", "fs", "gs"};
constexpr std::array<std::string_view, 2> kDescriptors = {"ldtr", "tr"};
constexpr std::array<std::string_view, 2> kTables = {"gdtr", "idtr"};

constexpr std::string_view kGeneral = "general";
constexpr std::string_view kSystem = "system";
constexpr std::string_view kFloat = "float";
constexpr std::string_view kVector = "vector";
constexpr std::string_view kMsr = "msr";

class List {
 public:
  void feature(std::string_view name) { feature_ = name; }
  void add(std::string name, unsigned bits, std::string_view type, std::string_view group,
           RegisterPlace place) {
    registers_.push_back({.name = std::move(name),
                          .bits = bits,
                          .type = type,
                          .group = group,
                          .feature = feature_,
                          .place = place});
  }
  // `count` registers that are `stride` bytes apart in an XSAVE component.
  void add_run(std::string_view stem, std::string_view tail, unsigned first, unsigned count,
               unsigned bits, std::string_view type, std::string_view group,
               XsaveComponentNumber component, std::uint32_t offset, std::uint32_t stride) {
    for (unsigned i = 0; i < count; ++i)
      add(fmt::format("{}{}{}", stem, first + i, tail), bits, type, group,
          {Kind::Xsave, offset + i * stride, component, static_cast<std::uint8_t>(bits / 8)});
  }
  std::vector<Register> take() { return std::move(registers_); }

 private:
  std::string_view feature_;
  std::vector<Register> registers_;
};

void add_core(List& list, bool wide) {
  list.feature("org.gnu.gdb.i386.core");
  struct General {
    std::string_view name;
    std::uint32_t index;
  };
  constexpr std::array<General, 16> kWide = {{{"rax", 0},
                                              {"rbx", 1},
                                              {"rcx", 2},
                                              {"rdx", 3},
                                              {"rsi", 4},
                                              {"rdi", 5},
                                              {"rbp", 6},
                                              {"rsp", 7},
                                              {"r8", 8},
                                              {"r9", 9},
                                              {"r10", 10},
                                              {"r11", 11},
                                              {"r12", 12},
                                              {"r13", 13},
                                              {"r14", 14},
                                              {"r15", 15}}};
  // The order of the encoding, which is not the one that gdb chose for 64 bits.
  constexpr std::array<General, 8> kNarrow = {{{"eax", 0},
                                               {"ecx", 2},
                                               {"edx", 3},
                                               {"ebx", 1},
                                               {"esp", 7},
                                               {"ebp", 6},
                                               {"esi", 4},
                                               {"edi", 5}}};
  const unsigned bits = wide ? 64 : 32;
  const std::string_view number = wide ? "int64" : "int32";
  for (const General& r :
       wide ? std::span<const General>(kWide) : std::span<const General>(kNarrow))
    list.add(std::string(r.name), bits, r.index == 6 || r.index == 7 ? "data_ptr" : number,
             kGeneral, {.kind = Kind::General, .index = r.index});
  list.add(wide ? "rip" : "eip", bits, "code_ptr", kGeneral, {.kind = Kind::Rip});
  list.add("eflags", 32, "i386_eflags", kGeneral, {.kind = Kind::Rflags});
  for (std::uint32_t i = 0; i < kSegments.size(); ++i)
    list.add(std::string(kSegments[i]), 32, "int32", kGeneral,
             {.kind = Kind::Selector, .index = i});

  list.add_run("st", "", 0, 8, 80, "i387_ext", kFloat, kX87, legacy::kSt0, 16);
  const auto control = [&list](std::string_view name, std::uint32_t offset, std::uint8_t stored) {
    list.add(std::string(name), 32, "int", kFloat, {Kind::Xsave, offset, kX87, stored});
  };
  control("fctrl", legacy::kFcw, 2);
  control("fstat", legacy::kFsw, 2);
  list.add("ftag", 32, "int", kFloat, {.kind = Kind::FloatTag});
  // KVM keeps the 64-bit form: what was CS and DS are the upper halves of the two addresses.
  control("fiseg", legacy::kFcs, 4);
  control("fioff", legacy::kFip, 4);
  control("foseg", legacy::kFds, 4);
  control("fooff", legacy::kFdp, 4);
  control("fop", legacy::kFop, 2);
}

void add_vectors(List& list, bool wide, const CpuidTable& cpuid) {
  const unsigned count = wide ? 16 : 8;
  list.feature("org.gnu.gdb.i386.sse");
  list.add_run("xmm", "", 0, count, 128, "vec128", kVector, kSse, legacy::kXmm0, 16);
  list.add("mxcsr", 32, "i386_mxcsr", kVector, {.kind = Kind::Mxcsr});

  if (wide) {
    list.feature("org.gnu.gdb.i386.segments");
    list.add("fs_base", 64, "uint64", kGeneral,
             {.kind = Kind::Base, .index = static_cast<std::uint32_t>(Segment::Fs)});
    list.add("gs_base", 64, "uint64", kGeneral,
             {.kind = Kind::Base, .index = static_cast<std::uint32_t>(Segment::Gs)});
  }

  if (!cpuid.bit(1, 0, CpuidReg::Ecx, 28)) return;
  list.feature("org.gnu.gdb.i386.avx");
  list.add_run("ymm", "h", 0, count, 128, "uint128", kVector, kAvx, 0, 16);

  if (!cpuid.bit(7, 0, CpuidReg::Ebx, 16)) return;
  list.feature("org.gnu.gdb.i386.avx512");
  if (wide) {
    list.add_run("xmm", "", 16, 16, 128, "vec128", kVector, kHi16Zmm, 0, 64);
    list.add_run("ymm", "h", 16, 16, 128, "uint128", kVector, kHi16Zmm, 16, 64);
  }
  list.add_run("k", "", 0, 8, 64, "uint64", kVector, kOpmask, 0, 8);
  list.add_run("zmm", "h", 0, count, 256, "v2ui128", kVector, kZmmHi256, 0, 32);
  if (wide) list.add_run("zmm", "h", 16, 16, 256, "v2ui128", kVector, kHi16Zmm, 32, 64);
}

void add_control(List& list) {
  list.feature("org.vmm.x86.control");
  const auto add = [&list](std::string_view name, std::string_view type, std::string_view group,
                           Control which) {
    list.add(std::string(name), 64, type, group,
             {.kind = Kind::Control, .index = static_cast<std::uint32_t>(which)});
  };
  add("cr0", "x86_cr0", kGeneral, Control::Cr0);
  add("cr2", "uint64", kGeneral, Control::Cr2);
  add("cr3", "uint64", kGeneral, Control::Cr3);
  add("cr4", "x86_cr4", kGeneral, Control::Cr4);
  add("cr8", "uint64", kSystem, Control::Cr8);
  add("efer", "x86_efer", kGeneral, Control::Efer);
  add("xcr0", "x86_xcr0", kSystem, Control::Xcr0);
  add("dr0", "uint64", kSystem, Control::Dr0);
  add("dr1", "uint64", kSystem, Control::Dr1);
  add("dr2", "uint64", kSystem, Control::Dr2);
  add("dr3", "uint64", kSystem, Control::Dr3);
  add("dr6", "x86_dr6", kSystem, Control::Dr6);
  add("dr7", "x86_dr7", kSystem, Control::Dr7);
}

void add_system(List& list, bool wide) {
  list.feature("org.vmm.x86.system");
  for (std::uint32_t i = 0; i < kTables.size(); ++i) {
    list.add(fmt::format("{}_base", kTables[i]), 64, "uint64", kSystem,
             {.kind = Kind::TableBase, .index = i});
    list.add(fmt::format("{}_limit", kTables[i]), 16, "uint16", kSystem,
             {.kind = Kind::TableLimit, .index = i});
  }
  const auto add = [&list](std::string_view name, std::uint32_t index, bool base,
                           std::string_view group_of_base) {
    if (base)
      list.add(fmt::format("{}_base", name), 64, "uint64", group_of_base,
               {.kind = Kind::Base, .index = index});
    list.add(fmt::format("{}_limit", name), 32, "uint32", kSystem,
             {.kind = Kind::Limit, .index = index});
    list.add(fmt::format("{}_attr", name), 32, "x86_segment_attr", kSystem,
             {.kind = Kind::Attributes, .index = index});
  };
  for (std::uint32_t i = 0; i < kDescriptors.size(); ++i) {
    const auto index = static_cast<std::uint32_t>(kSegments.size()) + i;
    list.add(std::string(kDescriptors[i]), 16, "uint16", kSystem,
             {.kind = Kind::Selector, .index = index});
    add(kDescriptors[i], index, true, kSystem);
  }
  for (std::uint32_t i = 0; i < kSegments.size(); ++i) {
    const bool fs_or_gs = i >= static_cast<std::uint32_t>(Segment::Fs);
    // In 64 bits gdb's own feature has these two.
    add(kSegments[i], i, !(wide && fs_or_gs), fs_or_gs ? kGeneral : kSystem);
  }
}

// Those that this guest's CPUID makes sensible; SDM vol. 4, APM vol. 2 appendix A.
void add_msrs(List& list, bool wide, const CpuidTable& cpuid) {
  list.feature("org.vmm.x86.msr");
  const auto has = [&cpuid](std::uint32_t leaf, CpuidReg reg, unsigned index) {
    return cpuid.bit(leaf, 0, reg, index);
  };
  const auto add = [&list](std::string_view name, std::uint32_t msr, std::string_view type) {
    list.add(std::string(name), 64, type, kMsr, {.kind = Kind::Msr, .index = msr});
  };
  const std::string_view code = wide ? "code_ptr" : "uint64";  // a pointer is as wide as the arch
  const bool long_mode = has(0x80000001, CpuidReg::Edx, 29);
  if (long_mode || has(0x80000001, CpuidReg::Edx, 11)) add("star", 0xc0000081, "uint64");
  if (long_mode) {
    add("lstar", 0xc0000082, code);
    add("cstar", 0xc0000083, code);
    add("sfmask", 0xc0000084, "x86_rflags_mask");
    add("kernel_gs_base", 0xc0000102, "uint64");
  }
  if (has(0x80000001, CpuidReg::Edx, 27) || has(7, CpuidReg::Ecx, 22))
    add("tsc_aux", 0xc0000103, "uint64");
  if (has(1, CpuidReg::Edx, 11)) {
    add("sysenter_cs", 0x174, "uint64");
    add("sysenter_esp", 0x175, "uint64");
    add("sysenter_eip", 0x176, code);
  }
  if (has(1, CpuidReg::Edx, 9)) add("apic_base", 0x1b, "x86_apic_base");
  if (has(1, CpuidReg::Edx, 16)) add("pat", 0x277, "uint64");
  if (has(1, CpuidReg::Edx, 12)) add("mtrr_def_type", 0x2ff, "x86_mtrr_def_type");
  if (has(1, CpuidReg::Ecx, 5) || has(1, CpuidReg::Ecx, 6))
    add("feature_control", 0x3a, "x86_feature_control");
  // IBRS, STIBP or SSBD; Intel's bits, then AMD's.
  if (has(7, CpuidReg::Edx, 26) || has(7, CpuidReg::Edx, 27) || has(7, CpuidReg::Edx, 31) ||
      has(0x80000008, CpuidReg::Ebx, 14) || has(0x80000008, CpuidReg::Ebx, 15) ||
      has(0x80000008, CpuidReg::Ebx, 24))
    add("spec_ctrl", 0x48, "x86_spec_ctrl");
  if (cpuid.bit(0xd, 1, CpuidReg::Eax, 3)) add("xss", 0xda0, "uint64");
  if (has(0x80000001, CpuidReg::Ecx, 2)) {
    add("vm_cr", 0xc0010114, "x86_vm_cr");
    add("vm_hsave_pa", 0xc0010117, "uint64");
  }
}

void add_nested(List& list, const CpuidTable& cpuid) {
  const bool vmx = cpuid.bit(1, 0, CpuidReg::Ecx, 5);
  const bool svm = cpuid.bit(0x80000001, 0, CpuidReg::Ecx, 2);
  if (!vmx && !svm) return;
  list.feature("org.vmm.x86.nested");
  const auto add = [&list](std::string_view name, std::string_view type, NestedPlace which) {
    list.add(std::string(name), 64, type, kSystem,
             {.kind = Kind::Nested, .index = static_cast<std::uint32_t>(which)});
  };
  add("vmm_level", "int64", NestedPlace::Level);
  add(svm ? "vmm_vmcb" : "vmm_vmcs", "int64", NestedPlace::Block);
  add(svm ? "vmm_ncr3" : "vmm_eptp", "uint64", NestedPlace::Tables);
}

}  // namespace

std::vector<Register> register_table(Arch arch, const CpuidTable& guest_cpuid) {
  const bool wide = arch == Arch::X86_64;
  List list;
  add_core(list, wide);
  add_vectors(list, wide, guest_cpuid);
  add_control(list);
  add_system(list, wide);
  add_msrs(list, wide, guest_cpuid);
  add_nested(list, guest_cpuid);
  return list.take();
}

}  // namespace vmm::gdb
