#include "vmm/cpu/topology.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "vmm/base/bytes.h"
#include "vmm/cpu/host_grant_fake.h"

namespace vmm {
namespace {

using testing::HasSubstr;

std::string text_of(const Topology& t) {
  return fmt::format("{}:{}/{}/{}", t.vcpus, t.sockets, t.cores, t.threads);
}

TEST(Topology, what_is_not_given_is_derived) {
  const std::pair<const char*, const char*> kGood[] = {
      {"1", "1:1/1/1"},
      {"4", "4:1/4/1"},
      {"64", "64:1/64/1"},
      {"3", "3:1/3/1"},
      {"4,threads=2", "4:1/2/2"},
      {"8,sockets=2", "8:2/4/1"},
      {"8,sockets=2,threads=2", "8:2/2/2"},
      {"8,cores=2", "8:4/2/1"},
      {"8,cores=2,threads=2", "8:2/2/2"},
      {"12,sockets=2,cores=3,threads=2", "12:2/3/2"},
      {"0x10,Threads=2", "16:1/8/2"},
  };
  for (const auto& [text, expected] : kGood) {
    const auto topology = parse_topology(text);
    ASSERT_TRUE(topology) << text << ": " << topology.error().text();
    EXPECT_EQ(text_of(*topology), expected) << text;
  }
}

TEST(Topology, nonsense_is_a_usage_error) {
  const std::pair<const char*, const char*> kBad[] = {
      {"", "not a number"},
      {"0", "not between 1 and 64"},
      {"65", "not between 1 and 64"},
      {"-1", "not a number"},
      {"4x", "not a number"},
      {"99999999999999999999", "not a number"},
      {"4,", "is not sockets="},
      {"4,dies=2", "is not sockets="},
      {"4,cores", "is not sockets="},
      {"4,cores=0", "not between 1 and 64"},
      {"4,cores=2,cores=2", "is there twice"},
      {"4,cores=3", "are 3 vCPUs, not 4"},
      {"3,threads=2", "are 2 vCPUs, not 3"},
      {"4,sockets=64,cores=64,threads=64", "vCPUs, not 4"},
      {"2,sockets=4", "are 4 vCPUs, not 2"},
  };
  for (const auto& [text, message] : kBad) {
    const auto topology = parse_topology(text);
    ASSERT_FALSE(topology) << text;
    EXPECT_EQ(topology.error().kind(), ErrorKind::Usage);
    EXPECT_THAT(topology.error().text(), HasSubstr(message));
  }
}

TEST(Topology, apic_ids_are_unique_small_and_dense_for_powers_of_two) {
  for (unsigned sockets = 1; sockets <= 64; ++sockets)
    for (unsigned cores = 1; sockets * cores <= 64; ++cores)
      for (unsigned threads = 1; sockets * cores * threads <= 64; ++threads) {
        const Topology t{sockets * cores * threads, sockets, cores, threads};
        std::set<std::uint32_t> ids;
        for (unsigned i = 0; i < t.vcpus; ++i) ids.insert(apic_id_of_vcpu(t, i));
        ASSERT_EQ(ids.size(), t.vcpus);
        EXPECT_EQ(*ids.begin(), 0U);
        EXPECT_LE(*ids.rbegin(), 127U) << text_of(t);
        if (std::has_single_bit(cores) && std::has_single_bit(threads)) {
          EXPECT_EQ(*ids.rbegin(), t.vcpus - 1) << text_of(t);
        }
      }
}

TEST(Topology, every_vcpu_sees_its_place_in_leaf_b) {
  const Topology t{12, 2, 3, 2};
  const auto cpu = resolve_cpu("skylake-server", CpuPolicy::Force, t, generous_grant());
  ASSERT_TRUE(cpu) << cpu.error().text();
  for (unsigned i = 0; i < t.vcpus; ++i) {
    const CpuidTable table = cpuid_of_vcpu(*cpu, t, i);
    const std::uint32_t id = apic_id_of_vcpu(t, i);
    EXPECT_EQ(table.get(1).ebx >> 24, id);
    EXPECT_EQ(bits(table.get(1).ebx, 23, 16), 8U);  // 4 core ids of 2 threads
    for (unsigned level = 0; level < 3; ++level) EXPECT_EQ(table.get(0xb, level).edx, id);
    // SDM Vol. 2A, leaf Bh: shifting the id by EAX gives the id of the next level.
    EXPECT_EQ(id >> table.get(0xb, 0).eax, i / 6 * 4 + i / 2 % 3);
    EXPECT_EQ(id >> table.get(0xb, 1).eax, i / 6);
  }
  EXPECT_EQ(cpu->cpuid.get(0xb, 0), (CpuidRegs{1, 2, 0x100, 0}));
  EXPECT_EQ(cpu->cpuid.get(0xb, 1), (CpuidRegs{3, 6, 0x201, 0}));
  EXPECT_EQ(cpu->cpuid.get(0xb, 2), (CpuidRegs{0, 0, 2, 0}));
  EXPECT_TRUE(cpu->cpuid.bit(1, 0, CpuidReg::Edx, 28));  // HTT
}

TEST(Topology, caches_are_shared_as_the_model_says) {
  const Topology t{8, 1, 4, 2};
  const auto cpu = resolve_cpu("skylake-server", CpuPolicy::Force, t, generous_grant());
  ASSERT_TRUE(cpu);
  const auto sharing = [&](unsigned i) { return bits(cpu->cpuid.get(4, i).eax, 25, 14) + 1; };
  EXPECT_EQ(sharing(0), 2U);  // L1 data: both threads of a core
  EXPECT_EQ(sharing(2), 2U);  // L2
  EXPECT_EQ(sharing(3), 8U);  // L3: the socket
  for (unsigned i = 0; i < 4; ++i) {
    const CpuidRegs r = cpu->cpuid.get(4, i);
    EXPECT_EQ(bits(r.eax, 31, 26) + 1, 4U);  // core ids per package
    const std::uint64_t size = (bits(r.ebx, 31, 22) + 1) * (bits(r.ebx, 21, 12) + 1) *
                               (bits(r.ebx, 11, 0) + 1) * (std::uint64_t{r.ecx} + 1);
    EXPECT_EQ(size, (std::array<std::uint64_t, 4>{32768, 32768, 1048576, 23068672})[i]);
  }
  EXPECT_EQ(cpu->cpuid.get(4, 4), CpuidRegs{});
}

TEST(Topology, amd_counts_in_its_own_leaves) {
  const Topology t{16, 2, 4, 2};
  const auto cpu = resolve_cpu("epyc", CpuPolicy::Force, t, generous_grant());
  ASSERT_TRUE(cpu);
  EXPECT_EQ(cpu->cpuid.find(4), nullptr);
  EXPECT_EQ(cpu->cpuid.get(0x80000008).ecx, 7U | 3U << 12);  // NC and ApicIdSize
  EXPECT_TRUE(has_feature(cpu->cpuid, "cmp-legacy"));
  EXPECT_TRUE(has_feature(cpu->cpuid, "ht"));
  const CpuidTable last = cpuid_of_vcpu(*cpu, t, 15);
  // Extended APIC id, core id with threads per core less one, node id.
  EXPECT_EQ(last.get(0x8000001e), (CpuidRegs{15, 3 | 1U << 8, 1, 0}));
  EXPECT_EQ(bits(cpu->cpuid.get(0x8000001d, 3).eax, 25, 14) + 1, 8U);
  EXPECT_EQ(cpu->cpuid.get(0x80000005).ecx, 0x20080140U);  // 32 KiB, 8 ways, 64 bytes a line
  EXPECT_EQ(cpu->cpuid.get(0x80000006).ecx, 0x02006140U);  // 512 KiB, 8 ways
}

TEST(Topology, one_vcpu_has_no_threads_to_count) {
  const auto cpu = resolve_cpu("epyc", CpuPolicy::Force, Topology{}, generous_grant());
  ASSERT_TRUE(cpu);
  EXPECT_FALSE(has_feature(cpu->cpuid, "cmp-legacy"));
  EXPECT_FALSE(has_feature(cpu->cpuid, "ht"));
  EXPECT_EQ(bits(cpu->cpuid.get(1).ebx, 23, 16), 1U);
}

TEST(Topology, the_shape_changes_no_feature_word) {
  const auto one = resolve_cpu("epyc,+svm", CpuPolicy::Force, Topology{}, generous_grant());
  const Topology many{64, 2, 16, 2};
  const auto big = resolve_cpu("epyc,+svm", CpuPolicy::Force, many, generous_grant());
  ASSERT_TRUE(one && big);
  EXPECT_EQ(one->model_digest, big->model_digest);
  const CpuidTable last = cpuid_of_vcpu(*big, many, 63);
  for (const FeatureWord& word : FeatureCatalog::words()) {
    if (word.is_msr) continue;
    std::uint32_t changed = one->cpuid.get(word.index, word.subleaf)[word.reg] ^
                            last.get(word.index, word.subleaf)[word.reg];
    if (word.index == 1 && word.reg == CpuidReg::Edx) changed &= ~(1U << 28);
    if (word.index == 0x80000001 && word.reg == CpuidReg::Ecx) changed &= ~2U;
    EXPECT_EQ(changed, 0U) << word.text();
  }
}

TEST(Topology, a_shape_that_does_not_add_up_is_refused) {
  for (const Topology t : {Topology{0, 0, 0, 0}, Topology{4, 1, 1, 1}, Topology{65, 1, 65, 1},
                           Topology{1, 65536, 65536, 1}})
    EXPECT_FALSE(resolve_cpu("qemu64", CpuPolicy::Force, t, generous_grant()));
}

TEST(Topology, the_hosts_caches_are_read_back) {
  const HostGrant host = read_grant_fixture("pvm-linux-6.18");
  const auto caches = caches_of(host.supported);
  ASSERT_EQ(caches.size(), 4U);
  EXPECT_EQ(caches[3].kib, 32768U);
  EXPECT_EQ(caches[3].shared_by, CpuCache::SharedBy::Socket);
  // A table that is all ones ends, and gives nothing absurd.
  CpuidTable hostile;
  for (unsigned i = 0; i < 64; ++i) hostile.at(4, i) = {~0U, ~0U, ~0U, ~0U};
  EXPECT_TRUE(caches_of(hostile).empty());
}

}  // namespace
}  // namespace vmm
