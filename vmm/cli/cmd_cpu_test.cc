// `vmm cpu` on dumped hosts: what it prints, and its exit codes. Needs no /dev/kvm.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "vmm/base/sha256.h"
#include "vmm/cli/commands.h"
#include "vmm/cpu/cpu_model.h"

namespace vmm {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;

const std::string kHosts = "vmm/cpu/testdata/hosts/";
const std::string kCascadeLake = kHosts + "cascadelake-linux-6.1.json";
const std::string kIceLake = kHosts + "icelake-linux-6.1.json";
const std::string kMilan = kHosts + "milan-linux-6.1.json";
const std::string kNewerMilan = kHosts + "milan-linux-6.18.json";

struct Said {
  int code = 0;
  std::string out;
  std::string error;  // and its hint
};

Said vmm_cpu(std::vector<std::string> words) {
  words.insert(words.begin(), {"vmm", "cpu"});
  testing::internal::CaptureStdout();
  const auto command = parse_command_line(words);
  const Result<int> code = command ? command->run() : fail(command.error());
  Said said{0, testing::internal::GetCapturedStdout(), ""};
  said.code = code ? *code : exit_code(code.error().kind());
  if (!code) said.error = code.error().text() + " | " + code.error().hint_text();
  return said;
}

// A folder that is gone after the test.
class CpuCommands : public testing::Test {
 protected:
  CpuCommands() {
    char name[] = "/tmp/vmm-cpu-test-XXXXXX";
    folder_ = ::mkdtemp(name);
  }
  ~CpuCommands() override { std::filesystem::remove_all(folder_); }
  std::string file(const std::string& name) const { return folder_ + "/" + name; }
  std::string file(const std::string& name, const std::string& text) const {
    std::ofstream(file(name)) << text;
    return file(name);
  }
  static std::string content(const std::string& path) {
    std::ifstream in(path);
    std::stringstream text;
    text << in.rdbuf();
    return text.str();
  }

 private:
  std::string folder_;
};

TEST_F(CpuCommands, check_speaks_of_the_dumped_host) {
  const Said given = vmm_cpu({"check", "skylake-server", "--host", kCascadeLake});
  EXPECT_EQ(given.code, 0);
  EXPECT_EQ(given.out, "skylake-server@5: the host of " + kCascadeLake +
                           " (vmx, Linux 6.1) gives every bit\n"
                           "note: KVM's quirks all stay on, for this KVM can switch none off "
                           "(KVM_CAP_DISABLE_QUIRKS2)\n");
  const Said refused = vmm_cpu({"check", "skylake-server@1", "--host", kCascadeLake});
  EXPECT_EQ(refused.code, 77);
  EXPECT_THAT(refused.out, HasSubstr("cannot give 2 bits\n  hle  7.0.EBX[4]"));
  const Said parsed = vmm_cpu({"check", "haswell", "--host", kMilan, "--json"});
  EXPECT_EQ(json::parse(parsed.out)["host"],
            json({{"file", kMilan}, {"backend", "svm"}, {"kernel", "6.1"}}));
}

TEST_F(CpuCommands, check_all_has_a_line_for_every_model) {
  const Said said = vmm_cpu({"check", "--all", "--host", kCascadeLake});
  EXPECT_EQ(said.code, 0);
  EXPECT_THAT(said.out, AllOf(StartsWith("the host of " + kCascadeLake), HasSubstr("\nepyc@3  "),
                              HasSubstr("  10  host kernel 10\n")));
  const json all = json::parse(vmm_cpu({"check", "--all", "--host", kMilan, "--json"}).out);
  EXPECT_EQ(all["schema"], "vmm-cpu-check-all");
  EXPECT_EQ(all["models"].size(), builtin_cpu_models().size() + 1);  // and `host`
  for (const json& model : all["models"]) EXPECT_EQ(model["refused"], model["bits"].size());
}

TEST_F(CpuCommands, list_counts_for_the_dumped_host) {
  const Said said = vmm_cpu({"list", "--host", kMilan});
  EXPECT_EQ(said.code, 0);
  EXPECT_THAT(said.out, AllOf(HasSubstr("THE HOST\n"), HasSubstr("the host of " + kMilan)));
  EXPECT_EQ(json::parse(vmm_cpu({"list", "--host", kMilan, "--json"}).out)["host"]["file"], kMilan);
}

TEST_F(CpuCommands, words_that_do_not_go_together_are_refused) {
  EXPECT_THAT(vmm_cpu({"check"}).error, HasSubstr("which model? | name one"));
  EXPECT_EQ(vmm_cpu({"check", "epyc", "--all"}).code, 64);
  EXPECT_EQ(vmm_cpu({"check", "--all", "--cpu-policy", "mask"}).code, 64);
  EXPECT_EQ(vmm_cpu({"baseline"}).code, 64);
  EXPECT_EQ(vmm_cpu({"verify"}).code, 64);
  EXPECT_EQ(vmm_cpu({"verify", "a.lock", "--smp", "2"}).code, 64);
  EXPECT_EQ(vmm_cpu({"check", "epyc", "--host", ""}).code, 64);
}

TEST_F(CpuCommands, a_host_that_cannot_be_read_is_a_usage_error) {
  const Said absent = vmm_cpu({"list", "--host", file("none.json")});
  EXPECT_EQ(absent.code, 64);
  EXPECT_THAT(absent.error, HasSubstr("none.json"));
  EXPECT_EQ(vmm_cpu({"list", "--host", "/tmp"}).code, 64);
  const Said broken = vmm_cpu({"check", "epyc", "--host", file("a.json", "{\n\"schema\" 1}")});
  EXPECT_EQ(broken.code, 64);
  EXPECT_THAT(broken.error, HasSubstr("a.json:2:"));
}

TEST_F(CpuCommands, the_baseline_is_a_model_that_its_hosts_give) {
  const Said said = vmm_cpu({"baseline", kCascadeLake, kIceLake});
  EXPECT_EQ(said.code, 0);
  const std::string model = file("both.toml", said.out);
  for (const std::string& host : {kCascadeLake, kIceLake})
    EXPECT_EQ(vmm_cpu({"check", model, "--host", host}).code, 0);
  const json parsed = json::parse(vmm_cpu({"baseline", kCascadeLake, kIceLake, "--json"}).out);
  EXPECT_EQ(parsed["toml"], said.out);
  EXPECT_THAT(parsed["models"].get<std::vector<std::string>>(),
              testing::Contains("skylake-server@5"));
  const Said mixed = vmm_cpu({"baseline", kCascadeLake, kMilan});
  EXPECT_EQ(mixed.code, 64);
  EXPECT_THAT(mixed.error, StartsWith(kMilan + ": a host of AuthenticAMD"));
}

TEST_F(CpuCommands, verify_tells_an_equal_guest_from_another_one) {
  const std::string lock = file("host.lock");
  const json written =
      json::parse(vmm_cpu({"verify", lock, "--write", "host", "--host", kMilan, "--json"}).out);
  EXPECT_EQ(written["verdict"], "written");
  EXPECT_EQ(written["words_digest"], json::parse(content(lock))["words_digest"]);
  const Said equal = vmm_cpu({"verify", lock, "--host", kMilan});
  EXPECT_EQ(equal.code, 0);
  EXPECT_THAT(equal.out, HasSubstr("the guest is as the lock says"));
  const Said drift = vmm_cpu({"verify", lock, "--host", kNewerMilan});
  EXPECT_EQ(drift.code, 77);
  EXPECT_THAT(drift.out, AllOf(HasSubstr("kernel  6.1 -> 6.18"), HasSubstr("spec-ctrl")));
  const json parsed = json::parse(vmm_cpu({"verify", lock, "--host", kNewerMilan, "--json"}).out);
  EXPECT_EQ(parsed["verdict"], "drift");
  EXPECT_EQ(parsed["host_changes"][0]["what"], "kernel");
}

TEST_F(CpuCommands, a_lock_of_another_model_is_a_usage_error) {
  const std::string model = file("own.toml", content("cpu-models/kvm64.toml"));
  const std::string lock = file("own.lock");
  EXPECT_EQ(vmm_cpu({"verify", lock, "--write", model + ",+avx", "--cpu-policy", "mask", "--smp",
                     "4", "--host", kMilan})
                .code,
            0);
  EXPECT_EQ(vmm_cpu({"verify", lock, "--host", kMilan}).code, 0);
  std::string text = content(model);
  text.replace(text.find("stepping = "), 12, "stepping = 7");
  file("own.toml", text);
  const Said changed = vmm_cpu({"verify", lock, "--host", kMilan});
  EXPECT_EQ(changed.code, 64);
  EXPECT_THAT(changed.out, HasSubstr("vmm or the model file is another"));
  EXPECT_THAT(changed.out, HasSubstr("1.EAX"));
}

TEST_F(CpuCommands, no_lock_is_written_of_what_strict_refuses) {
  const std::string lock = file("a.lock");
  EXPECT_EQ(vmm_cpu({"verify", lock, "--write", "haswell", "--host", kMilan}).code, 77);
  EXPECT_FALSE(std::filesystem::exists(lock));
  EXPECT_EQ(vmm_cpu({"verify", lock}).code, 64);
}

TEST_F(CpuCommands, an_imported_model_is_a_model) {
  const std::string text = file("cpu.txt", "Haswell-v4,+pdpe1gb,phys-bits=39\n");
  const Said said = vmm_cpu({"import", "qemu", text, "--name", "mine"});
  EXPECT_EQ(said.code, 0);
  EXPECT_THAT(said.out, HasSubstr("inherits = \"haswell@4\""));
  const std::string model = file("mine.toml", said.out);
  EXPECT_EQ(vmm_cpu({"diff", model, "haswell@4,+pdpe1gb"}).out,
            "mine@1 and haswell@4,+pdpe1gb are the same CPU\n");
  EXPECT_THAT(vmm_cpu({"show", model}).out, HasSubstr("  inherits      haswell@4\n"));
  const json parsed =
      json::parse(vmm_cpu({"import", "qemu", text, "--name", "mine", "--json"}).out);
  EXPECT_EQ(parsed["schema"], "vmm-cpu-import");
  EXPECT_EQ(parsed["inherits"], "haswell@4");
  EXPECT_EQ(parsed["toml"], said.out);
  EXPECT_EQ(parsed["notes"].size(), 1U);
}

TEST_F(CpuCommands, what_cannot_be_imported_is_a_usage_error) {
  EXPECT_EQ(vmm_cpu({"import", "qemu"}).code, 64);
  EXPECT_THAT(vmm_cpu({"import", "qmu", "a"}).error, HasSubstr("did you mean 'qemu'?"));
  const Said absent = vmm_cpu({"import", "libvirt", file("none.xml")});
  EXPECT_EQ(absent.code, 64);
  EXPECT_THAT(absent.error, HasSubstr("none.xml"));
  const Said wrong =
      vmm_cpu({"import", "libvirt", file("a.xml", "<cpu>\n<model>EPIC</model></cpu>")});
  EXPECT_EQ(wrong.code, 64);
  EXPECT_THAT(wrong.error, AllOf(HasSubstr("a.xml:2:2: "), HasSubstr("'EPYC'")));
}

TEST_F(CpuCommands, show_has_several_ways_to_look_at_a_model) {
  const Said plain = vmm_cpu({"show", "haswell"});
  const Said flat = vmm_cpu({"show", "haswell", "--flat"});
  EXPECT_THAT(plain.out, HasSubstr("sha256 " + sha256_hex(flat.out)));
  EXPECT_THAT(vmm_cpu({"show", "haswell", "--vmx"}).out,
              AllOf(StartsWith("haswell@4, with +vmx\n"), HasSubstr("MSR 48B  00007bff00000000h")));
  const Said why = vmm_cpu({"show", "haswell,-avx2", "--why", "--host", kMilan});
  EXPECT_THAT(why.out, AllOf(HasSubstr("haswell@3  spec-ctrl"), HasSubstr("erms!"),
                             HasSubstr("-avx2      avx2"), HasSubstr(kMilan)));
  const json parsed =
      json::parse(vmm_cpu({"show", "haswell", "--why", "--json", "--host", kMilan}).out);
  EXPECT_EQ(parsed["origins"]["spec-ctrl"], "haswell@3");
  EXPECT_FALSE(parsed["refused"].empty());
  EXPECT_EQ(vmm_cpu({"show", "haswell", "--why", "--vmx"}).code, 64);
  EXPECT_EQ(vmm_cpu({"show", "haswell", "--flat", "--json"}).code, 64);
}

TEST_F(CpuCommands, why_and_export_have_json) {
  const json why =
      json::parse(vmm_cpu({"why", "vmx.xsaves", "--cpu-model", "skylake-client@3,+xsaves,+vmx",
                           "--host", kMilan, "--json"})
                      .out);
  EXPECT_EQ(why["name"], "vmx-xsaves");
  EXPECT_EQ(why["kvm_since"], "5.3");
  EXPECT_EQ(why["on"], false);
  EXPECT_EQ(why["lines"].size(), 3U);
  const Said text = vmm_cpu({"export", "haswell,+kvmclock"});
  EXPECT_THAT(text.out, HasSubstr("\n[kvm]\npv-features = [\"kvmclock\"]\n"));
  const json exported = json::parse(vmm_cpu({"export", "haswell,+kvmclock", "--json"}).out);
  EXPECT_EQ(exported["toml"], text.out);
}

// What a run here would be refused for is said, and refuses nothing.
TEST_F(CpuCommands, those_who_only_look_are_not_refused) {
  const std::string wishes = "haswell,require:avx512f,forbid:rdrand,phys-bits=host-exact";
  for (const std::vector<std::string>& words :
       {std::vector<std::string>{"why", "avx512f", "--cpu-model", wishes, "--host", kMilan},
        {"show", wishes, "--host", kMilan},
        {"show", wishes, "--why", "--host", kMilan}}) {
    const Said said = vmm_cpu(words);
    EXPECT_EQ(said.code, 0) << said.error;
  }
  EXPECT_THAT(vmm_cpu({"why", "avx512f", "--cpu-model", wishes, "--host", kMilan}).out,
              AllOf(HasSubstr("refuses it"), HasSubstr("it is required")));
  const Said shown = vmm_cpu({"show", wishes, "--host", kMilan});
  EXPECT_THAT(
      shown.out,
      AllOf(HasSubstr("  wishes        forbid:rdrand require:avx512f phys-bits=host-exact\n"),
            HasSubstr("note: a run here would be refused (77): rdrand is forbidden"),
            HasSubstr("(77): 39 physical address bits are wanted exactly")));
  const Said linted = vmm_cpu({"lint", wishes, "--host", kMilan});
  EXPECT_NE(linted.code, 77) << linted.error;
  EXPECT_EQ(vmm_cpu({"check", wishes, "--host", kMilan}).code, 77);
}

}  // namespace
}  // namespace vmm
