#include "vmm/cpu/guest_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "vmm/cpu/host_grant_fake.h"
#include "vmm/cpu/vmx.h"

namespace vmm {
namespace {

using testing::AllOf;
using testing::Contains;
using testing::HasSubstr;
using testing::Not;

using Msrs = std::map<std::uint32_t, std::uint64_t>;

struct Guest {
  CpuidTable cpuid;
  Msrs msrs;
};

Guest guest_of(std::string_view selection, const HostGrant& host = {}) {
  const ResolvedCpu cpu = *resolve_cpu(selection, CpuPolicy::Force, Topology{}, host);
  Guest guest{cpu.cpuid, {}};
  for (const CpuMsr& msr : msrs_of_vcpu(cpu)) guest.msrs[msr.index] = msr.value;
  return guest;
}

TEST(GuestText, holds_cpuid_and_the_msrs_that_it_announces) {
  const Guest plain = guest_of("skylake-client@4");
  EXPECT_THAT(guest_text(plain.cpuid, plain.msrs),
              AllOf(HasSubstr("00000000.00="), HasSubstr("msr.0000008b=0000000100000000\n"),
                    HasSubstr("msr.000000ce=0000000080000000\n"), Not(HasSubstr("msr.0000048b"))));
  const Guest nested = guest_of("cascadelake-server,+vmx");
  EXPECT_THAT(guest_text(nested.cpuid, nested.msrs),
              AllOf(HasSubstr("msr.0000003a=0000000000000005\n"), HasSubstr("msr.0000010a="),
                    HasSubstr("msr.0000048b="), Not(HasSubstr("msr.00000481"))));
}

TEST(GuestText, an_amd_cpu_has_a_microcode_revision_of_its_own_kind) {
  const Guest guest = guest_of("epyc");
  EXPECT_THAT(guest_text(guest.cpuid, guest.msrs),
              AllOf(HasSubstr("msr.0000008b=0000000001000065\n"),
                    HasSubstr("msr.000000ce=0000000000000000\n")));
}

TEST(GuestText, each_bit_of_a_telling_msr_changes_the_digest) {
  Guest guest = guest_of("skylake-server,+vmx");
  const std::string before = guest_digest(guest.cpuid, guest.msrs);
  for (const std::uint32_t index : {0x8bU, 0xceU, 0x3aU, 0x48aU, 0x48bU, 0x48cU, 0x490U}) {
    Msrs msrs = guest.msrs;
    msrs.at(index) ^= 2;
    EXPECT_NE(guest_digest(guest.cpuid, msrs), before) << index;
  }
  // MSRs that the CPUID does not announce are none of a guest's business.
  Msrs msrs = guest.msrs;
  msrs[0x10a] = 1;
  EXPECT_EQ(guest_digest(guest.cpuid, msrs), before);
}

TEST(GuestText, what_kvm_lets_nobody_choose_is_not_in_it) {
  HostGrant bochs = generous_grant();
  bochs.feature_msrs.merge(bochs_vmx_msrs());
  HostGrant other = bochs;
  other.feature_msrs[0x480] = (other.feature_msrs[0x480] & ~0xffffffffULL) | 0x1234;
  other.feature_msrs[0x485] ^= 3;  // the rate of the preemption timer
  const Guest here = guest_of("skylake-client,+vmx", bochs);
  const Guest there = guest_of("skylake-client,+vmx", other);
  EXPECT_NE(here.msrs.at(0x480), there.msrs.at(0x480));
  EXPECT_EQ(guest_text(here.cpuid, here.msrs), guest_text(there.cpuid, there.msrs));
}

TEST(GuestText, runtime_bits_and_leaves_that_nobody_reads_are_left_out) {
  Guest guest = guest_of("haswell");
  const std::string before = guest_text(guest.cpuid, guest.msrs);
  guest.cpuid.at(1).ecx ^= 1U << 27;
  guest.cpuid.at(1).edx ^= 1U << 9;
  guest.cpuid.at(0xd, 0).ebx = 0x340;
  guest.cpuid.at(6, 0);
  guest.cpuid.at(0x99) = {1, 2, 3, 4};
  EXPECT_EQ(guest_text(guest.cpuid, guest.msrs), before);
  guest.cpuid.at(7).ebx ^= 1;
  EXPECT_NE(guest_text(guest.cpuid, guest.msrs), before);
}

TEST(MsrsOfVcpu, a_models_own_value_goes_before_the_usual_one) {
  ResolvedCpu cpu = *resolve_cpu("haswell", CpuPolicy::Force, Topology{}, HostGrant{});
  cpu.msrs = {{0x8b, 7}, {kFeatureControl, 5}};
  const auto msrs = msrs_of_vcpu(cpu);
  ASSERT_EQ(msrs.size(), 3U);
  EXPECT_EQ(msrs[0].index, kPlatformInfo);
  EXPECT_EQ(msrs[1], (CpuMsr{0x8b, 7}));
  EXPECT_EQ(msrs[2].index, kFeatureControl) << "it locks what comes before";
}

}  // namespace
}  // namespace vmm
