// [kvm] of a model file: KVM's own features, and its quirks.
#include "vmm/cpu/model_kvm.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

#include "vmm/core/quirks.h"
#include "vmm/cpu/diff.h"
#include "vmm/cpu/host_grant_fake.h"
#include "vmm/cpu/lint.h"
#include "vmm/cpu/model_text.h"
#include "vmm/cpu/provenance.h"
#include "vmm/cpu/show.h"

namespace vmm {
namespace {

using testing::Contains;
using testing::HasSubstr;
using testing::Not;

constexpr const char* kMine = R"(schema = 1
name = "mine"
title = "For tests"
default = 1
inherits = "haswell@4"
{}
[[version]]
number = 1
{}
)";

Result<CpuModelFile> file(std::string_view top, std::string_view version = "") {
  return parse_cpu_model(fmt::format(kMine, top, version), "mine.toml");
}

std::string error_of(std::string_view top, std::string_view version = "") {
  const auto parsed = file(top, version);
  EXPECT_FALSE(parsed) << top << version;
  return parsed ? "" : parsed.error().text() + "; " + parsed.error().hint_text();
}

std::uint32_t bit_of(std::string_view name) { return find_quirk(name)->bit; }

// The selection of a file with the text.
class MineToml {
 public:
  explicit MineToml(std::string_view top)
      : path_(testing::TempDir() + fmt::format("mine{}.toml", ::getpid())) {
    std::ofstream(path_) << fmt::format(kMine, top, "");
  }
  ~MineToml() { std::remove(path_.c_str()); }
  const std::string& selection() const { return path_; }

 private:
  std::string path_;
};

TEST(ModelKvm, pv_features_are_on_and_quirks_are_as_the_file_says) {
  const auto parsed = file(R"([kvm]
pv-features = ["kvmclock-stable-bit", "kvmclock"]
disable-quirks = ["cd-nw-cleared"]
keep-quirks = ["MWAIT_NEVER_UD_FAULTS"]
)");
  ASSERT_TRUE(parsed) << parsed.error().text();
  const CpuModel& model = parsed->versions[0];
  EXPECT_THAT(model.features, Contains(feature_id("kvmclock")));
  EXPECT_EQ(model.quirks_off,
            (usual_quirks_off() | bit_of("cd-nw-cleared")) & ~bit_of("mwait-never-ud-faults"));
}

TEST(ModelKvm, a_version_takes_the_place_of_what_was_before) {
  const auto parsed = file(R"([kvm]
pv-features = ["kvmclock"]
disable-quirks = ["cd-nw-cleared"]
)",
                           R"([version.kvm]
pv-features = ["kvm-pv-eoi"]
)");
  ASSERT_TRUE(parsed) << parsed.error().text();
  const CpuModel& model = parsed->versions[0];
  EXPECT_THAT(model.features, Not(Contains(feature_id("kvmclock"))));
  EXPECT_THAT(model.features, Contains(feature_id("kvm-pv-eoi")));
  EXPECT_EQ(model.quirks_off, usual_quirks_off());
}

TEST(ModelKvm, what_is_no_quirk_is_told_with_its_place) {
  EXPECT_THAT(error_of("[kvm]\nkeep-quirks = [\"cd-nw-clear\"]"),
              HasSubstr("mine.toml:7:16: unknown quirk 'cd-nw-clear'; did you mean "
                        "'cd-nw-cleared'?"));
  EXPECT_THAT(error_of("[kvm]\nquirks = []"), HasSubstr("mine.toml:7:1"));
  EXPECT_THAT(error_of("[kvm]\ndisable-quirks = [\"cd-nw-cleared\", \"CD_NW_CLEARED\"]"),
              HasSubstr("there twice"));
  EXPECT_THAT(error_of("[kvm]\ndisable-quirks = [\"cd-nw-cleared\"]\nkeep-quirks = "
                       "[\"cd-nw-cleared\"]"),
              HasSubstr("in disable-quirks as well as in keep-quirks"));
  EXPECT_THAT(error_of("[kvm]\npv-features = [\"avx2\"]"),
              HasSubstr("'avx2' (7.0.EBX[5]) is no feature of KVM's own"));
  EXPECT_THAT(error_of("", "add = [\"kvmclock\"]"), HasSubstr("[kvm] pv-features"));
}

TEST(ModelKvm, what_is_written_reads_as_the_same) {
  const auto parsed = file(R"([kvm]
pv-features = ["kvmclock"]
disable-quirks = ["cd-nw-cleared", "ignore-guest-pat"]
keep-quirks = ["stuff-feature-msrs"]
)");
  ASSERT_TRUE(parsed) << parsed.error().text();
  const CpuModel& model = parsed->versions[0];
  const auto whole = parse_cpu_model(cpu_model_text(model, ""), "whole.toml");
  ASSERT_TRUE(whole) << whole.error().text();
  EXPECT_EQ(whole->versions[0], model);
  const auto changes =
      parse_cpu_model(cpu_model_text(model, *find_cpu_model("haswell@4"), ""), "changes.toml");
  ASSERT_TRUE(changes) << changes.error().text();
  EXPECT_EQ(changes->versions[0], model);
}

TEST(ModelKvm, quirks_are_in_the_digest_where_they_are_not_as_usual) {
  std::string usual;
  {
    const MineToml plain("");
    usual = *digest_text(plain.selection(), HostGrant{});
  }
  EXPECT_THAT(usual, Not(HasSubstr("quirk")));
  const MineToml mine(
      "[kvm]\nkeep-quirks = [\"fix-hypercall-insn\"]\ndisable-quirks = "
      "[\"cd-nw-cleared\"]\n");
  EXPECT_EQ(*digest_text(mine.selection(), HostGrant{}),
            usual + "quirk.cd-nw-cleared=off\nquirk.fix-hypercall-insn=on\n");
}

TEST(ModelKvm, a_host_that_lacks_the_quirk_is_told_of_in_words) {
  const MineToml mine("[kvm]\ndisable-quirks = [\"cd-nw-cleared\"]\n");
  HostGrant host = generous_grant();
  host.quirks = 0x7f;
  host.kernel = "6.1.0";
  const ResolvedCpu with = *resolve_cpu(mine.selection(), CpuPolicy::Force, Topology{}, host);
  EXPECT_THAT(with.notes, Not(Contains(HasSubstr("quirk"))));
  EXPECT_THAT(quirk_lines(with, host)[0],
              HasSubstr("switched off: cd-nw-cleared, lapic-mmio-hole"));
  EXPECT_THAT(quirk_lines(with, host)[1],
              HasSubstr("stuff-feature-msrs stays on, for this KVM cannot switch it off (Linux "
                        "6.13, or 6.12.y can): feature MSRs begin"));
  host.quirks = 0;
  const ResolvedCpu without = *resolve_cpu(mine.selection(), CpuPolicy::Force, Topology{}, host);
  EXPECT_THAT(without.notes,
              Contains(HasSubstr("the quirk cd-nw-cleared stays on, for this host's KVM cannot "
                                 "switch it off: CR0.CD")));
}

TEST(ModelKvm, why_names_the_version_that_says_so) {
  const MineToml mine("[kvm]\nkeep-quirks = [\"lapic-mmio-hole\"]\n");
  const CpuSelection selection = *parse_cpu_selection(mine.selection());
  const CpuModelFile parsed = *find_cpu_model_file(selection.model);
  const ResolvedCpu cpu = *resolve_cpu(mine.selection(), CpuPolicy::Force, {}, HostGrant{});
  EXPECT_THAT(provenance_lines({&cpu, &selection, &parsed, &parsed.versions[0]}, {}),
              Contains(testing::ContainsRegex("  quirks on     mine@1 kvm  +lapic-mmio-hole")));
}

TEST(ModelKvm, show_diff_and_lint_speak_of_quirks) {
  const MineToml mine("[kvm]\nkeep-quirks = [\"mwait-never-ud-faults\"]\n");
  const WholeCpu whole = *resolve_whole(mine.selection(), HostGrant{});
  std::string shown;
  for (const std::string& line : show_lines(whole.cpu, nullptr, false)) shown += line + "\n";
  EXPECT_THAT(shown, HasSubstr("quirks off    lapic-mmio-hole out-7e-inc-rip fix-hypercall-insn "
                               "stuff-feature-msrs\n"));
  const CpuDiff diff = diff_cpus(whole, *resolve_whole("haswell@4", HostGrant{}));
  EXPECT_THAT(diff.values, Contains(CpuDiff::Value{"quirks off", "", "mwait-never-ud-faults"}));
  const auto findings = lint_sections(whole.cpu);
  ASSERT_FALSE(findings.empty());
  EXPECT_EQ(findings[0].rule, "quirk");
  EXPECT_THAT(findings[0].what, HasSubstr("mwait-never-ud-faults is on"));
  EXPECT_TRUE(lint_sections(resolve_whole("haswell@4", HostGrant{})->cpu).empty());
}

}  // namespace
}  // namespace vmm
