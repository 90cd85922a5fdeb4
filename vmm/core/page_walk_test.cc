#include "vmm/core/page_walk.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <random>

#include "vmm/base/bytes.h"
#include "vmm/core/memory_fake.h"

namespace vmm {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr std::uint64_t kP = 1, kRw = 2, kUs = 4, kPs = 0x80, kNx = 1ull << 63;
constexpr Gpa kRoot = 0x1000;

// 1 MiB of RAM from 0, and tables to be written into it.
struct Ram : FakeRam {
  Ram() : FakeRam(1_MiB) {}
};

// Everything allowed, as on a current processor.
PagingFeatures full_features() {
  PagingFeatures features = PagingFeatures::all_allowed();
  features.phys_bits = 40;
  return features;
}

PagingContext long_mode(bool level5 = false) {
  return {spec::CR0_PE | spec::CR0_PG | spec::CR0_WP,
          kRoot,
          spec::CR4_PAE | (level5 ? spec::CR4_LA57 : 0),
          spec::EFER_LME | spec::EFER_LMA | spec::EFER_NXE,
          spec::RFLAGS_FIXED,
          full_features()};
}
PagingContext pae_mode() {
  PagingContext c = long_mode();
  c.efer = spec::EFER_NXE;
  return c;
}
PagingContext mode_32() {
  PagingContext c = long_mode();
  c.efer = 0;
  c.cr4 = spec::CR4_PSE;
  return c;
}

// Level 4: PML4 1000h, PDPT 2000h, PD 3000h, PT 4000h; gva 201h pages up leads to 9000h.
constexpr Gva kGva = 0x401000;  // PML4E 0, PDPTE 0, PDE 2, PTE 1
struct LongTables : Ram {
  LongTables() {
    put64(0x1000, 0x2000 | kP | kRw | kUs);
    put64(0x2000, 0x3000 | kP | kRw | kUs);
    put64(0x3000 + 2 * 8, 0x4000 | kP | kRw | kUs);
    put64(0x4000 + 1 * 8, 0x9000 | kP | kRw | kUs);
  }
};

std::string rule(const Walk& walk) { return walk.failure ? walk.failure->rule : ""; }

TEST(PageWalk, without_paging_the_address_is_physical_and_32_bits_wide) {
  const Ram ram;
  PagingContext context = long_mode();
  context.cr0 = spec::CR0_PE;
  const Walk walk = walk_page(ram, context, 0x1'0000'1234, {});
  EXPECT_EQ(walk.mode, PagingMode::None);
  EXPECT_EQ(walk.gpa, 0x1234u);
  EXPECT_TRUE(describe(walk).empty());
}

TEST(PageWalk, walks_four_levels_and_names_each_entry) {
  const LongTables ram;
  const Walk walk = walk_page(ram, long_mode(), kGva + 0x2a, {});
  EXPECT_EQ(walk.gpa, 0x902au);
  EXPECT_EQ(walk.page_size, 4_KiB);
  EXPECT_TRUE(walk.writable && walk.user && walk.executable);
  EXPECT_THAT(describe(walk),
              ElementsAre("PML4E[0] at 1000h = 2007h P RW US", "PDPTE[0] at 2000h = 3007h P RW US",
                          "PDE[2] at 3010h = 4007h P RW US", "PTE[1] at 4008h = 9007h P RW US",
                          "-> 902ah (4 KiB page, writable, user)"));
}

TEST(PageWalk, walks_five_levels) {
  LongTables ram;
  ram.put64(0x5000 + 0x1ff * 8, 0x1000 | kP | kRw);
  PagingContext context = long_mode(true);
  context.cr3 = 0x5000;
  const Walk walk = walk_page(ram, context, 0xffff'0000'0000'0000 | kGva, {});
  EXPECT_EQ(walk.gpa, 0x9000u);
  ASSERT_EQ(walk.steps.size(), 5u);
  EXPECT_EQ(walk.steps[0].entry_name, "PML5E");
  EXPECT_EQ(walk.steps[0].index, 0x1ffu);
  EXPECT_FALSE(walk.user);  // the PML5E has no U/S
}

TEST(PageWalk, the_last_canonical_address_walks_and_the_next_is_a_general_protection_fault) {
  const LongTables ram;
  EXPECT_EQ(rule(walk_page(ram, long_mode(), 0x7fff'ffff'ffff, {})), "not-present");
  for (const Gva gva : {0x8000'0000'0000ull, 0xffff'7fff'ffff'ffffull, 0xffff'0000'0000'0000ull}) {
    const Walk walk = walk_page(ram, long_mode(), gva, {});
    EXPECT_EQ(rule(walk), "non-canonical");
    EXPECT_EQ(walk.failure->vector, 13u);
    EXPECT_EQ(walk.failure->level, 0u);
    EXPECT_TRUE(walk.steps.empty());
  }
  EXPECT_EQ(rule(walk_page(ram, long_mode(), 0xffff'8000'0000'0000, {})), "not-present");
  // With five levels the border is bit 56.
  EXPECT_EQ(rule(walk_page(ram, long_mode(true), 0x8000'0000'0000, {})), "not-present");
  EXPECT_EQ(rule(walk_page(ram, long_mode(true), 0x0100'0000'0000'0000, {})), "non-canonical");
}

TEST(PageWalk, large_pages_end_the_walk) {
  LongTables ram;
  ram.put64(0x3000 + 3 * 8, 0x12'3460'0000 | kPs | kP);
  Walk walk = walk_page(ram, long_mode(), 0x6abcde, {});
  EXPECT_EQ(walk.gpa, 0x12'346a'bcdeu);
  EXPECT_EQ(walk.page_size, 2_MiB);
  EXPECT_FALSE(walk.writable || walk.user);
  ram.put64(0x2000 + 8, 0x80'0000'0000 | 0x1000 | kPs | kP | kRw | kNx);  // bit 12 is PAT
  walk = walk_page(ram, long_mode(), 1_GiB + 0x1234567, {});
  EXPECT_EQ(walk.gpa, 0x80'0123'4567u);
  EXPECT_EQ(walk.page_size, 1_GiB);
  EXPECT_FALSE(walk.executable);
  EXPECT_EQ(describe(walk).back(), "-> 8001234567h (1 GiB page, writable, no execute)");
}

TEST(PageWalk, an_absent_entry_stops_the_walk_at_its_level) {
  const struct {
    Gpa entry;
    unsigned level;
  } kCases[] = {{0x1000, 4}, {0x2000, 3}, {0x3010, 2}, {0x4008, 1}};
  for (const auto& c : kCases) {
    LongTables ram;
    ram.put64(c.entry, ~kP);  // all other bits are ignored then
    const Walk walk = walk_page(ram, long_mode(), kGva, {.write = true, .user = true});
    EXPECT_EQ(rule(walk), "not-present");
    EXPECT_EQ(walk.failure->level, c.level);
    EXPECT_EQ(walk.failure->error_code, 6u);  // W|U
    EXPECT_EQ(walk.steps.size(), 5 - c.level);
    EXPECT_FALSE(walk.gpa);
  }
}

TEST(PageWalk, the_error_code_shows_a_fetch_only_with_nxe_or_smep) {
  LongTables ram;
  ram.put64(0x4008, 0);
  PagingContext context = long_mode();
  EXPECT_EQ(walk_page(ram, context, kGva, {.fetch = true}).failure->error_code, 0x10u);
  context.efer &= ~spec::EFER_NXE;
  EXPECT_EQ(walk_page(ram, context, kGva, {.fetch = true}).failure->error_code, 0u);
  context.cr4 |= spec::CR4_SMEP;
  EXPECT_EQ(walk_page(ram, context, kGva, {.fetch = true}).failure->error_code, 0x10u);
}

TEST(PageWalk, one_gib_pages_need_pdpe1gb) {
  LongTables ram;
  ram.put64(0x2000, 0xa3);
  PagingContext context = long_mode();
  context.efer &= ~spec::EFER_NXE;
  context.features.pdpe1gb = false;
  const Walk walk = walk_page(ram, context, 0x133025, {.fetch = true});
  ASSERT_EQ(rule(walk), "reserved-ps-pdpte");
  EXPECT_EQ(walk.failure->level, 3u);
  EXPECT_EQ(walk.failure->feature, "pdpe1gb");
  EXPECT_EQ(walk.failure->depends_on, "CPUID 80000001h.EDX[26] (pdpe1gb)");
  EXPECT_EQ(walk.failure->error_code, 9u);  // as KVM said of such a walk: P|RSVD
  EXPECT_EQ(page_fault_code_name(9), "P|RSVD");
  EXPECT_EQ(walk.failure->text,
            "PDPTE[0] at 2000h = a3h has PS (bit 7) set, a 1 GiB page: reserved while CPUID "
            "80000001h.EDX[26] (pdpe1gb) is 0");
  EXPECT_EQ(describe(walk).back(), "PDPTE[0] at 2000h = a3h P RW A PS  <-- reserved-ps-pdpte");
  context.features.pdpe1gb = true;
  EXPECT_EQ(walk_page(ram, context, 0x133025, {.fetch = true}).gpa, 0x133025u);
}

struct ReservedCase {
  Gpa entry;
  std::uint64_t value;
  unsigned level;
  const char* rule;
};

TEST(PageWalk, reserved_bits_of_the_64_bit_modes) {
  const ReservedCase kCases[] = {
      {0x1000, 0x2000 | kP | kPs, 4, "reserved-ps-pml4e"},
      {0x1000, 0x2000 | kP | 1ull << 40, 4, "reserved-phys"},
      {0x1000, 0x2000 | kP | 1ull << 51, 4, "reserved-phys"},
      {0x2000, 0x3000 | kP | 1ull << 40, 3, "reserved-phys"},
      {0x2000, kP | kPs | 1ull << 13, 3, "reserved-large-page"},
      {0x2000, kP | kPs | 1ull << 29, 3, "reserved-large-page"},
      {0x3010, kP | kPs | 1ull << 13, 2, "reserved-large-page"},
      {0x3010, kP | kPs | 1ull << 20, 2, "reserved-large-page"},
      {0x3010, 0x4000 | kP | 1ull << 45, 2, "reserved-phys"},
      {0x4008, 0x9000 | kP | 1ull << 40, 1, "reserved-phys"},
  };
  for (const ReservedCase& c : kCases) {
    LongTables ram;
    ram.put64(c.entry, c.value);
    const Walk walk = walk_page(ram, long_mode(), kGva, {});
    ASSERT_EQ(rule(walk), c.rule) << std::hex << c.value;
    EXPECT_EQ(walk.failure->level, c.level);
    EXPECT_EQ(walk.failure->error_code, 9u);
    EXPECT_THAT(walk.failure->text, HasSubstr("h has "));
  }
}

TEST(PageWalk, bits_that_look_reserved_and_are_not) {
  LongTables ram;
  // 39 is inside MAXPHYADDR 40; 62:52 are the software's; bit 12 of a large page is PAT.
  ram.put64(0x4008, 1ull << 39 | 0x7ffull << 52 | kP);
  EXPECT_EQ(walk_page(ram, long_mode(), kGva, {}).gpa, 1ull << 39);
  ram.put64(0x3010, 0x60'0000 | 0x1000 | kPs | kP);
  EXPECT_EQ(walk_page(ram, long_mode(), kGva, {}).gpa, 0x60'1000u);
  PagingContext context = long_mode();
  context.features.phys_bits = 39;
  ram.put64(0x3010, 1ull << 39 | kPs | kP);
  const Walk walk = walk_page(ram, context, kGva, {});
  EXPECT_EQ(rule(walk), "reserved-phys");
  EXPECT_EQ(walk.failure->depends_on, "CPUID 80000008h.EAX[7:0] (MAXPHYADDR)");
}

TEST(PageWalk, nx_is_reserved_without_nxe_and_names_the_missing_feature) {
  LongTables ram;
  ram.put64(0x3010, 0x4000 | kP | kNx);
  PagingContext context = long_mode();
  EXPECT_EQ(rule(walk_page(ram, context, kGva, {})), "");
  EXPECT_EQ(rule(walk_page(ram, context, kGva, {.fetch = true})), "nx");
  EXPECT_EQ(walk_page(ram, context, kGva, {.fetch = true}).failure->level, 2u);
  EXPECT_EQ(walk_page(ram, context, kGva, {.fetch = true}).failure->error_code, 0x11u);
  context.efer &= ~spec::EFER_NXE;
  const Walk walk = walk_page(ram, context, kGva, {});
  EXPECT_EQ(rule(walk), "reserved-nx");
  EXPECT_EQ(walk.failure->depends_on, "EFER.NXE");
  EXPECT_EQ(walk.failure->feature, "");
  context.features.nx = false;
  EXPECT_EQ(walk_page(ram, context, kGva, {}).failure->feature, "nx");
}

TEST(PageWalk, bit_8_of_the_upper_tables_is_amds_rule_alone) {
  LongTables ram;
  ram.put64(0x1000, 0x2000 | kP | 0x100);
  PagingContext context = long_mode();
  EXPECT_EQ(rule(walk_page(ram, context, kGva, {})), "");
  context.features.amd = true;
  EXPECT_EQ(rule(walk_page(ram, context, kGva, {})), "reserved-bit8");
  ram.put64(0x1000, 0x2000 | kP);
  ram.put64(0x2000, 0x3000 | kP | 0x100);  // ignored in a PDPTE that names a table
  EXPECT_EQ(rule(walk_page(ram, context, kGva, {})), "");
  context.cr4 |= spec::CR4_LA57;
  context.cr3 = 0x5000;
  ram.put64(0x5000, 0x1000 | kP | 0x100);
  EXPECT_EQ(walk_page(ram, context, kGva, {}).failure->level, 5u);
  ram.put64(0x5000, 0x1000 | kP | kPs);
  EXPECT_EQ(rule(walk_page(ram, context, kGva, {})), "reserved-ps-pml5e");
}

TEST(PageWalk, a_table_outside_ram_is_named_with_the_entry_that_leads_there) {
  LongTables ram;
  ram.put64(0x2000, 0x7000'0000 | kP);
  Walk walk = walk_page(ram, long_mode(), kGva, {});
  EXPECT_EQ(rule(walk), "table-not-ram");
  EXPECT_EQ(walk.failure->level, 2u);
  EXPECT_EQ(walk.failure->text,
            "PDE[2] would be at 70000010h, which is not RAM (PDPTE[0] = 70000001h)");
  PagingContext context = long_mode();
  context.cr3 = 0xffff'ffff'f000;
  walk = walk_page(ram, context, 0xffff'ffff'ffff'ffff, {});
  EXPECT_EQ(rule(walk), "table-not-ram");
  EXPECT_THAT(walk.failure->text, HasSubstr("(CR3 = fffffffff000h)"));
  EXPECT_THAT(describe(walk), ElementsAre(walk.failure->text));
}

struct RightsCase {
  std::uint64_t pte;
  std::uint64_t cr4;
  bool wp;
  bool ac;
  PageAccess access;
  const char* rule;  // "" when it is allowed
  std::uint32_t code;
};

TEST(PageWalk, rights) {
  constexpr std::uint64_t kSmep = spec::CR4_SMEP, kSmap = spec::CR4_SMAP;
  constexpr PageAccess kRead{}, kWrite{.write = true}, kFetch{.fetch = true};
  constexpr PageAccess kUserRead{.user = true}, kUserWrite{.write = true, .user = true};
  constexpr PageAccess kUserFetch{.fetch = true, .user = true};
  constexpr PageAccess kImplicit{.user = true, .implicit = true};
  const RightsCase kCases[] = {
      {0, 0, true, false, kRead, "", 0},
      {0, 0, true, false, kWrite, "read-only", 3},
      {0, 0, false, false, kWrite, "", 0},
      {kUs, 0, false, false, kUserWrite, "read-only", 7},
      {kUs | kRw, 0, true, false, kUserWrite, "", 0},
      {kRw, 0, true, false, kUserRead, "supervisor-page", 5},
      {kRw, 0, true, false, kUserFetch, "supervisor-page", 0x15},
      {kUs, 0, true, false, kUserFetch, "", 0},
      {kUs | kNx, 0, true, false, kUserFetch, "nx", 0x15},
      {kUs, 0, true, false, kFetch, "", 0},
      {kUs, kSmep, true, false, kFetch, "smep", 0x11},
      {0, kSmep, true, false, kFetch, "", 0},
      {kUs | kRw, kSmap, true, false, kRead, "smap", 1},
      {kUs | kRw, kSmap, true, true, kRead, "", 0},
      {kUs | kRw, kSmap, true, false, kWrite, "smap", 3},
      {kUs, kSmap, true, true, kWrite, "read-only", 3},
      {kUs, kSmap, true, false, kUserRead, "", 0},
      {kUs, kSmap, true, true, kImplicit, "smap", 1},
      {0, 0, true, false, kImplicit, "", 0},
      {kUs, kSmap, true, false, kFetch, "", 0},  // SMAP does not concern fetches
  };
  int number = 0;
  for (const RightsCase& c : kCases) {
    LongTables ram;
    ram.put64(0x4008, 0x9000 | kP | c.pte);
    PagingContext context = long_mode();
    context.cr4 |= c.cr4;
    if (!c.wp) context.cr0 &= ~spec::CR0_WP;
    if (c.ac) context.rflags |= spec::RFLAGS_AC;
    const Walk walk = walk_page(ram, context, kGva, c.access);
    EXPECT_EQ(rule(walk), c.rule) << "case " << number;
    EXPECT_EQ(walk.gpa.has_value(), *c.rule == 0);
    if (walk.failure) {
      EXPECT_EQ(walk.failure->error_code, c.code) << "case " << number;
      EXPECT_EQ(walk.failure->level, 1u);
    }
    ++number;
  }
}

TEST(PageWalk, a_right_is_the_and_of_all_entries_and_the_entry_that_takes_it_is_named) {
  LongTables ram;
  ram.put64(0x2000, 0x3000 | kP | kUs);
  const Walk walk = walk_page(ram, long_mode(), kGva, {.write = true});
  EXPECT_EQ(rule(walk), "read-only");
  EXPECT_EQ(walk.failure->level, 3u);
  EXPECT_EQ(walk.failure->text,
            "PDPTE[0] at 2000h = 3005h: R/W (bit 1) clear, and CR0.WP holds ring 0 to it");
  EXPECT_EQ(walk.failure->depends_on, "CR0.WP");
}

TEST(PageWalk, pae_has_four_pdptes_without_rights) {
  Ram ram;
  PagingContext context = pae_mode();
  context.cr3 = 0x1fe0;  // 32-byte aligned
  ram.put64(0x1fe0 + 3 * 8, 0x3000 | kP);
  ram.put64(0x3000 + 0x1ff * 8, 0x4000 | kP | kRw | kUs);
  ram.put64(0x4000 + 0x1ff * 8, 0x9000 | kP | kRw | kUs | kNx);
  const Walk walk = walk_page(ram, context, 0xffff'ffff, {.write = true, .user = true});
  EXPECT_EQ(walk.gpa, 0x9fffu);
  EXPECT_EQ(walk.steps.size(), 3u);
  EXPECT_EQ(rule(walk_page(ram, context, 0xffff'ffff, {.fetch = true})), "nx");
  EXPECT_EQ(describe(walk)[0], "PDPTE[3] at 1ff8h = 3001h P");
  EXPECT_EQ(rule(walk_page(ram, context, 0, {})), "not-present");
}

TEST(PageWalk, pae_reserved_bits) {
  Ram ram;
  const PagingContext context = pae_mode();
  for (const unsigned index : {1u, 2u, 5u, 6u, 7u, 8u, 40u, 52u, 63u}) {
    ram.put64(kRoot, 0x3000 | kP | 1ull << index);
    const Walk walk = walk_page(ram, context, 0, {});
    ASSERT_EQ(rule(walk), index < 9 ? "reserved-pae-pdpte" : "reserved-phys") << index;
    EXPECT_EQ(walk.failure->vector, 13u);  // by the MOV to CR3
  }
  for (const unsigned index : {3u, 4u, 9u, 11u}) {  // PWT, PCD, ignored
    ram.put64(kRoot, 0x3000 | kP | 1ull << index);
    EXPECT_EQ(rule(walk_page(ram, context, 0, {})), "not-present") << index;
  }
  for (const unsigned index : {40u, 52u, 62u}) {  // 62:52 are reserved here, unlike in long mode
    ram.put64(0x3000, kPs | kP | 1ull << index);
    EXPECT_EQ(rule(walk_page(ram, context, 0, {})), "reserved-phys") << index;
  }
  ram.put64(0x3000, kPs | kP | 1ull << 39);
  EXPECT_EQ(walk_page(ram, context, 0x1f'ffff, {}).gpa, (1ull << 39) + 0x1f'ffff);
}

TEST(PageWalk, two_levels_of_32_bits) {
  Ram ram;
  const PagingContext context = mode_32();
  ram.put32(0x1000 + 0x3ff * 4, 0x2000 | kP | kRw);
  ram.put32(0x2000 + 0x3fe * 4, 0xfee0'0000 | kP | kRw);
  const Walk walk = walk_page(ram, context, 0xffff'e123, {});
  EXPECT_EQ(walk.gpa, 0xfee0'0123u);
  EXPECT_THAT(describe(walk),
              ElementsAre("PDE[1023] at 1ffch = 2003h P RW", "PTE[1022] at 2ff8h = fee00003h P RW",
                          "-> fee00123h (4 KiB page, writable)"));
}

TEST(PageWalk, four_mib_pages_need_cr4_pse) {
  Ram ram;
  PagingContext context = mode_32();
  ram.put32(0x1000, 0x2000 | kPs | kP);  // as a 4 MiB page: bits 39:32 = 1
  ram.put32(0x2000, 0x9000 | kP);
  EXPECT_EQ(walk_page(ram, context, 0x123, {}).gpa, 0x1'0000'0123u);
  EXPECT_EQ(walk_page(ram, context, 0x123, {}).page_size, 4_MiB);
  context.cr4 = 0;
  EXPECT_EQ(walk_page(ram, context, 0x123, {}).gpa, 0x9123u);
}

TEST(PageWalk, pse36_by_maxphyaddr) {
  Ram ram;
  PagingContext context = mode_32();
  ram.put32(0x1000, 0xffc0'0000 | 0xffu << 13 | kPs | kP);
  EXPECT_EQ(walk_page(ram, context, 0x3f'ffff, {}).gpa, 0xff'ffff'ffffu);
  context.features.phys_bits = 46;  // PSE-36 stops at 40
  EXPECT_EQ(walk_page(ram, context, 0, {}).gpa, 0xff'ffc0'0000u);
  context.features.phys_bits = 36;
  EXPECT_EQ(rule(walk_page(ram, context, 0, {})), "reserved-large-page");
  ram.put32(0x1000, 0xfu << 13 | kPs | kP);
  EXPECT_EQ(walk_page(ram, context, 0, {}).gpa, 0xf'0000'0000u);
  ram.put32(0x1000, 1u << 21 | kPs | kP);
  EXPECT_EQ(rule(walk_page(ram, context, 0, {})), "reserved-large-page");
  context.features.pse36 = false;
  EXPECT_EQ(rule(walk_page(ram, context, 0, {})), "reserved-large-page");
  ram.put32(0x1000, 1u << 13 | kPs | kP);
  const Walk walk = walk_page(ram, context, 0, {});
  EXPECT_EQ(rule(walk), "reserved-pse36");
  EXPECT_EQ(walk.failure->feature, "pse36");
}

TEST(PageWalk, features_come_from_the_cpuid_the_guest_sees) {
  CpuidTable cpuid;
  cpuid.at(0) = {0xd, 0x68747541, 0x444d4163, 0x69746e65};
  cpuid.at(1).edx = 1u << 3 | 1u << 6 | 1u << 17;
  cpuid.at(7).ecx = 1u << 16;
  cpuid.at(0x80000001).edx = 1u << 20 | 1u << 26;
  cpuid.at(0x80000008).eax = 43;
  const PagingFeatures f = PagingFeatures::from(cpuid);
  EXPECT_EQ(f.phys_bits, 43u);
  EXPECT_TRUE(f.pse && f.pse36 && f.pae && f.nx && f.pdpe1gb && f.la57 && f.amd);
  cpuid.at(0x80000008).eax = 200;  // nonsense is held to what the format can carry
  EXPECT_EQ(PagingFeatures::from(cpuid).phys_bits, 52u);
  cpuid.at(0x80000008).eax = 20;
  EXPECT_EQ(PagingFeatures::from(cpuid).phys_bits, 32u);
  EXPECT_FALSE(PagingFeatures::from(CpuidTable{}).pdpe1gb);
}

TEST(PageLint, a_sound_set_of_tables_has_no_findings) {
  const LongTables ram;
  EXPECT_TRUE(lint_paging(ram, long_mode(), 1'000'000).empty());
  PagingContext off = long_mode();
  off.cr0 = 0;
  EXPECT_TRUE(lint_paging(ram, off).empty());
}

TEST(PageLint, names_a_rule_once_with_the_run_of_entries) {
  LongTables ram;
  for (unsigned i = 0; i < 32; ++i) ram.put64(0x2000 + i * 8, i * 1_GiB | kPs | kP | kRw);
  PagingContext context = long_mode();
  context.features.pdpe1gb = false;
  const auto findings = lint_paging(ram, context);
  ASSERT_EQ(findings.size(), 1u);
  EXPECT_EQ(findings[0].rule, "reserved-ps-pdpte");
  EXPECT_EQ(findings[0].feature, "pdpe1gb");
  EXPECT_EQ(findings[0].entries, 32u);
  EXPECT_EQ(findings[0].text,
            "PDPTE[0..31] of the table at 2000h: PS (bit 7) set, a 1 GiB page: reserved while "
            "CPUID 80000001h.EDX[26] (pdpe1gb) is 0");
}

TEST(PageLint, counts_scattered_entries_and_reports_several_rules) {
  LongTables ram;
  ram.put64(0x4000 + 7 * 8, 1ull << 45 | kP);
  ram.put64(0x4000 + 9 * 8, 1ull << 46 | kP);
  ram.put64(0x3000 + 5 * 8, 0xf000'0000 | kP);  // a table that is not RAM
  PagingContext context = long_mode();
  context.features.nx = false;
  std::map<std::string, PagingFinding> by_rule;
  for (auto& finding : lint_paging(ram, context)) by_rule[finding.rule] = finding;
  ASSERT_EQ(by_rule.size(), 3u);
  EXPECT_EQ(by_rule["reserved-phys"].entries, 2u);
  EXPECT_THAT(by_rule["reserved-phys"].text,
              HasSubstr("PTE[7] of the table at 4000h and 1 more: "));
  EXPECT_EQ(by_rule["table-not-ram"].text,
            "PDE[5] of the table at 3000h: f0000001h names a table that is not RAM");
  EXPECT_EQ(by_rule["nxe-without-cpuid"].text, "EFER.NXE is 1, CPUID 80000001h.EDX[20] (nx) is 0");
  context.cr3 = 0xffff'f000;
  bool told = false;
  for (const auto& finding : lint_paging(ram, context)) told |= finding.rule == "table-not-ram";
  EXPECT_TRUE(told);
}

TEST(PageLint, recursive_mappings_end) {
  for (const bool five : {false, true}) {
    LongTables ram;
    ram.put64(0x1000 + 511 * 8, 0x1000 | kP | kRw);
    for (unsigned i = 1; i < 500; ++i) ram.put64(0x1000 + i * 8, 0x1000 | kP);  // all to itself
    EXPECT_TRUE(lint_paging(ram, long_mode(five)).empty());
    Ram small;
    small.put32(0x1000 + 1023 * 4, 0x1000 | kP);
    EXPECT_TRUE(lint_paging(small, mode_32()).empty());
    small.put64(0x1000, 0x1000 | kP);
    EXPECT_TRUE(lint_paging(small, pae_mode()).empty());
  }
}

TEST(PageLint, stops_at_its_budget_and_says_so) {
  const LongTables ram;
  EXPECT_TRUE(lint_paging(ram, long_mode(), 4 * 512).empty());
  const auto findings = lint_paging(ram, long_mode(), 4 * 512 - 1);
  ASSERT_EQ(findings.size(), 1u);
  EXPECT_EQ(findings[0].rule, "lint-incomplete");
}

// A second opinion on the 64-bit modes, written the other way round: masks first, in the manner of
// a hardware description. Random tables must get the same verdict from both.
bool second_opinion(const Ram& ram, const PagingContext& c, Gva gva, const PageAccess& a,
                    Gpa& result, std::uint32_t& code) {
  const int levels = (c.cr4 & spec::CR4_LA57) != 0 ? 5 : 4;
  const bool nxe = (c.efer & spec::EFER_NXE) != 0;
  code = (a.write ? 2u : 0) | (a.user ? 4u : 0) |
         (a.fetch && (nxe || (c.cr4 & spec::CR4_SMEP) != 0) ? 16u : 0);
  const int unused = 64 - (levels == 5 ? 57 : 48);
  if (static_cast<Gva>(static_cast<std::int64_t>(gva << unused) >> unused) != gva) return false;
  const std::uint64_t high = (low_mask(52) & ~low_mask(c.features.phys_bits)) | (nxe ? 0 : kNx);
  std::uint64_t all = kRw | kUs, any = 0;
  Gpa table = c.cr3 & ~0xfffull;
  for (int level = levels;; --level) {
    const int shift = 12 + 9 * (level - 1);
    const auto entry = ram.read_value<std::uint64_t>(table + (gva >> shift & 511) * 8);
    if (!entry || (*entry & 1) == 0) return false;
    const bool large = (*entry & kPs) != 0;
    std::uint64_t reserved = high;
    if (level >= 4) reserved |= kPs | (c.features.amd ? 0x100 : 0);
    if (level == 3 && !c.features.pdpe1gb) reserved |= kPs;
    if (level == 3 && large) reserved |= 0x3fff'e000;
    if (level == 2 && large) reserved |= 0x1f'e000;
    if ((*entry & reserved) != 0) {
      code |= 9;
      return false;
    }
    all &= *entry;
    any |= *entry;
    const std::uint64_t page = 1ull << shift;
    result = (*entry & low_mask(52) & ~0xfffull & ~(page - 1)) | (gva & (page - 1));
    if (level == 1 || (large && level <= 3)) break;
    table = *entry & low_mask(52) & ~0xfffull;
  }
  const bool user_page = (all & kUs) != 0, writable = (all & kRw) != 0, nx = (any & kNx) != 0;
  bool allowed = !a.user || user_page;
  if (a.fetch) {
    allowed = allowed && !nx && (a.user || !user_page || (c.cr4 & spec::CR4_SMEP) == 0);
  } else {
    if (!a.user && user_page && (c.cr4 & spec::CR4_SMAP) != 0 && (c.rflags & spec::RFLAGS_AC) == 0)
      allowed = false;
    if (a.write && !writable && (a.user || (c.cr0 & spec::CR0_WP) != 0)) allowed = false;
  }
  if (!allowed) code |= 1;
  return allowed;
}

TEST(PageWalk, agrees_with_a_second_opinion_over_random_tables) {
  std::mt19937_64 random(1);
  Ram ram;
  int good = 0;
  for (int round = 0; round < 5000; ++round) {
    for (int i = 0; i < 64; ++i) {
      // Entries mostly sound, with each bit that matters flipped now and then.
      std::uint64_t entry = (random() % 16) << 12 | 0x67;
      if (random() % 4 == 0) entry ^= 1ull << (random() % 13);
      if (random() % 6 == 0) entry ^= 1ull << (random() % 64);
      if (random() % 8 == 0) entry = (entry & 0xfff & ~0x1000ull) | kPs | (random() % 8) << 30;
      ram.put64(random() % 16 * 0x1000 + random() % 4 * 8, entry);
    }
    PagingContext c = long_mode(random() % 2 == 0);
    c.cr3 = random() % 16 << 12;
    if (random() % 2 == 0) c.cr0 &= ~spec::CR0_WP;
    if (random() % 2 == 0) c.cr4 |= spec::CR4_SMEP;
    if (random() % 2 == 0) c.cr4 |= spec::CR4_SMAP;
    if (random() % 2 == 0) c.efer &= ~spec::EFER_NXE;
    if (random() % 2 == 0) c.rflags |= spec::RFLAGS_AC;
    c.features.pdpe1gb = random() % 2 == 0;
    c.features.amd = random() % 2 == 0;
    c.features.phys_bits = 36 + static_cast<unsigned>(random() % 17);
    for (int i = 0; i < 20; ++i) {
      Gva gva = random() % 4 << 39 | random() % 4 << 30 | random() % 4 << 21 | random() % 4 << 12 |
                random() % 4096;
      if (random() % 16 == 0) gva ^= 1ull << (random() % 64);
      const PageAccess access{
          .write = random() % 2 == 0, .fetch = random() % 3 == 0, .user = random() % 2 == 0};
      const Walk walk = walk_page(ram, c, gva, access);
      Gpa gpa = 0;
      std::uint32_t code = 0;
      const bool expected = second_opinion(ram, c, gva, access, gpa, code);
      ASSERT_EQ(walk.gpa.has_value(), expected) << (walk.failure ? walk.failure->text : "");
      if (expected) {
        ASSERT_EQ(*walk.gpa, gpa);
        ++good;
      } else if (walk.failure->vector == 14) {
        ASSERT_EQ(walk.failure->error_code, code) << walk.failure->text;
      }
    }
  }
  EXPECT_GT(good, 5000);
}

TEST(PageWalk, a_table_is_told_from_other_data_by_its_reserved_bits) {
  LongTables ram;
  PagingContext c = long_mode();
  EXPECT_TRUE(table_keeps_rules(ram, c, 0x1000, 4));
  EXPECT_TRUE(table_keeps_rules(ram, c, 0x4000, 1));
  EXPECT_FALSE(table_keeps_rules(ram, c, 0x1000, 5));  // no such level in this mode
  EXPECT_FALSE(table_keeps_rules(ram, c, 0x1000, 0));
  EXPECT_FALSE(table_keeps_rules(ram, c, 1_MiB - 8, 4));  // runs out of RAM
  ram.put64(0x3000 + 511 * 8, 511 * 2_MiB | kP | kPs);
  EXPECT_TRUE(table_keeps_rules(ram, c, 0x3000, 2));
  EXPECT_FALSE(table_keeps_rules(ram, c, 0x3000, 3));  // no address of a 1 GiB page
  EXPECT_FALSE(table_keeps_rules(ram, c, 0x3000, 4));  // PS in a PML4E
  ram.put64(0x3000 + 511 * 8, kPs);                    // not present: anything goes
  EXPECT_TRUE(table_keeps_rules(ram, c, 0x3000, 4));
}

TEST(PageWalk, random_memory_never_crashes_a_walk_or_the_lint) {
  std::mt19937_64 random(2);
  Ram ram;
  for (std::uint8_t& byte : ram.bytes()) byte = static_cast<std::uint8_t>(random());
  for (int i = 0; i < 20000; ++i) {
    PagingContext c{random() | spec::CR0_PG | spec::CR0_PE,
                    random() & 0xfffff,
                    random(),
                    random(),
                    random(),
                    full_features()};
    c.features.phys_bits = 32 + static_cast<unsigned>(random() % 21);
    const PageAccess access{
        .write = random() % 2 == 0, .fetch = random() % 2 == 0, .user = random() % 2 == 0};
    const Walk walk = walk_page(ram, c, random(), access);
    EXPECT_NE(walk.gpa.has_value(), walk.failure.has_value());
    describe(walk);
    if (i % 500 == 0) lint_paging(ram, c, 20000);
  }
}

}  // namespace
}  // namespace vmm
