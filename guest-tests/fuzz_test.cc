// The fuzzing guest against each interrupt chip: random accesses to every device, from fixed seeds.
// VMM_FUZZ_OPERATIONS says how many for each chip, VMM_FUZZ_SEEDS ("1,2,3") from which seeds.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include <algorithm>
#include <cstdlib>
#include <sstream>

#include "guest-tests/run_vmm.h"

namespace vmm {
namespace {

constexpr unsigned kDefaultOperations = 20'000;
constexpr const char* kDefaultSeeds = "1";

unsigned operations() {
  const char* text = std::getenv("VMM_FUZZ_OPERATIONS");
  return text != nullptr ? static_cast<unsigned>(std::stoul(text)) : kDefaultOperations;
}

std::vector<std::string> seeds() {
  const char* text = std::getenv("VMM_FUZZ_SEEDS");
  std::istringstream list(text != nullptr ? text : kDefaultSeeds);
  std::vector<std::string> result;
  for (std::string seed; std::getline(list, seed, ',');) result.push_back(seed);
  return result;
}

// What the process holds of this host's memory, in KiB, without the guest's RAM: the one mapping of
// exactly `guest_kib`.
unsigned long monitor_memory_kib(pid_t pid, unsigned long guest_kib) {
  std::istringstream maps(read_text_file(fmt::format("/proc/{}/smaps", pid)));
  unsigned long sum = 0;
  bool of_guest = false;
  for (std::string line; std::getline(maps, line);) {
    std::istringstream fields(line);
    std::string name;
    unsigned long kib = 0;
    fields >> name >> kib;
    if (name == "Size:") of_guest = kib == guest_kib;
    if (name == "Rss:" && !of_guest) sum += kib;
  }
  return sum;
}

class ChipFuzz : public KvmTest, public testing::WithParamInterface<const char*> {
 protected:
  static RunSetup setup(const std::string& seed, unsigned count, std::vector<std::string> options,
                        std::string more_words = "") {
    if (host_backend() == "vmx") more_words += " vmx";
    if (!test_lab().empty() && host_backend() == "svm") more_words += " qemu";  // see fuzz.cc
    RunSetup setup{.arguments = {"run", guest_path("fuzz.elf"), "--irqchip", GetParam(),
                                 "--cpu-policy", "mask", "--append",
                                 fmt::format("{} {}{}", seed, count, more_words)}};
    setup.arguments.insert(setup.arguments.end(), options.begin(), options.end());
    // A limit against hanging: some twenty times what an operation needs here, and far more for one
    // in a lab.
    setup.more_time = std::chrono::seconds(count / (test_lab().empty() ? 500 : 50));
    return setup;
  }
  static void expect_survival(const RunResult& r, const RunSetup& setup) {
    const bool survived = r.code == 0 && r.out.find("ok      fuzz") != std::string::npos &&
                          r.out.find("FAILED") == std::string::npos;
    EXPECT_TRUE(survived) << "vmm " << fmt::format("{}", fmt::join(setup.arguments, " ")) << "\n"
                          << r.text();
    const auto at = r.out.find("fuzz: seed");
    if (at != std::string::npos)
      std::fprintf(stderr, "%s: %.1f s, %s\n", GetParam(), r.seconds,
                   r.out.substr(at, r.out.find('\n', at) - at).c_str());
  }
};

TEST_P(ChipFuzz, a_lone_processor_gets_through_all_operations) {
  for (const std::string& seed : seeds()) {
    const RunSetup run = setup(seed, operations() / 2, {"--mem", "8M", "--testdev"});
    expect_survival(run_vmm(run), run);
  }
}

TEST_P(ChipFuzz, another_processor_goes_on_meanwhile) {
  for (const std::string& seed : seeds()) {
    const RunSetup run =
        setup(seed, operations() - operations() / 2,
              {"--mem", "8M", "--smp", "2", "--vga", "text,trap", "--ioapic-version",
               GetParam() == std::string("kernel") ? "20" : "11"});
    expect_survival(run_vmm(run), run);
  }
}

TEST_P(ChipFuzz, the_memory_of_the_monitor_stays_flat) {
#if defined(VMM_ASAN) || defined(VMM_TSAN)
  GTEST_SKIP() << "a sanitizer keeps freed memory back";
#endif
  if (!test_lab().empty()) GTEST_SKIP() << "the monitor is another machine's process";
  constexpr unsigned long kGuestKib = 8 * 1024 + 4;  // no other mapping has this size
  constexpr unsigned long kGrowthKib = 2 * 1024;
  RunSetup run =
      setup("3", operations(), {"--mem", fmt::format("{}K", kGuestKib), "--smp", "2"}, " wait");
  run.in = ChildStdin::Open;
  VmmProcess process(run);
  unsigned long early = 0, late = 0;
  if (process.wait_for_output("fuzz: a tenth is done"))
    early = monitor_memory_kib(process.pid(), kGuestKib);
  if (process.wait_for_output("ok      fuzz")) late = monitor_memory_kib(process.pid(), kGuestKib);
  process.send("x");
  expect_survival(process.finish(), run);
  EXPECT_GT(early, 0u);
  EXPECT_LE(late, early + kGrowthKib);
  std::fprintf(stderr, "%s: %lu KiB after a tenth, %lu KiB at the end\n", GetParam(), early, late);
}

INSTANTIATE_TEST_SUITE_P(Each, ChipFuzz, testing::Values("user", "split", "kernel"),
                         [](const auto& chosen) { return std::string(chosen.param); });

}  // namespace
}  // namespace vmm
