// Why a bit is as it is, in a few lines.
#include "vmm/cpu/why.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "vmm/cpu/host_grant_fake.h"

namespace vmm {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

std::vector<std::string> why(const char* bit, const std::string& text,
                             std::optional<HostGrant> host = std::nullopt) {
  const CpuSelection selection = *parse_cpu_selection(text);
  const WholeCpu whole = *resolve_whole(text, HostGrant{});
  const CpuModelFile file = *find_cpu_model_file(selection.model);
  const CpuModel model = *find_cpu_model(selection.model);
  WhyInput input;
  input.feature = feature_id(bit);
  input.whole = &whole;
  input.selection = &selection;
  input.file = &file;
  input.model = &model;
  input.host = std::move(host);
  input.where = "this host";
  const auto lines = why_lines(input);
  EXPECT_TRUE(lines) << lines.error().text();
  return lines.value_or(std::vector<std::string>{});
}

TEST(Why, three_lines_tell_the_story_of_xsaves) {
  EXPECT_THAT(
      why("vmx.xsaves", "skylake-client@3,+xsaves,+vmx"),
      ElementsAre(
          "vmx-xsaves  MSR 48B[20], enable XSAVES and XRSTORS: off in "
          "skylake-client@3,+xsaves,+vmx",
          "  @1 to @3 of skylake-client lack it, @4 has it; KVM offers it since Linux 5.3",
          "  xsaves without vmx-xsaves (MSR 48B[20]): a hypervisor here has XSAVES, and its "
          "own guest gets #UD for it; try vmx.+xsaves, or -xsaves"));
}

TEST(Why, a_bit_that_no_version_has_names_models_that_have_it) {
  const auto lines = why("pdpe1gb", "haswell");
  EXPECT_THAT(lines[1], StartsWith("  no version of haswell has it; models with it: cascadelake"));
  EXPECT_THAT(why("3dnow", "haswell")[1], HasSubstr("no model has it"));
}

TEST(Why, an_override_decides) {
  EXPECT_EQ(why("pdpe1gb", "haswell,+pdpe1gb")[1],
            "  +pdpe1gb decides; no version of haswell has it");
  EXPECT_EQ(why("avx2", "haswell,-avx")[1],
            "  -avx takes it away, for it needs that; every version of haswell has it");
  EXPECT_EQ(why("avx2", "haswell,-avx,+avx2")[1],
            "  +avx2 decides; every version of haswell has it");
  // What the model never had cannot be taken away.
  EXPECT_THAT(why("xop", "haswell,-avx")[1], StartsWith("  no version of haswell has it"));
}

TEST(Why, nesting_is_opt_in_and_some_bits_are_nobodys_choice) {
  EXPECT_THAT(why("vmx", "haswell"), ElementsAre("vmx  1.ECX[5], VT-x: off in haswell@4",
                                                 "  opt-in for every model; +vmx adds it"));
  EXPECT_THAT(why("vmx", "haswell,+vmx")[1], HasSubstr("+vmx decides"));
  EXPECT_THAT(why("vmx-ept", "haswell")[0], HasSubstr("on in haswell@4,+vmx"));
  EXPECT_THAT(why("hypervisor", "haswell")[1], HasSubstr("always on"));
  EXPECT_THAT(why("ht", "haswell")[1], HasSubstr("--smp"));
}

TEST(Why, a_bit_that_is_wanted_hears_what_the_host_says) {
  const HostGrant pvm = read_grant_fixture("pvm-linux-6.18");
  EXPECT_THAT(
      why("pdpe1gb", "skylake-server", pvm).back(),
      StartsWith("  this host refuses it: kvm_pvm: its shadow paging knows no 1 GiB pages"));
  EXPECT_THAT(why("cx16", "skylake-server", pvm).back(), "  this host gives it");
  EXPECT_THAT(why("vmx-ept", "skylake-server", pvm).back(), StartsWith("  this host refuses vmx:"));
  EXPECT_EQ(why("pdpe1gb", "haswell", pvm).size(), why("pdpe1gb", "haswell").size());
}

TEST(Why, a_wish_that_this_host_does_not_fulfil_is_explained) {
  const HostGrant pvm = read_grant_fixture("pvm-linux-6.18");
  const auto about = [&](const char* bit, const std::string& text) {
    const CpuSelection selection = *parse_cpu_selection(text);
    const auto whole = resolve_whole(text, pvm);
    EXPECT_TRUE(whole) << whole.error().text();
    const CpuModelFile file = *find_cpu_model_file(selection.model);
    const CpuModel model = *find_cpu_model(selection.model);
    return *why_lines({.feature = feature_id(bit),
                       .whole = &*whole,
                       .selection = &selection,
                       .file = &file,
                       .model = &model,
                       .host = pvm,
                       .where = "this host"});
  };
  const auto required = about("avx2", "haswell,require:avx2");
  EXPECT_THAT(required[required.size() - 2], StartsWith("  this host refuses it: kvm_pvm:"));
  EXPECT_EQ(required.back(),
            "  it is required, so that mask and force are refused here (77) like strict; "
            "optional:avx2 runs without it");
  EXPECT_EQ(about("cx16", "haswell,forbid:cx16").back(),
            "  this host gives it, so that a run is refused (77), for it is forbidden; -cx16 only "
            "hides it");
  EXPECT_THAT(about("avx512f", "skylake-server,optional:avx512f").back(),
              StartsWith("  on this host: optional avx512f is left out: refused by silicon"));
  EXPECT_EQ(about("cx16", "haswell,phys-bits=host-exact").back(), "  this host gives it");
}

TEST(Why, the_first_kernel_is_named_of_a_bit_that_no_host_was_asked_about) {
  EXPECT_THAT(why("lam", "haswell")[1], HasSubstr("; KVM offers it since Linux 6.8"));
  EXPECT_THAT(why("pks", "haswell")[1], HasSubstr("; KVM offers it up to Linux 6.18 never"));
}

TEST(WhyCapability, names_the_versions_of_the_model) {
  ResolvedCpu cpu;
  cpu.name = "skylake-client@3";
  cpu.text = "skylake-client@3,+xsaves,+vmx";
  EXPECT_EQ(why_capability_is_off(cpu, 0x48b, 52),
            "vmx-xsaves: @1 to @3 of skylake-client lack it, @4 has it");
  cpu.text = "skylake-client@4,+vmx,vmx.-xsaves";
  EXPECT_EQ(why_capability_is_off(cpu, 0x48b, 52), "vmx-xsaves: -vmx-xsaves");
}

TEST(WhyCapability, knows_what_the_host_refused) {
  ResolvedCpu cpu;
  cpu.name = "skylake-server@5";
  cpu.text = "skylake-server@5,+vmx";
  cpu.missing = {{"vmx-mtf", "MSR 48E[27]", "host kernel", "KVM does not offer it", ""}};
  // Of the old MSR as of the TRUE one.
  for (const std::uint32_t msr : {0x482u, 0x48eu})
    EXPECT_EQ(why_capability_is_off(cpu, msr, 59),
              "vmx-mtf is skylake-server@5's, and host kernel refuses it here: KVM does not offer "
              "it");
}

TEST(WhyCapability, is_silent_about_bits_without_a_name) {
  ResolvedCpu cpu;
  cpu.text = "skylake-client@3,+vmx";
  EXPECT_EQ(why_capability_is_off(cpu, 0x48b, 61), "");
  EXPECT_EQ(why_capability_is_off(cpu, 0x277, 0), "");
}

}  // namespace
}  // namespace vmm
