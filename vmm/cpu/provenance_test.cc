// Every bit that is on has an origin, and it is the right one.
#include "vmm/cpu/provenance.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "vmm/base/sha256.h"
#include "vmm/cpu/host_grant_fake.h"
#include "vmm/cpu/show.h"
#include "vmm/cpu/words.h"

namespace vmm {
namespace {

using testing::Contains;
using testing::Each;
using testing::HasSubstr;
using testing::Not;
using testing::SizeIs;

// A selection with all that is to be known about it.
struct Sample {
  explicit Sample(const std::string& text, const HostGrant& host = {})
      : selection(*parse_cpu_selection(text)),
        cpu(*resolve_cpu(text, CpuPolicy::Force, {}, host)),
        own(is_rule_host(selection)) {
    if (own) return;
    file = *find_cpu_model_file(selection.model);
    model = *version_of(file, selection.model);
  }
  CpuSource source() const {
    return {&cpu, &selection, own ? nullptr : &file, own ? nullptr : &model};
  }
  std::string origin(std::string_view name) const {
    return origin_of_bit(feature_id(name), source());
  }

  CpuSelection selection;
  ResolvedCpu cpu;
  bool own;
  CpuModelFile file;
  CpuModel model;
};

TEST(Provenance, a_bit_is_the_versions_that_brought_it_in) {
  const Sample sample("haswell@4,+pdpe1gb,-avx2,+vmx,vmx.+tsc-scaling");
  EXPECT_EQ(sample.origin("avx"), "haswell@1");
  EXPECT_EQ(sample.origin("spec-ctrl"), "haswell@3");
  EXPECT_EQ(sample.origin("pdpe1gb"), "+pdpe1gb");
  EXPECT_EQ(sample.origin("avx2"), "-avx2");
  EXPECT_EQ(sample.origin("vmx"), "+vmx");
  EXPECT_EQ(sample.origin("vmx-ept"), "haswell@1");
  EXPECT_EQ(sample.origin("vmx-tsc-scaling"), "+vmx-tsc-scaling");
  EXPECT_EQ(sample.origin("hypervisor"), "always");
  EXPECT_EQ(sample.origin("ht"), "--smp");
  // Gone in @2, back in @3, gone in @4.
  EXPECT_EQ(Sample("haswell@3").origin("rtm"), "haswell@3");
  EXPECT_EQ(Sample("haswell@1").origin("rtm"), "haswell@1");
}

TEST(Provenance, what_is_inherited_is_the_bases) {
  const std::string path = testing::TempDir() + "provenance_test.toml";
  std::ofstream(path) << "schema = 1\nname = \"mine\"\ntitle = \"t\"\ndefault = 2\n"
                         "inherits = \"haswell@4\"\n[[version]]\nnumber = 1\nphys-bits = 40\n"
                         "add = [\"pdpe1gb\"]\n[[version]]\nnumber = 2\nadd = [\"mpx\"]\n";
  const Sample sample(path);
  EXPECT_EQ(sample.origin("avx"), "haswell@4");
  EXPECT_EQ(sample.origin("pdpe1gb"), "mine@1");
  EXPECT_EQ(sample.origin("mpx"), "mine@2");
  EXPECT_THAT(provenance_lines(sample.source(), {}), Contains("  phys-bits     mine@1     40"));
  std::remove(path.c_str());
}

TEST(Provenance, every_bit_of_every_model_has_an_origin) {
  for (const std::string& name : builtin_cpu_models()) {
    for (const char* const with : {"", ",+vmx", ",+svm"}) {
      const Sample sample(name + with);
      const CpuWords words = words_of(sample.cpu);
      for (std::size_t i = 0; i < FeatureCatalog::all().size(); ++i) {
        const auto id = static_cast<FeatureId>(i);
        if (!words.has(id)) continue;
        EXPECT_THAT(origin_of_bit(id, sample.source()), Not(HasSubstr("other bits")))
            << name << with << ": " << FeatureCatalog::get(id).name;
      }
      EXPECT_THAT(provenance_lines(sample.source(), {}), Each(SizeIs(testing::Le(100U))));
    }
  }
}

TEST(Provenance, lines_mark_what_a_host_refuses_and_list_what_was_taken) {
  const Sample sample("haswell,-avx,phys-bits=40");
  MissingBit bit;
  bit.word = "1.ECX[17]";
  const std::string lines =
      fmt::format("{}", fmt::join(provenance_lines(sample.source(), {bit}), "\n"));
  EXPECT_THAT(lines, HasSubstr("  phys-bits     phys-bits=40  40\n"));
  EXPECT_THAT(lines, HasSubstr(" pcid! "));
  EXPECT_THAT(lines, HasSubstr("\n\ntaken away:\n  1.ECX         -avx          fma avx f16c\n"));
}

TEST(Provenance, under_the_rule_host_the_host_says) {
  const Sample sample("host,+pdpe1gb", generous_grant());
  EXPECT_EQ(sample.origin("avx"), "host");
  EXPECT_EQ(sample.origin("pdpe1gb"), "+pdpe1gb");
}

TEST(DigestText, is_what_the_digest_is_made_over) {
  for (const std::string& name : builtin_cpu_models()) {
    const auto text = digest_text(name + ",phys-bits=40", HostGrant{});
    ASSERT_TRUE(text);
    const auto cpu = resolve_cpu(name + ",phys-bits=40", CpuPolicy::Strict, {}, HostGrant{});
    EXPECT_EQ(sha256_hex(*text), cpu->model_digest);
  }
}

TEST(NestedLines, each_control_is_on_fixed_or_off) {
  const auto cpu =
      resolve_cpu("haswell,+vmx,vmx.hlt-exit=fixed", CpuPolicy::Force, {}, HostGrant{});
  ASSERT_TRUE(cpu);
  const std::vector<std::string> lines = nested_lines(*cpu);
  EXPECT_THAT(lines, Contains("MSR 48B  00007bff00000000h"));
  EXPECT_THAT(lines, Contains("  fixed  vmx-hlt-exit"));
  EXPECT_THAT(lines, Contains(testing::StartsWith("  off    vmx-ple vmx-encls-exit")));
  EXPECT_THAT(lines, Each(SizeIs(testing::Le(100U))));
  EXPECT_THAT(nested_lines(*resolve_cpu("epyc,+svm", CpuPolicy::Force, {}, HostGrant{})),
              Contains(HasSubstr("8000000A.EDX  ")));
}

}  // namespace
}  // namespace vmm
