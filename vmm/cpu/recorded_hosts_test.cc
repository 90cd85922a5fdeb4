// Six real processors under three kernels each, and what they make of the models.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include <fstream>
#include <map>
#include <set>
#include <sstream>

#include "vmm/base/fd.h"
#include "vmm/cpu/recorded_hosts_fake.h"
#include "vmm/cpu/words.h"

namespace vmm {
namespace {

// Host, then "model count names...".
using Refusals = std::map<std::string, std::map<std::string, std::string>>;

Refusals expected_refusals() {
  std::ifstream in("vmm/cpu/testdata/hosts/refusals.txt");
  EXPECT_TRUE(in) << "tests run in the root of the repository";
  Refusals refusals;
  std::map<std::string, std::string>* host = nullptr;
  std::string* entry = nullptr;
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with('#')) continue;
    if (!line.starts_with(' ')) {
      EXPECT_FALSE(refusals.contains(line)) << line;
      host = &refusals[line];
    } else if (line.starts_with("    ") && entry != nullptr) {
      *entry += line.substr(3);
    } else if (host != nullptr) {
      const std::size_t end = line.find(' ', 2);
      entry = &(*host)[line.substr(2, end - 2)];
      *entry = line.substr(end + 1);
    }
  }
  return refusals;
}

std::string refusals_of(const std::string& model, const HostGrant& host) {
  const auto cpu = resolve_cpu(model, CpuPolicy::Strict, {}, host);
  if (!cpu) return cpu.error().text();
  std::string text = fmt::format("{}", cpu->missing.size());
  for (const MissingBit& bit : cpu->missing) text += " " + bit.name;
  return text;
}

TEST(RecordedHosts, each_refuses_what_is_known_of_it) {
  const Refusals expected = expected_refusals();
  EXPECT_EQ(expected.size(), 18U);
  for (const std::string& name : recorded_hosts()) {
    ASSERT_TRUE(expected.contains(name)) << name;
    for (const auto& [model, refusals] : expected.at(name))
      EXPECT_EQ(refusals_of(model, recorded_host(name)), refusals) << name << " " << model;
  }
}

TEST(RecordedHosts, each_gives_itself) {
  for (const std::string& name : recorded_hosts())
    EXPECT_EQ(refusals_of("host", recorded_host(name)), "0") << name;
}

TEST(RecordedHosts, the_files_are_as_dump_host_writes_them) {
  for (const std::string& name : recorded_hosts()) {
    const auto bytes = read_file(recorded_host_path(name), 1 << 20, ErrorKind::Usage);
    ASSERT_TRUE(bytes);
    EXPECT_EQ(host_dump_text(recorded_host(name)), std::string(bytes->begin(), bytes->end()))
        << name;
  }
}

// The first kernels of features.toml, against what kernels do offer: the exceptions are mitigations
// that stable kernels took over.
TEST(RecordedHosts, offer_nothing_that_is_newer_than_their_kernel_but_backported_mitigations) {
  std::set<std::string_view> newer;
  for (const std::string& name : recorded_hosts()) {
    const HostGrant host = recorded_host(name);
    const CpuWords given{host.supported, host.feature_msrs};
    for (const Feature& feature : FeatureCatalog::all())
      if (given.has(feature.place) &&
          (is_too_old(host.kernel, feature) || feature.kvm_since == "never"))
        newer.insert(feature.name);
  }
  EXPECT_THAT(newer, testing::UnorderedElementsAre(
                         "sbdr-ssdp-no", "psdp-no", "fbsdp-no", "fb-clear", "gds-no", "rfds-no",
                         "pbrsb-no", "its-no", "no-nested-data-bp", "lfence-always-serializing",
                         "null-sel-clr-base", "intel-psfd", "ipred-ctrl", "rrsba-ctrl", "ddpd-u",
                         "bhi-ctrl", "mcdt-no", "verw-clear"));
}

// A newer kernel gave more of the same processor, with one exception.
TEST(RecordedHosts, kernels_took_one_feature_away) {
  std::vector<std::string> lost;
  for (const char* const cpu :
       {"cascadelake", "icelake", "sapphirerapids", "graniterapids", "milan", "genoa"})
    for (const auto& [before, after] : {std::pair{"5.10", "6.1"}, {"6.1", "6.18"}}) {
      const CpuWords old{recorded_host(fmt::format("{}-linux-{}", cpu, before)).supported, {}};
      const CpuWords now{recorded_host(fmt::format("{}-linux-{}", cpu, after)).supported, {}};
      for (const Feature& feature : FeatureCatalog::all())
        if (!feature.place.word.is_msr && old.has(feature.place) && !now.has(feature.place))
          lost.push_back(fmt::format("{} {} {}", cpu, after, feature.name));
    }
  EXPECT_THAT(lost, testing::ElementsAre("milan 6.18 spec-ctrl"));
}

}  // namespace
}  // namespace vmm
