// What hosts make of the models: grants of real hosts, the three policies, explanations.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "vmm/cpu/features.h"
#include "vmm/cpu/guest_text.h"
#include "vmm/cpu/host_grant_fake.h"
#include "vmm/cpu/refusal.h"
#include "vmm/cpu/resolve.h"
#include "vmm/cpu/xsave.h"

namespace vmm {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

ResolvedCpu resolve(std::string_view selection, CpuPolicy policy, const HostGrant& host) {
  auto cpu = resolve_cpu(selection, policy, {}, host);
  EXPECT_TRUE(cpu) << cpu.error().text();
  return cpu ? *cpu : ResolvedCpu{};
}

std::vector<std::string> names(const ResolvedCpu& cpu) {
  std::vector<std::string> result;
  for (const MissingBit& bit : cpu.missing) result.push_back(bit.name);
  return result;
}

const MissingBit& find(const ResolvedCpu& cpu, const std::string& name) {
  static const MissingBit kNone;
  for (const MissingBit& bit : cpu.missing)
    if (bit.name == name) return bit;
  ADD_FAILURE() << name << " is not missing";
  return kNone;
}

TEST(Policy, cascade_lake_gives_a_whole_skylake) {
  const HostGrant host = read_grant_fixture("cascadelake-linux-6.18");
  EXPECT_THAT(names(resolve("skylake-server", CpuPolicy::Strict, host)), IsEmpty());
  // Microcode took TSX away from all of them.
  EXPECT_THAT(names(resolve("skylake-server@1", CpuPolicy::Strict, host)),
              ElementsAre("hle", "rtm"));
  EXPECT_THAT(names(resolve("haswell@4", CpuPolicy::Strict, host)), IsEmpty());
  EXPECT_THAT(names(resolve("qemu64", CpuPolicy::Strict, host)), IsEmpty());
}

TEST(Policy, cascade_lake_lacks_what_only_amd_has) {
  const HostGrant host = read_grant_fixture("cascadelake-linux-6.18");
  EXPECT_THAT(names(resolve("epyc", CpuPolicy::Strict, host)),
              ElementsAre("sha-ni", "cr8legacy", "sse4a", "misalignsse", "osvw", "perfctr-core",
                          "mmxext", "fxsr-opt", "clzero", "xsaveerptr"));
}

TEST(Policy, milan_gives_a_whole_naples) {
  const HostGrant host = read_grant_fixture("milan-linux-6.18");
  EXPECT_THAT(names(resolve("epyc@1", CpuPolicy::Strict, host)), IsEmpty());
  EXPECT_THAT(names(resolve("epyc", CpuPolicy::Strict, host)), IsEmpty());
  // What Linux 6.18 took from Milan, and what AMD never had.
  const auto lacks = names(resolve("skylake-server", CpuPolicy::Strict, host));
  EXPECT_THAT(lacks, Contains("spec-ctrl"));
  EXPECT_THAT(lacks, Contains("avx512f"));
  EXPECT_THAT(lacks, Not(Contains("pdpe1gb")));
}

TEST(Policy, pvm_gives_no_model_whole) {
  const HostGrant host = read_grant_fixture("pvm-linux-6.18");
  for (const char* const model : {"skylake-server", "haswell", "epyc", "qemu64"})
    EXPECT_THAT(names(resolve(model, CpuPolicy::Strict, host)), Contains("pni")) << model;
  EXPECT_THAT(names(resolve("host", CpuPolicy::Strict, host)), IsEmpty());
}

TEST(Policy, mask_takes_missing_bits_out_and_lists_them_once) {
  const HostGrant host = read_grant_fixture("pvm-linux-6.18");
  const ResolvedCpu strict = resolve("skylake-server", CpuPolicy::Strict, host);
  const ResolvedCpu mask = resolve("skylake-server", CpuPolicy::Mask, host);
  EXPECT_EQ(names(mask), names(strict));
  EXPECT_FALSE(mask.missing.empty());
  for (const MissingBit& bit : mask.missing) EXPECT_FALSE(has_feature(mask.cpuid, bit.name));
  for (const MissingBit& bit : strict.missing) EXPECT_TRUE(has_feature(strict.cpuid, bit.name));
  // Leaf Dh went with xsave; what is left is a CPU that the host gives whole.
  EXPECT_EQ(mask.cpuid.find(0xd), nullptr);
  EXPECT_TRUE(has_feature(mask.cpuid, "hypervisor"));
  EXPECT_TRUE(has_feature(mask.cpuid, "cx16"));
  EXPECT_THAT(find_refusals({mask.cpuid, {}}, host, false), IsEmpty());
}

TEST(Policy, force_sets_them_all_the_same) {
  const HostGrant host = read_grant_fixture("pvm-linux-6.18");
  const ResolvedCpu force = resolve("haswell,+pdpe1gb", CpuPolicy::Force, host);
  EXPECT_THAT(names(force), Contains("pdpe1gb"));
  EXPECT_TRUE(has_feature(force.cpuid, "pdpe1gb"));
  EXPECT_TRUE(has_feature(force.cpuid, "avx2"));
  EXPECT_EQ(force.cpuid, resolve("haswell,+pdpe1gb", CpuPolicy::Strict, host).cpuid);
}

TEST(Policy, what_needs_a_refused_bit_goes_with_it) {
  HostGrant host = read_grant_fixture("cascadelake-linux-6.18");
  host.supported.at(1).ecx &= ~(1U << 26);  // xsave
  const ResolvedCpu cpu = resolve("haswell", CpuPolicy::Mask, host);
  EXPECT_THAT(names(cpu), ElementsAre("fma", "xsave", "avx", "f16c", "avx2", "xsaveopt"));
  EXPECT_EQ(find(cpu, "xsave").refused_by, "host kernel");
  EXPECT_EQ(find(cpu, "avx").refused_by, "dependency");
  EXPECT_THAT(find(cpu, "avx").reason, HasSubstr("needs xsave, which is refused"));
  EXPECT_THAT(find(cpu, "avx2").remedy, HasSubstr("see avx"));
  for (const char* const name : {"xsave", "avx", "avx2", "fma"})
    EXPECT_FALSE(has_feature(cpu.cpuid, name)) << name;
}

TEST(Explain, silicon_kernel_and_backend_are_told_apart) {
  const HostGrant pvm = read_grant_fixture("pvm-linux-6.18");
  const ResolvedCpu cpu = resolve("skylake-server", CpuPolicy::Strict, pvm);
  EXPECT_EQ(find(cpu, "avx512f").refused_by, "silicon");
  EXPECT_EQ(find(cpu, "avx512f").word, "7.0.EBX[16]");
  EXPECT_EQ(find(cpu, "avx2").refused_by, "kvm_pvm");
  EXPECT_EQ(find(cpu, "pdpe1gb").refused_by, "kvm_pvm");
  EXPECT_THAT(find(cpu, "pdpe1gb").reason, HasSubstr("1 GiB pages"));

  HostGrant kernel = read_grant_fixture("cascadelake-linux-6.18");
  kernel.silicon = kernel.supported;
  kernel.supported.at(7).ebx &= ~(1U << 16);
  const ResolvedCpu refused = resolve("skylake-server", CpuPolicy::Strict, kernel);
  EXPECT_EQ(find(refused, "avx512f").refused_by, "host kernel");
  EXPECT_THAT(find(refused, "avx512f").reason, HasSubstr("kvm_intel of Linux 6.18"));
  EXPECT_EQ(find(refused, "avx512bw").refused_by, "dependency");
}

TEST(Explain, a_parameter_that_kvm_switched_off_for_want_of_silicon_is_not_blamed) {
  HostGrant host = read_grant_fixture("milan-linux-6.18");
  host.supported.at(0x80000001).ecx |= 1U << 2;
  host.silicon = host.supported;
  host.silicon.at(0x8000000a).edx &= ~(1U << 3);
  host.supported.at(0x8000000a).edx &= ~(1U << 3);
  host.module_parameters["kvm_amd.nrips"] = "0";
  EXPECT_EQ(find(resolve("epyc,+svm", CpuPolicy::Mask, host), "nrip-save").refused_by, "silicon");
  host.silicon.at(0x8000000a).edx |= 1U << 3;
  EXPECT_EQ(find(resolve("epyc,+svm", CpuPolicy::Mask, host), "nrip-save").refused_by,
            "module parameter kvm_amd.nrips=0");
}

TEST(Explain, nesting_names_the_module_parameter) {
  HostGrant host = read_grant_fixture("cascadelake-linux-6.18");
  host.silicon = host.supported;
  host.silicon.at(1).ecx |= 1U << 5;
  host.module_parameters["kvm_intel.nested"] = "N";
  const ResolvedCpu cpu = resolve("haswell,+vmx", CpuPolicy::Mask, host);
  EXPECT_THAT(names(cpu), ElementsAre("vmx"));
  EXPECT_EQ(find(cpu, "vmx").refused_by, "module parameter kvm_intel.nested=N");
  EXPECT_EQ(find(cpu, "vmx").remedy, "modprobe kvm_intel nested=1");
  EXPECT_THAT(cpu.msrs, IsEmpty()) << "IA32_FEATURE_CONTROL goes with vmx";

  host.supported.at(1).ecx |= 1U << 5;
  host.feature_msrs.merge(bochs_vmx_msrs());
  const ResolvedCpu given = resolve("haswell,+vmx", CpuPolicy::Strict, host);
  EXPECT_THAT(names(given), ElementsAre("vmx-posted-intr", "vmx-mtf"));
}

TEST(Explain, the_wrong_vendor_cannot_nest) {
  const ResolvedCpu vmx =
      resolve("haswell,+vmx", CpuPolicy::Strict, read_grant_fixture("milan-linux-6.18"));
  EXPECT_THAT(find(vmx, "vmx").reason, HasSubstr("kvm_amd"));
  const ResolvedCpu svm =
      resolve("epyc,+svm", CpuPolicy::Strict, read_grant_fixture("cascadelake-linux-6.18"));
  EXPECT_THAT(find(svm, "svm").reason, HasSubstr("kvm_intel"));
  EXPECT_EQ(find(svm, "svm").remedy, "without +svm");
  const ResolvedCpu pvm =
      resolve("epyc,+svm", CpuPolicy::Strict, read_grant_fixture("pvm-linux-6.18"));
  EXPECT_THAT(find(pvm, "svm").reason, HasSubstr("kvm_pvm"));
}

TEST(Explain, xsave_layouts_of_another_vendor_are_refused) {
  // PKRU lies at 980h on Milan and at A80h in an Intel model: hardware would use its own place.
  const HostGrant milan = read_grant_fixture("milan-linux-6.18");
  const ResolvedCpu cpu = resolve("haswell,+pku", CpuPolicy::Mask, milan);
  EXPECT_EQ(find(cpu, "pku").refused_by, "silicon");
  EXPECT_THAT(find(cpu, "pku").reason, HasSubstr("980h (8 bytes), the model at a80h"));
  EXPECT_FALSE(has_feature(cpu.cpuid, "pku"));
  EXPECT_EQ(cpu.cpuid.find(0xd, 9), nullptr);
}

TEST(Explain, msr_bits_are_refused_one_by_one) {
  const ResolvedCpu cpu =
      resolve("skylake-server,+arch-capabilities,+rdctl-no,+taa-no,+rsba", CpuPolicy::Mask,
              read_grant_fixture("cascadelake-linux-6.18"));  // 10Ah is C0AA0EBh there
  EXPECT_THAT(names(cpu), ElementsAre("rsba", "taa-no"));
  EXPECT_EQ(find(cpu, "taa-no").word, "MSR 10A[8]");
  EXPECT_THAT(cpu.msrs, ElementsAre(CpuMsr{0x10a, 1}));
}

TEST(Explain, kvm_pvm_keeps_its_own_arch_capabilities) {
  const HostGrant host = read_grant_fixture("pvm-linux-6.18");
  const ResolvedCpu named =
      resolve("qemu64,+arch-capabilities,+rdctl-no,-pni", CpuPolicy::Mask, host);
  EXPECT_THAT(names(named), ElementsAre("arch-capabilities", "rdctl-no"));
  EXPECT_THAT(find(named, "arch-capabilities").reason, HasSubstr("MSR 10Ah"));
  EXPECT_THAT(named.msrs, IsEmpty());
  const ResolvedCpu own = resolve("host", CpuPolicy::Strict, host);
  EXPECT_TRUE(has_feature(own.cpuid, "arch-capabilities"));
  EXPECT_THAT(own.msrs, IsEmpty());
  EXPECT_THAT(names(resolve("host,+mds-no", CpuPolicy::Strict, host)), ElementsAre("mds-no"));
}

TEST(Explain, lines_are_aligned_and_fit_a_terminal) {
  const ResolvedCpu cpu =
      resolve("skylake-server", CpuPolicy::Strict, read_grant_fixture("pvm-linux-6.18"));
  const auto lines = describe(cpu.missing);
  ASSERT_EQ(lines.size(), cpu.missing.size());
  const std::size_t column = lines[0].find("refused by");
  for (const std::string& line : lines) {
    EXPECT_EQ(line.find("refused by"), column) << line;
    EXPECT_LE(line.size(), 120U) << line;
  }
  EXPECT_THAT(lines, Contains("avx512f    7.0.EBX[16]       refused by silicon: the CPU lacks it, "
                              "or a hypervisor hides it; try --cpu-policy mask"));
  EXPECT_THAT(describe({}), IsEmpty());
}

TEST(Widths, a_difference_is_said) {
  const HostGrant host = read_grant_fixture("cascadelake-linux-6.18");  // 46 bits
  EXPECT_THAT(resolve("skylake-server", CpuPolicy::Strict, host).notes, IsEmpty());
  EXPECT_THAT(resolve("haswell", CpuPolicy::Strict, host).notes,
              ElementsAre(HasSubstr("39 physical address bits, the host 46")));
  EXPECT_THAT(resolve("haswell,phys-bits=52", CpuPolicy::Strict, host).notes,
              ElementsAre(HasSubstr("reserved-bit fault")));
}

// A wider guest lays out tables and windows that its processor refuses; OVMF dies of it.
TEST(Widths, mask_takes_away_what_the_host_does_not_have) {
  const HostGrant host = read_grant_fixture("cascadelake-linux-6.18");  // 46 bits
  const ResolvedCpu masked = resolve("haswell,phys-bits=52", CpuPolicy::Mask, host);
  EXPECT_EQ(masked.cpuid.phys_bits(), 46u);
  EXPECT_THAT(masked.notes, Contains(HasSubstr("52 physical address bits of haswell@4 are masked "
                                               "to 46, the host's")));
  EXPECT_EQ(masked.model_digest,
            resolve("haswell,phys-bits=52", CpuPolicy::Strict, host).model_digest);
  EXPECT_EQ(resolve("haswell,phys-bits=52", CpuPolicy::Force, host).cpuid.phys_bits(), 52u);
  EXPECT_EQ(resolve("haswell", CpuPolicy::Mask, host).cpuid.phys_bits(), 39u);
}

TEST(Host, is_what_kvm_supports_without_what_we_own) {
  const HostGrant host = read_grant_fixture("milan-linux-6.18");
  const ResolvedCpu cpu = resolve("host", CpuPolicy::Strict, host);
  EXPECT_EQ(cpu.name, "host");
  EXPECT_THAT(cpu.missing, IsEmpty());
  EXPECT_TRUE(has_feature(cpu.cpuid, "hypervisor"));
  EXPECT_TRUE(has_feature(cpu.cpuid, "tsc-deadline"));
  EXPECT_EQ(cpu.cpuid.get(7).ebx, host.supported.get(7).ebx);
  EXPECT_EQ(cpu.cpuid.get(0xd, 9), host.supported.get(0xd, 9));
  EXPECT_EQ(cpu.cpuid.get(0xd, 11), host.supported.get(0xd, 11));  // CET's supervisor state
  EXPECT_EQ(cpu.cpuid.phys_bits(), 48U);
  EXPECT_EQ(cpu.cpuid.get(0x40000001), CpuidRegs{});
  EXPECT_THAT(cpu.notes, IsEmpty());
}

TEST(Host, follows_overrides) {
  const HostGrant host = read_grant_fixture("milan-linux-6.18");
  const ResolvedCpu cpu = resolve("host,-avx", CpuPolicy::Strict, host);
  EXPECT_EQ(cpu.text, "host,-avx");
  EXPECT_FALSE(has_feature(cpu.cpuid, "avx2"));
  EXPECT_EQ(cpu.cpuid.find(0xd, 2), nullptr);
  // What KVM reports of IA32_ARCH_CAPABILITIES is written, less what is taken away.
  const HostGrant lake = read_grant_fixture("cascadelake-linux-6.18");
  EXPECT_THAT(resolve("host", CpuPolicy::Strict, lake).msrs, ElementsAre(CpuMsr{0x10a, 0xc0aa0eb}));
  EXPECT_THAT(resolve("host,-rdctl-no", CpuPolicy::Strict, lake).msrs,
              ElementsAre(CpuMsr{0x10a, 0xc0aa0ea}));
  EXPECT_THAT(names(resolve("host,+avx512f", CpuPolicy::Strict, host)), ElementsAre("avx512f"));
}

TEST(Host, without_any_grant_is_still_a_cpu) {
  const ResolvedCpu cpu = resolve("host", CpuPolicy::Strict, HostGrant{});
  EXPECT_TRUE(has_feature(cpu.cpuid, "hypervisor"));
  EXPECT_EQ(cpu.cpuid.get(0x80000008).eax, 0x3024U);
}

TEST(ReadBack, what_kvm_owns_at_run_time_is_no_difference) {
  const CpuidTable set =
      resolve("skylake-server", CpuPolicy::Force, read_grant_fixture("cascadelake-linux-6.18"))
          .cpuid;
  EXPECT_THAT(unexpected_differences(set, set), IsEmpty());
  CpuidTable read = set;
  read.at(1).ecx ^= 1U << 27;  // OSXSAVE
  read.at(1).edx ^= 1U << 9;   // APIC
  read.at(7).ecx ^= 1U << 4;   // OSPKE
  read.at(0xd, 0).ebx = 2696;
  read.at(0xd, 1).ebx = 2568;
  EXPECT_THAT(unexpected_differences(set, read), IsEmpty());

  read.at(1).ecx ^= 1U << 28 | 1U << 3;  // AVX and MONITOR are not KVM's to change
  const auto differences = unexpected_differences(set, read);
  ASSERT_EQ(differences.size(), 1U);
  EXPECT_EQ(cpuid_word_name(differences[0].key, differences[0].reg), "1.ECX");

  read = set;
  read.at(0xd, 0).ecx = 0;
  read.at(0xd, 2).ebx = 0;
  read.erase(0xb);
  EXPECT_EQ(unexpected_differences(set, read).size(), 7U);
}

}  // namespace
}  // namespace vmm
