#include "vmm/gdb/core_file.h"

#include <elf.h>
#include <fmt/format.h>
#include <gmock/gmock.h>

#include <string>

#include "vmm/base/units.h"
#include "vmm/gdb/registers_fake.h"

namespace vmm::gdb {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

CoreSpec spec_of(Arch arch = Arch::X86_64) {
  CoreSpec spec;
  spec.arch = arch;
  spec.program = "kernel.elf";
  spec.command = "kernel.elf: it died";
  spec.cpuid = full_cpuid();
  CoreThread thread;
  thread.number = 2;
  thread.signal = 11;
  thread.registers = long_mode_registers();
  thread.registers.cpu.regs.rip = 0x1234;
  spec.threads = {thread};
  spec.memory = {{0, 640_KiB}, {1_MiB, 2_GiB}};
  return spec;
}

template <typename Ehdr, typename Phdr>
std::vector<Phdr> segments(const CoreHeader& header, unsigned type) {
  const std::span<const std::uint8_t> bytes = header.bytes;
  const auto elf = load<Ehdr>(bytes);
  EXPECT_EQ(elf.e_type, ET_CORE);
  std::vector<Phdr> found;
  for (unsigned i = 0; i < elf.e_phnum; ++i) {
    const auto entry = load<Phdr>(bytes, elf.e_phoff + i * sizeof(Phdr));
    if (entry.p_type == type) found.push_back(entry);
  }
  return found;
}

std::vector<std::string> loads(const CoreHeader& header) {
  std::vector<std::string> text;
  for (const auto& s : segments<Elf64_Ehdr, Elf64_Phdr>(header, PT_LOAD))
    text.push_back(
        fmt::format("{:x}+{:x} at {:x}", s.p_vaddr, s.p_filesz, s.p_offset - header.bytes.size()));
  return text;
}

// The content of the first note of that type.
std::vector<std::uint8_t> note(const CoreHeader& header, std::uint32_t type, bool wide = true) {
  std::size_t at = 0, end = 0;
  if (wide) {
    const auto segment = segments<Elf64_Ehdr, Elf64_Phdr>(header, PT_NOTE).at(0);
    at = segment.p_offset, end = at + segment.p_filesz;
  } else {
    const auto segment = segments<Elf32_Ehdr, Elf32_Phdr>(header, PT_NOTE).at(0);
    at = segment.p_offset, end = at + segment.p_filesz;
  }
  const std::span<const std::uint8_t> bytes = header.bytes;
  while (at < end) {
    const auto n = load<Elf64_Nhdr>(bytes, at);
    at += sizeof n + align_up(n.n_namesz, 4);
    if (n.n_type == type) {
      const auto content = bytes.subspan(at, n.n_descsz);
      return {content.begin(), content.end()};
    }
    at += align_up(n.n_descsz, 4);
  }
  return {};
}

TEST(CoreFile, maps_linear_addresses_to_the_bytes_of_ram_and_ram_once_more) {
  CoreSpec spec = spec_of();
  // Over the hole, and beyond the end.
  spec.mapped = {{0xffff800000000000, 0, 2_MiB}, {0x400000, 2_GiB, 4_MiB}};
  const CoreHeader header = core_header(spec);
  EXPECT_TRUE(header.complete);
  EXPECT_EQ(header.file_size, header.bytes.size() + 640_KiB + 2_GiB);
  EXPECT_THAT(loads(header),
              ElementsAre("ffff800000000000+a0000 at 0", "ffff800000100000+100000 at a0000",
                          "400000+100000 at 7ffa0000", "1000000000000000+a0000 at 0",
                          "1000000000100000+80000000 at a0000"));
}

TEST(CoreFile, says_where_the_first_vcpu_stood_and_of_what_it_died) {
  const CoreHeader header = core_header(spec_of());
  const auto status = note(header, NT_PRSTATUS);
  ASSERT_EQ(status.size(), 336u);
  EXPECT_EQ(load<std::uint16_t>(status, 12), 11);
  EXPECT_EQ(load<std::uint32_t>(status, 32), 2u);
  EXPECT_EQ(load<std::uint64_t>(status, 112 + 16 * 8), 0x1234u) << "rip";
  const auto system = note(header, 0);
  ASSERT_EQ(system.size(), load<std::uint32_t>(system, 4));
  EXPECT_EQ(load<std::uint64_t>(system, 8 + 16 * 8), 0x1234u);
  const std::string name(reinterpret_cast<const char*>(note(header, NT_PRPSINFO).data()) + 40, 10);
  EXPECT_EQ(name, "kernel.elf");
}

TEST(CoreFile, leaves_out_a_name_that_gdb_would_not_know_again) {
  CoreSpec spec = spec_of();
  spec.program = "a-very-long-name.elf";
  EXPECT_THAT(note(core_header(spec), NT_PRPSINFO), IsEmpty());
}

TEST(CoreFile, puts_vector_registers_where_gdb_looks_for_them) {
  CoreSpec spec = spec_of();
  // AMD's place for the opmask registers.
  spec.cpuid.at(0xd, 5) = {.eax = 64, .ebx = 832};
  DebugRegisters& registers = spec.threads[0].registers;
  registers.xcr0 = 0x27;
  store(std::span(registers.xsave), 832, std::uint64_t{0x1122334455667788});
  store(std::span(registers.xsave), 576, std::uint64_t{0x99});
  const auto state = note(core_header(spec), NT_X86_XSTATE);
  ASSERT_EQ(state.size(), 1088u + 64);
  EXPECT_EQ(load<std::uint64_t>(state, 464), 0x27u);
  EXPECT_EQ(load<std::uint64_t>(state, 576), 0x99u);
  EXPECT_EQ(load<std::uint64_t>(state, 1088), 0x1122334455667788u);
}

TEST(CoreFile, writes_initial_states_out) {
  CoreSpec spec = spec_of();
  store(std::span(spec.threads[0].registers.xsave), 512, std::uint64_t{0});
  store(std::span(spec.threads[0].registers.xsave), 160, std::uint64_t{0xdead});
  const auto legacy = note(core_header(spec), NT_FPREGSET);
  EXPECT_EQ(load<std::uint16_t>(legacy), 0x37f);
  EXPECT_EQ(load<std::uint64_t>(legacy, 160), 0u);
}

TEST(CoreFile, of_32_bits_ends_at_4_gib) {
  CoreSpec spec = spec_of(Arch::I386);
  spec.memory.push_back({4_GiB, 1_GiB});
  spec.mapped = {{0xc0000000, 1_MiB, 16_MiB}, {0xe0000000, 4_GiB, 16_MiB}};
  const CoreHeader header = core_header(spec);
  EXPECT_FALSE(header.complete);
  EXPECT_THAT(header.offsets,
              ElementsAre(header.bytes.size(), header.bytes.size() + 640_KiB, std::nullopt));
  const auto parts = segments<Elf32_Ehdr, Elf32_Phdr>(header, PT_LOAD);
  ASSERT_EQ(parts.size(), 1u);
  EXPECT_EQ(parts[0].p_vaddr, 0xc0000000u);
  const auto status = note(header, NT_PRSTATUS, false);
  ASSERT_EQ(status.size(), 144u);
  EXPECT_EQ(load<std::uint32_t>(status, 72 + 12 * 4), 0x1234u) << "eip";
}

TEST(CoreFile, has_room_for_so_many_ranges_and_no_more) {
  CoreSpec spec = spec_of();
  for (std::uint64_t i = 0; i < 70'000; ++i) spec.mapped.push_back({i * 8_KiB, 1_MiB, 4_KiB});
  const CoreHeader header = core_header(spec);
  EXPECT_FALSE(header.complete);
  EXPECT_EQ(loads(header).size(), 0xfffeu - 1);
}

}  // namespace
}  // namespace vmm::gdb
