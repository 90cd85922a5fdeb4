#include "vmm/nested/ept.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "vmm/core/memory_fake.h"

namespace vmm::nested {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr std::uint64_t kPointer = 0x1000 | 3 << 3 | 6;
constexpr std::uint64_t kRwx = 7, kWb = 6 << 3, kBig = 1 << 7;

class Ept : public testing::Test {
 protected:
  Ept() {
    ram.put64(0x1000, 0x2000 | kRwx);                 // PML4E
    ram.put64(0x2000, 0x3000 | kRwx);                 // PDPTE
    ram.put64(0x2008, kBig | kRwx | kWb);             // 1 GiB at 40000000h
    ram.put64(0x3000, 0x4000 | kRwx);                 // PDE
    ram.put64(0x3008, 0x600000 | kBig | kRwx | kWb);  // 2 MiB at 200000h
    ram.put64(0x4000, 0x5000 | kRwx | kWb);           // PTE
  }
  EptWalk walk(Gpa address, EptAccess access = {}) {
    return walk_ept(ram, kPointer, features, address, access);
  }
  void expect_failure(Gpa address, unsigned reason, const std::string& what,
                      EptAccess access = {}) {
    const EptWalk result = walk(address, access);
    EXPECT_FALSE(result.address);
    EXPECT_EQ(result.exit_reason, reason);
    EXPECT_THAT(result.failure, HasSubstr(what));
  }

  FakeRam ram{64_KiB};
  EptFeatures features{.phys_bits = 39};
};

TEST_F(Ept, pages_of_each_size_are_found) {
  EXPECT_EQ(walk(0x123).address, 0x5123u);
  EXPECT_EQ(walk(0x123).page_size, 4_KiB);
  EXPECT_EQ(walk(0x201234).address, 0x601234u);
  EXPECT_EQ(walk(0x40012345).address, 0x12345u);
  EXPECT_EQ(walk(0x40012345).page_size, 1_GiB);
  EXPECT_EQ(walk(0x40012345).memory_type, 6u);
}

TEST_F(Ept, what_is_not_present_or_no_ram_is_a_violation) {
  expect_failure(0x1000, 48, "EPT PTE is not present");
  expect_failure(0x80000000, 48, "EPT PDPTE is not present");
  expect_failure(1ull << 48, 48, "beyond the 48 bits");
  ram.put64(0x1000, 0x7000000 | kRwx);
  expect_failure(0, 48, "EPT PDPTE at 7000000h is not RAM");
}

TEST_F(Ept, what_the_entries_forbid_is_a_violation) {
  ram.put64(0x2000, 0x3000 | 5);
  expect_failure(0x123, 48, "do not allow writing", {.write = true});
  EXPECT_EQ(walk(0x123, {.fetch = true}).address, 0x5123u);
  ram.put64(0x4000, 0x5000 | 3 | kWb);
  expect_failure(0x123, 48, "do not allow executing", {.fetch = true});
}

TEST_F(Ept, misconfigurations_name_their_rule) {
  ram.put64(0x4000, 0x5000 | 2 | kWb);
  expect_failure(0, 49, "writable and not readable");
  ram.put64(0x4000, 0x5000 | kRwx | 2 << 3);
  expect_failure(0, 49, "memory type 2");
  ram.put64(0x4000, 1ull << 40 | kRwx | kWb);
  expect_failure(0, 49, "MAXPHYADDR is 39");
  ram.put64(0x3008, 0x601000 | kBig | kRwx | kWb);
  expect_failure(0x200000, 49, "reserved bits set: 1000h");
  ram.put64(0x1000, 0x2000 | kBig | kRwx);
  expect_failure(0, 49, "EPT PML4E has reserved bits set: 80h");
}

TEST_F(Ept, what_the_processor_lacks_is_a_misconfiguration) {
  features.pages_1g = false;
  expect_failure(0x40000000, 49, "1 GiB pages need IA32_VMX_EPT_VPID_CAP (48Ch)[17]");
  features.pages_2m = false;
  expect_failure(0x200000, 49, "2 MiB pages need IA32_VMX_EPT_VPID_CAP (48Ch)[16]");
  ram.put64(0x4000, 0x5000 | 4 | kWb);
  EXPECT_EQ(walk(0, {.fetch = true}).address, 0x5000u);
  features.execute_only = false;
  expect_failure(0, 49, "IA32_VMX_EPT_VPID_CAP (48Ch)[0] is 0", {.fetch = true});
}

TEST_F(Ept, user_execution_has_its_own_bit_under_mode_based_control) {
  features.mode_based_execute = true;
  expect_failure(0, 48, "do not allow executing", {.fetch = true, .user = true});
  for (const Gpa entry : {Gpa{0x1000}, Gpa{0x2000}, Gpa{0x3000}, Gpa{0x4000}})
    ram.put64(entry, *ram.read_value<std::uint64_t>(entry) | 1 << 10);
  EXPECT_EQ(walk(0, {.fetch = true, .user = true}).address, 0x5000u);
}

TEST_F(Ept, five_levels_begin_one_higher) {
  ram.put64(0x6000, 0x1000 | kRwx);
  const EptWalk result = walk_ept(ram, 0x6000 | 4 << 3 | 6, features, 0x123, {});
  EXPECT_EQ(result.address, 0x5123u);
  EXPECT_EQ(result.steps.front().entry_name, "EPT PML5E");
}

TEST_F(Ept, a_loop_of_tables_ends) {
  for (unsigned i = 0; i < 512; ++i) ram.put64(0x1000 + i * 8ull, 0x1000 | kRwx);
  EXPECT_EQ(walk(0x7123456789).steps.size(), 4u);
}

TEST_F(Ept, a_walk_is_described_step_by_step) {
  EXPECT_THAT(describe(walk(0x201234)),
              ElementsAre("EPT PML4E[0] at 1000h = 2007h RWX", "EPT PDPTE[0] at 2000h = 3007h RWX",
                          "EPT PDE[1] at 3008h = 6000B7h RWX 2 MiB WB", "leads to 601234h"));
  EXPECT_THAT(describe(walk(0x80000000)),
              ElementsAre("EPT PML4E[0] at 1000h = 2007h RWX", "EPT PDPTE[2] at 2010h = 0h ---  <-",
                          "EPT violation: the EPT PDPTE is not present"));
}

}  // namespace
}  // namespace vmm::nested
