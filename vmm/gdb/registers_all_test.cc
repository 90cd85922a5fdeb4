#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "vmm/gdb/packet.h"
#include "vmm/gdb/registers.h"
#include "vmm/gdb/registers_fake.h"

// All registers at once: every one by itself, `g` and `G`, and an XSAVE area that is too short.
namespace vmm::gdb {
namespace {

using ::testing::HasSubstr;
using Bytes = std::vector<std::uint8_t>;

constexpr std::array kArches = {Arch::X86_64, Arch::I386, Arch::I8086};

// A value that the hardware can hold and long_mode_registers() does not.
Bytes pattern(const Register& r) {
  static const std::map<std::string, std::uint64_t, std::less<>> kValues = {
      {"cr0", 0xe0050033},  {"cr3", 0x1234567018},
      {"cr4", 0x3006f8},    {"cr8", 9},
      {"efer", 0x1d01},     {"xcr0", 7},
      {"dr6", 0xffffeff5},  {"dr7", 0x333327aa},
      {"eflags", 0x3d0ed7}, {"rip", 0xffffffff81234567},
      {"eip", 0x81234567},  {"fctrl", 0x27f},
      {"fstat", 0x1821},    {"ftag", 0xd5d5},
      {"fop", 0x123},       {"mxcsr", 0xff80}};
  if (const auto it = kValues.find(r.name); it != kValues.end())
    return bytes_of(it->second, r.size());
  switch (r.place.kind) {
    case RegisterPlace::Kind::Selector:
      return bytes_of(0xa5b3, r.size());
    case RegisterPlace::Kind::Base:
    case RegisterPlace::Kind::TableBase:
      return bytes_of(r.place.index < 4 && r.place.kind == RegisterPlace::Kind::Base
                          ? 0x44332210
                          : 0xffff812345678000,
                      r.size());
    case RegisterPlace::Kind::Limit:
      return bytes_of(0x54321fff, r.size());
    case RegisterPlace::Kind::Attributes:
      return bytes_of(0xb0f5, r.size());
    default:
      break;
  }
  Bytes bytes(r.size());
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::uint8_t>(0x11 + 7 * i);
  return bytes;
}

TEST(AllRegisters, every_register_reads_as_written_and_no_other_changes) {
  for (const Arch arch : kArches) {
    const RegisterSet set(arch, full_cpuid());
    for (const Register& r : set.registers()) {
      if (!r.in_g) continue;
      const DebugRegisters before = long_mode_registers();
      DebugRegisters after = before;
      const Bytes value = pattern(r);
      ASSERT_NE(set.read(r.number, before), value) << r.name;
      const auto result = set.write(r.number, after, value);
      ASSERT_TRUE(result) << result.error().text();
      EXPECT_EQ(set.read(r.number, after), value) << r.name;
      for (const Register& other : set.registers()) {
        // The tag word tells of the contents.
        if (!other.in_g || other.number == r.number || other.name == "ftag") continue;
        EXPECT_EQ(set.read(other.number, after), set.read(other.number, before))
            << r.name << " changed " << other.name;
      }
    }
  }
}

TEST(AllRegisters, G_writes_all_that_differs_or_nothing) {
  const RegisterSet set(Arch::X86_64, full_cpuid());
  const DebugRegisters before = long_mode_registers();
  Bytes all;
  for (const Register& r : set.registers()) {
    const Bytes value = r.name == "ftag" ? set.read(r.number, before).value() : pattern(r);
    if (r.in_g) all.insert(all.end(), value.begin(), value.end());
  }
  DebugRegisters after = before;
  const auto result = set.write_all(after, all);
  ASSERT_TRUE(result) << result.error().text();
  for (const Register& r : set.registers()) {
    if (!r.in_g || r.name == "ftag") continue;
    EXPECT_EQ(set.read(r.number, after), pattern(r)) << r.name;
  }
  all[named(set, "cr8").offset] = 16;
  DebugRegisters refused = before;
  EXPECT_THAT(set.write_all(refused, all).error().text(), HasSubstr("cr8 cannot be 0x10"));
  EXPECT_EQ(set.read_all(refused), set.read_all(before));
  all.pop_back();
  EXPECT_THAT(set.write_all(refused, all).error().text(), HasSubstr("2647 were given"));
}

TEST(AllRegisters, G_of_what_was_read_changes_nothing) {
  const RegisterSet set(Arch::X86_64, full_cpuid());
  DebugRegisters r;  // real mode, an XSAVE area of initial states, and CS as at reset
  r.xsave = xsave_area(4096, 0);
  r.cpu.sregs.cs.selector = 0xf000;
  r.cpu.sregs.cs.base = 0xffff0000;
  const std::vector<std::uint8_t> area = r.xsave;
  Bytes all = from_hex(set.read_all(r)).value();
  ASSERT_TRUE(set.write_all(r, all));
  EXPECT_EQ(r.xsave, area);
  EXPECT_EQ(r.cpu.sregs.cs.base, 0xffff0000U);
  // A new selector takes its base along, though G has the old base as well.
  all[named(set, "cs").offset] = 0x10;
  ASSERT_TRUE(set.write_all(r, all));
  EXPECT_EQ(r.cpu.sregs.cs.base, 0xf0100U);
}

TEST(AllRegisters, what_the_xsave_area_has_no_room_for_is_not_available) {
  const RegisterSet set(Arch::X86_64, full_cpuid());
  DebugRegisters r = long_mode_registers();
  for (const std::size_t size :
       {0u, 100u, 575u, 576u, 831u, 832u, 1087u, 1152u, 1663u, 1664u, 2687u, 2688u}) {
    r.xsave.resize(size);
    if (size >= 576) store(std::span(r.xsave), 512, std::uint64_t{0xe7});
    const auto there = [&](std::string_view name) {
      return set.read(named(set, name).number, r).has_value();
    };
    for (const char* name : {"st0", "fctrl", "ftag", "xmm0", "xmm15", "mxcsr"})
      EXPECT_EQ(there(name), size >= 576) << name << " " << size;
    EXPECT_EQ(there("ymm0h"), size >= 832) << size;
    EXPECT_EQ(there("k7"), size >= 1152) << size;
    EXPECT_EQ(there("zmm15h"), size >= 1664) << size;
    EXPECT_EQ(there("xmm31"), size >= 2688) << size;
    for (const Register& reg : set.registers()) {
      if (!reg.in_g) continue;
      const bool written = set.write(reg.number, r, pattern(reg)).has_value();
      EXPECT_EQ(written, there(reg.name)) << reg.name << " " << size;
    }
    const std::string g = set.read_all(r);
    EXPECT_EQ(g.size(), 2 * set.g_size());
    EXPECT_EQ(g.substr(2 * named(set, "ymm0h").offset, 32) == std::string(32, 'x'), size < 832);
  }
  r.xsave.clear();
  const Register& mxcsr = named(set, "mxcsr");
  EXPECT_THAT(set.write(mxcsr.number, r, Bytes(4)).error().text(),
              HasSubstr("mxcsr is not available: the host's XSAVE area (0 bytes)"));
}

}  // namespace
}  // namespace vmm::gdb
