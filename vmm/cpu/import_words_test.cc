// CPUs as numbers, as models: Firecracker's templates and dumps of cpuid.
#include "vmm/cpu/import_words.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "vmm/base/fd.h"
#include "vmm/base/sha256.h"
#include "vmm/cpu/flatten.h"
#include "vmm/cpu/import.h"
#include "vmm/cpu/provenance.h"
#include "vmm/cpu/recorded_hosts_fake.h"
#include "vmm/cpu/resolve.h"
#include "vmm/cpu/topology.h"

namespace vmm {
namespace {

using testing::Contains;
using testing::HasSubstr;
using testing::StartsWith;

bool has(const CpuModel& model, std::string_view name) {
  return model_has(model, feature_id(name));
}

std::vector<std::string> lines(const ImportedModel& imported) {
  std::vector<std::string> result;
  for (const ImportNote& note : imported.notes) result.push_back(note.line());
  return result;
}

std::string refusal(ImportFormat format, std::string_view text) {
  const bool over = format == ImportFormat::Firecracker;
  const auto imported = import_cpu_model(format, {text, "f", "mine", over ? "haswell@4" : ""});
  if (imported) return "read";
  EXPECT_EQ(imported.error().kind(), ErrorKind::Usage) << text;
  return imported.error().text() + " | " + imported.error().hint_text();
}

std::string cpuid_text(const CpuidTable& table) {
  std::string text = "CPU 0:\n";
  for (const auto& [key, r] : table.entries())
    text +=
        fmt::format("   0x{:08x} 0x{:02x}: eax=0x{:08x} ebx=0x{:08x} ecx=0x{:08x} edx=0x{:08x}\n",
                    key.leaf, key.subleaf, r.eax, r.ebx, r.ecx, r.edx);
  return text;
}

ImportedModel dump(const std::string& text) {
  auto imported = import_cpu_model(ImportFormat::Cpuid, {text, "f", "mine", ""});
  EXPECT_TRUE(imported) << imported.error().text();
  return imported ? *std::move(imported) : ImportedModel{};
}

// As resolve_cpu() makes it of a model in no file, for one vCPU.
CpuidTable table_of(const CpuModel& model) {
  CpuWords words = model_words(model);
  derive(words, {});
  apply_shape(shape_leaves({}, model.caches,
                           {words.cpuid.get(0).eax, words.cpuid.get(0x80000000).eax,
                            is_amd(words.cpuid), words.has("topoext")}),
              words.cpuid);
  if (is_amd(words.cpuid)) words.cpuid.at(0x80000001).edx &= ~(1U << 28);
  return words.cpuid;
}

TEST(ImportCpuid, every_model_comes_back_with_the_same_words) {
  unsigned equal_digests = 0;
  for (const std::string& name : builtin_cpu_models()) {
    const auto file = builtin_cpu_model(name);
    for (const CpuModel& version : file->versions) {
      const ResolvedCpu cpu =
          *resolve_cpu(version.full_name(), CpuPolicy::Force, Topology{}, HostGrant{});
      const CpuModel model = dump(cpuid_text(cpu.cpuid)).model;
      EXPECT_EQ(table_of(model), cpu.cpuid) << version.full_name();
      // What a dump of CPUID has no room for: MSRs.
      CpuWords words = model_words(model);
      derive(words, {});
      const bool msrs = std::ranges::any_of(
          version.features, [](FeatureId id) { return FeatureCatalog::get(id).place.word.is_msr; });
      // AMD without TOPOEXT, and Intel below leaf 4, show no caches.
      const bool caches = model.caches == version.caches;
      if (msrs || !caches) continue;
      EXPECT_EQ(sha256_hex(canonical_text(words, model.caches)), cpu.model_digest)
          << version.full_name();
      ++equal_digests;
    }
  }
  EXPECT_GT(equal_digests, 40U);
}

TEST(ImportCpuid, recorded_hosts_are_read_and_what_is_left_out_is_named) {
  for (const std::string& name : recorded_hosts()) {
    const HostGrant host = recorded_host(name);
    const ImportedModel imported = dump(cpuid_text(host.supported));
    EXPECT_EQ(imported.model.vendor, host.supported.vendor()) << name;
    EXPECT_EQ(imported.model.phys_bits, host.supported.phys_bits()) << name;
    EXPECT_GT(imported.model.features.size(), 80U) << name;
    const CpuidTable again = table_of(imported.model);
    // Each named bit is as it was.
    const CpuWords before{host.supported, {}};
    const CpuWords after{again, {}};
    for (std::size_t i = 0; i < FeatureCatalog::all().size(); ++i) {
      const auto id = static_cast<FeatureId>(i);
      const Feature& feature = FeatureCatalog::get(id);
      if (feature.place.word.is_msr || !belongs_in_model(feature, is_amd(again))) continue;
      if (feature.place.word.index == 0x8000000a) continue;  // comes with +svm
      EXPECT_EQ(after.has(id), before.has(id)) << name << ": " << feature.name;
    }
  }
}

TEST(ImportCpuid, the_ways_to_write_it_down_are_the_same) {
  const CpuidTable table = resolve_cpu("haswell", CpuPolicy::Force, {}, HostGrant{})->cpuid;
  const std::string text = cpuid_text(table);
  const CpuModel model = dump(text).model;
  EXPECT_EQ(dump("CPU:\n" + text.substr(7)).model, model);
  EXPECT_EQ(dump(text.substr(7)).model, model);
  std::string crlf;
  for (const char c : text) crlf += c == '\n' ? "\r\n" : std::string(1, c);
  EXPECT_EQ(dump(crlf).model, model);
  const ImportedModel two = dump(text + "CPU 1:\n" + text.substr(7));
  EXPECT_EQ(two.model, model);
  EXPECT_THAT(lines(two), Contains("the first CPU is taken, 1 other is left out"));
}

TEST(ImportCpuid, errors_name_line_and_column) {
  const std::string one = "0x00000001 0x00: eax=0x1 ebx=0x0 ecx=0x0 edx=0x0\n";
  const std::string zero =
      "0x00000000 0x00: eax=0xd ebx=0x756e6547 ecx=0x6c65746e edx=0x49656e69\n";
  const std::pair<std::string, const char*> kRefusals[] = {
      {"", "f: leaves 0 and 1 are not both there | cpuid -1 -r"},
      {zero, "f: leaves 0 and 1 are not both there"},
      {zero + one + one, "f:3:1: leaf 1.0 is there twice"},
      {zero + "0x1 0x0: eax=0x100000000 ebx=0x0 ecx=0x0 edx=0x0", "f:2:10: no line of cpuid -r"},
      {zero + "0x1 0x0: eax=0x1 ebx=0x0 ecx=0x0", "f:2:33: no line of cpuid -r"},
      {zero + "0x1 0x0: eax=0x1 ebx=0x0 ecx=0x0 edx=0x0 x", "f:2:42: no line of cpuid -r"},
      {zero + "  0x1 zero: eax=0x1", "f:2:7: no line of cpuid -r"},
      {zero + "version information (1/eax):", "f:2:1: no line of cpuid -r"},
      {"CPU x:\n", "f:1:1: no line of cpuid -r"},
      {"0x00000000 0x00: eax=0xd ebx=0x1b ecx=0x0 edx=0x0\n" + one,
       "f:1:1: leaf 0 names the vendor"},
      {std::string("\0\0", 2), "f:1:1: no line of cpuid -r"},
  };
  for (const auto& [text, wanted] : kRefusals)
    EXPECT_THAT(refusal(ImportFormat::Cpuid, text), StartsWith(wanted)) << text;
  std::string many = zero + one;
  for (int i = 2; i < 1100; ++i)
    many += fmt::format("0x{:08x} 0x00: eax=0x0 ebx=0x0 ecx=0x0 edx=0x0\n", i);
  EXPECT_THAT(refusal(ImportFormat::Cpuid, many), HasSubstr("more than 1024 lines"));
}

TEST(ImportFirecracker, a_template_is_laid_over_its_base) {
  const auto bytes = read_file("vmm/cpu/testdata/import/template.json", 1 << 20, ErrorKind::Usage);
  ASSERT_TRUE(bytes);
  const std::string text(bytes->begin(), bytes->end());
  const auto imported =
      import_cpu_model(ImportFormat::Firecracker, {text, "f", "mine", "haswell@4"});
  ASSERT_TRUE(imported) << imported.error().text();
  const CpuModel& model = imported->model;
  EXPECT_EQ(model.family, 6U);
  EXPECT_EQ(model.model, 0x3fU);  // 306F2h
  EXPECT_EQ(model.stepping, 2U);
  EXPECT_EQ(model.phys_bits, 46U);
  EXPECT_EQ(model.brand, find_cpu_model("haswell@4")->brand);
  EXPECT_EQ(model.max_leaf, find_cpu_model("haswell@4")->max_leaf);
  EXPECT_EQ(model.caches, find_cpu_model("haswell@4")->caches);
  EXPECT_TRUE(has(model, "avx512vl"));
  EXPECT_TRUE(has(model, "smap"));
  EXPECT_FALSE(has(model, "avx2"));
  EXPECT_TRUE(has(model, "fma"));
  EXPECT_TRUE(has(model, "vmx-xsaves"));
  EXPECT_FALSE(has(model, "vmx-ept"));
  EXPECT_TRUE(has(model, "rdctl-no"));
  EXPECT_THAT(lines(*imported),
              testing::IsSupersetOf({
                  "f:2:24: KVM capability !56 is left out: it is vmm's to switch",
                  "f:12:37: leaf 4 is left out: it follows from --smp and the caches",
                  "f:18:37: set, and left out, since these bits have no name here: 6.ECX[0,3]",
                  "f:24:5: MSR 122 is left out: a model says nothing about it",
                  "f:25:5: MSR 482 is left out: KVM derives it from the other VMX MSRs",
                  "f:23:33: rdctl-no needs what the model lacks: arch-capabilities",
              }));
}

TEST(ImportFirecracker, an_empty_template_is_its_base) {
  for (const char* const base : {"haswell@4", "epyc-milan@2", "skylake-xeon@2"}) {
    const auto imported = import_cpu_model(ImportFormat::Firecracker, {"{}", "f", "mine", base});
    ASSERT_TRUE(imported) << imported.error().text();
    CpuModel expected = *find_cpu_model(base);
    expected.name = "mine";
    expected.version = 1;
    expected.alias.clear();
    expected.title = imported->model.title;
    EXPECT_EQ(imported->model, expected);
  }
}

TEST(ImportFirecracker, errors_name_line_and_column) {
  const std::pair<const char*, const char*> kRefusals[] = {
      {"[]", "f:1:1: of type array where an object"},
      {"{\"cpuid_modifier\": []}", "f:1:1: unknown key 'cpuid_modifier' | did you mean 'cpuid_mod"},
      {"{\"vcpu_features\": [{}]}", "f:1:19: vcpu_features: this is a template for ARM"},
      {"{\"cpuid_modifiers\": [{\n\"leaf\": \"0x1ffffffff\"}]}",
       "f:2:9: cpuid_modifiers[0].leaf: '0x1ffffffff' where a number of 32 bits"},
      {"{\"cpuid_modifiers\": [{\"leaf\": 1, \"modifiers\": [\n{\"register\": \"rax\"}]}]}",
       "f:2:14: cpuid_modifiers[0].modifiers[0].register: 'rax' is not eax"},
      {"{\"msr_modifiers\": [{\"addr\": \"0x10a\", \"bitmap\": \"0b2\"}]}",
       "f:1:48: msr_modifiers[0].bitmap: '0b2' where 0b and at most 64"},
      {"{\"msr_modifiers\": [{\"addr\": \"0x10a\", \"bitmap\": \"0b_\"}]}", "f:1:48: "},
      {"{", "f:1:2: not JSON: "},
  };
  for (const auto& [text, wanted] : kRefusals)
    EXPECT_THAT(refusal(ImportFormat::Firecracker, text), StartsWith(wanted)) << text;
  EXPECT_THAT(refusal(ImportFormat::Firecracker, std::string(500000, '[')), StartsWith("f:1:5000"));
  const auto bare = import_cpu_model(ImportFormat::Firecracker, {"{}", "f", "mine", ""});
  EXPECT_THAT(bare.error().hint_text(), HasSubstr("--base skylake-server@5"));
  for (const char* const base : {"./a.toml", "host", "haswel"})
    EXPECT_FALSE(import_cpu_model(ImportFormat::Firecracker, {"{}", "f", "mine", base})) << base;
}

TEST(ImportWords, places_are_ranges) {
  const FeatureWord a{false, 1, 0, CpuidReg::Ecx};
  const FeatureWord b{true, 0x10a, 0, CpuidReg::Eax};
  EXPECT_EQ(places_text({{a, 1}, {a, 3}, {a, 4}, {a, 5}, {b, 63}}), "1.ECX[1,3-5], MSR 10A[63]");
}

}  // namespace
}  // namespace vmm
