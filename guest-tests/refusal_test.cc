// Bad input of every kind: the exit code of the table, one line that names the culprit, at once.
#include <gmock/gmock.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "guest-tests/run_vmm.h"

namespace vmm {
namespace {

using nlohmann::json;
using testing::HasSubstr;

class Refusal : public KvmTest {
 protected:
  // `words` all have to be in what it says.
  static void expect_refused(const RunSetup& setup, int code,
                             const std::vector<std::string>& words) {
    const RunResult r = run_vmm(setup);
    std::string what;
    for (const std::string& word : setup.arguments) what += " " + word;
    EXPECT_EQ(r.code, code) << what << "\n" << r.text();
    EXPECT_EQ(r.signal, 0) << what;
    EXPECT_FALSE(r.hung) << what;
    EXPECT_EQ(r.out, "") << what;
    std::size_t errors = 0;
    constexpr std::string_view kStart = "vmm: error: ";
    for (std::size_t at = 0; (at = r.err.find(kStart, at)) != std::string::npos; ++at) {
      EXPECT_TRUE(at == 0 || r.err[at - 1] == '\n') << r.text();
      ++errors;
    }
    EXPECT_EQ(errors, 1u) << what << "\n" << r.text();
    for (const std::string& word : words) EXPECT_THAT(r.err, HasSubstr(word)) << what;
    // Nothing that sounds as if the guest had been about to run.
    EXPECT_THAT(r.err, testing::Not(HasSubstr(" MiB, irqchip "))) << what;
  }
  static void expect_run_refused(std::vector<std::string> arguments, int code,
                                 const std::vector<std::string>& words) {
    arguments.insert(arguments.begin(), "run");
    expect_refused({.arguments = std::move(arguments)}, code, words);
  }

  TempFolder folder_;
  const std::string hello_ = guest_path("hello.elf");
};

TEST_F(Refusal, of_what_is_no_kernel) {
  const std::string image = read_text_file(hello_);
  std::string bad_sum = read_text_file(guest_path("entry-multiboot1.elf"));
  const std::size_t header = bad_sum.find("\x02\xb0\xad\x1b");
  ASSERT_NE(header, std::string::npos);
  bad_sum[header + 8] = static_cast<char>(bad_sum[header + 8] ^ 1);
  const std::string fifo = folder_.file("fifo");
  ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
  const std::vector<std::string> files = {
      folder_.file("missing"),
      folder_.file("."),
      folder_.write("empty", ""),
      folder_.write("half-header", image.substr(0, 40)),
      folder_.write("no-segments", image.substr(0, 3000)),
      folder_.write("text", "#!/bin/sh\n"),
      folder_.write("bad-sum", bad_sum),
      "/dev/zero",
      fifo,
  };
  for (const std::string& file : files) expect_run_refused({file}, 65, {file});
  expect_run_refused({folder_.file("bad-sum")}, 65, {"checksum"});
  expect_run_refused({hello_, "--symbols", folder_.file("missing")}, 65, {"missing"});
  expect_run_refused({guest_path("entry-multiboot1.elf"), "--module", folder_.file("missing")}, 65,
                     {"--module", folder_.file("missing")});
}

TEST_F(Refusal, of_a_wrong_command_line) {
  expect_run_refused({}, 64, {"KERNEL"});
  expect_run_refused({hello_, "--cpu-modl", "host"}, 64, {"--cpu-modl", "--cpu-model?"});
  expect_run_refused({hello_, "--mem", "0"}, 64, {"0 bytes", "--mem"});
  // A wrong word counts more than a host that could not do it anyway.
  expect_refused({.arguments = {"run", hello_, "--mem", "0"},
                  .environment = {{"VMM_FAULT", "KVM_GET_API_VERSION:EIO"}}},
                 64, {"0 bytes", "--mem"});
  expect_run_refused({hello_, "--mem", "1K"}, 64, {"1 KiB", "--mem"});
  expect_run_refused({hello_, "--mem", "lots"}, 64, {"lots", "--mem"});
  expect_run_refused({hello_, "--mem", "99999T"}, 77, {"99999 TiB", "--mem"});
  expect_run_refused({hello_, "--mem", "99999999999T"}, 64, {"99999999999T"});
  expect_run_refused({hello_, "--smp", "0"}, 64, {"--smp"});
  expect_run_refused({hello_, "--smp", "65"}, 64, {"--smp", "64"});
  expect_run_refused({hello_, "--flat", "garbage"}, 64, {"--flat", "garbage"});
  expect_run_refused({hello_, "--timeout", "-1"}, 64, {"--timeout"});
  expect_run_refused({hello_, "--vga", "txt"}, 64, {"--vga", "txt", "text"});
  expect_run_refused({hello_, "--serial", "stdo"}, 64, {"--serial", "stdo", "stdio"});
  expect_run_refused({hello_, "--cpu-policy", "strikt"}, 64, {"strikt", "strict"});
  expect_run_refused({hello_, "--exit-protocol", "bochs"}, 64, {"bochs", "qemu"});
  expect_run_refused({hello_, "--irqchip", "usr"}, 64, {"--irqchip", "usr", "did you mean user?"});
  expect_run_refused({hello_, "--compat", "bochs"}, 64, {"--compat", "kvm-unit-tests"});
  expect_run_refused({hello_, "--ioapic-version", "12"}, 64, {"--ioapic-version", "12"});
  for (const char* rate : {"0", "999", "10000001", "fast", "-2000000"})
    expect_run_refused({hello_, "--tsc-khz", rate}, 64, {"--tsc-khz", "10000000 kHz"});
  expect_refused({.arguments = {"runn"}}, 64, {"'runn'", "hint: did you mean run?"});
  expect_refused({.arguments = {"hots"}}, 64, {"'hots'", "hint: did you mean host?"});
  expect_refused({.arguments = {"cpu", "shwo", "haswell"}}, 64, {"'shwo'", "did you mean show?"});
  expect_refused({.arguments = {"run", "--cpu-modl", "host"}}, 64, {"--cpu-modl", "--cpu-model?"});
  expect_refused({.arguments = {"zzzzzzzz"}}, 64, {"'zzzzzzzz'", "vmm --help"});
  expect_refused({.arguments = {}}, 64, {});
}

TEST_F(Refusal, of_a_cpu_model) {
  expect_run_refused({hello_, "--cpu-model", "haswel"}, 64, {"haswel", "haswell'?"});
  expect_run_refused({hello_, "--cpu-model", "haswell@999"}, 64, {"haswell", "999"});
  expect_run_refused({hello_, "--cpu-model", "haswell,+pdpe1g"}, 64, {"pdpe1g", "pdpe1gb"});
  const std::string malformed = folder_.write("malformed.toml", "name = [[[\n");
  expect_run_refused({hello_, "--cpu-model", malformed}, 64, {malformed + ":1"});
  const std::string binary = folder_.write("binary.toml", std::string(5000, '\xff'));
  expect_run_refused({hello_, "--cpu-model", binary}, 64, {binary});
  const std::string none = folder_.file("none.toml");
  expect_run_refused({hello_, "--cpu-model", none}, 64, {none});
  expect_refused({.arguments = {"cpu", "show", "haswel"}}, 64, {"haswell'?"});
}

TEST_F(Refusal, of_a_place_for_results) {
  const std::string nowhere = folder_.file("no/such/file");
  expect_run_refused({hello_, "--trace", nowhere}, 64, {"--trace", nowhere});
  expect_run_refused({hello_, "--outcome-json", nowhere}, 64, {"--outcome-json", nowhere});
  expect_run_refused({hello_, "--vga", "png:" + nowhere}, 64, {"--vga png", nowhere});
  expect_run_refused({hello_, "--serial", "file:" + nowhere}, 64, {"--serial file", nowhere});
}

TEST_F(Refusal, of_kvm_names_the_ioctl) {
  for (const char* name :
       {"KVM_GET_API_VERSION", "KVM_CHECK_EXTENSION", "KVM_GET_SUPPORTED_CPUID", "KVM_CREATE_VM",
        "KVM_CREATE_IRQCHIP", "KVM_CREATE_VCPU", "KVM_GET_VCPU_MMAP_SIZE", "KVM_SET_CPUID2",
        "KVM_SET_USER_MEMORY_REGION", "KVM_SET_SREGS", "KVM_SET_REGS"})
    for (const char* error : {"EACCES", "ENOMEM"})
      expect_refused({.arguments = {"run", hello_, "--irqchip", "kernel"},
                      .environment = {{"VMM_FAULT", std::string(name) + ":" + error + ":1"}}},
                     77, {name, error});
  const RunResult run = run_vmm({.arguments = {"run", hello_, "--irqchip", "kernel"},
                                 .environment = {{"VMM_FAULT", "KVM_RUN:EFAULT:1"}}});
  EXPECT_EQ(run.code, 70) << run.text();
  EXPECT_THAT(run.last_error_line(), HasSubstr("KVM_RUN: EFAULT"));
  expect_refused({.arguments = {"run", hello_}, .environment = {{"VMM_FAULT", "nonsense"}}}, 64,
                 {"VMM_FAULT", "nonsense"});
}

TEST_F(Refusal, of_dev_kvm_says_what_to_do) {
  struct stat status {};
  ASSERT_EQ(stat("/dev/kvm", &status), 0);
  if (geteuid() != 0) GTEST_SKIP() << "only root can become a user without rights";
  if ((status.st_mode & 06) != 0) GTEST_SKIP() << "everybody may open /dev/kvm here";
  // The other user has to reach the guest: a copy in a folder that is open to all.
  const std::string kernel = folder_.write("kernel.elf", read_text_file(hello_));
  ASSERT_EQ(chmod(folder_.file(".").c_str(), 0755), 0);
  const RunSetup probe{.arguments = {"--version"}, .user = 65534};
  if (run_vmm(probe).code != 0) GTEST_SKIP() << "user 65534 cannot execute " << VMM_BINARY;
  expect_refused({.arguments = {"run", kernel}, .user = 65534}, 77,
                 {"/dev/kvm", "EACCES", "hint:"});
}

// ---- the other subcommands

TEST(Tools, explain_knows_every_collected_dump) {
  unsigned dumps = 0;
  for (const auto& entry : std::filesystem::directory_iterator("vmm/machine/testdata/dumps")) {
    const RunResult r = run_vmm({.arguments = {"explain", entry.path()}});
    EXPECT_EQ(r.code, 0) << entry.path() << r.text();
    EXPECT_NE(r.out, "") << entry.path();
    const RunResult piped =
        run_vmm({.arguments = {"explain", "--json"}, .input = read_text_file(entry.path())});
    EXPECT_EQ(piped.code, 0) << entry.path();
    EXPECT_FALSE(json::parse(piped.out).empty()) << entry.path();
    ++dumps;
  }
  EXPECT_GE(dumps, 11u);
}

TEST(Tools, explain_refuses_what_is_no_dump) {
  const TempFolder folder;
  const std::vector<std::string> inputs = {"", "hello\n", std::string(100000, '\xff'),
                                           std::string(100000, '\0')};
  for (const std::string& text : inputs) {
    EXPECT_EQ(run_vmm({.arguments = {"explain", folder.write("text", text)}}).code, 65);
    EXPECT_EQ(run_vmm({.arguments = {"explain"}, .input = text}).code, 65);
  }
  EXPECT_EQ(run_vmm({.arguments = {"explain", folder.file("missing")}}).code, 65);
}

class HostTools : public KvmTest {};

TEST_F(HostTools, host_and_cpu_answer_in_text_and_json) {
  for (const std::vector<std::string>& arguments :
       std::vector<std::vector<std::string>>{{"host"},
                                             {"cpu", "list"},
                                             {"cpu", "show", "haswell"},
                                             {"cpu", "show", "host"},
                                             {"cpu", "check", "host"}}) {
    RunSetup setup{.arguments = arguments};
    const RunResult text = run_vmm(setup);
    EXPECT_EQ(text.code, 0) << text.text();
    EXPECT_NE(text.out, "");
    setup.arguments.emplace_back("--json");
    const RunResult as_json = run_vmm(setup);
    EXPECT_EQ(as_json.code, 0) << as_json.text();
    EXPECT_TRUE(json::parse(as_json.out).contains("schema"));
  }
  EXPECT_THAT(host_backend(), testing::AnyOf("vmx", "svm", "pvm"));
}

}  // namespace
}  // namespace vmm
