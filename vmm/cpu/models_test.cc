// What each model that is built in is: every word of every version against the numbers in
// testdata/model-words.txt, digests against testdata/model-digests.txt, and facts that people would
// look for, written down here by hand.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <sstream>

#include "vmm/cpu/cpu_model.h"
#include "vmm/cpu/features.h"
#include "vmm/cpu/host_grant_fake.h"
#include "vmm/cpu/resolve.h"
#include "vmm/cpu/words.h"

namespace vmm {
namespace {

using testing::IsEmpty;

// Words by the name of their place: "7.0.EBX", "MSR10A", and for VMX "48B".
using Words = std::map<std::string, std::uint64_t>;
struct Golden {
  Words cpuid;
  Words vmx;
  std::uint64_t get(const std::string& place) const {
    const auto it = cpuid.find(place);
    return it != cpuid.end() ? it->second : 0;
  }
};

std::map<std::string, Golden> read_goldens() {
  std::ifstream in("vmm/cpu/testdata/model-words.txt");
  EXPECT_TRUE(in) << "tests run in the root of the repository";
  std::map<std::string, Golden> goldens;
  Golden* golden = nullptr;
  Words* words = nullptr;
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with('#')) continue;
    std::istringstream items(line);
    for (std::string item; items >> item;) {
      const std::size_t equals = item.find('=');
      if (!line.starts_with(' ')) {
        EXPECT_FALSE(goldens.contains(item)) << item;
        golden = &goldens[item];
      } else if (golden == nullptr) {
        ADD_FAILURE() << line;
      } else if (item == "cpuid" || item == "vmx") {
        words = item == "vmx" ? &golden->vmx : &golden->cpuid;
      } else if (words == nullptr || equals == std::string::npos) {
        ADD_FAILURE() << line;
      } else {
        const std::string place = item.substr(0, equals);
        EXPECT_TRUE(words->emplace(place, std::stoull(item.substr(equals + 1), nullptr, 16)).second)
            << line;
      }
    }
  }
  return goldens;
}

std::vector<CpuModel> every_version() {
  std::vector<CpuModel> versions;
  for (const std::string& name : builtin_cpu_models()) {
    const auto file = builtin_cpu_model(name);
    EXPECT_TRUE(file) << file.error().text();
    if (file) versions.insert(versions.end(), file->versions.begin(), file->versions.end());
  }
  return versions;
}

CpuModel model(std::string_view name) {
  const auto found = find_cpu_model(name);
  EXPECT_TRUE(found) << found.error().text();
  return found ? *found : CpuModel{};
}

ResolvedCpu resolve(const std::string& selection) {
  const auto cpu = resolve_cpu(selection, CpuPolicy::Strict, Topology{}, generous_grant());
  EXPECT_TRUE(cpu) << cpu.error().text();
  return cpu ? *cpu : ResolvedCpu{};
}

bool listed(const std::vector<FeatureId>& ids, std::string_view name) {
  return std::find(ids.begin(), ids.end(), feature_id(name)) != ids.end();
}
bool has(std::string_view selection, std::string_view feature) {
  const CpuModel m = model(selection);
  return listed(m.features, feature) || listed(m.svm, feature) || listed(m.vmx, feature);
}

// What the word `place` of a CPU is when the facts are `golden`: the differences that there are on
// purpose. `hypervisor` always; MONITOR never, since KVM does not give it; SVM by +svm only; the
// bits that mean "absent"; AMD's copies of 1.EDX; and the version of AVX10.
std::uint64_t expected(const Golden& golden, const std::string& place, bool amd) {
  std::uint64_t value = golden.get(place);
  if (place == "1.ECX") value = (value | 0x80000000) & ~std::uint64_t{8};
  if (place == "80000001.ECX") value &= ~std::uint64_t{4};
  if (place == "8000000A.EDX") value = 0;
  if (place == "7.0.EBX" && !amd) value |= 0x2040;
  if (place == "80000001.EDX" && amd) value |= golden.get("1.EDX") & kAmdAliasBits;
  if (place == "24.0.EBX" && value != 0) value |= 1;
  return value;
}

TEST(Models, every_word_is_that_of_the_facts) {
  const auto goldens = read_goldens();
  std::size_t seen = 0;
  for (const CpuModel& version : every_version()) {
    const auto golden = goldens.find(version.full_name());
    ASSERT_NE(golden, goldens.end()) << version.full_name() << " has no line in model-words.txt";
    ++seen;
    const ResolvedCpu cpu = resolve(version.full_name());
    EXPECT_THAT(cpu.missing, IsEmpty()) << version.full_name();
    CpuWords words{cpu.cpuid, {}};
    for (const CpuMsr& msr : cpu.msrs) words.msrs[msr.index] = msr.value;
    const bool amd = is_amd(cpu.cpuid);

    Words rest = golden->second.cpuid;
    rest.erase("0.EAX");
    rest.erase("80000000.EAX");
    for (const FeatureWord& word : FeatureCatalog::words()) {
      std::string place = word.text();
      std::erase(place, ' ');
      rest.erase(place);
      EXPECT_EQ(words.word(word), expected(golden->second, place, amd))
          << place << " of " << version.full_name();
    }
    EXPECT_EQ(cpu.cpuid.get(1).eax, golden->second.get("1.EAX")) << version.full_name();
    rest.erase("1.EAX");
    EXPECT_THAT(rest, IsEmpty()) << version.full_name();
    // The limits are the model's, more where it has a leaf beyond them.
    EXPECT_EQ(version.max_leaf, golden->second.get("0.EAX")) << version.full_name();
    EXPECT_EQ(version.max_ext_leaf, golden->second.get("80000000.EAX")) << version.full_name();
    EXPECT_GE(cpu.cpuid.get(0).eax, version.max_leaf);
    EXPECT_GE(cpu.cpuid.get(0x80000000).eax, version.max_ext_leaf);
  }
  EXPECT_EQ(seen, goldens.size()) << "model-words.txt has lines for models that are not there";
}

TEST(Models, every_vmx_and_svm_word_is_that_of_the_facts) {
  const auto goldens = read_goldens();
  for (const CpuModel& version : every_version()) {
    const Golden& golden = goldens.at(version.full_name());
    Words words;
    for (const FeatureId id : version.vmx) {
      const FeaturePlace& place = FeatureCatalog::get(id).place;
      words[fmt::format("{:X}", place.word.index)] |= std::uint64_t{1} << place.bit;
    }
    EXPECT_EQ(words, golden.vmx) << version.full_name();
    if (version.vendor == "AuthenticAMD") {
      EXPECT_EQ(resolve(version.full_name() + ",+svm").cpuid.get(0x8000000a).edx,
                golden.get("8000000A.EDX"))
          << version.full_name();
    } else {
      EXPECT_THAT(version.svm, IsEmpty());
    }
  }
}

// A model is immutable: these change only when the form of the digest does.
TEST(Models, digests_are_the_same_for_ever) {
  std::ifstream in("vmm/cpu/testdata/model-digests.txt");
  ASSERT_TRUE(in) << "tests run in the root of the repository";
  std::map<std::string, std::string> digests;
  for (std::string selection, digest; in >> selection >> digest;)
    EXPECT_TRUE(digests.emplace(selection, digest).second) << selection;
  std::size_t seen = 0;
  for (const CpuModel& version : every_version()) {
    const std::string nested = version.vendor == "AuthenticAMD" ? ",+svm" : ",+vmx";
    for (const std::string& selection : {version.full_name(), version.full_name() + nested}) {
      EXPECT_EQ(digests[selection], resolve(selection).model_digest) << selection;
      ++seen;
    }
  }
  EXPECT_EQ(seen, digests.size());
}

TEST(Models, widths_are_those_of_the_silicon) {
  const std::map<std::string, unsigned> kWidths = {
      {"qemu64", 40},         {"kvm64", 40},          {"nehalem", 36},
      {"westmere", 40},       {"sandybridge", 36},    {"ivybridge", 36},
      {"haswell", 39},        {"broadwell", 39},      {"skylake-client", 39},
      {"skylake-server", 46}, {"skylake-xeon", 46},   {"cascadelake-server", 46},
      {"cooperlake", 46},     {"icelake-server", 46}, {"sapphirerapids", 46},
      {"graniterapids", 52},  {"sierraforest", 52},   {"clearwaterforest", 52},
      {"denverton", 39},      {"snowridge", 39},      {"kabylake-client", 39},
      {"opteron-g1", 40},     {"opteron-g2", 40},     {"opteron-g3", 48},
      {"opteron-g4", 48},     {"opteron-g5", 48},     {"epyc", 48},
      {"epyc-rome", 48},      {"epyc-milan", 48},     {"epyc-genoa", 52},
      {"epyc-turin", 52},     {"zen3", 48},
  };
  for (const CpuModel& version : every_version()) {
    ASSERT_TRUE(kWidths.contains(version.name)) << version.name;
    EXPECT_EQ(version.phys_bits, kWidths.at(version.name)) << version.full_name();
    EXPECT_EQ(resolve(version.full_name()).cpuid.phys_bits(), version.phys_bits);
  }
  // What KVM reports on the silicon itself.
  EXPECT_EQ(read_grant_fixture("cascadelake-linux-6.18").supported.phys_bits(),
            model("cascadelake-server").phys_bits);
  EXPECT_EQ(read_grant_fixture("milan-linux-6.18").supported.phys_bits(), model("zen3").phys_bits);
}

TEST(Models, no_client_model_of_qemus_has_1_gib_pages) {
  for (const char* name : {"nehalem", "westmere", "sandybridge", "ivybridge", "haswell",
                           "broadwell", "skylake-client", "qemu64", "kvm64", "opteron-g3"})
    EXPECT_FALSE(has(name, "pdpe1gb")) << name;
  for (const char* name : {"skylake-server@1", "cascadelake-server@1", "denverton@1", "opteron-g4",
                           "epyc@1", "epyc-turin", "kabylake-client", "skylake-xeon", "zen3"})
    EXPECT_TRUE(has(name, "pdpe1gb")) << name;
}

TEST(Models, xsaves_and_its_control_came_together) {
  // The word 378EFh that a nested hypervisor read (bits 51:32 of MSR 48Bh) is skylake-client@1
  // to 3.
  for (const char* name : {"skylake-client@1", "skylake-client@2", "skylake-client@3"}) {
    EXPECT_FALSE(has(name, "xsaves")) << name;
    EXPECT_FALSE(has(name, "vmx-xsaves")) << name;
  }
  const CpuModel before = model("skylake-client@3");
  const CpuModel after = model("skylake-client@4");
  std::vector<FeatureId> added;
  std::set_difference(after.features.begin(), after.features.end(), before.features.begin(),
                      before.features.end(), std::back_inserter(added));
  EXPECT_THAT(added, testing::ElementsAre(feature_id("xsaves")));
  added.clear();
  std::set_difference(after.vmx.begin(), after.vmx.end(), before.vmx.begin(), before.vmx.end(),
                      std::back_inserter(added));
  EXPECT_THAT(added, testing::ElementsAre(feature_id("vmx-xsaves")));
  EXPECT_EQ(before.vmx.size() + 1, after.vmx.size());
  for (const CpuModel& version : every_version())
    if (version.vendor == "GenuineIntel") {
      EXPECT_EQ(listed(version.features, "xsaves"), listed(version.vmx, "vmx-xsaves"))
          << version.full_name();
    }
}

TEST(Models, flaws_of_the_originals_are_kept_and_known) {
  for (const char* name : {"icelake-server@1", "icelake-server@2", "icelake-server@3"}) {
    EXPECT_TRUE(has(name, "rdseed")) << name;
    EXPECT_FALSE(has(name, "vmx-rdseed-exit")) << name;
  }
  EXPECT_TRUE(has("icelake-server@4", "vmx-rdseed-exit"));
  // The other pairs of an instruction and the control that a nested hypervisor has for it.
  const std::pair<const char*, const char*> kPairs[] = {{"rdtscp", "vmx-rdtscp-exit"},
                                                        {"invpcid", "vmx-invpcid-exit"},
                                                        {"rdrand", "vmx-rdrand-exit"},
                                                        {"rdseed", "vmx-rdseed-exit"},
                                                        {"mpx", "vmx-exit-clear-bndcfgs"}};
  std::vector<std::string> unpaired;
  for (const CpuModel& version : every_version())
    for (const auto& [feature, control] : kPairs)
      if (version.vendor == "GenuineIntel" &&
          listed(version.features, feature) != listed(version.vmx, control))
        unpaired.push_back(fmt::format("{} {}", version.full_name(), feature));
  EXPECT_THAT(unpaired, testing::ElementsAre("denverton@1 mpx", "icelake-server@1 rdseed",
                                             "icelake-server@2 rdseed", "icelake-server@3 rdseed",
                                             "snowridge@1 mpx"));
}

TEST(Models, our_own_for_nested_work_hold_what_the_originals_leave_out) {
  const std::pair<const char*, const char*> kMore[] = {{"skylake-xeon", "skylake-server"},
                                                       {"kabylake-client", "skylake-client"},
                                                       {"zen3", "epyc-milan"}};
  for (const auto& [own, original] : kMore) {
    const CpuModel mine = model(own);
    const CpuModel theirs = model(original);
    for (const auto& [more, less] : {std::pair{&mine.features, &theirs.features},
                                     {&mine.vmx, &theirs.vmx},
                                     {&mine.svm, &theirs.svm}})
      EXPECT_TRUE(std::includes(more->begin(), more->end(), less->begin(), less->end())) << own;
    EXPECT_FALSE(has(fmt::format("{}@1", own), "vmx-ple"));
  }
  for (const char* name : {"vmx-tsc-scaling", "vmx-apicv-vid", "vmx-posted-intr"})
    EXPECT_TRUE(has("skylake-xeon", name)) << name;
  EXPECT_TRUE(has("skylake-xeon@2", "vmx-mbec"));
  EXPECT_FALSE(has("kabylake-client@2", "vmx-posted-intr"));  // no APICv in client silicon
  for (const char* name : {"vgif", "tsc-scale", "pause-filter", "v-vmsave-vmload"})
    EXPECT_TRUE(has("zen3", name)) << name;
  EXPECT_FALSE(has("zen3@2", "vnmi"));  // new with Zen 4
  EXPECT_TRUE(has("zen3@2", "decodeassists"));
}

TEST(Models, nothing_but_x86_64_is_shipped) {
  for (const CpuModel& version : every_version())
    for (const char* name : {"lm", "nx", "pae", "apic", "sse2", "syscall", "msr", "tsc"})
      EXPECT_TRUE(listed(version.features, name)) << version.full_name() << " " << name;
}

}  // namespace
}  // namespace vmm
