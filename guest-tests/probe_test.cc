// vmm cpu probe as its users run it: what a model says is true inside, but for what is known of the
// host.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "guest-tests/run_vmm.h"

namespace vmm {
namespace {

using nlohmann::json;
using testing::HasSubstr;

RunResult run_probe(std::vector<std::string> words) {
  words.insert(words.begin(), {"cpu", "probe"});
  return run_vmm({.arguments = std::move(words)});
}

std::set<std::string> with_status(const json& document, std::string_view status) {
  std::set<std::string> names;
  for (const json& feature : document.at("features"))
    if (feature.at("status") == status) names.insert(feature.at("name").get<std::string>());
  return names;
}

std::string status_of(const json& document, std::string_view name) {
  for (const json& feature : document.at("features"))
    if (feature.at("name") == name) return feature.at("status").get<std::string>();
  return "";
}

// What a host is known to get wrong, whatever the model (docs/probe.md).
std::set<std::string> known_contradictions() {
  if (host_backend() == "pvm") return {"syscall", "fxsr-opt", "arch-capabilities"};
  // QEMU 7.2 does not intercept XSETBV, and KVM puts its own XCR0 back.
  if (host_backend() == "svm") return {"xsave", "avx", "f16c", "fma", "avx2", "vaes", "vpclmulqdq"};
  return {};
}

class Probe : public KvmTest {
 protected:
  // The document of a probe that contradicts nothing but what is known.
  static json probe_of(const std::string& model, const std::string& policy) {
    const RunResult r = run_probe({model, "--cpu-policy", policy, "--json"});
    json document = json::parse(r.out, nullptr, false);
    EXPECT_TRUE(document.is_object()) << r.text();
    if (!document.is_object()) return {};
    const std::set<std::string> contradicted = with_status(document, "contradicted");
    EXPECT_EQ(r.code, contradicted.empty() ? 0 : 1) << r.text();
    EXPECT_EQ(document.at("counts").at("contradicted"), contradicted.size());
    for (const std::string& name : contradicted)
      EXPECT_TRUE(known_contradictions().contains(name)) << model << ": " << name;
    for (const json& word : document.at("differing_words"))
      EXPECT_TRUE(host_backend() == "pvm" && word.at("overridden_by_kvm").get<bool>())
          << model << ": " << word.dump();
    return document;
  }
};

TEST_F(Probe, contradicts_no_masked_model) {
  for (const char* model : {"qemu64", "haswell", "skylake-server", "epyc"}) {
    const json document = probe_of(model, "mask");
    ASSERT_TRUE(document.is_object()) << model;
    EXPECT_GT(document.at("counts").at("works").get<int>(), 20) << model;
    EXPECT_GT(document.at("counts").at("refused").get<int>(), 20) << model;
    // An instruction that no hypervisor can take away.
    EXPECT_THAT(status_of(document, "popcnt"), testing::AnyOf("works", "hole")) << model;
  }
}

TEST_F(Probe, gives_one_digest_each_time) {
  const json first = probe_of("haswell", "mask");
  for (int i = 0; i < 3; ++i)
    EXPECT_EQ(probe_of("haswell", "mask").at("guest_digest"), first.at("guest_digest"));
}

TEST_F(Probe, prints_the_same_digest_on_every_host_that_gives_the_model) {
  if (host_backend() == "pvm") GTEST_SKIP() << "kvm_pvm gives no named model in full";
  const json document = probe_of("qemu64", "strict");
  EXPECT_EQ(document.at("guest_digest"), document.at("expected_guest_digest"));
  EXPECT_EQ(document.at("guest_digest"),
            "18617d403f58dc3b2136bf2aec11a38c7463fd96c67ae56dcf0d33ea6f3d6474");
}

// What KVM reports back of a run, and what the probe reads inside, are the same CPU.
TEST_F(Probe, reads_inside_what_kvm_reports_of_a_run) {
  if (host_backend() == "pvm") GTEST_SKIP() << "kvm_pvm shows the guest other words";
  const std::string nested = host_backend() == "vmx" ? "haswell,+vmx" : "epyc,+svm";
  for (const std::string& model : {std::string("qemu64"), std::string("host"), nested}) {
    const TempFolder folder;
    const RunResult r = run_guest("minimal.elf", {"--cpu-model", model, "--cpu-policy", "mask",
                                                  "--outcome-json", folder.file("outcome.json")});
    ASSERT_EQ(r.code, 0) << r.text();
    const json outcome = json::parse(read_text_file(folder.file("outcome.json")));
    EXPECT_EQ(outcome.at("cpu").at("guest_digest"), probe_of(model, "mask").at("guest_digest"))
        << model;
  }
}

TEST_F(Probe, toggles_every_vmx_control) {
  if (host_backend() != "vmx") GTEST_SKIP() << "no VMX underneath";
  const json document = probe_of("host,+vmx", "strict");
  for (const char* name : {"vmx", "vmx-ept", "vmx-hlt-exit", "vmx-xsaves", "vmx-preemption-timer",
                           "vmx-cr3-load-noexit", "vmx-invept", "vmx-ept-1gb"})
    EXPECT_EQ(status_of(document, name), "works") << name;
  EXPECT_EQ(status_of(document, "vmx-ept-ve"), "refused");
}

TEST_F(Probe, runs_a_guest_under_svm) {
  if (host_backend() != "svm") GTEST_SKIP() << "no SVM underneath";
  const json document = probe_of("host,+svm", "strict");
  for (const char* name : {"svm", "npt"}) EXPECT_EQ(status_of(document, name), "works") << name;
}

TEST_F(Probe, finds_the_hole_of_nested_paging) {
  const json document = probe_of("haswell", "mask");
  const std::string status = status_of(document, "pdpe1gb");
  if (host_backend() == "pvm")
    EXPECT_EQ(status, "refused") << "KVM's own walker decides";
  else
    EXPECT_THAT(status, testing::AnyOf("hole", "refused")) << "the processor's walker decides";
}

TEST_F(Probe, says_who_refuses_and_what_is_no_word) {
  const RunResult unknown = run_probe({"hasswell"});
  EXPECT_EQ(unknown.code, 64) << unknown.text();
  EXPECT_THAT(unknown.err, HasSubstr("did you mean 'haswell'?"));
  EXPECT_EQ(run_probe({"qemu64", "--cpu-policy", "lax"}).code, 64);
  EXPECT_EQ(run_probe({"qemu64", "--smp", "0"}).code, 64);
  if (host_backend() != "pvm") return;
  const RunResult refused = run_probe({"haswell"});
  EXPECT_EQ(refused.code, 77) << refused.text();
  EXPECT_EQ(refused.out, "");
  EXPECT_THAT(refused.err, HasSubstr("--cpu-policy mask"));
}

// A forced bit that the host does not have is found out.
TEST_F(Probe, contradicts_a_forced_model) {
  if (host_backend() != "pvm") GTEST_SKIP() << "what a host lacks differs";
  const RunResult r = run_probe({"haswell", "--cpu-policy", "force"});
  EXPECT_EQ(r.code, 1) << r.text();
  EXPECT_THAT(r.out, HasSubstr("contradicted:"));
  EXPECT_THAT(r.out, HasSubstr("pcid"));
}

}  // namespace
}  // namespace vmm
