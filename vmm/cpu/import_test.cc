// CPUs as QEMU and libvirt name them, as models.
#include "vmm/cpu/import.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "vmm/base/fd.h"
#include "vmm/cpu/flatten.h"
#include "vmm/cpu/provenance.h"

namespace vmm {
namespace {

using testing::Contains;
using testing::HasSubstr;
using testing::StartsWith;

// A file that the fuzz targets start from, too.
std::string seed(const std::string& name) {
  const auto bytes =
      read_file("vmm/cpu/testdata/import/" + name, std::size_t{1} << 20, ErrorKind::Usage);
  EXPECT_TRUE(bytes) << name;
  return bytes ? std::string(bytes->begin(), bytes->end()) : "";
}

bool has(const CpuModel& model, std::string_view name) {
  return model_has(model, feature_id(name));
}

Result<ImportedModel> import(ImportFormat format, std::string_view text) {
  return import_cpu_model(format, {text, "f", "mine", ""});
}

// The model, or one without a name for a failed test.
ImportedModel good(ImportFormat format, std::string_view text) {
  auto imported = import(format, text);
  EXPECT_TRUE(imported) << text << ": " << imported.error().text();
  return imported ? *std::move(imported) : ImportedModel{};
}

ImportedModel qemu(std::string_view text) { return good(ImportFormat::Qemu, text); }

// "PLACE: ERROR | HINT"
std::string refusal(ImportFormat format, std::string_view text) {
  const auto imported = import(format, text);
  if (imported) return "read";
  EXPECT_EQ(imported.error().kind(), ErrorKind::Usage) << text;
  return imported.error().text() + " | " + imported.error().hint_text();
}

std::vector<std::string> lines(const ImportedModel& imported) {
  std::vector<std::string> result;
  for (const ImportNote& note : imported.notes) result.push_back(note.line());
  return result;
}

TEST(ImportQemu, every_version_is_the_model_of_that_name) {
  for (const char* const name : {"qemu64", "kvm64", "Nehalem-v2", "Skylake-Client-v3",
                                 "Skylake-Server-v5", "Icelake-Server-v7", "SapphireRapids-v3",
                                 "EPYC-Rome-v4", "EPYC-Turin-v1", "Opteron_G3-v1"}) {
    const ImportedModel imported = qemu(std::string(name) + ",host-phys-bits=on,x2apic=on");
    ASSERT_TRUE(imported.base) << name;
    CpuModel expected = *imported.base;
    expected.name = "mine";
    expected.version = 1;
    expected.alias.clear();
    expected.title = imported.model.title;
    if (!has(expected, "x2apic")) {
      expected.features.push_back(feature_id("x2apic"));
      std::ranges::sort(expected.features);
    }
    EXPECT_EQ(imported.model, expected) << name;
  }
}

TEST(ImportQemu, a_bare_name_is_version_1_and_an_alias_its_own) {
  EXPECT_EQ(qemu("Haswell").base->full_name(), "haswell@1");
  EXPECT_THAT(lines(qemu("Haswell")), Contains("f:1:1: Haswell is taken for Haswell-v1, as QEMU's "
                                               "machine types pc and q35 do"));
  EXPECT_EQ(qemu("Haswell-noTSX-IBRS").base->full_name(), "haswell@4");
  EXPECT_EQ(qemu("haswell-V3").base->full_name(), "haswell@3");
  EXPECT_EQ(qemu("-cpu EPYC-IBPB\n").base->full_name(), "epyc@2");
}

TEST(ImportQemu, features_have_qemus_spellings) {
  const CpuModel model =
      qemu("Haswell-v4,+pdpe1gb,-lahf_lm,sse4_2=off,f16c=no,mpx,vmx-tsc-scaling=on").model;
  EXPECT_TRUE(has(model, "pdpe1gb"));
  EXPECT_FALSE(has(model, "lahf-lm"));
  EXPECT_FALSE(has(model, "sse4.2"));
  EXPECT_FALSE(has(model, "f16c"));
  EXPECT_TRUE(has(model, "mpx"));
  EXPECT_TRUE(has(model, "vmx-tsc-scaling"));
  EXPECT_TRUE(has(model, "avx2"));
}

TEST(ImportQemu, properties_become_values) {
  const CpuModel model =
      qemu(
          "Haswell-v4,family=6,model=0x55,stepping=4,level=0x16,xlevel=0x8000001f,"
          "phys-bits=46,model-id=My CPU,vendor=AuthenticAMD,+la57")
          .model;
  EXPECT_EQ(model.model, 0x55U);
  EXPECT_EQ(model.stepping, 4U);
  EXPECT_EQ(model.max_leaf, 0x16U);
  EXPECT_EQ(model.max_ext_leaf, 0x8000001fU);
  EXPECT_EQ(model.phys_bits, 46U);
  EXPECT_EQ(model.virt_bits, 57U);
  EXPECT_EQ(model.brand, "My CPU");
  EXPECT_EQ(model.vendor, "AuthenticAMD");
}

TEST(ImportQemu, what_qemu_adds_under_kvm_is_there_and_said) {
  const ImportedModel imported = qemu("Opteron_G1-v1");
  EXPECT_EQ(imported.model.phys_bits, 40U);
  EXPECT_TRUE(has(imported.model, "x2apic"));
  EXPECT_THAT(lines(imported), Contains("x2apic is on: QEMU adds it to every model under KVM"));
  EXPECT_EQ(qemu("Haswell-v4").model.phys_bits, 40U);
  EXPECT_THAT(lines(qemu("Haswell-v4")), Contains(StartsWith("phys-bits = 40: ")));
  EXPECT_FALSE(has(qemu("kvm64,-x2apic").model, "x2apic"));
}

TEST(ImportQemu, a_bit_takes_along_what_qemu_says_and_leaves_the_rest) {
  const ImportedModel imported = qemu("Skylake-Client-v4,-xsaves,-avx,-rdseed");
  EXPECT_FALSE(has(imported.model, "vmx-xsaves"));
  EXPECT_FALSE(has(imported.model, "vmx-rdseed-exit"));
  EXPECT_TRUE(has(imported.model, "avx2"));
  EXPECT_THAT(lines(imported), Contains(StartsWith("f:1:27: without avx these stay on, and vmm")));
  EXPECT_THAT(lines(qemu("Haswell-v4,+rdctl-no")),
              Contains("f:1:12: rdctl-no needs what the model lacks: arch-capabilities"));
}

TEST(ImportQemu, what_no_model_says_is_named) {
  const std::vector<std::string> notes =
      lines(qemu("Haswell-v4,+vmx,hv_relaxed,enforce,l3-cache=on,hypervisor=off"
                 ",pmu=on,+ht"));
  EXPECT_THAT(notes, Contains("f:1:12: vmx is no part of a model: give --cpu-model FILE,+vmx"));
  EXPECT_THAT(notes, Contains(HasSubstr("hv_relaxed is left out")));
  EXPECT_THAT(notes, Contains(HasSubstr("--cpu-policy")));
  EXPECT_THAT(notes, Contains(HasSubstr("pmu is left out")));
  EXPECT_THAT(notes, Contains(HasSubstr("hypervisor=off is not carried: it is always set")));
  EXPECT_THAT(notes, Contains(HasSubstr("ht=on is not carried: it follows from --smp")));
}

TEST(ImportQemu, errors_name_the_column_and_the_nearest_name) {
  const std::pair<const char*, const char*> kRefusals[] = {
      {"", "f:1:1: no model is named | "},
      {"host", "f:1:1: 'host' is another CPU on each machine"},
      {"max,+avx", "f:1:1: 'max' is another CPU"},
      {"Haswll", "f:1:1: no model here has QEMU's name 'Haswll' | did you mean 'Haswell'?"},
      {"Haswell-v5", "f:1:1: haswell has no version 5"},
      {"Haswell-v", "f:1:1: no model here has QEMU's name"},
      {"skylake-xeon", "f:1:1: no model here has QEMU's name"},
      {"./a.toml", "f:1:1: no model here has QEMU's name"},
      {"haswell@4", "f:1:1: no model here has QEMU's name"},
      {"Haswell,+pdpe1g", "f:1:9: unknown CPU feature 'pdpe1g' | did you mean 'pdpe1gb'?"},
      {"Haswell,phys-bit=40", "f:1:9: unknown CPU feature 'phys-bit' | did you mean 'phys-bits'?"},
      {"Haswell,phys-bits=53", "f:1:9: phys-bits=53: a number from 32 to 52 is meant"},
      {"Haswell,level=4294967296", "f:1:9: level=4294967296: a number from 1 to 255"},
      {"Haswell,avx=maybe", "f:1:9: avx=maybe: 'on' or 'off' is meant"},
      {"Haswell,+avx,avx=off", "f:1:14: 'avx' is switched off here and on at f:1:9"},
      {"Haswell,vendor=Intel", "f:1:9: vendor: 12 characters"},
      {"Haswell\n+avx", "f:1:8: a -cpu is one line"},
      {"\x1b[31m", "f:1:1: no model here has QEMU's name '\\x1b[31m'"},
  };
  for (const auto& [text, wanted] : kRefusals)
    EXPECT_THAT(refusal(ImportFormat::Qemu, text), StartsWith(wanted)) << text;
  EXPECT_THAT(refusal(ImportFormat::Qemu, "Haswell" + std::string(9000, ',')),
              HasSubstr("at most 8192 are read"));
}

std::string domain_xml() { return seed("domain.xml"); }

std::string changed(std::string_view from, std::string_view to) {
  std::string text = domain_xml();
  const std::size_t at = text.find(from);
  EXPECT_NE(at, text.npos) << from;
  return text.replace(at, from.size(), to);
}

TEST(ImportLibvirt, a_domains_cpu_is_read) {
  const ImportedModel imported = good(ImportFormat::Libvirt, domain_xml());
  ASSERT_TRUE(imported.base);
  EXPECT_EQ(imported.base->full_name(), "skylake-client@2");
  const CpuModel& model = imported.model;
  EXPECT_EQ(model.phys_bits, 42U);
  for (const char* const name : {"xsaves", "pdpe1gb", "mpx", "invtsc"})
    EXPECT_TRUE(has(model, name));
  for (const char* const name : {"hle", "rtm"}) EXPECT_FALSE(has(model, name)) << name;
  // libvirt adds the CPUID bit alone: that the control is missing is the fault to find.
  EXPECT_FALSE(has(model, "vmx-xsaves"));
  EXPECT_THAT(
      lines(imported),
      testing::IsSupersetOf({
          "f:7:6: <topology> is left out: that is --smp",
          "f:11:32: pdpe1gb is on in the model; --cpu-model FILE,optional:pdpe1gb leaves it "
          "to the host",
          "f:12:30: rtm is off in the model; --cpu-model FILE,forbid:rtm also refuses hosts "
          "that have it",
          "f:15:31: osxsave is left out: it follows the guest's CR4",
          "f:17:31: vmx is no part of a model: give --cpu-model FILE,+vmx",
      }));
}

TEST(ImportLibvirt, a_cpu_alone_and_capabilities_are_read) {
  EXPECT_EQ(good(ImportFormat::Libvirt, "<cpu><model>EPYC-Rome</model></cpu>").base->full_name(),
            "epyc-rome@1");
  const ImportedModel host_model = good(ImportFormat::Libvirt, R"(<domainCapabilities>
  <cpu>
    <mode name='host-passthrough' supported='yes'/>
    <mode name='host-model' supported='yes'>
      <model fallback='forbid'>EPYC-Milan</model>
      <vendor>AMD</vendor>
      <feature policy='require' name='vaes'/>
      <feature policy='disable' name='npt'/>
    </mode>
    <mode name='custom' supported='yes'><model usable='yes'>qemu64</model></mode>
  </cpu>
</domainCapabilities>)");
  EXPECT_EQ(host_model.base->full_name(), "epyc-milan@1");
  EXPECT_TRUE(has(host_model.model, "vaes"));
  EXPECT_FALSE(has(host_model.model, "npt"));
}

TEST(ImportLibvirt, errors_name_line_and_column) {
  const std::pair<std::string, const char*> kRefusals[] = {
      {changed("'vmx'", "'vmxx'"), "f:17:31: unknown CPU feature 'vmxx' | did you mean 'vmx'?"},
      {changed("Skylake-Client-IBRS", "Skylake-Klient"), "f:5:6: no model here has QEMU's name"},
      {changed("<vendor>Intel", "<vendor>AMD"),
       "f:6:6: <vendor> is AMD, and the model's is Genuine"},
      {changed("'force'", "'forec'"), "f:13:14: policy 'forec' is unknown | did you mean 'force'?"},
      {changed("'42'", "'4294967328'"), "f:8:33: a number of bits from 32 to 52 is meant"},
      {changed("'emulate'", "'x'"), "f:8:18: mode 'x' is unknown"},
      {changed("'custom'", "'host-passthrough'"), "f:4:8: mode 'host-passthrough' is another CPU"},
      {changed("'custom'", "'maximum'"), "f:4:8: mode 'maximum' is another CPU"},
      {changed("name='mpx'", ""), "f:13:6: <feature> needs 'name'"},
      {changed("name='mpx'", "name='hle'"),
       "f:13:29: 'hle' is switched on here and off at f:10:31"},
      {changed("</cpu>", ""), "f:19:3: not XML: start-end"},
      {changed("<?xml version='1.0'?>", "<!DOCTYPE domain [<!ENTITY a 'b'>]>"),
       "f:1:11: a document type is not read"},
      {"<cpu mode='host-model'/>", "f:1:2: a host-model that nobody has looked up yet"},
      {"<domain/>", "f:1:2: this domain has no <cpu>"},
      {"<pool/>", "f:1:2: <pool> where <cpu> or <domain> is meant"},
      {"<cpu/><cpu/>", "f:1:1: not XML: more than one element"},
      {"<cpu><model>EPYC</model><model>EPYC</model></cpu>", "f:1:26: a second <model>"},
      {"", "f:1:1: not XML: "},
      {std::string("<cpu>\0</cpu>", 12), "f:1:6: not XML: a zero byte"},
      {"Haswell", "f:1:7: not XML: no document"},
      {std::string(200000, '<'), "f:1:2: not XML: "},
  };
  for (const auto& [text, wanted] : kRefusals)
    EXPECT_THAT(refusal(ImportFormat::Libvirt, text), StartsWith(wanted)) << text.substr(0, 900);
}

TEST(ImportLibvirt, depth_and_size_have_bounds) {
  std::string deep;
  for (int i = 0; i < 100000; ++i) deep += "<a>";
  for (int i = 0; i < 100000; ++i) deep += "</a>";
  EXPECT_THAT(refusal(ImportFormat::Libvirt, deep), StartsWith("f:1:2: <a> where"));
  EXPECT_THAT(refusal(ImportFormat::Libvirt, std::string((1 << 20) + 1, ' ')),
              HasSubstr("at most 1048576 are read"));
  std::string many = "<cpu><model>EPYC</model>";
  for (int i = 0; i < 1025; ++i) many += "<feature name='avx'/>";
  EXPECT_THAT(refusal(ImportFormat::Libvirt, many + "</cpu>"), HasSubstr("at most 1024 are read"));
}

TEST(Import, formats_and_names_are_checked) {
  EXPECT_EQ(*parse_import_format("QEMU"), ImportFormat::Qemu);
  EXPECT_THAT(parse_import_format("libvrt").error().hint_text(), HasSubstr("'libvirt'"));
  EXPECT_THAT(import_cpu_model(ImportFormat::Qemu, {"Haswell", "f", "Bad!", ""}).error().text(),
              HasSubstr("'name' is lower case letters"));
  EXPECT_THAT(import_cpu_model(ImportFormat::Qemu, {"Haswell", "f", "haswell", ""}).error().text(),
              HasSubstr("'haswell' inherits itself"));
  EXPECT_THAT(import_cpu_model(ImportFormat::Qemu, {"Haswell", "f", "a", "epyc"}).error().text(),
              HasSubstr("--base is for firecracker"));
}

}  // namespace
}  // namespace vmm
