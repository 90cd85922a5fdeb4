// What is between a kept lab and the host: sockets, results, signals.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>

#include <filesystem>

#include "guest-tests/rsp_client.h"
#include "guest-tests/run_vmm.h"

namespace vmm {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

class Lab : public KvmTest {
 protected:
  void SetUp() override {
    if (test_lab().empty()) GTEST_SKIP() << "not in a lab: VMM_TEST_LAB names none";
  }
  RunResult ctl(std::vector<std::string> words) const {
    words.insert(words.begin(), {"ctl", folder_.file("ctl.sock")});
    return run_vmm({.arguments = std::move(words), .here = true});
  }

  const TempFolder folder_;
};

TEST_F(Lab, a_debugger_and_a_control_client_come_in_by_their_sockets) {
  const std::string gdb = folder_.file("gdb.sock");
  const std::string control = folder_.file("ctl.sock");
  VmmProcess vmm({.arguments = {"run", "-q", "--gdb", "unix:" + gdb, "--ctl", "unix:" + control,
                                guest_path("spin.elf")}});
  RspClient client;
  ASSERT_TRUE(vmm.wait_until([&] { return client.connect(gdb) && client.ask("qC") == "QC1"; }));
  for (const std::string& socket : {gdb, control}) {
    struct stat status {};
    ASSERT_EQ(::stat(socket.c_str(), &status), 0) << socket;
    EXPECT_TRUE(S_ISSOCK(status.st_mode));
    EXPECT_EQ(status.st_mode & 0777, 0600U);
  }
  EXPECT_THAT(ctl({"explain"}).out, StartsWith("the guest has not run yet"));
  EXPECT_THAT(client.ask("vCont;s:1"), StartsWith("T05"));
  client.send("vCont;c");
  client.send_bytes("\x03");
  EXPECT_THAT(client.next(60), StartsWith("T02"));
  const RunResult regs = ctl({"regs", "--json"});
  EXPECT_EQ(regs.code, 0) << regs.text();
  EXPECT_EQ(nlohmann::json::parse(regs.out)[0]["vcpu"], 0);
  const RunResult quit = ctl({"quit"});
  EXPECT_EQ(quit.out, "the run ends\n") << quit.text();
  EXPECT_EQ(vmm.finish().code, 0);
  EXPECT_FALSE(std::filesystem::exists(gdb));
  EXPECT_FALSE(std::filesystem::exists(control));
}

TEST_F(Lab, a_core_comes_out_with_its_holes) {
  const std::string core = folder_.file("guest.core");
  const RunResult r = run_guest("triple-fault.elf", {"--mem", "256M", "--core", core});
  EXPECT_EQ(r.code, 80) << r.text();
  struct stat status {};
  ASSERT_EQ(::stat(core.c_str(), &status), 0);
  EXPECT_GT(status.st_size, 256L << 20);
  EXPECT_LT(status.st_blocks, 8192) << "4 MiB";
  EXPECT_EQ(status.st_mode & 0777, 0600U);
}

TEST_F(Lab, who_interrupts_a_command_gets_its_lab_back) {
  VmmProcess vmm({.arguments = {"run", guest_path("spin.elf")}});
  // It has started once it says what it runs.
  ASSERT_TRUE(vmm.wait_for_output("spin.elf"));
  vmm.kill(SIGINT);
  EXPECT_EQ(vmm.finish().code, 130);
  const RunResult next = run_guest("exit-with.elf", {"--append", "9"});
  EXPECT_EQ(next.code, 9) << next.text();
  EXPECT_THAT(next.err, testing::Not(HasSubstr("boots anew")));
}

TEST_F(Lab, what_is_missing_is_missed_before_anything_runs) {
  const RunResult r = run_guest("exit-0.elf", {"--initrd", folder_.file("no-such-file")});
  EXPECT_EQ(r.code, 65) << r.text();
  EXPECT_THAT(r.err, HasSubstr("no-such-file: ENOENT"));
  EXPECT_THAT(r.out, "");
}

}  // namespace
}  // namespace vmm
