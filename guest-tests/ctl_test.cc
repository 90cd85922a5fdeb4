// vmm ctl at real guests, running and stopped.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <thread>

#include "guest-tests/gdb_rig.h"

namespace vmm {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;

class Ctl : public KvmTest {
 protected:
  std::string socket() const { return folder_.file("ctl.sock"); }
  std::unique_ptr<VmmProcess> start(const std::string& guest,
                                    std::vector<std::string> options = {}) {
    RunSetup setup;
    setup.arguments = {"run", "-q", "--ctl", "unix:" + socket()};
    setup.arguments.insert(setup.arguments.end(), options.begin(), options.end());
    setup.arguments.push_back(guest_path(guest));
    auto vmm = std::make_unique<VmmProcess>(setup);
    EXPECT_TRUE(vmm->wait_until([this] { return std::filesystem::exists(socket()); }));
    return vmm;
  }
  RunResult ask(std::vector<std::string> words) {
    words.insert(words.begin(), {"ctl", socket()});
    // The socket comes out of a lab.
    return run_vmm({.arguments = std::move(words), .here = true});
  }

  const TempFolder folder_;
};

TEST_F(Ctl, a_running_guest_is_looked_at_and_runs_on) {
  const auto vmm = start("vga-busy.elf", {"--vga", "none,trap"});
  struct stat status {};
  ASSERT_EQ(::stat(socket().c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600U);
  const RunResult regs = ask({"regs", "--json"});
  ASSERT_EQ(regs.code, 0) << regs.text();
  EXPECT_EQ(json::parse(regs.out)[0]["vcpu"], 0);
  EXPECT_THAT(ask({"explain"}).out, StartsWith("the guest was stopped because it was asked to"));
  // It has gone on: in time there are later exits than the last one was.
  const auto last_exit = [&] {
    const json exits = json::parse(ask({"exits", "--json", "1"}).out)[0]["exits"];
    return exits.empty() ? 0L : exits[0]["ns"].get<long>();
  };
  const long before = last_exit();
  EXPECT_TRUE(vmm->wait_until([&] { return last_exit() > before; }));
  const RunResult end = ask({"quit"});
  EXPECT_EQ(end.code, 0);
  EXPECT_EQ(end.out, "the run ends\n");
  EXPECT_EQ(vmm->finish().code, 0);
  EXPECT_FALSE(std::filesystem::exists(socket()));
}

TEST_F(Ctl, a_guest_that_is_paused_stays_so_until_it_is_resumed) {
  const auto vmm = start("vga-busy.elf", {"--vga", "none,trap", "--timeout", "2"});
  EXPECT_EQ(ask({"pause"}).out, "the guest is stopped\n");
  const std::string there = ask({"exits", "--json"}).out;
  // Longer than the time limit, which does not count this.
  std::this_thread::sleep_for(std::chrono::milliseconds(2500));
  EXPECT_EQ(ask({"exits", "--json"}).out, there);
  EXPECT_EQ(ask({"resume"}).out, "the guest runs\n");
  EXPECT_EQ(ask({"resume"}).out, "the guest runs already\n");
  EXPECT_EQ(vmm->finish().code, 124);
}

TEST_F(Ctl, exit_codes_tell_what_went_wrong) {
  const auto vmm = start("spin.elf", {"--smp", "2"});
  const RunResult unknown = ask({"explian"});
  EXPECT_EQ(unknown.code, 64);
  EXPECT_THAT(unknown.err, HasSubstr("did you mean explain?"));
  EXPECT_EQ(ask({"lapic", "7"}).code, 64);
  EXPECT_EQ(ask({"vcpu", "2", "regs"}).code, 64);
  EXPECT_EQ(ask({"msr", "0x99999"}).code, 1);
  EXPECT_EQ(ask({"a\nb"}).code, 64);
  EXPECT_THAT(ask({"vcpu", "1", "regs"}).out, HasSubstr("vCPU 1: real mode"));
  EXPECT_THAT(ask({"help"}).out, AllOf(HasSubstr("\npause "), HasSubstr("\nresume ")));
  const RunResult nobody =
      run_vmm({.arguments = {"ctl", folder_.file("nothing"), "regs"}, .here = true});
  EXPECT_EQ(nobody.code, 74);
  EXPECT_THAT(nobody.err, HasSubstr("ENOENT"));
  ask({"quit"});
  EXPECT_EQ(vmm->finish().code, 0);
}

TEST_F(Ctl, places_that_will_not_do_are_refused) {
  const auto refused = [](const std::string& place, const char* why) {
    const RunResult r = run_guest("exit-0.elf", {"--ctl", place});
    EXPECT_EQ(r.code, 64) << r.text();
    EXPECT_THAT(r.err, HasSubstr(why)) << r.text();
    // Of a lab's sockets only the path is known where they are made.
    if (test_lab().empty()) {
      EXPECT_THAT(r.err, HasSubstr("--ctl")) << r.text();
    }
  };
  refused("tcp:127.0.0.1:0", "where should it listen?");
  refused("unix:", "where should it listen?");
  refused("unix:" + folder_.write("a-file", "text"), "a file that is no socket is there");
  refused("unix:" + folder_.file(std::string(120, 'x')), "at most 107");
}

TEST_F(Ctl, beside_a_debugger_the_guest_is_looked_at_stopped_or_not) {
  const std::string gdb = folder_.file("gdb.sock");
  const auto vmm = start("spin.elf", {"--gdb", "unix:" + gdb});
  RspClient client;
  ASSERT_TRUE(vmm->wait_until([&] { return client.connect(gdb) && client.ask("qC") == "QC1"; }));
  EXPECT_THAT(ask({"explain"}).out, StartsWith("the guest has not run yet"));
  EXPECT_EQ(ask({"resume"}).code, 1);
  EXPECT_THAT(ask({"reset"}).err, HasSubstr("say monitor reset there"));
  client.send("vCont;c");
  EXPECT_TRUE(vmm->wait_until([&] {
    return ask({"explain"}).out.starts_with("the guest was stopped because it was asked to");
  }));
  EXPECT_EQ(ask({"pause"}).code, 1);
  // It runs on, and is the debugger's to stop.
  EXPECT_EQ(client.ask("m100000,1"), "E.the guest is running");
  client.send_bytes("\x03");
  EXPECT_THAT(client.next(), StartsWith("T02"));
  EXPECT_EQ(ask({"regs"}).code, 0);
  client.send("k");
  EXPECT_EQ(vmm->finish().code, 0);
}

// A look comes between the steps that a debugger asked for, and changes none of them.
TEST_F(Ctl, looks_disturb_no_breakpoint_and_no_range_of_steps) {
  const std::string gdb = folder_.file("gdb.sock");
  const auto vmm = start("count.elf", {"--gdb", "unix:" + gdb});
  RspClient client;
  ASSERT_TRUE(vmm->wait_until([&] { return client.connect(gdb) && client.ask("qC") == "QC1"; }));
  // From the loop to its end: 44000 steps or so.
  ASSERT_EQ(client.ask("vCont;s:1"), "T05thread:1;");
  client.send("vCont;r100002,100016:1");
  for (int i = 0; i < 5; ++i) EXPECT_EQ(ask({"regs"}).code, 0);
  client.send_bytes("\x03");
  EXPECT_THAT(client.next(), StartsWith("T02"));
  // RBX is one ahead of memory at most.
  if (only_steps_work()) {
    EXPECT_EQ(client.ask("Z1,10000d,1"), fmt::format("E.{}", kOnlySteps));
  } else {
    ASSERT_EQ(client.ask("Z1,10000d,1"), "OK");
  }
  const auto next_round = [&](int i) {
    if (!only_steps_work()) client.send("vCont;c");
    if (i % 10 == 0) {
      EXPECT_EQ(ask({"regs"}).code, 0);
    }
    if (!only_steps_work()) return client.next() == "T05thread:1;hwbreak:;";
    // From there on, and around.
    return client.ask("vCont;r10000d,100016:1") == "T05thread:1;" &&
           client.ask("vCont;r100002,10000d:1") == "T05thread:1;";
  };
  for (int i = 0; i < 100; ++i) {
    ASSERT_TRUE(next_round(i)) << i;
    const std::string counted = client.ask("p1");
    EXPECT_EQ(client.ask("m200000,8"), counted);
  }
  client.send("k");
  EXPECT_EQ(vmm->finish().code, 0);
}

}  // namespace
}  // namespace vmm
