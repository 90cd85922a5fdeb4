// A triple fault on SVM: the registers are those of the last exit, and the tables that killed the
// guest lie in memory. What may be inferred from them, and what may not.
#include "vmm/machine/explain_tables.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "vmm/core/memory_fake.h"
#include "vmm/machine/explain_golden.h"

namespace vmm {
namespace {

using testing::Contains;
using testing::HasSubstr;
using testing::Not;

constexpr std::uint64_t kRamSize = 2_MiB;

using Ram = FakeRam;

constexpr Gpa kOldPml4 = 0x1000, kOldPdpt = 0x2000, kOldPd = 0x3000;
constexpr Gpa kNewPml4 = 0x102000, kNewPdpt = 0x101000, kNewPd = 0x103000;
constexpr Gva kCode = 0x10000;
constexpr unsigned kPdpe1gb = 26;

// The kernel runs on sound tables, has written others, and its last exit is an OUT before it loads
// them.
struct LostRegisters {
  LostRegisters() {
    ram.put64(kOldPml4, kOldPdpt | 3);
    ram.put64(kOldPdpt, kOldPd | 3);
    for (unsigned i = 0; i < 512; ++i) ram.put64(kOldPd + i * 8, i * 2_MiB | 0x83);
    CpuState cpu;
    cpu.regs.rip = kCode + 1;
    cpu.regs.rsp = 0x9000;
    cpu.regs.rflags = 2;
    cpu.sregs.cr0 = spec::CR0_PE | spec::CR0_PG;
    cpu.sregs.cr3 = kOldPml4;
    cpu.sregs.cr4 = spec::CR4_PAE;
    cpu.sregs.efer = spec::EFER_LME | spec::EFER_LMA;
    cpu.sregs.cs.selector = 8;
    cpu.sregs.cs.l = 1;
    scene.vcpus = {cpu};
    scene.memory = &ram;
    scene.outcome = ending::TripleFault{0};
    scene.model = "epyc@4,-pdpe1gb";
    scene.symbols = &symbols;
    scene.kvm_backend = "svm";
    scene.registers_trusted = false;
    symbols.add("start", kCode, 0x100);
    symbols.add("load_cr3", kCode + 0x100, 0x100);
    // out dx, al; call load_cr3. And there: mov cr3, rdi; ret.
    ram.put(kCode, {0xee, 0xe8, 0xfa, 0, 0, 0, 0xc3});
    ram.put(kCode + 0x100, {0x0f, 0x22, 0xdf, 0xc3});
    scene.last_exits = {{.vcpu = 0,
                         .rip = kCode + 1,
                         .kind = "out",
                         .address = 0x3f8,
                         .value = 0x0a,
                         .width = 1,
                         .device = "serial0"}};
    CpuidTable& c = scene.cpuid;
    c.at(0) = {0xd, 0x68747541, 0x444d4163, 0x69746e65};
    c.at(1) = {0x800f12, 0, 0, 0x078bfbff};
    c.at(7);
    c.at(0x80000001) = {0, 0, 1, 0x20100800};
    c.at(0x80000008).eax = 0x3028;
  }

  CpuState& cpu() { return scene.vcpus[0]; }
  // The story of the 1 GiB pages.
  void giant_pages() {
    ram.put64(kNewPml4, kNewPdpt | 3);
    for (unsigned i = 0; i < 32; ++i) ram.put64(kNewPdpt + i * 8, i * 1_GiB | 0x83);
  }
  void two_mib_pages(std::uint64_t pde_bits) {
    ram.put64(kNewPml4, kNewPdpt | 3);
    ram.put64(kNewPdpt, kNewPd | 3);
    for (unsigned i = 0; i < 512; ++i) ram.put64(kNewPd + i * 8, i * 2_MiB | 0x83 | pde_bits);
  }
  CrashCard card() const {
    CrashCard made = explain(scene);
    EXPECT_LE(made.lines.size(), kMaxCardLines);
    for (const std::string& line : made.lines) EXPECT_LE(line.size(), 120u) << line;
    return made;
  }
  void expect_no_inference() const { EXPECT_EQ(card().rule, "registers-reset-by-svm"); }

  Ram ram;
  SymbolTable symbols;
  CrashScene scene;
};

TEST(ExplainTables, ps_in_a_pdpte_that_is_about_to_be_loaded) {
  LostRegisters m;
  m.giant_pages();
  const CrashCard card = m.card();
  EXPECT_EQ(card.rule, "inferred-reserved-ps-pdpte");
  EXPECT_EQ(card.layer, "guest");
  EXPECT_THAT(card.cause, HasSubstr("PDPTE[0] at 101000h = 83h"));
  expect_golden(card.text(), "one-gib-pages-svm.txt");
}

TEST(ExplainTables, a_return_address_leads_to_the_load_too) {
  LostRegisters m;
  m.giant_pages();
  m.ram.put(kCode + 0x200, {0xee, 0xc3});
  m.cpu().regs.rip = kCode + 0x201;
  m.ram.put(kCode + 0x40, {0xe8, 0xbb, 0x01, 0, 0, 0xe8, 0xb6, 0, 0, 0, 0xc3});
  EXPECT_FALSE(find_cr3_load(Facts(m.scene)));
  m.ram.put64(0x9000, kCode + 0x45);
  const auto load = find_cr3_load(Facts(m.scene));
  ASSERT_TRUE(load);
  EXPECT_EQ(load->linear, kCode + 0x100);
  EXPECT_EQ(load->text, "mov cr3, rdi");
}

TEST(ExplainTables, without_the_load_in_sight_the_tables_still_speak) {
  LostRegisters m;
  m.giant_pages();
  m.ram.put(kCode, {0xee, 0xc3});
  EXPECT_EQ(m.card().rule, "inferred-reserved-ps-pdpte");
  EXPECT_THAT(m.card().lines, Not(Contains(HasSubstr("mov cr3"))));
}

TEST(ExplainTables, what_the_model_has_is_not_blamed) {
  LostRegisters m;
  m.giant_pages();
  m.scene.cpuid.at(0x80000001).edx |= 1u << kPdpe1gb;
  m.expect_no_inference();
  EXPECT_EQ(find_other_tables(Facts(m.scene)).sound, 1u);
}

TEST(ExplainTables, what_the_silicon_takes_under_nested_paging_is_not_blamed) {
  LostRegisters m;
  m.giant_pages();
  m.scene.nested_paging = true;
  m.expect_no_inference();
  m.scene.host_has_pdpe1gb = false;
  EXPECT_EQ(m.card().rule, "inferred-reserved-ps-pdpte");
}

TEST(ExplainTables, nx_without_nxe) {
  LostRegisters m;
  m.two_mib_pages(1ull << 63);
  const CrashCard card = m.card();
  EXPECT_EQ(card.rule, "inferred-reserved-nx");
  EXPECT_THAT(card.cause, HasSubstr("reserved while EFER.NXE is 0"));
  // With NXE the code is merely kept from running there, as other address spaces do.
  m.cpu().sregs.efer |= spec::EFER_NXE;
  m.expect_no_inference();
}

TEST(ExplainTables, address_bits_that_the_model_lacks) {
  LostRegisters m;
  m.two_mib_pages(1ull << 47);  // as an encryption bit
  const CrashCard card = m.card();
  EXPECT_EQ(card.rule, "inferred-reserved-phys");
  EXPECT_THAT(card.text(), HasSubstr("MAXPHYADDR"));
  m.two_mib_pages(0);
  m.ram.put64(kNewPml4, kNewPdpt | 1ull << 51 | 3);
  EXPECT_EQ(m.card().rule, "inferred-reserved-phys");
  // An address bit that the model has leads elsewhere.
  m.two_mib_pages(1ull << 30);
  m.expect_no_inference();
}

TEST(ExplainTables, bit_8_of_a_pml4e_on_amd) {
  LostRegisters m;
  m.two_mib_pages(0);
  m.ram.put64(kNewPml4, kNewPdpt | 0x103);
  EXPECT_EQ(m.card().rule, "inferred-reserved-bit8");
}

TEST(ExplainTables, tables_that_map_rip_elsewhere_are_not_blamed) {
  LostRegisters m;
  m.giant_pages();
  m.ram.put64(kNewPdpt, 1_GiB | 0x83);
  m.expect_no_inference();
}

// A PD of 2 MiB pages looks like a PDPT of 1 GiB pages when its PDPT is taken for a root.
TEST(ExplainTables, lower_levels_of_sound_tables_are_no_roots) {
  LostRegisters m;
  m.two_mib_pages(0);
  OtherTables tables = find_other_tables(Facts(m.scene));
  EXPECT_TRUE(tables.broken.empty());
  EXPECT_EQ(tables.sound, 1u);
  m.ram.put64(kNewPml4, 0);  // and when the root is gone
  tables = find_other_tables(Facts(m.scene));
  EXPECT_TRUE(tables.broken.empty());
  EXPECT_EQ(tables.sound, 0u);
}

TEST(ExplainTables, sound_tables_beside_the_broken_ones_leave_it_open) {
  LostRegisters m;
  m.giant_pages();
  m.ram.put64(0x105000, kOldPdpt | 3);  // another root over the old tables
  const OtherTables tables = find_other_tables(Facts(m.scene));
  EXPECT_EQ(tables.broken.size(), 1u);
  EXPECT_EQ(tables.sound, 1u);
  m.expect_no_inference();
}

TEST(ExplainTables, roots_that_share_the_entry_are_one_cause) {
  LostRegisters m;
  m.giant_pages();
  m.ram.put64(0x105000, kNewPdpt | 3);
  const CrashCard card = m.card();
  EXPECT_EQ(card.rule, "inferred-reserved-ps-pdpte");
  EXPECT_THAT(card.text(), HasSubstr("1 more root"));
  // Roots with entries of their own at fault are not.
  m.ram.put64(0x105000, 0x106000 | 3);
  m.ram.put64(0x106000, 0x83);
  m.expect_no_inference();
}

TEST(ExplainTables, a_last_cr3_that_is_broken_itself_proves_nothing) {
  LostRegisters m;
  m.giant_pages();
  m.cpu().sregs.cr3 = kNewPml4;
  m.expect_no_inference();
  m.cpu().sregs.cr3 = 0x7fff'ffff'f000;
  m.expect_no_inference();
  m.cpu().sregs.cr3 = kOldPml4;
  m.cpu().sregs.cr0 = spec::CR0_PE;
  m.expect_no_inference();
}

TEST(ExplainTables, nothing_is_inferred_without_the_state_of_an_exit) {
  LostRegisters m;
  m.giant_pages();
  m.cpu().regs.rip = 0xfff0;
  m.cpu().sregs.cs.selector = 0xf000;
  m.expect_no_inference();
  m.scene.vcpus.clear();
  m.expect_no_inference();
}

TEST(ExplainTables, too_many_roots_say_nothing) {
  LostRegisters m;
  m.giant_pages();
  for (Gpa root = 0x11000; root < 0x100000; root += 4_KiB) m.ram.put64(root, kNewPdpt | 3);
  for (Gpa root = 0x107000; root < 0x180000; root += 4_KiB) m.ram.put64(root, kNewPdpt | 3);
  EXPECT_FALSE(find_other_tables(Facts(m.scene)).complete);
  m.expect_no_inference();
}

// All of the first GiB full of entries that lead into tables.
class HostileRam : public MemoryReader {
 public:
  explicit HostileRam(std::uint64_t seed) : seed_(seed) {}
  bool read(Gpa gpa, std::span<std::uint8_t> data) const override {
    ++reads;
    if (gpa >= 1_GiB || data.size() > 1_GiB - gpa) return false;
    for (std::size_t i = 0; i < data.size(); ++i) {
      const Gpa at = gpa + i;
      std::uint64_t word = ((at >> 3) + seed_) * 0x9e37'79b9'7f4a'7c15;
      word = (word ^ word >> 29) & 0x3fff'f000;
      data[i] = static_cast<std::uint8_t>((word | 3) >> (at % 8 * 8));
    }
    return true;
  }
  mutable std::size_t reads = 0;

 private:
  std::uint64_t seed_;
};

TEST(ExplainTables, memory_full_of_random_tables_takes_bounded_work) {
  for (std::uint64_t seed = 0; seed < 2; ++seed) {
    LostRegisters m;
    HostileRam ram(seed);
    m.scene.memory = &ram;
    m.card();
    EXPECT_LT(ram.reads, 20'000'000u);
  }
}

TEST(ExplainTables, any_tables_and_registers_make_a_card) {
  std::mt19937_64 random(7);
  LostRegisters m;
  for (int round = 0; round < 300; ++round) {
    for (int i = 0; i < 60; ++i)
      m.ram.put64(random() % kRamSize & ~7ull,
                  random() % 3 == 0 ? random() : random() % kRamSize & ~0xf18ull);
    for (int i = 0; i < 20; ++i)
      m.ram.put64((random() % 512) << 12, (random() % 512) << 12 | (random() & 0x83) | 1);
    m.ram.put64(kCode & ~7ull, random());
    CpuState& c = m.cpu();
    c.sregs.cr4 = random() & (spec::CR4_PAE | spec::CR4_PSE | spec::CR4_LA57 | spec::CR4_SMAP);
    c.sregs.efer = random() & (spec::EFER_LMA | spec::EFER_NXE | spec::EFER_LME);
    c.sregs.cs.l = random() & 1;
    c.sregs.cr3 = random() % 4 == 0 ? random() : (random() % 512) << 12;
    c.regs.rip = random() % 4 == 0 ? random() : kCode + random() % 8;
    m.scene.nested_paging = random() % 2 == 0;
    m.card();
  }
}

}  // namespace
}  // namespace vmm
