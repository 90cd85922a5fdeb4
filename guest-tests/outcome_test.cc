// The outcome documents of real runs.
#include <gmock/gmock.h>

#include "guest-tests/run_vmm.h"
#include "vmm/machine/outcome_schema.h"

namespace vmm {
namespace {

using nlohmann::json;
using testing::HasSubstr;

class Outcome : public KvmTest {
 protected:
  // The document of one run; checked for what every one of them has to have.
  json outcome(const std::string& kernel, std::vector<std::string> options, int code,
               std::vector<std::pair<std::string, std::string>> environment = {}) {
    const std::string path = folder_.file("outcome.json");
    RunSetup setup{.arguments = {"run", kernel, "--outcome-json", path},
                   .environment = std::move(environment)};
    setup.arguments.insert(setup.arguments.end(), options.begin(), options.end());
    const RunResult r = run_vmm(setup);
    EXPECT_EQ(r.code, code) << r.text();
    const std::string text = read_text_file(path);
    json document = json::parse(text, nullptr, false);
    EXPECT_FALSE(document.is_discarded()) << text;
    if (document.is_discarded()) return {};
    EXPECT_EQ(outcome_problems(document), "");
    EXPECT_EQ(document["ending"]["exit_code"], code);
    const std::string repeat = document["repeat"];
    EXPECT_EQ(document["command"].size(), lab_words().size() + setup.arguments.size() + 1);
    for (const std::string& word : setup.arguments) {
      EXPECT_THAT(document["command"].get<std::vector<std::string>>(), testing::Contains(word));
      const bool quoted = word.find('\'') != std::string::npos;
      EXPECT_THAT(repeat, HasSubstr(quoted ? "'\\''" : word));
    }
    return document;
  }

  TempFolder folder_;
};

TEST_F(Outcome, of_a_guest_that_ends_by_itself) {
  const json d = outcome(guest_path("exit-64.elf"), {}, 63);
  EXPECT_EQ(d["ending"]["kind"], "guest-exit");
  EXPECT_EQ(d["ending"]["value"], 64);
  EXPECT_EQ(d["layer"], "guest");
  EXPECT_TRUE(d["cause"].is_null());
  // The host says which quirks can go; those that do are among the capabilities as well.
  const json quirks = d["machine"]["disabled_quirks"];
  const json host = json::parse(run_vmm({.arguments = {"host", "--json"}}).out);
  const json capabilities = d["machine"]["kvm_capabilities"];
  EXPECT_EQ(!quirks.empty(), host["capabilities"]["DISABLE_QUIRKS2"] != 0);
  EXPECT_EQ(std::count(capabilities.begin(), capabilities.end(), "DISABLE_QUIRKS2"),
            quirks.empty() ? 0 : 1);
  EXPECT_EQ(std::count(capabilities.begin(), capabilities.end(), "ENFORCE_PV_FEATURE_CPUID"),
            host["capabilities"]["ENFORCE_PV_FEATURE_CPUID"] != 0 ? 1 : 0);
}

TEST_F(Outcome, of_a_triple_fault_under_a_model) {
  const json d = outcome(guest_path("triple-fault.elf"),
                         {"--cpu-model", "haswell", "--cpu-policy", "mask", "--smp", "2"}, 80);
  EXPECT_EQ(d["ending"]["kind"], "triple-fault");
  EXPECT_EQ(d["cpu"]["model"], "haswell@4");
  EXPECT_EQ(d["vcpus"].size(), 2u);
  EXPECT_FALSE(d["cause"]["rule"].get<std::string>().empty());
  EXPECT_FALSE(d["last_exits"].empty());
}

TEST_F(Outcome, of_an_internal_error) {
  const json d = outcome(guest_path("execute-in-vga.elf"),
                         {"--vga", "png:" + folder_.file("a.png") + ",trap", "--cpu-model",
                          "qemu64", "--cpu-policy", "mask"},
                         81);
  EXPECT_EQ(d["ending"]["kind"], "internal-error");
  EXPECT_THAT(d["cpu"]["model"].get<std::string>(), testing::MatchesRegex("qemu64@[0-9]+"));
  EXPECT_THAT(d["cause"]["text"].get<std::string>(), HasSubstr("VGA window"));
}

TEST_F(Outcome, of_a_guest_that_goes_nowhere) {
  EXPECT_EQ(outcome(guest_path("cli-hlt.elf"), {}, 82)["ending"]["kind"], "halted");
  const json timeout = outcome(guest_path("spin.elf"), {"--timeout", "0.25"}, 124);
  EXPECT_EQ(timeout["ending"]["kind"], "timeout");
  EXPECT_EQ(timeout["ending"]["seconds"], 0.25);
}

TEST_F(Outcome, of_what_was_refused) {
  const std::string garbage = folder_.write("garbage", "no kernel at all\n");
  const json image = outcome(garbage, {}, 65);
  EXPECT_EQ(image["ending"]["kind"], "not-started");
  EXPECT_THAT(image["ending"]["headline"].get<std::string>(), HasSubstr("garbage"));
  const json host =
      outcome(guest_path("hello.elf"), {}, 77, {{"VMM_FAULT", "KVM_CREATE_VM:EACCES"}});
  EXPECT_EQ(host["ending"]["kind"], "not-started");
  EXPECT_EQ(host["layer"], "host");
  EXPECT_THAT(host["ending"]["headline"].get<std::string>(), HasSubstr("KVM_CREATE_VM"));
}

TEST_F(Outcome, of_a_model_that_the_host_cannot_give) {
  const RunResult check = run_vmm({.arguments = {"cpu", "check", "skylake-server", "--json"}});
  if (json::parse(check.out)["missing"].empty()) GTEST_SKIP() << "this host has every bit";
  const json d = outcome(guest_path("hello.elf"), {"--cpu-model", "skylake-server"}, 77);
  EXPECT_EQ(d["ending"]["kind"], "not-started");
  EXPECT_EQ(d["cpu"]["missing"].size(), json::parse(check.out)["missing"].size());
  EXPECT_EQ(d["cpu"]["missing"][0]["status"], "missing");
}

// The twentieth: the first ones may be those of a probe before the guest, whose failure refuses the
// run.
TEST_F(Outcome, of_a_failure_of_kvm_while_it_runs) {
  const json d = outcome(guest_path("hello.elf"), {}, 70, {{"VMM_FAULT", "KVM_RUN:EFAULT:20"}});
  EXPECT_EQ(d["ending"]["kind"], "monitor-failure");
  EXPECT_THAT(d["ending"]["what"].get<std::string>(), HasSubstr("KVM_RUN: EFAULT"));
  EXPECT_EQ(d["layer"], "monitor");
}

// The repeat line is for a shell; it has to survive one.
TEST_F(Outcome, repeat_line_survives_a_shell) {
  const json d = outcome(guest_path("exit-with.elf"), {"--append", "it's 9", "-q"}, 9);
  const std::string line = d["repeat"];
  const int status = std::system(line.c_str());
  EXPECT_EQ(WEXITSTATUS(status), 9) << line;
}

}  // namespace
}  // namespace vmm
