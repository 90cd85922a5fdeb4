// Numbers in a model file: raw words and feature MSRs.
#include "vmm/cpu/model_values.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>

#include "vmm/cpu/flatten.h"
#include "vmm/cpu/host_grant_fake.h"
#include "vmm/cpu/model_text.h"
#include "vmm/cpu/provenance.h"
#include "vmm/cpu/resolve.h"

namespace vmm {
namespace {

using testing::AllOf;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

HostGrant host() { return read_grant_fixture("cascadelake-linux-6.18"); }

std::string text_of(const std::string& root, const std::string& version) {
  return fmt::format(
      "schema = 1\nname = \"mine\"\ntitle = \"A CPU for tests\"\ndefault = 1\n"
      "inherits = \"haswell@4\"\n{}\n[[version]]\nnumber = 1\n{}",
      root, version);
}

constexpr const char* kWords =
    "words = [\n"
    "  { leaf = 0x15, register = \"ebx\", value = 0x54 },\n"
    "  { leaf = 0x80000008, register = \"eax\", value = 0x2A0000, mask = 0xFF0000 },\n"
    "  { leaf = 0x14, subleaf = 1, register = \"eax\", value = 0x2490002 },\n"
    "]\n";

class ModelValues : public testing::Test {
 protected:
  ~ModelValues() override { std::remove(path_.c_str()); }

  const std::string& file(const std::string& text) {
    std::ofstream(path_) << text;
    return path_;
  }

 private:
  std::string path_ = testing::TempDir() + fmt::format("values{}.toml", getpid());
};

TEST_F(ModelValues, raw_words_stand_whole_or_in_part) {
  const ResolvedCpu cpu =
      *resolve_cpu(file(text_of(kWords, "")), CpuPolicy::Strict, {}, HostGrant{});
  EXPECT_EQ(cpu.cpuid.get(0x15).ebx, 0x54U);
  EXPECT_EQ(cpu.cpuid.get(0x14, 1).eax, 0x2490002U);
  EXPECT_EQ(cpu.cpuid.get(0x80000008).eax, 0x2a3027U);  // 48 and 39 bits stay
  EXPECT_EQ(cpu.cpuid.get(0).eax, 0x15U);               // the limit grows
  EXPECT_NE(cpu.model_digest,
            resolve_cpu("haswell", CpuPolicy::Strict, {}, HostGrant{})->model_digest);
}

TEST_F(ModelValues, a_raw_bit_of_a_word_with_features_is_asked_of_the_host) {
  const std::string& mine =
      file(text_of("words = [{ leaf = 7, subleaf = 2, register = \"eax\", value = 1 },\n"
                   "  { leaf = 1, register = \"edx\", value = 0x400, mask = 0x400 }]\n",
                   ""));
  const auto strict = resolve_cpu(mine, CpuPolicy::Strict, {}, host());
  ASSERT_TRUE(strict) << strict.error().text();
  ASSERT_EQ(strict->missing.size(), 1U);
  EXPECT_EQ(strict->missing[0].name, "1.EDX[10]");
  // Masked, it does not come back with what is derived after it.
  const auto masked = resolve_cpu(mine, CpuPolicy::Mask, {}, host());
  EXPECT_EQ(masked->cpuid.get(1).edx & 0x400, 0U);
  EXPECT_EQ(masked->cpuid.get(7, 2).eax, 1U);
}

TEST_F(ModelValues, msrs_are_part_of_the_cpu) {
  const std::string& mine =
      file(text_of("",
                   "add = [\"arch-capabilities\", \"rdctl-no\"]\n[version.msr]\n"
                   "microcode-revision = 0x2000000000\n0x10a = 0x10000000000\n"));
  const ResolvedCpu cpu = *resolve_cpu(mine, CpuPolicy::Strict, {}, HostGrant{});
  EXPECT_THAT(cpu.msrs, ElementsAre(CpuMsr{0x8b, 0x2000000000}, CpuMsr{0x10a, 0x10000000001}));
  EXPECT_THAT(*digest_text(mine, HostGrant{}), HasSubstr("msr.0000008b=0000002000000000\n"));
  // Without what announces it an MSR goes.
  EXPECT_THAT(resolve_cpu(mine + ",-arch-capabilities", CpuPolicy::Strict, {}, HostGrant{})->msrs,
              ElementsAre(CpuMsr{0x8b, 0x2000000000}));
  // It comes before IA32_FEATURE_CONTROL, which locks.
  EXPECT_EQ(resolve_cpu(mine + ",+vmx", CpuPolicy::Force, {}, HostGrant{})->msrs.back(),
            (CpuMsr{0x3a, 5}));
}

TEST_F(ModelValues, an_msr_that_the_host_lacks_is_refused) {
  HostGrant grant = host();
  grant.feature_msrs.erase(0x8b);
  grant.feature_msrs[0xce] = 0x80000000;
  const std::string& mine =
      file(text_of("[msr]\nmicrocode-revision = 1\nplatform-info = 0x80000100\n", ""));
  const auto strict = resolve_cpu(mine, CpuPolicy::Strict, {}, grant);
  ASSERT_EQ(strict->missing.size(), 2U);
  EXPECT_EQ(strict->missing[0].name, "microcode-revision");
  EXPECT_THAT(strict->missing[0].reason, HasSubstr("KVM_GET_MSR_FEATURE_INDEX_LIST"));
  EXPECT_EQ(strict->missing[1].word, "MSR CE");
  EXPECT_THAT(strict->missing[1].reason, HasSubstr("80000100h is wanted, its KVM gives at most"));
  EXPECT_THAT(resolve_cpu(mine, CpuPolicy::Mask, {}, grant)->msrs, IsEmpty());
  EXPECT_EQ(resolve_cpu(mine, CpuPolicy::Force, {}, grant)->msrs.size(), 2U);
  // Any revision will do where there is one.
  grant.feature_msrs[0x8b] = 0x100000000;
  grant.feature_msrs[0xce] = 0x80000100;
  EXPECT_THAT(resolve_cpu(mine, CpuPolicy::Strict, {}, grant)->missing, IsEmpty());
}

TEST_F(ModelValues, an_export_holds_them) {
  const std::string mine =
      file(text_of(kWords,
                   "add = [\"arch-capabilities\"]\n[version.msr]\n0x10a = 0x10000000000\n"
                   "0xc0010140 = 7\nplatform-info = 0x80000000\n"));
  const CpuModel model =
      *flatten(*parse_cpu_selection(mine), *resolve_whole(mine, HostGrant{}), "flat");
  EXPECT_EQ(model.raw.size(), 3U);
  EXPECT_EQ(model.msrs.size(), 3U);
  const CpuModel base = *find_cpu_model("haswell@4");
  for (const std::string& text :
       {cpu_model_text(model, "test"), cpu_model_text(model, base, "test")}) {
    const auto again = parse_cpu_model(text, "flat.toml");
    ASSERT_TRUE(again) << again.error().text() << "\n" << text;
    EXPECT_EQ(again->versions.front(), model) << text;
    const std::string digest = resolve_cpu(mine, CpuPolicy::Force, {}, HostGrant{})->model_digest;
    EXPECT_EQ(resolve_cpu(file(text), CpuPolicy::Force, {}, HostGrant{})->model_digest, digest);
    file(text_of(kWords,
                 "add = [\"arch-capabilities\"]\n[version.msr]\n0x10a = 0x10000000000\n"
                 "0xc0010140 = 7\nplatform-info = 0x80000000\n"));
  }
  // What the selection took away is not written.
  const std::string without = mine + ",-arch-capabilities";
  EXPECT_FALSE(flatten(*parse_cpu_selection(without), *resolve_whole(without, HostGrant{}), "flat")
                   ->msrs.contains(0x10a));
}

TEST_F(ModelValues, why_names_the_version) {
  const std::string& mine = file(text_of(kWords, "[version.msr]\nplatform-info = 0x80000000\n"));
  const CpuSelection selection{mine, {}};
  const CpuModelFile read = *find_cpu_model_file(mine);
  const ResolvedCpu cpu = *resolve_cpu(mine, CpuPolicy::Force, {}, HostGrant{});
  const auto lines = provenance_lines({&cpu, &selection, &read, &read.versions.front()}, {});
  EXPECT_THAT(lines,
              Contains(AllOf(HasSubstr("15.EBX"), HasSubstr("mine@1 words"), HasSubstr("54h"))));
  EXPECT_THAT(lines, Contains(AllOf(HasSubstr("80000008.EAX"), HasSubstr("2a0000h&ff0000h"))));
  EXPECT_THAT(lines, Contains(AllOf(HasSubstr("MSR CE"), HasSubstr("mine@1 msr"))));
}

struct Bad {
  const char* root;
  const char* place;
  const char* message;
  const char* hint;
};

void expect_bad(const Bad& bad) {
  const auto file = parse_cpu_model(text_of(bad.root, ""), "a.toml");
  ASSERT_FALSE(file) << bad.root;
  EXPECT_EQ(file.error().kind(), ErrorKind::Usage);
  EXPECT_EQ(file.error().place(), bad.place) << file.error().text();
  EXPECT_THAT(file.error().text(), HasSubstr(bad.message));
  EXPECT_THAT(file.error().hint_text(), HasSubstr(bad.hint)) << bad.message;
}

TEST(RawWords, errors_name_the_place_and_the_cure) {
  for (const Bad& bad : {
           Bad{"words = [{ leaf = 7, registr = \"ebx\", value = 1 }]\n", "a.toml:6:22",
               "unknown key 'registr'", "'register'"},
           Bad{"words = [{ leaf = 0x15, register = \"rax\", value = 1 }]\n", "a.toml:6:36",
               "'rax', allowed are eax", ""},
           Bad{"words = [{ leaf = 0x15, register = \"eax\", value = 0x100000000 }]\n",
               "a.toml:6:51", "allowed is 0x0 to 0xffffffff", ""},
           Bad{"words = [{ leaf = 0x15, register = \"eax\", value = 3, mask = 1 }]\n",
               "a.toml:6:51", "value 3h has bits outside of mask 1h", ""},
           Bad{"words = [{ leaf = 0x15, subleaf = 1, register = \"eax\", value = 3 }]\n",
               "a.toml:6:35", "leaf 15h has no subleaves", ""},
           Bad{"words = [{ leaf = 0x40000001, register = \"eax\", value = 3 }]\n", "a.toml:6:19",
               "leaf 40000001h is no leaf of a model", "[kvm] pv-features"},
           Bad{"words = [{ leaf = 7, register = \"ebx\", value = 0x10, mask = 0xF0 }]\n",
               "a.toml:6:10", "7.0.EBX[4] is hle", "mask = 0x"},
           Bad{"words = [{ leaf = 0x80000002, register = \"eax\", value = 0 }]\n", "a.toml:6:10",
               "is made of 'brand'", ""},
           Bad{"words = [{ leaf = 0x80000008, register = \"eax\", value = 0x2e }]\n", "a.toml:6:10",
               "'phys-bits' and 'virt-bits'", ""},
           Bad{"words = [{ leaf = 0xb, register = \"eax\", value = 0 }]\n", "a.toml:6:10", "--smp",
               ""},
           Bad{"words = [{ leaf = 0x15, register = \"eax\", value = 3 },\n"
               "  { leaf = 0x15, register = \"eax\", value = 3, mask = 7 }]\n",
               "a.toml:7:3", "15.EAX is there twice", "one entry a register"},
       })
    expect_bad(bad);
}

TEST(FeatureMsrs, errors_name_the_place_and_the_cure) {
  for (const Bad& bad : {
           Bad{"[msr]\nplatform-inf = 1\n", "a.toml:7:16", "unknown MSR 'platform-inf'",
               "'platform-info'"},
           Bad{"[msr]\nfoo = 1\n", "a.toml:7:7", "unknown MSR 'foo'", "such as 0x8b"},
           Bad{"msr = 1\n", "a.toml:6:7", "'msr' is a number, not a table", ""},
           Bad{"[msr]\n0x8b = -1\n", "a.toml:7:8", "'0x8b' is -1", ""},
           Bad{"[msr]\n0x100000000 = 1\n", "a.toml:7:15", "unknown MSR", ""},
           Bad{"[msr]\n0x48b = 1\n", "a.toml:7:9", "made of the names in 'vmx'", ""},
           Bad{"[msr]\n0x3a = 5\n", "a.toml:7:8", "comes last", ""},
           Bad{"[msr]\n0x10a = 1\n", "a.toml:7:9", "MSR 10A[0] is rdctl-no",
               "\"rdctl-no\" into 'features'"},
           Bad{"[msr]\n0x8b = 1\n139 = 1\n", "a.toml:8:7", "MSR 8Bh is there twice", ""},
       })
    expect_bad(bad);
  const auto alone = parse_cpu_model(text_of("[msr]\n0x10a = 0x10000000000\n", ""), "a.toml");
  ASSERT_FALSE(alone);
  EXPECT_THAT(alone.error().text(), HasSubstr("MSR 10Ah means nothing without arch-capabilities"));
  EXPECT_THAT(alone.error().hint_text(), HasSubstr("into the features"));
}

}  // namespace
}  // namespace vmm
