#include "vmm/nested/npt.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>

#include "vmm/core/cpu_state.h"
#include "vmm/core/memory_fake.h"

namespace vmm::nested {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr std::uint64_t kP = 1, kRw = 2, kUs = 4, kPs = 0x80, kNx = 1ull << 63;
constexpr std::uint64_t kAll = kP | kRw | kUs;
constexpr std::uint64_t kFinal = 1ull << 32, kTables = 1ull << 33;
constexpr std::uint64_t kW = 2, kU = 4, kRsv = 8, kId = 16;
constexpr NptAccess kRead{};
constexpr NptAccess kWrite{.write = true};
constexpr NptAccess kFetch{.fetch = true};

constexpr Gpa kRoot = 0x1000, kPage = 0x9000, kGpa = 0x401234;  // PDE 2, PTE 1

NptContext context_of(PagingMode mode) {
  NptContext context;
  context.n_cr3 = kRoot;
  context.features = PagingFeatures::all_allowed();
  context.features.phys_bits = 40;
  context.features.amd = true;
  const bool is_long = mode == PagingMode::Level4 || mode == PagingMode::Level5;
  context.cr4 = mode == PagingMode::Bits32 ? spec::CR4_PSE : spec::CR4_PAE;
  if (mode == PagingMode::Level5) context.cr4 |= spec::CR4_LA57;
  if (mode != PagingMode::Bits32) context.efer = spec::EFER_NXE;
  if (is_long) context.efer |= spec::EFER_LME | spec::EFER_LMA;
  return context;
}

// Tables of each format that lead from kGpa's page to kPage, one page a table. `path` has the
// addresses of the entries used, from the root down.
struct Tables : FakeRam {
  explicit Tables(PagingMode table_mode) : FakeRam(1_MiB), mode(table_mode) {
    Gpa table = kRoot;
    const unsigned levels = mode == PagingMode::Level5   ? 5
                            : mode == PagingMode::Level4 ? 4
                            : mode == PagingMode::Pae    ? 3
                                                         : 2;
    const bool small = mode == PagingMode::Bits32;
    for (unsigned level = levels; level >= 1; --level) {
      const unsigned shift = 12 + (level - 1) * (small ? 10 : 9);
      const std::uint64_t index = (kGpa >> shift) & (small ? 1023 : 511);
      path.push_back(table + index * (small ? 4 : 8));
      table = level == 1 ? kPage : table + 0x1000;
      const bool pdpe = mode == PagingMode::Pae && level == 3;
      set(path.size() - 1, table | (pdpe ? kP : kAll));
    }
  }
  void set(std::size_t step, std::uint64_t value) {
    if (mode == PagingMode::Bits32)
      put32(path[step], static_cast<std::uint32_t>(value));
    else
      put64(path[step], value);
  }
  std::uint64_t entry(std::size_t step) const {
    return mode == PagingMode::Bits32 ? *read_value<std::uint32_t>(path[step])
                                      : *read_value<std::uint64_t>(path[step]);
  }
  void change(std::size_t step, std::uint64_t set_bits, std::uint64_t clear_bits = 0) {
    set(step, (entry(step) | set_bits) & ~clear_bits);
  }
  std::size_t last() const { return path.size() - 1; }

  PagingMode mode;
  std::vector<Gpa> path;
};

NptWalk walk(const Tables& tables, const NptAccess& access = kRead, Gpa gpa = kGpa) {
  return walk_npt(tables, context_of(tables.mode), gpa, access);
}
std::string rule_of(const NptWalk& walk) {
  return walk.walk.failure ? walk.walk.failure->rule : "none";
}

constexpr std::array kModes = {PagingMode::Bits32, PagingMode::Pae, PagingMode::Level4,
                               PagingMode::Level5};

class NptModes : public testing::TestWithParam<PagingMode> {};

TEST_P(NptModes, SmallPageIsReached) {
  const Tables tables(GetParam());
  for (const NptAccess& access : {kRead, kWrite, kFetch}) {
    const NptWalk result = walk(tables, access);
    EXPECT_EQ(rule_of(result), "none");
    EXPECT_EQ(result.walk.gpa, kPage + 0x234);
    EXPECT_EQ(result.walk.page_size, 4_KiB);
    EXPECT_EQ(result.walk.mode, GetParam());
    EXPECT_EQ(result.walk.steps.size(), tables.path.size());
    EXPECT_EQ(result.exit_info1, 0u);
  }
}

TEST_P(NptModes, EachLevelMayBeNotPresent) {
  for (std::size_t step = 0; step < Tables(GetParam()).path.size(); ++step) {
    Tables tables(GetParam());
    tables.change(step, 0, kP);
    EXPECT_EQ(rule_of(walk(tables)), "not-present") << step;
    EXPECT_EQ(walk(tables).exit_info1, kFinal | kU);
    EXPECT_EQ(walk(tables, kWrite).exit_info1, kFinal | kU | kW);
    EXPECT_EQ(walk(tables, kFetch).exit_info1, kFinal | kU | kId);
    EXPECT_EQ(walk(tables, {.guest_table = true}).exit_info1, kTables | kU | kW);
  }
}

TEST_P(NptModes, EachLevelMustBeAUsers) {
  // The entries of a PDPT in PAE mode have no rights.
  for (std::size_t step = GetParam() == PagingMode::Pae ? 1 : 0;
       step < Tables(GetParam()).path.size(); ++step) {
    Tables tables(GetParam());
    tables.change(step, 0, kUs);
    const NptWalk result = walk(tables);
    EXPECT_EQ(rule_of(result), "supervisor-page") << step;
    EXPECT_THAT(result.walk.failure->text, HasSubstr("each access of a guest counts as a user's"));
    EXPECT_EQ(result.exit_info1, kFinal | kP | kU);
  }
}

// 15.25.7: the hypervisor's CR0.WP does not matter.
TEST_P(NptModes, WritesNeedRwOnEachLevel) {
  for (std::size_t step = GetParam() == PagingMode::Pae ? 1 : 0;
       step < Tables(GetParam()).path.size(); ++step) {
    Tables tables(GetParam());
    tables.change(step, 0, kRw);
    EXPECT_EQ(rule_of(walk(tables)), "none");
    EXPECT_EQ(rule_of(walk(tables, kFetch)), "none");
    EXPECT_EQ(rule_of(walk(tables, kWrite)), "read-only") << step;
    EXPECT_EQ(walk(tables, kWrite).exit_info1, kFinal | kP | kU | kW);
    // The guest's page tables are written, whatever the guest does.
    EXPECT_EQ(walk(tables, {.guest_table = true}).exit_info1, kTables | kP | kU | kW);
  }
}

TEST_P(NptModes, TableOutsideOfRamIsNamed) {
  Tables tables(GetParam());
  tables.set(0, 0x7ff00000 | (GetParam() == PagingMode::Pae ? kP : kAll));
  EXPECT_EQ(rule_of(walk(tables)), "table-not-ram");
  NptContext context = context_of(GetParam());
  context.n_cr3 = 0x7ff00000;
  const NptWalk result = walk_npt(tables, context, kGpa, kRead);
  EXPECT_EQ(rule_of(result), "table-not-ram");
  EXPECT_THAT(result.walk.failure->text, HasSubstr("(N_CR3 = 7ff00000h)"));
}

INSTANTIATE_TEST_SUITE_P(All, NptModes, testing::ValuesIn(kModes));

// NX, reserved bits and large pages are those of 64-bit entries.
class NptWide : public testing::TestWithParam<PagingMode> {};

TEST_P(NptWide, FetchNeedsNoNx) {
  for (std::size_t step = GetParam() == PagingMode::Pae ? 1 : 0;
       step < Tables(GetParam()).path.size(); ++step) {
    Tables tables(GetParam());
    tables.change(step, kNx);
    EXPECT_EQ(rule_of(walk(tables)), "none");
    EXPECT_EQ(rule_of(walk(tables, kFetch)), "nx") << step;
    EXPECT_EQ(walk(tables, kFetch).exit_info1, kFinal | kP | kU | kId);
  }
}

// EFER.NXE is the hypervisor's.
TEST_P(NptWide, NxIsReservedWithoutNxe) {
  Tables tables(GetParam());
  tables.change(tables.last(), kNx);
  NptContext context = context_of(GetParam());
  context.efer &= ~spec::EFER_NXE;
  const NptWalk result = walk_npt(tables, context, kGpa, kRead);
  EXPECT_EQ(rule_of(result), "reserved-nx");
  EXPECT_EQ(result.walk.failure->depends_on, "EFER.NXE");
  EXPECT_EQ(result.exit_info1, kFinal | kP | kU | kRsv);
}

TEST_P(NptWide, AddressBeyondMaxphyaddrIsReservedOnEachLevel) {
  for (std::size_t step = 0; step < Tables(GetParam()).path.size(); ++step) {
    Tables tables(GetParam());
    tables.change(step, 1ull << 40);
    const NptWalk result = walk(tables, kWrite);
    EXPECT_EQ(rule_of(result), "reserved-phys") << step;
    EXPECT_EQ(result.exit_info1, kFinal | kP | kU | kRsv | kW) << step;
    EXPECT_EQ(result.walk.failure->vector, 14u);
    EXPECT_EQ(result.walk.failure->depends_on, "CPUID 80000008h.EAX[7:0] (MAXPHYADDR)");
  }
}

TEST_P(NptWide, TwoMiBPageIsReached) {
  Tables tables(GetParam());
  tables.set(tables.last() - 1, 0x600000 | kAll | kPs);
  const NptWalk result = walk(tables);
  EXPECT_EQ(result.walk.gpa, 0x601234u);
  EXPECT_EQ(result.walk.page_size, 2_MiB);
  tables.change(tables.last() - 1, 1 << 13);
  EXPECT_EQ(rule_of(walk(tables)), "reserved-large-page");
}

INSTANTIATE_TEST_SUITE_P(All, NptWide,
                         testing::Values(PagingMode::Pae, PagingMode::Level4, PagingMode::Level5));

class NptLong : public testing::TestWithParam<PagingMode> {};

TEST_P(NptLong, OneGiBPageHangsOnCpuid) {
  Tables tables(GetParam());
  const std::size_t pdpe = tables.last() - 2;
  tables.set(pdpe, 0x80000000 | kAll | kPs);
  EXPECT_EQ(walk(tables).walk.gpa, 0x80401234u);
  EXPECT_EQ(walk(tables).walk.page_size, 1_GiB);
  NptContext context = context_of(GetParam());
  context.features.pdpe1gb = false;
  const NptWalk result = walk_npt(tables, context, kGpa, kRead);
  EXPECT_EQ(rule_of(result), "reserved-ps-pdpte");
  EXPECT_EQ(result.walk.failure->feature, "pdpe1gb");
  EXPECT_EQ(result.exit_info1, kFinal | kP | kU | kRsv);
}

TEST_P(NptLong, RootEntriesHaveReservedBits) {
  for (std::size_t step = 0; step < Tables(GetParam()).path.size() - 3; ++step) {
    Tables tables(GetParam());
    tables.change(step, kPs);
    EXPECT_THAT(rule_of(walk(tables)), HasSubstr("reserved-ps-pml"));
    tables.change(step, 1 << 8, kPs);
    EXPECT_EQ(rule_of(walk(tables)), "reserved-bit8");
  }
}

INSTANTIATE_TEST_SUITE_P(All, NptLong, testing::Values(PagingMode::Level4, PagingMode::Level5));

TEST(Npt, PhysicalAddressesAreNotSignExtended) {
  Tables tables(PagingMode::Level4);
  // PML4E 511: bit 47 is set, and the bits above are not.
  tables.put64(kRoot + 511 * 8, tables.entry(0));
  const NptWalk result = walk(tables, kRead, (511ull << 39) | kGpa);
  EXPECT_EQ(rule_of(result), "none");
  EXPECT_EQ(result.walk.gpa, kPage + 0x234);
}

TEST(Npt, AddressOutOfTheTablesReachIsNotPresent) {
  for (const auto& [mode, bits] : {std::pair(PagingMode::Bits32, 32u),
                                   {PagingMode::Pae, 32u},
                                   {PagingMode::Level4, 48u},
                                   {PagingMode::Level5, 57u}}) {
    const Tables tables(mode);
    const NptWalk result = walk(tables, kWrite, (1ull << bits) | kGpa);
    EXPECT_EQ(rule_of(result), "out-of-reach");
    EXPECT_EQ(result.exit_info1, kFinal | kU | kW);
    EXPECT_FALSE(result.walk.gpa);
    EXPECT_THAT(describe(result),
                ElementsAre(HasSubstr("that the nested tables translate"), HasSubstr("EXITINFO1")));
  }
}

TEST(Npt, FourMiBPageOfLegacyTables) {
  Tables tables(PagingMode::Bits32);
  tables.set(0, 0x80000000 | kAll | kPs);
  EXPECT_EQ(walk(tables).walk.gpa, 0x80001234u);
  EXPECT_EQ(walk(tables).walk.page_size, 4_MiB);
  tables.change(0, 1 << 21);
  EXPECT_EQ(rule_of(walk(tables)), "reserved-large-page");
}

// What MOV to CR3 refuses with #GP is a nested page fault here.
TEST(Npt, ReservedBitOfAPdpeIsANestedPageFault) {
  Tables tables(PagingMode::Pae);
  tables.change(0, kRw);
  const NptWalk result = walk(tables);
  EXPECT_EQ(rule_of(result), "reserved-pae-pdpte");
  EXPECT_EQ(result.exit_info1, kFinal | kP | kU | kRsv);
}

// SMEP and SMAP of the hypervisor are for its own accesses.
TEST(Npt, SmepAndSmapDoNotCount) {
  const Tables tables(PagingMode::Level4);
  NptContext context = context_of(PagingMode::Level4);
  context.cr4 |= spec::CR4_SMEP | spec::CR4_SMAP;
  EXPECT_EQ(rule_of(walk_npt(tables, context, kGpa, kFetch)), "none");
  EXPECT_EQ(rule_of(walk_npt(tables, context, kGpa, kRead)), "none");
}

// Table 15-21.
TEST(Npt, GmetReadsUserBitsForFetches) {
  struct Case {
    std::uint64_t set, clear;
    bool user, supervisor;  // may execute
  };
  for (const Case& c : {Case{kNx, 0, false, false},
                        {kNx, kUs, false, false},
                        {0, 0, true, false},
                        {0, kUs, true, true}}) {
    Tables tables(PagingMode::Level4);
    tables.change(tables.last(), c.set, c.clear);
    NptContext context = context_of(PagingMode::Level4);
    context.gmet = true;
    context.cr4 |= spec::CR4_SMEP;  // the hypervisor's own
    const NptWalk user = walk_npt(tables, context, kGpa, {.fetch = true, .guest_user = true});
    const NptWalk supervisor = walk_npt(tables, context, kGpa, kFetch);
    EXPECT_EQ(rule_of(user) == "none", c.user) << rule_of(user);
    EXPECT_EQ(rule_of(supervisor) == "none", c.supervisor) << rule_of(supervisor);
    EXPECT_EQ(user.exit_info1, c.user ? 0 : kFinal | kP | kU | kId);
    EXPECT_EQ(supervisor.exit_info1, c.supervisor ? 0 : kFinal | kP | kId);
    if (c.set == 0 && !c.supervisor) {
      EXPECT_EQ(rule_of(supervisor), "gmet");
    }
  }
}

TEST(Npt, GmetLeavesDataToTheUser) {
  Tables tables(PagingMode::Level4);
  tables.change(tables.last(), 0, kUs);
  NptContext context = context_of(PagingMode::Level4);
  context.gmet = true;
  const NptWalk result = walk_npt(tables, context, kGpa, kRead);
  EXPECT_EQ(rule_of(result), "supervisor-page");
  EXPECT_EQ(result.exit_info1, kFinal | kP | kU);
}

TEST(Npt, ReadOnlyGuestPageTablesAreRead) {
  Tables tables(PagingMode::Level4);
  tables.change(tables.last(), 0, kRw);
  NptContext context = context_of(PagingMode::Level4);
  context.rogpt = true;
  EXPECT_EQ(rule_of(walk_npt(tables, context, kGpa, {.guest_table = true})), "none");
  // An accessed or dirty bit is to be set.
  const NptWalk result = walk_npt(tables, context, kGpa, {.write = true, .guest_table = true});
  EXPECT_EQ(result.exit_info1, kTables | kP | kU | kW);
}

TEST(Npt, ContextComesFromVmcbAndCpuid) {
  VmcbBytes bytes{};
  put_vmcb(bytes, VmcbId::NCr3, 0x123000);
  put_vmcb(bytes, VmcbId::NestedControl, 0x49);
  const Vmcb vmcb(bytes);
  CpuidTable cpuid;
  cpuid.at(0x80000008).eax = 48;
  cpuid.at(0x8000000a).edx = 1 << 17;
  const NptContext context =
      NptContext::from(vmcb, spec::CR4_PAE, spec::EFER_LMA | spec::EFER_LME, &cpuid);
  EXPECT_EQ(context.n_cr3, 0x123000u);
  EXPECT_EQ(context.mode(), PagingMode::Level4);
  EXPECT_EQ(context.features.phys_bits, 48u);
  EXPECT_FALSE(context.features.pdpe1gb);
  EXPECT_TRUE(context.features.amd);
  EXPECT_TRUE(context.gmet);
  EXPECT_FALSE(context.rogpt) << "CPUID lacks it";
  EXPECT_TRUE(NptContext::from(vmcb, 0, 0, nullptr).rogpt);
  EXPECT_TRUE(NptContext::from(vmcb, 0, 0, nullptr).features.pdpe1gb);
  EXPECT_EQ(NptContext::from(vmcb, 0, 0, nullptr).mode(), PagingMode::Bits32);
}

TEST(Npt, StepsAreDescribed) {
  Tables tables(PagingMode::Level4);
  EXPECT_THAT(describe(walk(tables)),
              ElementsAre(HasSubstr("PML4E[0] at 1000h"), HasSubstr("PDPTE[0] at 2000h"),
                          HasSubstr("PDE[2] at 3010h"), HasSubstr("PTE[1] at 4008h"),
                          "-> 9234h (4 KiB page, writable, user)"));
  tables.change(2, 0, kP);
  EXPECT_THAT(describe(walk(tables, kWrite)),
              ElementsAre(HasSubstr("PML4E"), HasSubstr("PDPTE"), HasSubstr("<-- not-present"),
                          "EXITINFO1 = 100000006h (W|U|final)"));
}

}  // namespace
}  // namespace vmm::nested
