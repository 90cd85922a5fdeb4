// vmm cpu bisect on guests whose verdict hangs on bits of their CPU.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "guest-tests/run_vmm.h"

namespace vmm {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;

class Bisect : public KvmTest {};

RunResult run_bisect(const std::string& good, const std::string& bad,
                     std::vector<std::string> options, const std::string& guest) {
  std::vector<std::string> words = {"cpu", "bisect", "--good", good, "--bad", bad, "--quiet"};
  words.insert(words.end(), options.begin(), options.end());
  words.insert(words.end(), {"--", guest_path(guest)});
  return run_vmm({.arguments = std::move(words)});
}

TEST_F(Bisect, finds_the_three_bits_of_twenty) {
  const RunResult r =
      run_bisect("haswell", "skylake-server,+3dnowprefetch",
                 {"--cpu-policy", "force", "--mem", "8M", "--json"}, "cpuid-verdict.elf");
  ASSERT_EQ(r.code, 0) << r.text();
  const json document = json::parse(r.out);
  EXPECT_EQ(document["schema"], "vmm-cpu-bisect");
  EXPECT_THAT(document["smallest"].get<std::vector<std::string>>(),
              ElementsAre("phys-bits=46", "+3dnowprefetch", "+pdpe1gb"));
  EXPECT_EQ(document["good"]["exit_code"], 0);
  EXPECT_EQ(document["bad"]["exit_code"], 7);
  EXPECT_EQ(document["finished"], true);
  EXPECT_GT(document["differences"].get<int>(), 10);
  const std::string selection = document["cpu_model"].get<std::string>();
  EXPECT_EQ(selection, "haswell@4,phys-bits=46,+3dnowprefetch,+pdpe1gb");
  // It is as bad by itself, and good without any one of them.
  const auto code = [](const std::string& model) {
    return run_guest("cpuid-verdict.elf", {"--cpu-model", model, "--cpu-policy", "force"}).code;
  };
  EXPECT_EQ(code(selection), 7);
  EXPECT_EQ(code(selection + ",-pdpe1gb"), 0);
  EXPECT_EQ(code(selection + ",-3dnowprefetch"), 0);
  EXPECT_EQ(code(selection + ",phys-bits=39"), 0);
}

TEST_F(Bisect, prints_a_diff_that_a_model_file_takes) {
  const RunResult r =
      run_bisect("haswell,phys-bits=46,+3dnowprefetch", "skylake-server,+3dnowprefetch",
                 {"--cpu-policy", "force", "--mem", "8M"}, "cpuid-verdict.elf");
  ASSERT_EQ(r.code, 0) << r.text();
  EXPECT_THAT(r.out, HasSubstr("\n# +pdpe1gb\nadd = [\n  # 80000001.EDX\n  \"pdpe1gb\",\n]\n"));
  const TempFolder folder;
  const std::string diff = r.out.substr(
      r.out.find("add = ["), r.out.find("]\n", r.out.find("add")) - r.out.find("add = [") + 2);
  const std::string model = folder.write(
      "m.toml",
      "schema = 1\nname = \"m\"\ntitle = \"t\"\ndefault = 1\ninherits = \"haswell@4\"\n"
      "[[version]]\nnumber = 1\nphys-bits = 46\n" +
          diff);
  EXPECT_EQ(run_guest("cpuid-verdict.elf",
                      {"--cpu-model", model + ",+3dnowprefetch", "--cpu-policy", "force"})
                .code,
            7);
}

TEST_F(Bisect, says_so_when_both_ends_are_the_same) {
  const RunResult r = run_bisect("haswell", "haswell,+pdpe1gb",
                                 {"--cpu-policy", "force", "--mem", "8M"}, "cpuid-verdict.elf");
  EXPECT_EQ(r.code, 1) << r.text();
  EXPECT_THAT(r.out, HasSubstr("end the same way: guest-exit, exit code 0"));
}

TEST_F(Bisect, a_cpu_that_does_not_start_is_no_verdict) {
  const RunResult r =
      run_bisect("haswell,+3dnow", "haswell,+3dnow,+pdpe1gb", {"--mem", "8M"}, "cpuid-verdict.elf");
  EXPECT_EQ(r.code, 77) << r.text();
  EXPECT_THAT(r.err, HasSubstr("--good haswell@4,+3dnow does not start"));
}

// Without nested paging KVM's own walker asks CPUID for 1 GiB pages.
TEST_F(Bisect, svm_finds_the_bit_of_1gib_pages) {
  if (host_backend() != "svm") GTEST_SKIP() << "elsewhere the bit decides nothing";
  const json host = json::parse(run_vmm({.arguments = {"host", "--json"}}).out);
  const std::string npt = host["module_parameters"].value("kvm_amd.npt", "");
  if (npt == "Y" || npt == "1") GTEST_SKIP() << "with npt=1 the processor walks the tables";
  const RunResult r = run_bisect("epyc", "epyc@1,-pdpe1gb,-movbe,-aes,-rdrand",
                                 {"--cpu-policy", "mask", "--json"}, "one-gig-pages.elf");
  ASSERT_EQ(r.code, 0) << r.text();
  const json document = json::parse(r.out);
  EXPECT_THAT(document["smallest"].get<std::vector<std::string>>(), ElementsAre("-pdpe1gb"));
  EXPECT_EQ(document["bad"]["exit_code"], 80);
}

}  // namespace
}  // namespace vmm
