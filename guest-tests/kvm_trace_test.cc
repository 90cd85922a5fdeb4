// --kvm-trace as users have it: KVM's own events, counted and in the trace.
#include <gmock/gmock.h>
#include <signal.h>

#include <algorithm>
#include <filesystem>
#include <sstream>

#include "guest-tests/nested.h"
#include "guest-tests/tracefs.h"

namespace vmm {

using nlohmann::json;
using testing::HasSubstr;

void expect_kvm_trace_of_hello(const RunResult& run, const json& outcome, unsigned processors,
                               const std::map<std::string, unsigned>& reasons) {
  EXPECT_EQ(run.code, 0) << run.text();
  const json& trace = outcome.at("kvm_trace");
  EXPECT_EQ(trace["source"], "tracefs") << trace;
  EXPECT_EQ(trace["lost"], 0) << trace;
  unsigned entries = 0;
  for (const auto& [reason, of_each] : reasons) {
    const auto row =
        std::find_if(trace["reasons"].begin(), trace["reasons"].end(),
                     [&name = reason](const json& one) { return one["reason"] == name; });
    ASSERT_NE(row, trace["reasons"].end()) << reason << trace;
    EXPECT_EQ((*row)["l2"], of_each * processors) << *row;
    EXPECT_EQ((*row)["l2_kept_by_kvm"], 0) << *row;
    EXPECT_EQ((*row)["given_to_l1"], of_each * processors) << *row;
    entries += of_each * processors;
  }
  EXPECT_EQ(trace["l2_entries"], entries);
}

void expect_timeline_of_hello(const std::string& text, unsigned processors,
                              const std::string& cpuid) {
  std::istringstream stream(text);
  std::int64_t last = 0;
  unsigned l2_exits = 0, to_l1 = 0;
  for (std::string line; std::getline(stream, line);) {
    const json event = json::parse(line);
    if (event["kind"] == "end") continue;
    EXPECT_THAT(event["kind"].get<std::string>(), testing::StartsWith("kvm-"));
    EXPECT_GE(event["ns"].get<std::int64_t>(), last) << line;
    last = event["ns"];
    if (event.value("reason", "") == cpuid) {
      l2_exits += event["kind"] == "kvm-l2-exit" ? 1 : 0;
      to_l1 += event["kind"] == "kvm-exit-to-l1" ? 1 : 0;
    }
  }
  EXPECT_EQ(l2_exits, processors);
  EXPECT_EQ(to_l1, processors);
}

namespace {

class KvmTraceRun : public KvmTest {
 protected:
  TempFolder folder_;
};

TEST_F(KvmTraceRun, says_whose_exits_there_were_and_leaves_nothing_behind) {
  if (test_lab().empty() && !see_tracefs()) GTEST_SKIP() << "no tracefs can be mounted here";
  const RunResult r =
      run_guest("smp.elf", {"--smp", "2", "--kvm-trace", "--trace", folder_.file("t.json"),
                            "--outcome-json", folder_.file("outcome")});
  EXPECT_EQ(r.code, 0) << r.text();
  const json trace = read_json_file(folder_.file("outcome"))["kvm_trace"];
  EXPECT_EQ(trace["source"], "tracefs") << trace << r.text();
  EXPECT_EQ(trace["problem"], nullptr);
  EXPECT_TRUE(json::accept(read_text_file(folder_.file("t.json"))));
  if (host_backend() == "pvm") {
    // Ring 0 runs in KVM's emulator.
    EXPECT_THAT(r.err, HasSubstr("vmm: --kvm-trace: KVM told of no exit: kvm_pvm emulates ring 0"));
    for (const auto& left : std::filesystem::directory_iterator("/sys/kernel/tracing/instances")) {
      const std::string name = left.path().filename();
      // Another test's may be at work.
      if (!name.starts_with("vmm-")) continue;
      EXPECT_EQ(::kill(std::stoi(name.substr(4)), 0), 0) << name;
    }
    return;
  }
  EXPECT_THAT(r.err, HasSubstr("vmm: exits from the guest to KVM, by reason (--kvm-trace):\n"));
  EXPECT_GT(trace["reasons"].size(), 0u) << trace;
  EXPECT_GT(trace["counters"]["exits"], 0) << trace;
  EXPECT_THAT(read_text_file(folder_.file("t.json")), HasSubstr("vCPU 1 by KVM"));
}

TEST_F(KvmTraceRun, a_filter_for_kvms_events_needs_the_option) {
  const RunResult r = run_guest(
      "minimal.elf", {"--trace", folder_.file("t"), "--trace-filter", "kind=kvm-exit|hlt,vcpu=0"});
  EXPECT_EQ(r.code, 64) << r.text();
  EXPECT_THAT(r.err, HasSubstr("--trace-filter asks for kvm-exit: KVM tells of that alone"));
}

TEST_F(KvmTraceRun, without_tracefs_the_run_goes_on_and_says_why) {
  if (!test_lab().empty()) GTEST_SKIP() << "a lab has tracefs";
  RunSetup setup{.arguments = {"run", guest_path("minimal.elf"), "--kvm-trace"}};
  setup.user = 65534;
  const RunResult r = run_vmm(setup);
  if (r.code == 77) GTEST_SKIP() << "no /dev/kvm for another user";
  EXPECT_EQ(r.code, 0) << r.text();
  EXPECT_THAT(r.err, HasSubstr("vmm: --kvm-trace: "));
  EXPECT_THAT(r.err, HasSubstr("or run as root; or --on svm"));
}

}  // namespace
}  // namespace vmm
