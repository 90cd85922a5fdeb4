// Our interrupt chips and timers against KVM's: the same random sequence of accesses and injections
// gives a guest the same results, but for the differences in one table (known_differences.h).
#include <fmt/format.h>
#include <gmock/gmock.h>

#include <cstdlib>
#include <map>

#include "guest-tests/known_differences.h"
#include "guest-tests/run_vmm.h"

namespace vmm {
namespace {

// More, or one of its own to look into a failure: "FIRST COUNT OPERATIONS".
struct Effort {
  unsigned first_seed = 1;
  unsigned seeds = 4;
  unsigned operations = 960;  // whole episodes
};
Effort effort_for(std::string_view subject) {
  Effort result;
  // A lab's emulator needs milliseconds for an exit, and the 8254's operations wait.
  if (!test_lab().empty()) {
    result.seeds = 1;
    result.operations = host_backend() == "vmx" ? 48 : subject == "pit" ? 120 : 240;
  }
  if (const char* asked = std::getenv("VMM_TEST_SEQUENCES")) {
    std::istringstream words(asked);
    words >> result.first_seed >> result.seeds >> result.operations;
  }
  return result;
}

struct Tally {
  std::size_t compared = 0, equal = 0, excused = 0, not_compared = 0;
  std::map<const KnownDifference*, std::size_t> used{};
};

bool concerns(const KnownDifference& known, std::string_view subject) {
  return fmt::format(" {} ", known.subjects).find(fmt::format(" {} ", subject)) !=
         std::string::npos;
}

std::string context(const ChipEpisode& episode, std::size_t line) {
  std::string text = episode.header + "\n";
  for (std::size_t i = line < 16 ? 0 : line - 16; i < line; ++i)
    text += "    " + episode.lines[i].text + "\n";
  return text;
}

class Differential : public KvmTest, public testing::WithParamInterface<const char*> {
 protected:
  static std::string log_of(const std::string& chip, unsigned seed, unsigned operations) {
    // kvm_pvm's emulated ring 0 takes interrupts at some exits only.
    const unsigned reads = host_backend() == "pvm" ? 8 : 2;
    const RunResult r =
        run_guest("chip-sequence.elf",
                  {"--irqchip", chip, "--ioapic-version", "11", "--cpu-policy", "mask", "--testdev",
                   "--append", fmt::format("{} {} {} {}", GetParam(), seed, operations, reads)});
    EXPECT_EQ(r.code, 0) << chip << ", seed " << seed << "\n" << r.err;
    return r.out;
  }

  // False once it found what no entry covers.
  static bool compare(const std::string& chip, unsigned seed, const std::string& ours,
                      const std::string& kvms, Tally& tally) {
    const auto left = parse_chip_log(ours), right = parse_chip_log(kvms);
    EXPECT_EQ(left.size(), right.size()) << chip << ", seed " << seed;
    for (std::size_t e = 0; e < std::min(left.size(), right.size()); ++e) {
      EXPECT_EQ(left[e].header, right[e].header);
      if (!compare(chip, seed, left[e], right[e], tally)) return false;
    }
    return !testing::Test::HasFailure();
  }

  static bool compare(const std::string& chip, unsigned seed, const ChipEpisode& left,
                      const ChipEpisode& right, Tally& tally) {
    const std::size_t count = std::min(left.lines.size(), right.lines.size());
    for (std::size_t i = 0; i < count; ++i) {
      ++tally.compared;
      if (left.lines[i].text == right.lines[i].text) {
        ++tally.equal;
        continue;
      }
      const Difference difference{host_backend(), chip, left, right, i};
      std::vector<const KnownDifference*> covering;
      for (const KnownDifference& known : kKnownDifferences)
        if (concerns(known, GetParam()) && known.covers(difference)) covering.push_back(&known);
      if (covering.size() != 1) {
        std::string who;
        for (const KnownDifference* known : covering) who += fmt::format(" \"{}\"", known->what);
        ADD_FAILURE() << fmt::format(
            "seed {}, line {} of episode {}: {}\n{}  {:<6}: {}\n  kernel: {}\n", seed, i + 1,
            left.header, covering.empty() ? "no entry covers it" : "more than one entry:" + who,
            context(left, i), chip, left.lines[i].text, right.lines[i].text);
        return false;
      }
      ++tally.excused;
      ++tally.used[covering.front()];
      if (covering.front()->reach == Reach::RestOfEpisode) {
        tally.not_compared += count - i - 1;
        return true;
      }
    }
    EXPECT_EQ(left.lines.size(), right.lines.size()) << left.header;
    return true;
  }
};

TEST_P(Differential, the_same_accesses_give_the_same_results_as_with_kvms_chips) {
  const Effort effort = effort_for(GetParam());
  Tally tally;
  for (unsigned seed = effort.first_seed; seed < effort.first_seed + effort.seeds; ++seed) {
    const std::string kernel = log_of("kernel", seed, effort.operations);
    if (kernel.starts_with("no x2apic")) GTEST_SKIP() << "this host has no x2APIC";
    // With `split` the LAPIC is KVM's, so only the others' operations say anything.
    const bool lapic = std::string(GetParam()).ends_with("apic") && GetParam()[0] != 'i';
    for (const char* chip : {"user", "split"}) {
      if (lapic && std::string(chip) == "split") continue;
      if (!compare(chip, seed, log_of(chip, seed, effort.operations), kernel, tally)) break;
    }
  }
  std::string report = fmt::format(
      "{} on {}: {} lines equal, {} differ as the table has it, {} after such a one not compared\n",
      GetParam(), host_backend(), tally.equal, tally.excused, tally.not_compared);
  for (const KnownDifference& known : kKnownDifferences) {
    if (!concerns(known, GetParam())) continue;
    const auto used = tally.used.find(&known);
    report += fmt::format("  {:>5}  {}\n", used == tally.used.end() ? 0 : used->second, known.what);
  }
  fmt::print("{}", report);
  RecordProperty("differences", report);
  EXPECT_GT(tally.equal, (tally.compared + tally.not_compared) / 2)
      << "too little is equal to say anything\n"
      << report;
}

// The first table of docs/irqchips.md has these rows and no others.
TEST(KnownDifferences, are_the_rows_of_the_users_table) {
  std::istringstream lines(read_text_file(IRQCHIPS_DOC));
  std::vector<std::string> rows, expected;
  bool inside = false;
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("Where ours and KVM's differ, seen from inside")) inside = true;
    if (line.starts_with("Not in that test")) inside = false;
    if (inside && line.starts_with("| ") && !line.starts_with("| |"))
      rows.push_back(line.substr(2, line.find(" |", 2) - 2));
  }
  for (const KnownDifference& known : kKnownDifferences) expected.emplace_back(known.what);
  EXPECT_THAT(rows, testing::UnorderedElementsAreArray(expected));
}

INSTANTIATE_TEST_SUITE_P(Each, Differential,
                         testing::Values("lapic", "x2apic", "ioapic", "pic", "pit"),
                         [](const auto& chosen) { return std::string(chosen.param); });

}  // namespace
}  // namespace vmm
