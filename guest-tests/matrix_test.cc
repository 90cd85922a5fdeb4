// vmm matrix on real guests: the right word for every ending, and no cell lost whatever happens to
// the runner.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <thread>

#include "guest-tests/run_vmm.h"

namespace vmm {
namespace {

using testing::HasSubstr;
using testing::Not;

class Matrix : public KvmTest {
 protected:
  void SetUp() override {
    KvmTest::SetUp();
    if (!test_lab().empty()) GTEST_SKIP() << "a matrix boots labs of its own";
  }

  // A matrix over guests of ours, in a file of its own.
  std::string matrix(std::string text) {
    for (std::size_t at = 0; (at = text.find("GUESTS", at)) != text.npos;)
      text.replace(at, 6, std::filesystem::path(guest_path("hello.elf")).parent_path().string());
    return folder_.write("m.toml", text);
  }

  RunResult run(const std::string& file, const std::string& out,
                std::vector<std::string> more = {}) {
    std::vector<std::string> words = {"matrix", "run", file, "--out", folder_.file(out)};
    words.insert(words.end(), more.begin(), more.end());
    return run_vmm({.arguments = words, .more_time = std::chrono::seconds(240)});
  }

  // The word of each cell, by the value of an axis, out of results.json.
  std::map<std::string, std::string> verdicts(const std::string& out, const std::string& axis) {
    std::map<std::string, std::string> result;
    const nlohmann::json document = read_json_file(folder_.file(out) + "/results.json");
    for (const auto& cell : document.at("cells"))
      for (const auto& value : cell.at("axes"))
        if (value.at("axis") == axis) result[value.at("value")] = cell.at("verdict");
    return result;
  }

  TempFolder folder_;
};

const std::map<std::string, std::string> kEndings = {
    {"power-off", "PASS"},
    {"no-output", "PASS"},
    {"says-ready", "PASS"},
    {"tap", "PASS"},
    {"ktap", "PASS"},
    {"unit-tests", "PASS"},
    {"escape-sequences", "PASS"},
    {"every-byte", "PASS"},
    {"long-line", "PASS"},
    {"on-the-screen", "PASS"},
    {"prompt-without-end", "PASS"},
    {"bad-words-as-a-part", "PASS"},
    {"code-1", "FAIL"},
    {"code-7", "FAIL"},
    {"code-63", "FAIL"},
    {"code-80", "FAIL"},
    {"code-124", "FAIL"},
    {"stops-half-way", "FAIL"},
    {"says-bug", "FAIL"},
    {"bug-on-the-screen", "FAIL"},
    {"tap-failure", "FAIL"},
    {"tap-too-few", "FAIL"},
    {"tap-bails-out", "FAIL"},
    {"tap-says-nothing", "FAIL"},
    {"ktap-failure", "FAIL"},
    {"unit-test-failure", "FAIL"},
    {"resets", "FAIL"},
    {"reboots-for-ever", "FAIL"},
    {"undefined-instruction", "CRASH"},
    {"divides-by-zero", "CRASH"},
    {"jumps-into-the-hole", "CRASH"},
    {"jumps-out-of-its-tables", "CRASH"},
    {"loses-its-stack", "CRASH"},
    {"halts-with-interrupts-off", "CRASH"},
    {"dies-after-success", "CRASH"},
    {"loops", "TIMEOUT"},
    {"sleeps", "TIMEOUT"},
    {"falls-silent", "TIMEOUT"},
    {"repeats-itself", "TIMEOUT"},
    {"writes-without-an-end-of-line", "TIMEOUT"},
    {"floods", "TIMEOUT"},
    {"never-boots", "TIMEOUT"},
    {"boots-and-hangs", "TIMEOUT"},
    {"hangs-after-success", "TIMEOUT"},
};

// guest-tests/endings.toml with the guests of this build, on `on`.
std::string endings_text(const std::string& on) {
  std::string text = read_text_file(SOURCE_DIR "/guest-tests/endings.toml");
  const auto put = [&](const std::string& from, const std::string& to) {
    const std::size_t at = text.find(from);
    ASSERT_NE(at, text.npos);
    text.replace(at, from.size(), to);
  };
  put("../build/guests", "GUESTS");
  put("[guest.endings.axes]\n", "[guest.endings.axes]\non = \"" + on + "\"\n");
  return text;
}

TEST_F(Matrix, every_ending_gets_its_word) {
  const RunResult r = run(matrix(endings_text("host")), "run", {"-q"});
  EXPECT_EQ(r.code, 1) << r.text();
  EXPECT_EQ(verdicts("run", "do"), kEndings) << r.text();
  EXPECT_THAT(r.out, HasSubstr("44 cells: 12 PASS"));
  // Nothing that the guests print reaches a terminal as it is.
  EXPECT_THAT(r.out, Not(HasSubstr("\x1b")));
}

TEST_F(Matrix, DISABLED_every_ending_gets_its_word_in_the_svm_lab) {
  const RunResult r = run(matrix(endings_text("svm")), "run", {"-q"});
  EXPECT_EQ(verdicts("run", "do"), kEndings) << r.text();
}

// Bochs needs a minute for a second of a guest that loops.
TEST_F(Matrix, DISABLED_endings_get_their_words_in_the_vmx_lab) {
  std::vector<std::string> filters = {"-q"};
  std::map<std::string, std::string> expected;
  for (const auto& [name, verdict] : kEndings) {
    if (verdict == "TIMEOUT") continue;
    expected[name] = verdict;
    filters.insert(filters.end(), {"--only", "do=" + name});
  }
  const RunResult r = run(matrix(endings_text("vmx")), "run", filters);
  EXPECT_EQ(verdicts("run", "do"), expected) << r.text();
}

// Cells that take some ten milliseconds each, with three verdicts among them.
std::string many_cells(int count) {
  std::string text =
      "[axes]\nmem = \"16M\"\n[guest.g]\nkernel = \"GUESTS/exit-with.elf\"\n[guest.g.args]\nn = [0";
  for (int i = 1; i < count; ++i) text += fmt::format(", {}", i);
  return text +
         "]\n[[expect]]\nn = \"1*\"\nexpect = \"xfail\"\n[[expect]]\nn = \"2*\"\nexit-code = 2\n";
}

TEST_F(Matrix, a_killed_run_goes_on_and_loses_no_cell) {
  const std::string file = matrix(many_cells(30));
  const RunResult unhindered = run(file, "whole", {"-q", "-j2"});
  ASSERT_EQ(unhindered.code, 1);
  // Moments of a run, however fast this machine is.
  const auto moments = static_cast<unsigned>(unhindered.seconds * 1000) + 1;
  const auto whole = verdicts("whole", "n");
  ASSERT_EQ(whole.size(), 30u);
  std::mt19937 random(1);
  int killed = 0;
  for (int round = 0; round < 20; ++round) {
    const std::string out = fmt::format("killed-{}", round);
    {
      VmmProcess process(
          {.arguments = {"matrix", "run", file, "--out", folder_.file(out), "-q", "-j2"}});
      std::this_thread::sleep_for(std::chrono::milliseconds(random() % moments));
      process.kill(SIGKILL);
      killed += process.finish().signal == SIGKILL ? 1 : 0;
    }
    // Killed before there was a journal: there is nothing to go on with.
    const bool begun = std::filesystem::exists(folder_.file(out) + "/journal.jsonl");
    const RunResult r =
        run(file, out,
            begun ? std::vector<std::string>{"-q", "--resume"} : std::vector<std::string>{"-q"});
    EXPECT_EQ(r.code, 1) << r.text();
    EXPECT_EQ(verdicts(out, "n"), whole);
  }
  EXPECT_GT(killed, 5) << "most runs should have been cut short";
}

TEST_F(Matrix, a_signal_stops_it_with_its_code_and_a_hint) {
  const std::string file =
      matrix("[guest.spin]\nkernel = \"GUESTS/spin.elf\"\n[guest.spin.args]\nn = [1, 2, 3]\n");
  VmmProcess process({.arguments = {"matrix", "run", file, "--out", folder_.file("run"), "-j2"}});
  ASSERT_TRUE(
      process.wait_until([&] { return std::filesystem::exists(folder_.file("run") + "/cells"); }));
  process.kill(SIGINT);
  const RunResult r = process.finish();
  EXPECT_EQ(r.code, 130) << r.text();
  EXPECT_THAT(r.err, HasSubstr("--resume"));
  EXPECT_TRUE(verdicts("run", "n").empty()) << "what was stopped has no verdict";
}

TEST_F(Matrix, many_cells_at_once_and_none_is_lost) {
  const RunResult r = run(matrix(many_cells(200)), "run", {"-q", "-j2"});
  EXPECT_EQ(verdicts("run", "n").size(), 200u) << r.text();
}

TEST_F(Matrix, DISABLED_a_thousand_cells_and_none_is_lost) {
  const RunResult r = run(matrix(many_cells(1000)), "run", {"-q", "-j2"});
  EXPECT_EQ(verdicts("run", "n").size(), 1000u) << r.text();
}

TEST_F(Matrix, what_the_host_cannot_give_is_skipped_with_its_bits) {
  const std::string file = matrix(
      "[guest.hello]\nkernel = \"GUESTS/hello.elf\"\naxes = { cpu-model = "
      "\"skylake-server,+amx-tile,+svm\" }\n");
  const RunResult r = run(file, "run");
  EXPECT_EQ(r.code, 77) << r.text();
  EXPECT_THAT(r.out, HasSubstr("this host cannot give"));
}

TEST_F(Matrix, a_failure_is_tried_again_as_often_as_the_matrix_says) {
  const std::string file = matrix("[guest.g]\nkernel = \"GUESTS/exit-1.elf\"\nretries = 2\n");
  const RunResult r = run(file, "run");
  EXPECT_EQ(r.code, 1) << r.text();
  const nlohmann::json document = read_json_file(folder_.file("run") + "/results.json");
  const auto& cell = document.at("cells").at(0);
  EXPECT_EQ(cell.at("attempts").size(), 3u);
  EXPECT_EQ(cell.at("verdict"), "FAIL");
}

TEST_F(Matrix, a_cell_that_passes_by_chance_is_flaky) {
  const std::string file =
      matrix("[guest.g]\nkernel = \"GUESTS/endings.elf\"\nappend = \"do=passes-by-chance\"\n");
  const RunResult r = run(file, "run", {"--repeat", "30"});
  EXPECT_EQ(r.code, 0) << r.text();
  EXPECT_THAT(r.out, HasSubstr("1 FLAKY"));
  EXPECT_EQ(run(file, "strict", {"--repeat", "30", "--fail-on-flaky"}).code, 1);
}

TEST_F(Matrix, what_cannot_be_run_is_said_before_anything_runs) {
  const RunResult missing = run(matrix("[guest.g]\nkernel = \"nowhere.elf\"\n"), "run");
  EXPECT_EQ(missing.code, 64);
  EXPECT_THAT(missing.err, HasSubstr("nowhere.elf"));
  EXPECT_FALSE(std::filesystem::exists(folder_.file("run")));

  const std::string file = matrix("[guest.g]\nkernel = \"GUESTS/exit-0.elf\"\n");
  ASSERT_EQ(run(file, "run").code, 0);
  const RunResult twice = run(file, "run");
  EXPECT_EQ(twice.code, 64);
  EXPECT_THAT(twice.err, HasSubstr("--resume"));
  const RunResult other =
      run(matrix("[guest.g]\nkernel = \"GUESTS/exit-1.elf\"\n"), "run", {"--resume"});
  EXPECT_EQ(other.code, 64);
  EXPECT_THAT(other.err, HasSubstr("another matrix"));
}

TEST_F(Matrix, shards_make_one_run_together) {
  const std::string file = matrix(many_cells(9));
  for (const int shard : {1, 2, 3})
    run(file, fmt::format("s{}", shard), {"-q", "--shard", fmt::format("{}/3", shard)});
  const RunResult r =
      run_vmm({.arguments = {"matrix", "merge", folder_.file("all"), folder_.file("s1"),
                             folder_.file("s2"), folder_.file("s3")}});
  EXPECT_EQ(r.code, 1) << r.text();
  EXPECT_EQ(verdicts("all", "n").size(), 9u);
  const RunResult same =
      run_vmm({.arguments = {"matrix", "diff", folder_.file("all"), folder_.file("all")}});
  EXPECT_EQ(same.code, 0) << same.text();
  const RunResult half = run_vmm({.arguments = {"matrix", "merge", folder_.file("some"),
                                                folder_.file("s1"), folder_.file("s3")}});
  EXPECT_THAT(half.err, HasSubstr("2/3")) << "a missing shard is named";
}

// tools/slurm-here brings up a cluster for these.
TEST_F(Matrix, DISABLED_slurm_runs_the_shards_and_one_report_comes_of_them) {
  const std::string file = matrix(endings_text("host"));
  const RunResult r = run(file, "run", {"-q", "--engine", "slurm", "--shards", "3"});
  EXPECT_EQ(r.code, 1) << r.text();
  EXPECT_EQ(verdicts("run", "do"), kEndings) << r.text();
}

TEST_F(Matrix, DISABLED_slurm_loses_a_task_and_resume_runs_what_is_missing) {
  const std::string file = matrix(
      "[guest.idle]\nkernel = \"GUESTS/idle.elf\"\ntimeout = 3\noutcome = \"timeout\"\n"
      "[guest.idle.args]\nn = [1, 2, 3, 4, 5, 6]\n");
  VmmProcess process({.arguments = {"matrix", "run", file, "--out", folder_.file("run"), "-q",
                                    "--engine", "slurm", "--shards", "2"}});
  // The second shard has its first verdict, and is cut off at its second cell.
  const std::string journal = folder_.file("run") + "/2/journal.jsonl";
  ASSERT_TRUE(process.wait_until([&] {
    return std::filesystem::exists(journal) &&
           read_text_file(journal).find("\"cell\":") != std::string::npos;
  }));
  ASSERT_EQ(std::system("scancel $(squeue -h -r -o %i | grep _2)"), 0);  // NOLINT(cert-env33-c)
  const RunResult cut = process.finish();
  EXPECT_EQ(cut.code, 75) << cut.text();
  EXPECT_THAT(cut.err, HasSubstr("not run: idle n="));
  const RunResult r = run(file, "run", {"-q", "--engine", "slurm", "--shards", "2", "--resume"});
  EXPECT_EQ(r.code, 0) << r.text();
  EXPECT_EQ(verdicts("run", "n").size(), 6u);
}

TEST_F(Matrix, without_slurm_the_package_is_named) {
  const std::string file = matrix("[guest.g]\nkernel = \"GUESTS/exit-0.elf\"\n");
  const RunResult r = run_vmm(
      {.arguments = {"matrix", "run", file, "--out", folder_.file("run"), "--engine", "slurm"},
       .environment = {{"PATH", "/nowhere"}}});
  EXPECT_EQ(r.code, 77) << r.text();
  EXPECT_THAT(r.err, HasSubstr("slurm-client"));
}

TEST_F(Matrix, failed_cells_run_again_alone) {
  const std::string file = matrix(many_cells(9));
  run(file, "first", {"-q"});
  const RunResult r = run_vmm({.arguments = {"matrix", "rerun", file, folder_.file("first"),
                                             "--failed", "--out", folder_.file("again"), "-q"}});
  EXPECT_EQ(r.code, 1) << r.text();
  const auto again = verdicts("again", "n");
  for (const auto& [n, verdict] : verdicts("first", "n"))
    EXPECT_EQ(again.contains(n), verdict == "FAIL") << n;
}

}  // namespace
}  // namespace vmm
