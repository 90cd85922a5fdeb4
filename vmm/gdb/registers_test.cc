#include "vmm/gdb/registers.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "vmm/gdb/registers_fake.h"

namespace vmm::gdb {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using Bytes = std::vector<std::uint8_t>;

constexpr std::array kArches = {Arch::X86_64, Arch::I386, Arch::I8086};

std::uint64_t get(const RegisterSet& set, const DebugRegisters& from, std::string_view name) {
  return load_uint(set.read(named(set, name).number, from).value());
}
// The reason of a refusal, "" where there was none. A refusal changes nothing.
std::string put(const RegisterSet& set, DebugRegisters& to, std::string_view name,
                std::uint64_t value) {
  const Register& r = named(set, name);
  const std::string before = set.read_all(to);
  const auto result = set.write(r.number, to, bytes_of(value, r.size()));
  if (result) return "";
  EXPECT_EQ(set.read_all(to), before) << name;
  return result.error().text();
}
std::vector<std::string> names(const RegisterSet& set, std::string_view feature) {
  std::vector<std::string> list;
  for (const Register& r : set.registers())
    if (r.feature == feature) list.push_back(r.name);
  return list;
}

TEST(RegisterSet, architectures_have_names) {
  for (const Arch arch : kArches) EXPECT_EQ(arch_of(arch_name(arch)), arch);
  EXPECT_EQ(arch_of("x86-64"), Arch::X86_64);
  EXPECT_EQ(arch_of("i386"), Arch::I386);
  EXPECT_EQ(arch_of("i8086"), Arch::I8086);
  EXPECT_EQ(arch_of("arm"), std::nullopt);
}

TEST(RegisterSet, core_is_in_the_order_that_gdb_demands) {
  EXPECT_THAT(names({Arch::X86_64, plain_cpuid()}, "org.gnu.gdb.i386.core"),
              ElementsAre("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp", "r8", "r9", "r10",
                          "r11", "r12", "r13", "r14", "r15", "rip", "eflags", "cs", "ss", "ds",
                          "es", "fs", "gs", "st0", "st1", "st2", "st3", "st4", "st5", "st6", "st7",
                          "fctrl", "fstat", "ftag", "fiseg", "fioff", "foseg", "fooff", "fop"));
  for (const Arch arch : {Arch::I386, Arch::I8086})
    EXPECT_THAT(
        names({arch, plain_cpuid()}, "org.gnu.gdb.i386.core"),
        ElementsAre("eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi", "eip", "eflags", "cs",
                    "ss", "ds", "es", "fs", "gs", "st0", "st1", "st2", "st3", "st4", "st5", "st6",
                    "st7", "fctrl", "fstat", "ftag", "fiseg", "fioff", "foseg", "fooff", "fop"));
}

TEST(RegisterSet, vectors_follow_the_guests_cpuid) {
  const RegisterSet plain(Arch::X86_64, plain_cpuid());
  EXPECT_EQ(plain.find("ymm0h"), nullptr);
  EXPECT_NE(plain.find("xmm15"), nullptr);
  const RegisterSet avx(Arch::X86_64, avx_cpuid());
  EXPECT_NE(avx.find("ymm15h"), nullptr);
  EXPECT_EQ(avx.find("k0"), nullptr);
  const RegisterSet full(Arch::X86_64, full_cpuid());
  EXPECT_EQ(names(full, "org.gnu.gdb.i386.avx512").size(), 16U + 16 + 8 + 32);
  const RegisterSet narrow(Arch::I386, full_cpuid());
  EXPECT_THAT(names(narrow, "org.gnu.gdb.i386.avx512"),
              ElementsAre("k0", "k1", "k2", "k3", "k4", "k5", "k6", "k7", "zmm0h", "zmm1h", "zmm2h",
                          "zmm3h", "zmm4h", "zmm5h", "zmm6h", "zmm7h"));
  EXPECT_EQ(narrow.find("xmm8"), nullptr);
  EXPECT_THAT(names(narrow, "org.gnu.gdb.i386.segments"), IsEmpty());
  EXPECT_EQ(narrow.find("fs_base")->feature, "org.vmm.x86.system");
}

TEST(RegisterSet, g_is_contiguous_and_ends_where_the_msrs_begin) {
  for (const Arch arch : kArches) {
    for (const CpuidTable& cpuid : {plain_cpuid(), avx_cpuid(), full_cpuid()}) {
      const RegisterSet set(arch, cpuid);
      std::set<std::string> seen;
      std::size_t offset = 0;
      bool msrs = false;
      for (unsigned i = 0; i < set.registers().size(); ++i) {
        const Register& r = set.registers()[i];
        EXPECT_EQ(r.number, i);
        EXPECT_TRUE(seen.insert(r.name).second) << r.name;
        msrs = msrs || !r.in_g;
        EXPECT_EQ(r.in_g, !msrs) << r.name;
        EXPECT_EQ(set.msr(i).has_value() || set.nested(i).has_value(), msrs) << r.name;
        EXPECT_FALSE(set.msr(i).has_value() && set.nested(i).has_value()) << r.name;
        if (msrs) continue;
        EXPECT_EQ(r.offset, offset) << r.name;
        offset += r.size();
      }
      EXPECT_TRUE(msrs);
      EXPECT_EQ(set.g_size(), offset);
      EXPECT_EQ(set.read_all(long_mode_registers()).size(), 2 * offset);
    }
  }
  const RegisterSet set(Arch::X86_64, plain_cpuid());
  // As in gdb's own 64-bit layout.
  EXPECT_EQ(named(set, "rip").offset, 128U);
  EXPECT_EQ(named(set, "st0").offset, 164U);
  EXPECT_EQ(named(set, "fctrl").offset, 244U);
  EXPECT_EQ(named(set, "xmm0").offset, 276U);
  EXPECT_EQ(named(set, "mxcsr").offset, 532U);
}

TEST(RegisterSet, msrs_are_those_of_the_cpuid) {
  EXPECT_THAT(names({Arch::X86_64, plain_cpuid()}, "org.vmm.x86.msr"),
              ElementsAre("star", "lstar", "cstar", "sfmask", "kernel_gs_base"));
  const RegisterSet full(Arch::X86_64, full_cpuid());
  EXPECT_EQ(names(full, "org.vmm.x86.msr").size(), 17U);
  EXPECT_EQ(full.msr(named(full, "lstar").number), 0xc0000082U);
  EXPECT_EQ(full.msr(named(full, "vm_hsave_pa").number), 0xc0010117U);
  EXPECT_EQ(full.msr(named(full, "rax").number), std::nullopt);
  EXPECT_EQ(full.msr(100000), std::nullopt);
  DebugRegisters r = long_mode_registers();
  EXPECT_EQ(full.read(named(full, "lstar").number, r), std::nullopt);
  EXPECT_THAT(put(full, r, "lstar", 1), HasSubstr("lstar is not a part of this state"));
}

TEST(RegisterSet, the_level_is_there_where_a_guest_may_be_a_hypervisor) {
  EXPECT_THAT(names({Arch::X86_64, plain_cpuid()}, "org.vmm.x86.nested"), ElementsAre());
  CpuidTable vmx = plain_cpuid();
  vmx.at(1).ecx |= 1u << 5;
  const RegisterSet set(Arch::X86_64, vmx);
  EXPECT_THAT(names(set, "org.vmm.x86.nested"), ElementsAre("vmm_level", "vmm_vmcs", "vmm_eptp"));
  CpuidTable svm = plain_cpuid();
  svm.at(0x80000001).ecx |= 1u << 2;
  EXPECT_THAT(names({Arch::I386, svm}, "org.vmm.x86.nested"),
              ElementsAre("vmm_level", "vmm_vmcb", "vmm_ncr3"));
  const auto value = [&set](const char* name, const NestedPosition& position) {
    return nested_value(set.nested(named(set, name).number).value(), position);
  };
  EXPECT_EQ(value("vmm_level", {}), 1u);
  EXPECT_EQ(value("vmm_vmcs", {}), ~std::uint64_t{0}) << "none, as VMPTRST says it";
  EXPECT_EQ(value("vmm_eptp", {}), 0u);
  const NestedPosition l2{.level = 2, .block = 0x106000, .tables = 0x10701e};
  EXPECT_EQ(value("vmm_level", l2), 2u);
  EXPECT_EQ(value("vmm_vmcs", l2), 0x106000u);
  EXPECT_EQ(value("vmm_eptp", l2), 0x10701eu);
  EXPECT_EQ(set.nested(named(set, "rax").number), std::nullopt);
  EXPECT_EQ(set.nested(100000), std::nullopt);
}

TEST(RegisterSet, registers_are_the_fields_that_they_are_named_after) {
  const RegisterSet set(Arch::X86_64, full_cpuid());
  DebugRegisters r;
  r.cpu.regs = {.rax = 20,
                .rbx = 21,
                .rcx = 22,
                .rdx = 23,
                .rsi = 24,
                .rdi = 25,
                .rsp = 26,
                .rbp = 27,
                .r8 = 28,
                .r9 = 29,
                .r10 = 30,
                .r11 = 31,
                .r12 = 32,
                .r13 = 33,
                .r14 = 34,
                .r15 = 35,
                .rip = 5,
                .rflags = 6};
  r.cpu.sregs.cs = {};
  r.cpu.sregs.cs.base = 7;
  r.cpu.sregs.tr.limit = 8;
  r.cpu.sregs.ldt.selector = 9;
  r.cpu.sregs.gdt.base = 10;
  r.cpu.sregs.idt.limit = 11;
  r.cpu.sregs.cr2 = 12;
  r.cpu.debugregs.db[3] = 13;
  r.cpu.debugregs.dr7 = 14;
  r.cpu.sregs.gs.base = 15;
  r.xcr0 = 16;
  std::uint64_t expected = 5;
  for (const std::string_view name : {"rip", "eflags", "cs_base", "tr_limit", "ldtr", "gdtr_base",
                                      "idtr_limit", "cr2", "dr3", "dr7", "gs_base", "xcr0"})
    EXPECT_EQ(get(set, r, name), expected++) << name;
  expected = 20;
  for (const std::string_view name : {"rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rsp", "rbp", "r8",
                                      "r9", "r10", "r11", "r12", "r13", "r14", "r15"})
    EXPECT_EQ(get(set, r, name), expected++) << name;
  const RegisterSet narrow(Arch::I386, plain_cpuid());
  expected = 20;
  for (const std::string_view name : {"eax", "ebx", "ecx", "edx", "esi", "edi", "esp", "ebp"})
    EXPECT_EQ(get(narrow, r, name), expected++) << name;
  EXPECT_EQ(get(narrow, r, "eip"), 5U);
  r.cpu.sregs.ss.type = 3;
  r.cpu.sregs.ss.s = 1;
  r.cpu.sregs.ss.dpl = 3;
  r.cpu.sregs.ss.present = 1;
  r.cpu.sregs.ss.db = 1;
  EXPECT_EQ(get(set, r, "ss_attr"), 0x40f3U);
}

// Every byte of the area tells its offset (modulo 256), but for the header.
TEST(RegisterSet, the_parts_of_the_xsave_area_are_where_the_manual_puts_them) {
  const RegisterSet set(Arch::X86_64, full_cpuid());
  DebugRegisters r;
  r.xsave.resize(4096);
  for (std::size_t i = 0; i < r.xsave.size(); ++i) r.xsave[i] = static_cast<std::uint8_t>(i);
  store(std::span(r.xsave), 512, std::uint64_t{0xe7});
  const auto first_byte = [&](std::string_view name) {
    return set.read(named(set, name).number, r).value().front();
  };
  for (const auto& [name, offset] : std::vector<std::pair<std::string_view, unsigned>>{
           {"fctrl", 0},     {"fstat", 2},    {"fop", 6},       {"fioff", 8},    {"fiseg", 12},
           {"fooff", 16},    {"foseg", 20},   {"mxcsr", 24},    {"st0", 32},     {"st7", 144},
           {"xmm0", 160},    {"xmm15", 400},  {"ymm0h", 576},   {"ymm15h", 816}, {"k0", 1088},
           {"k7", 1144},     {"zmm0h", 1152}, {"zmm15h", 1632}, {"xmm16", 1664}, {"ymm16h", 1680},
           {"zmm16h", 1696}, {"xmm31", 2624}, {"ymm31h", 2640}, {"zmm31h", 2656}})
    EXPECT_EQ(first_byte(name), offset % 256) << name;
}

TEST(RegisterSet, a_selector_is_the_base_in_real_and_virtual_8086_mode_only) {
  const RegisterSet set(Arch::I8086, plain_cpuid());
  DebugRegisters r;
  EXPECT_EQ(put(set, r, "ds", 0x1234), "");
  EXPECT_EQ(r.cpu.sregs.ds.base, 0x12340U);
  EXPECT_EQ(put(set, r, "tr", 0x20), "");
  EXPECT_EQ(r.cpu.sregs.tr.base, 0U);
  r.cpu.sregs.cr0 = spec::CR0_PE;
  EXPECT_EQ(put(set, r, "ds", 0x8), "");
  EXPECT_EQ(r.cpu.sregs.ds.selector, 8);
  EXPECT_EQ(r.cpu.sregs.ds.base, 0x12340U);
  r.cpu.regs.rflags = spec::RFLAGS_VM | spec::RFLAGS_FIXED;
  EXPECT_EQ(put(set, r, "ds", 0x10), "");
  EXPECT_EQ(r.cpu.sregs.ds.base, 0x100U);
}

TEST(RegisterSet, the_value_that_a_register_has_is_taken_and_nothing_follows_from_it) {
  const RegisterSet set(Arch::X86_64, full_cpuid());
  DebugRegisters r;  // CS as at reset, and a state that a newer processor might have
  r.cpu.sregs.cs.selector = 0xf000;
  r.cpu.sregs.cs.base = 0xffff0000;
  r.cpu.sregs.efer = 1ull << 40;
  r.xsave = xsave_area(4096, 0);
  EXPECT_EQ(put(set, r, "cs", 0xf000), "");
  EXPECT_EQ(r.cpu.sregs.cs.base, 0xffff0000U);
  EXPECT_EQ(put(set, r, "efer", 1ull << 40), "");
  EXPECT_EQ(put(set, r, "fctrl", 0x37f), "");
  EXPECT_EQ(put(set, r, "k3", 0), "");
  EXPECT_EQ(r.xsave, xsave_area(4096, 0));
  EXPECT_EQ(put(set, r, "k3", 1), "");
  EXPECT_EQ(load<std::uint64_t>(r.xsave, 512), 1u << 5);
}

TEST(RegisterSet, a_32_bit_description_keeps_the_upper_halves) {
  const RegisterSet set(Arch::I386, plain_cpuid());
  DebugRegisters r = long_mode_registers();
  r.cpu.regs.rsp = 0xffffffff80001000;
  r.cpu.regs.rip = 0xffffffff80002000;
  EXPECT_EQ(put(set, r, "esp", 0x90000000), "");
  EXPECT_EQ(put(set, r, "eip", 0x90000004), "");
  EXPECT_EQ(r.cpu.regs.rsp, 0xffffffff90000000);
  EXPECT_EQ(r.cpu.regs.rip, 0xffffffff90000004);
}

TEST(RegisterSet, segments_that_the_processor_would_not_take_are_refused) {
  const RegisterSet set(Arch::X86_64, plain_cpuid());
  DebugRegisters r = long_mode_registers();
  EXPECT_THAT(put(set, r, "cs", 0x10000), HasSubstr("cs cannot be 0x10000: a selector has 16"));
  for (const char* name : {"fs_base", "gs_base", "gdtr_base", "idtr_base", "tr_base", "ldtr_base"})
    EXPECT_THAT(put(set, r, name, 0x800000000000), HasSubstr("not canonical")) << name;
  EXPECT_THAT(put(set, r, "ss_base", 0x100000000), HasSubstr("32 bits"));
  EXPECT_THAT(put(set, r, "cs_limit", 0x100000), HasSubstr("counts pages"));
  EXPECT_THAT(put(set, r, "cs_attr", 0x209b), HasSubstr("G=0 does not go with the limit"));
  EXPECT_THAT(put(set, r, "cs_attr", 0xe09b), HasSubstr("L and D"));
  EXPECT_THAT(put(set, r, "cs_attr", 0x20000), HasSubstr("bits 0x20000 are reserved"));
  // G follows a limit that leaves no choice.
  EXPECT_EQ(put(set, r, "ds_limit", 0x12345), "");
  EXPECT_EQ(r.cpu.sregs.ds.g, 0);
  EXPECT_EQ(put(set, r, "ds_limit", 0x12345fff), "");
  EXPECT_EQ(r.cpu.sregs.ds.g, 1);
  r.cpu.sregs.cr4 |= spec::CR4_LA57;
  EXPECT_EQ(put(set, r, "fs_base", 0x800000000000), "");
  r.cpu.sregs.efer = 0;
  EXPECT_THAT(put(set, r, "cs_attr", 0xa09b), HasSubstr("L needs long mode"));
}

TEST(RegisterSet, wrong_numbers_and_sizes_are_refused) {
  const RegisterSet set(Arch::X86_64, plain_cpuid());
  DebugRegisters r = long_mode_registers();
  const auto count = static_cast<unsigned>(set.registers().size());
  EXPECT_EQ(set.read(count, r), std::nullopt);
  EXPECT_THAT(set.write(count, r, {}).error().text(), HasSubstr("there is no register 105"));
  EXPECT_THAT(set.write(0, r, Bytes(4)).error().text(), HasSubstr("rax has 8 bytes, 4 were"));
}

TEST(RegisterSet, floating_point_words_are_no_wider_than_the_hardwares) {
  const RegisterSet set(Arch::X86_64, plain_cpuid());
  DebugRegisters r = long_mode_registers();
  EXPECT_THAT(put(set, r, "fctrl", 0x10000), HasSubstr("fctrl cannot be 0x10000: it has 16 bits"));
  EXPECT_THAT(put(set, r, "ftag", 0x10000), HasSubstr("16 bits"));
  EXPECT_THAT(put(set, r, "fop", 0x800), HasSubstr("11 bits"));
  EXPECT_THAT(put(set, r, "mxcsr", 0x1fc0), HasSubstr("MXCSR has the bits 0xffbf"));
  store(std::span(r.xsave), 28, std::uint32_t{0xffff});
  EXPECT_EQ(put(set, r, "mxcsr", 0x1fc0), "");
}

}  // namespace
}  // namespace vmm::gdb
