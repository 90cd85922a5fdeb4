// --trace and --trace-filter as users have them, and what the card says about lost processors.
#include <gmock/gmock.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <sstream>

#include "guest-tests/run_vmm.h"

namespace vmm {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using testing::Not;

std::vector<json> lines_of(const std::string& path) {
  std::vector<json> lines;
  std::istringstream text(read_text_file(path));
  for (std::string line; std::getline(text, line);) lines.push_back(json::parse(line));
  return lines;
}

std::map<std::string, unsigned> kinds_of(const std::vector<json>& lines) {
  std::map<std::string, unsigned> kinds;
  for (const json& line : lines) ++kinds[line["kind"]];
  return kinds;
}

class Timeline : public KvmTest {
 protected:
  RunResult traced(const std::string& guest, const std::string& path,
                   std::vector<std::string> more = {}) {
    std::vector<std::string> options{"--cpu-policy", "mask", "--trace", path};
    options.insert(options.end(), more.begin(), more.end());
    return run_guest(guest, options);
  }
  TempFolder folder_;
};

TEST_F(Timeline, an_ipi_is_followed_from_its_sender_to_its_eoi) {
  const RunResult r = traced("ipi.elf", folder_.file("t"), {"--smp", "3", "--irqchip", "user"});
  ASSERT_EQ(r.code, 0) << r.text();
  const auto lines = lines_of(folder_.file("t"));
  auto kinds = kinds_of(lines);
  for (const char* kind : {"in", "out", "mmio-write", "enter", "ipi", "accept", "inject", "eoi",
                           "init", "sipi", "nmi", "inject-nmi", "hlt", "wake", "interrupted"})
    EXPECT_GT(kinds[kind], 0u) << kind;
  EXPECT_EQ(lines.back()["kind"], "end");
  EXPECT_EQ(lines.back()["count"], lines.size() - 1);
  EXPECT_EQ(lines.back()["dropped"], 0);
  const auto sipi = std::ranges::find_if(lines, [](const json& e) { return e["kind"] == "sipi"; });
  EXPECT_EQ((*sipi)["vcpu"], 1);
  EXPECT_EQ((*sipi)["from_vcpu"], 0);
  EXPECT_EQ((*sipi)["vector"], "0x8");
  EXPECT_THAT((*sipi)["symbol"].get<std::string>(), HasSubstr("guest_main"));
}

TEST_F(Timeline, devices_and_timers_are_in_it) {
  const RunResult r = traced("pic-mode.elf", folder_.file("t"), {"--irqchip", "user"});
  ASSERT_EQ(r.code, 0) << r.text();
  auto kinds = kinds_of(lines_of(folder_.file("t")));
  for (const char* kind : {"pit-timer", "line", "inject"}) EXPECT_GT(kinds[kind], 0u) << kind;
  const RunResult lapic = traced("lapic-timer.elf", folder_.file("l"), {"--irqchip", "user"});
  ASSERT_EQ(lapic.code, 0) << lapic.text();
  EXPECT_GT(kinds_of(lines_of(folder_.file("l")))["lapic-timer"], 0u);
}

TEST_F(Timeline, chrome_s_form_is_valid_and_has_a_track_for_each_vcpu) {
  const std::string path = folder_.file("t.json");
  const RunResult r = traced("ipi.elf", path, {"--smp", "3", "--irqchip", "user"});
  ASSERT_EQ(r.code, 0) << r.text();
  const json all = read_json_file(path);
  ASSERT_TRUE(all.is_array());
  std::map<std::string, unsigned> names;
  std::map<std::string, unsigned> phases;
  for (const json& e : all) {
    ++phases[e["ph"]];
    if (e["name"] == "thread_name") ++names[e["args"]["name"]];
    if (e["ph"] == "X") {
      EXPECT_GE(e["dur"], 0.0) << e;
    }
  }
  for (const char* track : {"vCPU 0", "vCPU 1", "vCPU 2"}) EXPECT_EQ(names[track], 1u) << track;
  for (const char* phase : {"X", "i", "s", "f"}) EXPECT_GT(phases[phase], 0u) << phase;
}

TEST_F(Timeline, a_run_that_ends_otherwise_still_closes_its_file) {
  const std::string path = folder_.file("t.json");
  const RunResult r = traced("ap-lost.elf", path, {"--smp", "2", "--timeout", "1"});
  EXPECT_NE(r.code, 0);
  EXPECT_TRUE(read_json_file(path).is_array());
}

TEST_F(Timeline, a_killed_run_leaves_what_viewers_still_open) {
  if (!test_lab().empty()) GTEST_SKIP() << "in a lab the run is the lab's to kill";
  const std::string path = folder_.file("t.json");
  VmmProcess vmm(
      {.arguments = {"run", guest_path("vga-busy.elf"), "--vga", "none,trap", "--trace", path}});
  ASSERT_TRUE(vmm.wait_until([&] {
    std::error_code error;
    return std::filesystem::file_size(path, error) > 200'000 && !error;
  }));
  vmm.kill(SIGKILL);
  EXPECT_EQ(vmm.finish().signal, SIGKILL);
  // Only the last event may be cut off.
  std::string text = read_text_file(path);
  text.erase(text.rfind(",\n"));
  EXPECT_TRUE(json::accept(text + "]"));
}

TEST_F(Timeline, a_filter_takes_what_fits) {
  const RunResult r = traced("ipi.elf", folder_.file("t"),
                             {"--smp", "2", "--irqchip", "user", "--trace-filter",
                              "kind=start|ipi,vcpu=1", "--trace-filter", "port=f4"});
  ASSERT_EQ(r.code, 0) << r.text();
  const auto lines = lines_of(folder_.file("t"));
  auto kinds = kinds_of(lines);
  EXPECT_GT(kinds["sipi"], 0u);
  EXPECT_GT(kinds["ipi"], 0u);
  EXPECT_EQ(kinds["out"], 1u);
  EXPECT_EQ(kinds["in"] + kinds["accept"] + kinds["enter"], 0u);
}

TEST_F(Timeline, what_the_chip_cannot_show_is_said_once) {
  for (const char* chip : {"user", "split", "kernel"}) {
    const RunResult r = traced("smp.elf", folder_.file("t"),
                               {"--smp", "2", "--irqchip", chip, "--trace-filter", "kind=sipi|out",
                                "--trace-filter", "kind=sipi"});
    EXPECT_EQ(r.code, 0) << r.text();
    const std::string warning =
        std::string("asks for sipi: with --irqchip ") + chip + " that happens inside KVM";
    if (chip == std::string("user")) {
      EXPECT_THAT(r.err, Not(HasSubstr("--trace-filter")));
    } else {
      EXPECT_THAT(r.err, HasSubstr(warning));
    }
    EXPECT_GT(kinds_of(lines_of(folder_.file("t")))["out"], 0u);
  }
}

TEST_F(Timeline, bad_filters_are_refused_before_the_guest_runs) {
  const RunResult alone = run_guest("exit-0.elf", {"--trace-filter", "kind=in"});
  EXPECT_EQ(alone.code, 64) << alone.text();
  EXPECT_THAT(alone.err, HasSubstr("--trace-filter needs --trace"));
  const std::vector<std::pair<std::string, std::string>> wrong = {
      {"kind=sippi", "did you mean sipi?"},
      {"device=seral0", "did you mean serial0?"},
      {"port=zz", "not a hexadecimal number"},
      {"what", "KEY=VALUE"}};
  for (const auto& [filter, hint] : wrong) {
    const RunResult r = traced("exit-0.elf", folder_.file("t"), {"--trace-filter", filter});
    EXPECT_EQ(r.code, 64) << filter << r.text();
    EXPECT_THAT(r.err, HasSubstr(hint));
  }
}

TEST_F(Timeline, a_disk_that_is_full_is_told_at_the_end_and_in_the_outcome) {
  if (!test_lab().empty()) GTEST_SKIP() << "/dev/full is not a file that a lab could bring back";
  const RunResult r = traced("exit-0.elf", "/dev/full", {"--outcome-json", folder_.file("o.json")});
  EXPECT_EQ(r.code, 0) << r.text();
  EXPECT_THAT(r.err, HasSubstr("events were dropped, 0 written: ENOSPC"));
  const json trace = read_json_file(folder_.file("o.json"))["trace"];
  EXPECT_EQ(trace["events"], 0);
  EXPECT_GT(trace["dropped"], 0);
  EXPECT_EQ(trace["error"], "ENOSPC");
}

struct Lost {
  const char* guest;
  std::vector<std::string> options;
  const char* rule;
  const char* place;  // "started at ..."
};

class LostProcessors : public KvmTest, public testing::WithParamInterface<const char*> {};

TEST_P(LostProcessors, the_card_says_where_they_were_sent_and_what_lies_there) {
  const TempFolder folder;
  const std::string chip = GetParam();
  const std::string enough = test_lab().empty() ? "0.5" : "2";  // seconds
  const std::vector<Lost> all = {
      {"ap-lost.elf", {}, "processor-started-in-zeroes", "at 70000h, where only zeroes lie"},
      {"ap-lost-ffs.elf", {}, "processor-started-in-ffs", "at 70000h, where only ffs lie"},
      {"ap-lost-hole.elf",
       {"--vga", "none,trap"},
       "processor-started-in-hole",
       "at a1000h, which is the VGA window, not RAM"}};
  for (const Lost& lost : all) {
    for (const char* count : {"2", "3", "4"}) {
      // Each run takes 20 s in the slower lab.
      if (lost.guest != all.front().guest && count != std::string("2")) continue;
      const std::string outcome = folder.file("o.json");
      std::vector<std::string> options{"--smp",          count,  "--irqchip", chip,
                                       "--cpu-policy",   "mask", "--timeout", enough,
                                       "--outcome-json", outcome};
      options.insert(options.end(), lost.options.begin(), lost.options.end());
      const RunResult r = run_guest(lost.guest, options);
      EXPECT_FALSE(r.hung) << lost.guest;
      const json cause = read_json_file(outcome)["cause"];
      EXPECT_EQ(cause["rule"], lost.rule) << count << r.text();
      const auto text = cause["text"].get<std::string>();
      EXPECT_THAT(text, HasSubstr(lost.place)) << count;
      EXPECT_THAT(text, HasSubstr(chip == "user" ? "from vCPU 0 at " : "KVM's LAPIC")) << count;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, LostProcessors, testing::Values("user", "split", "kernel"),
                         [](const auto& test) { return std::string(test.param); });

}  // namespace
}  // namespace vmm
