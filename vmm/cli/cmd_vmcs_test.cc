// `vmm vmcs` on files: what it prints, and its exit codes. Needs no /dev/kvm.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "vmm/base/text.h"
#include "vmm/cli/commands.h"
#include "vmm/nested/dump.h"
#include "vmm/nested/vmcs.h"
#include "vmm/nested/vmx_entry_fake.h"

namespace vmm {
namespace {

using nested::VmcsField;
using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;

struct Answer {
  int code = 0;
  std::string out;
  std::string error;
};

Answer vmm_vmcs(std::vector<std::string> words) {
  words.insert(words.begin(), {"vmm", "vmcs"});
  testing::internal::CaptureStdout();
  const auto command = parse_command_line(words);
  const Result<int> code = command ? command->run() : fail(command.error());
  Answer said{0, testing::internal::GetCapturedStdout(), ""};
  said.code = code ? *code : exit_code(code.error().kind());
  if (!code) said.error = code.error().text();
  return said;
}

class VmcsCommands : public testing::Test {
 protected:
  VmcsCommands() {
    char name[] = "/tmp/vmm-vmcs-test-XXXXXX";
    folder_ = ::mkdtemp(name);
  }
  ~VmcsCommands() override { std::filesystem::remove_all(folder_); }
  std::string file(const std::string& name, std::span<const std::uint8_t> bytes) const {
    std::string path = folder_ + "/" + name;
    std::ofstream(path, std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()),
               static_cast<std::streamsize>(bytes.size()));
    return path;
  }
  std::string vmcs(const std::string& name) const { return file(name, fake.entry.vmcs.bytes()); }

  nested::FakeEntry fake;

 private:
  std::string folder_;
};

TEST_F(VmcsCommands, show_names_fields_and_what_they_mean) {
  const Answer shown = vmm_vmcs({"show", vmcs("a")});
  EXPECT_EQ(shown.code, 0) << shown.error;
  EXPECT_THAT(shown.out, AllOf(HasSubstr("a VMCS in KVM's layout (vmcs12)"),
                               HasSubstr("0C0Ch Host TR selector"), HasSubstr("enable EPT")));
  const json document = json::parse(vmm_vmcs({"show", vmcs("a"), "--json"}).out);
  EXPECT_EQ(document["fields"].size(), 151u);
}

TEST_F(VmcsCommands, check_ends_with_1_where_a_rule_is_broken) {
  fake.set(VmcsField::HostTrSelector, 0);
  const Answer checked = vmm_vmcs({"check", vmcs("a"), "--cpu-model", "skylake-server,+vmx"});
  EXPECT_EQ(checked.code, 1) << checked.error;
  EXPECT_THAT(checked.out, AllOf(HasSubstr("I098 HOST_TR selector must not be 0"),
                                 HasSubstr("gives VMfail, VM-instruction error 8")));
  const json document = json::parse(vmm_vmcs({"check", vmcs("a"), "--json"}).out);
  EXPECT_EQ(document["violations"].back()["rule"], "I098");
  EXPECT_FALSE(document["unchecked"].empty());
}

TEST_F(VmcsCommands, check_without_a_model_says_what_it_lacks) {
  const Answer checked = vmm_vmcs({"check", vmcs("a"), "--all"});
  EXPECT_EQ(checked.code, 0) << checked.out;
  EXPECT_THAT(checked.out, AllOf(HasSubstr("0 violations"), HasSubstr("I009 PIN_BASED"),
                                 HasSubstr("--cpu-model gives the capabilities")));
}

TEST_F(VmcsCommands, a_control_is_traced_to_the_versions_of_the_model) {
  fake.secondary(nested::kEnableXsaves);
  const Answer checked =
      vmm_vmcs({"check", vmcs("a"), "--cpu-model", "skylake-client@3,+xsaves,+vmx"});
  EXPECT_THAT(checked.out, HasSubstr("vmx-xsaves: @1 to @3 of skylake-client lack it, @4 has it"));
}

TEST_F(VmcsCommands, diff_ends_with_1_where_fields_differ) {
  const std::string left = vmcs("left");
  EXPECT_EQ(vmm_vmcs({"diff", left, left}).code, 0);
  fake.set(VmcsField::GuestRip, 0x1234);
  const Answer differs = vmm_vmcs({"diff", left, vmcs("right")});
  EXPECT_EQ(differs.code, 1);
  EXPECT_THAT(differs.out, AllOf(HasSubstr("Guest RIP (681Eh)"), HasSubstr("1234h")));
}

TEST_F(VmcsCommands, a_page_without_a_mark_is_taken_for_a_vmcb) {
  const std::vector<std::uint8_t> page(4096);
  const Answer checked = vmm_vmcs({"check", file("b", page), "--cpu-model", "epyc,+svm"});
  EXPECT_EQ(checked.code, 1) << checked.error;
  EXPECT_THAT(checked.out, AllOf(HasSubstr("taken for a VMCB"), HasSubstr("A23")));
  EXPECT_THAT(vmm_vmcs({"diff", vmcs("a"), file("b", page)}).error,
              HasSubstr("no field in common"));
}

TEST_F(VmcsCommands, foreign_files_are_refused) {
  const std::vector<std::uint8_t> bytes(100);
  EXPECT_EQ(vmm_vmcs({"show", file("short", bytes)}).code, 65);
  EXPECT_EQ(vmm_vmcs({"show", file("empty", {})}).code, 65);
  EXPECT_EQ(vmm_vmcs({"show", "/nonexistent"}).code, 65);
  const std::vector<std::uint8_t> large(70000);
  EXPECT_THAT(vmm_vmcs({"show", file("large", large)}).error, HasSubstr("more than 65536 bytes"));
  EXPECT_EQ(vmm_vmcs({"check", vmcs("a"), "--cpu-model", "skylake-servre"}).code, 64);
}

TEST_F(VmcsCommands, an_outcome_has_the_dump_of_the_entry_that_failed) {
  const auto lines = [](std::span<const std::uint8_t> bytes) {
    json list = json::array();
    const std::string text = nested::dump_text("a VMCS", bytes);
    for (const std::string_view line : split(text, '\n')) list.push_back(line);
    return list;
  };
  json outcome = {{"hypervisors",
                   {{{"failure", nullptr}, {"dump", json::array()}},
                    {{"failure", nullptr}, {"dump", lines(fake.entry.vmcs.bytes())}}}}};
  const auto written = [&] {
    const std::string text = outcome.dump(2);
    return file("outcome.json", {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()});
  };
  EXPECT_EQ(vmm_vmcs({"check", written()}).code, 0);
  fake.set(VmcsField::HostTrSelector, 0);
  outcome["hypervisors"].push_back(
      {{"failure", "error 8"}, {"dump", lines(fake.entry.vmcs.bytes())}});
  const Answer broken = vmm_vmcs({"check", written()});
  EXPECT_EQ(broken.code, 1);
  EXPECT_THAT(broken.out, HasSubstr("I098"));
  outcome = {{"hypervisors", "none"}};
  EXPECT_NE(vmm_vmcs({"show", written()}).code, 0);
}

}  // namespace
}  // namespace vmm
