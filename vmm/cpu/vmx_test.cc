// Names of VMX controls against the values of the capability MSRs.
#include "vmm/cpu/vmx.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <map>

#include "vmm/cpu/host_grant_fake.h"
#include "vmm/cpu/resolve.h"
#include "vmm/cpu/words.h"

namespace vmm {
namespace {

using testing::HasSubstr;

struct Row {
  const char* model;
  std::array<std::uint64_t, 9> values;
};
constexpr std::array<std::uint32_t, 9> kColumns = {0x48d, 0x48e, 0x48b, 0x48f, 0x490,
                                                   0x485, 0x48c, 0x491, 0x480};
// What QEMU's models give a guest on a host that can give all (MISC and BASIC: the features only).
constexpr Row kRows[] = {
    {"kvm64@1",
     {0x1f00000016, 0x67b9fffe0401e172, 0x0, 0x3efff00036dff, 0x13ff000011ff, 0x40, 0x0, 0x0, 0x0}},
    {"nehalem@2",
     {0x7f00000016, 0xfff9fffe04006172, 0x7700000000, 0x7fffff00036dfb, 0xf3ff000011fb, 0x40,
      0xf0106134041, 0x0, 0xc0000000000000}},
    {"westmere@2",
     {0x7f00000016, 0xfff9fffe04006172, 0xf700000000, 0x7fffff00036dfb, 0xf3ff000011fb, 0x60,
      0xf0106134041, 0x0, 0xc0000000000000}},
    {"sandybridge@2",
     {0x7f00000016, 0xfff9fffe04006172, 0xff00000000, 0x7fffff00036dfb, 0xf3ff000011fb, 0x60,
      0xf0106134041, 0x0, 0xc0000000000000}},
    {"ivybridge@2",
     {0xff00000016, 0xfff9fffe04006172, 0xbff00000000, 0x7fffff00036dfb, 0xf3ff000011fb, 0x60,
      0xf0106134041, 0x0, 0xc0000000000000}},
    {"haswell@4",
     {0xff00000016, 0xfff9fffe04006172, 0x7bff00000000, 0x7fffff00036dfb, 0xf3ff000011fb,
      0x20000060, 0xf0106334041, 0x1, 0xc0000000000000}},
    {"broadwell@4",
     {0xff00000016, 0xfff9fffe04006172, 0x37bff00000000, 0x7fffff00036dfb, 0xf3ff000011fb,
      0x20000060, 0xf0106334041, 0x1, 0xc0000000000000}},
    {"skylake-client@4",
     {0x7f00000016, 0xfff9fffe04006172, 0x1378ef00000000, 0x7fffff00036dfb, 0xf3ff000011fb,
      0x20000060, 0xf0106334041, 0x1, 0xc0000000000000}},
    {"skylake-server@5",
     {0xff00000016, 0xfff9fffe04006172, 0x137bff00000000, 0x7fffff00036dfb, 0xf3ff000011fb,
      0x20000060, 0xf0106334041, 0x1, 0xc0000000000000}},
    {"cascadelake-server@5",
     {0xff00000016, 0xfff9fffe04006172, 0x137bff00000000, 0x7fffff00036dfb, 0xf3ff000011fb,
      0x20000060, 0xf0106334041, 0x1, 0xc0000000000000}},
    {"cooperlake@2",
     {0xff00000016, 0xfff9fffe04006172, 0x137bff00000000, 0x7fffff00036dfb, 0xf3ff000011fb,
      0x20000060, 0xf0106334041, 0x1, 0xc0000000000000}},
    {"icelake-server@7",
     {0xff00000016, 0xfff9fffe04006172, 0x137bff00000000, 0x7fffff00036dfb, 0xf3ff000011fb,
      0x20000060, 0xf01063340c1, 0x1, 0xc0000000000000}},
    {"sapphirerapids@3",
     {0xff00000016, 0xfff9fffe04006172, 0x137bff00000000, 0x7fffff00036dfb, 0xf3ff000011fb,
      0x20000060, 0xf01063340c1, 0x1, 0xc0000000000000}},
    {"graniterapids@2",
     {0xff00000016, 0xfff9fffe04006172, 0x137bff00000000, 0x7fffff00036dfb, 0xf3ff000011fb,
      0x20000060, 0xf01063340c1, 0x1, 0xc0000000000000}},
    {"sierraforest@2",
     {0xff00000016, 0xfff9fffe04006172, 0x137bff00000000, 0x7fffff00036dfb, 0xf3ff000011fb,
      0x20000060, 0xf0106334041, 0x1, 0xc0000000000000}},
    {"clearwaterforest@1",
     {0xff00000016, 0xfff9fffe04006172, 0x137bff00000000, 0x7fffff00036dfb, 0xf3ff000011fb,
      0x20000060, 0xf0106334041, 0x1, 0xc0000000000000}},
    {"denverton@3",
     {0xff00000016, 0xfff9fffe04006172, 0x136bff00000000, 0x7fffff00036dfb, 0xf3ff000011fb,
      0x20000060, 0xf0106334041, 0x1, 0xc0000000000000}},
    {"snowridge@4",
     {0xff00000016, 0xfff9fffe04006172, 0x136bff00000000, 0x7fffff00036dfb, 0xf3ff000011fb,
      0x20000060, 0xf0106334041, 0x1, 0xc0000000000000}},
    {"skylake-client@3",
     {0x7f00000016, 0xfff9fffe04006172, 0x378ef00000000, 0x7fffff00036dfb, 0xf3ff000011fb,
      0x20000060, 0xf0106334041, 0x1, 0xc0000000000000}},
};

std::uint64_t value_of(const ResolvedCpu& cpu, std::uint32_t index) {
  for (const CpuMsr& msr : cpu.msrs)
    if (msr.index == index) return msr.value;
  return 0;
}

ResolvedCpu resolve(const std::string& selection, const HostGrant& host = generous_grant(),
                    CpuPolicy policy = CpuPolicy::Force) {
  auto cpu = resolve_cpu(selection, policy, {}, host);
  EXPECT_TRUE(cpu) << cpu.error().text();
  return cpu ? *cpu : ResolvedCpu{};
}

HostGrant vmx_host() {
  HostGrant host = generous_grant();
  host.kernel = "6.1.0-40-cloud-amd64";
  host.feature_msrs.merge(bochs_vmx_msrs());
  return host;
}

TEST(Vmx, every_model_has_the_words_of_the_facts) {
  for (const Row& row : kRows) {
    const ResolvedCpu cpu = resolve(std::string(row.model) + ",+vmx");
    for (std::size_t i = 0; i < kColumns.size(); ++i) {
      std::uint64_t value = value_of(cpu, kColumns[i]);
      if (kColumns[i] == kVmxBasic || kColumns[i] == kVmxMisc)
        value = vmx_features(kColumns[i], value);
      EXPECT_EQ(value, row.values[i]) << row.model << fmt::format(" {:X}h", kColumns[i]);
    }
  }
}

TEST(Vmx, a_bare_name_has_none) {
  for (const CpuMsr& msr : resolve("skylake-server").msrs)
    EXPECT_FALSE(is_vmx_word({true, msr.index})) << msr.index;
}

TEST(Vmx, one_control_comes_and_goes_by_name) {
  EXPECT_EQ(value_of(resolve("skylake-client@3,+vmx"), 0x48b), 0x000378ef00000000U);
  EXPECT_EQ(value_of(resolve("skylake-client@3,+xsaves,+vmx,vmx.+xsaves"), 0x48b),
            0x001378ef00000000U);
  EXPECT_EQ(value_of(resolve("skylake-client@4,+vmx,vmx.-xsaves"), 0x48b), 0x000378ef00000000U);
  EXPECT_EQ(value_of(resolve("skylake-client@4,+vmx,-xsaves"), 0x48b), 0x000378ef00000000U);
  EXPECT_EQ(resolve("skylake-client@4,+vmx,vmx.-xsaves").text, "skylake-client@4,+vmx,-vmx-xsaves");
  // What the architecture sets by default is had when it can be cleared.
  EXPECT_EQ(value_of(resolve("haswell,+vmx,vmx.-cr3-load-noexit"), 0x48e), 0xfff9fffe0400e172U);
}

TEST(Vmx, a_control_that_goes_takes_along_what_needs_it) {
  const ResolvedCpu cpu = resolve("haswell,+vmx,vmx.-ept");
  EXPECT_EQ(value_of(cpu, 0x48b), 0x00007b7d00000000U) << "with EPT, unrestricted guest";
  EXPECT_EQ(value_of(cpu, 0x48c), 0x00000f0100000000U);
  EXPECT_THAT(cpu.notes, testing::Contains(HasSubstr("vmx-unrestricted-guest")));
}

TEST(Vmx, a_control_can_be_fixed) {
  const ResolvedCpu cpu = resolve("haswell,+vmx,vmx.hlt-exit=fixed");
  EXPECT_EQ(value_of(cpu, 0x48e), 0xfff9fffe040061f2U);
  EXPECT_EQ(cpu.text, "haswell@4,+vmx,vmx-hlt-exit=fixed");
  EXPECT_NE(cpu.model_digest, resolve("haswell,+vmx").model_digest);
}

TEST(Vmx, without_vmx_a_control_means_nothing) {
  for (const char* const selection : {"haswell,vmx.+ple", "haswell,+npt", "host,vmx.ept=fixed"}) {
    const auto cpu = resolve_cpu(selection, CpuPolicy::Force, {}, generous_grant());
    ASSERT_FALSE(cpu) << selection;
    EXPECT_EQ(cpu.error().kind(), ErrorKind::Usage);
    EXPECT_THAT(cpu.error().text(), HasSubstr("means nothing without")) << selection;
  }
}

TEST(Vmx, what_kvm_keeps_to_itself_is_taken_from_it) {
  const ResolvedCpu cpu = resolve("skylake-client,+vmx", vmx_host());
  EXPECT_EQ(value_of(cpu, kVmxBasic), 0x00d8100011e57ed0U);
  EXPECT_EQ(value_of(cpu, kVmxMisc), 0x20000065U) << "no wait-for-SIPI: the model lacks it";
  EXPECT_EQ(value_of(cpu, 0x48a), 0x2eU);
}

TEST(Vmx, the_rule_host_has_the_words_of_kvm) {
  const ResolvedCpu cpu = resolve("host,+vmx,vmx.-vpid", vmx_host());
  EXPECT_EQ(value_of(cpu, 0x48b), 0x02137bdf00000000U);
  EXPECT_EQ(value_of(cpu, 0x48c), 0x0000000006334041U);
  EXPECT_EQ(value_of(cpu, 0x48f), 0x007fffff00036dfbU);
}

TEST(Vmx, a_refused_control_is_named_before_kvm_is_asked) {
  const ResolvedCpu cpu = resolve("skylake-server,+vmx,vmx.+ple", vmx_host(), CpuPolicy::Mask);
  std::map<std::string, MissingBit> missing;
  for (const MissingBit& bit : cpu.missing) missing[bit.name] = bit;
  ASSERT_EQ(missing.size(), 3u) << testing::PrintToString(describe(cpu.missing));
  EXPECT_EQ(missing["vmx-posted-intr"].word, "MSR 48D[7]");
  EXPECT_THAT(missing["vmx-posted-intr"].reason, HasSubstr("MSR 48Dh (7f00000016h)"));
  EXPECT_EQ(missing["vmx-ple"].refused_by, "KVM");
  EXPECT_TRUE(missing.contains("vmx-mtf"));
  EXPECT_EQ(value_of(cpu, 0x48d), 0x0000007f00000016U);
  EXPECT_EQ(value_of(cpu, 0x48b), 0x00137bff00000000U);
}

TEST(Vmx, reasons_name_the_module_parameter_and_the_first_kernel) {
  HostGrant host = vmx_host();
  host.module_parameters["kvm_intel.enable_apicv"] = "N";
  host.kernel = "4.19.0";
  host.feature_msrs[0x491] = 0;
  const ResolvedCpu cpu = resolve("skylake-server,+vmx", host, CpuPolicy::Strict);
  ASSERT_EQ(cpu.missing.size(), 3u) << testing::PrintToString(describe(cpu.missing));
  EXPECT_EQ(cpu.missing[0].refused_by, "module parameter kvm_intel.enable_apicv=N");
  EXPECT_EQ(cpu.missing[0].remedy, "modprobe kvm_intel enable_apicv=1");
  EXPECT_THAT(cpu.missing[2].reason, HasSubstr("since Linux 5.3, this is 4.19.0"));
}

TEST(Vmx, refused_as_a_whole_is_one_line) {
  HostGrant host = vmx_host();
  host.supported.at(1).ecx &= ~(1U << 5);
  const ResolvedCpu cpu = resolve("skylake-server,+vmx", host, CpuPolicy::Mask);
  ASSERT_EQ(cpu.missing.size(), 1u);
  EXPECT_EQ(cpu.missing[0].name, "vmx");
  EXPECT_EQ(value_of(cpu, 0x48b), 0u);
}

}  // namespace
}  // namespace vmm
