// A debugger at real guests: Debian's gdb in batch mode, and a client of our own for what gdb never
// does.
#pragma once

#include <fmt/format.h>
#include <gmock/gmock.h>

#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "guest-tests/rsp_client.h"
#include "guest-tests/run_vmm.h"
#include "guest-tests/shell_output.h"

namespace vmm {

// QEMU's emulated SVM (docs/debugger.md).
inline bool only_steps_work() { return !test_lab().empty() && host_backend() == "svm"; }
inline constexpr std::string_view kOnlySteps =
    "this host's KVM delivers no breakpoints to a debugger: only single steps work here";

class GdbRig {
 public:
  std::string socket() const { return folder_.file("gdb.sock"); }
  std::unique_ptr<VmmProcess> start(const std::string& guest,
                                    std::vector<std::string> options = {}) {
    RunSetup setup;
    setup.arguments = {"run", "-q", "--gdb", "unix:" + socket()};
    setup.arguments.insert(setup.arguments.end(), options.begin(), options.end());
    setup.arguments.push_back(guest_path(guest));
    auto vmm = std::make_unique<VmmProcess>(setup);
    EXPECT_TRUE(vmm->wait_until([this] { return std::filesystem::exists(socket()); }));
    return vmm;
  }
  // What gdb prints for these commands after it has connected.
  std::string gdb(const std::string& guest, const std::vector<std::string>& commands) {
    std::string line = fmt::format(
        "timeout {} gdb -nx -batch -ex 'set pagination off' -ex 'set remotetimeout 60' -ex 'target "
        "remote {}'",
        test_lab().empty() ? 50 : 400, socket());
    for (const std::string& command : commands) line += fmt::format(" -ex '{}'", command);
    return output_of(line + fmt::format(" {} 2>&1", guest_path(guest)));
  }
  // The socket is there a moment before somebody listens.
  RspClient connect() {
    RspClient client;
    bool connected = client.connect(socket());
    for (int i = 0; i < 100 && !connected; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
      connected = client.connect(socket());
    }
    EXPECT_TRUE(connected);
    return client;
  }

  // Where only single steps work: that this packet is refused, with the reason to the client and to
  // the user.
  void expect_refusal(const std::string& guest, std::string_view packet,
                      std::vector<std::string> options = {}, std::string_view why = kOnlySteps) {
    const auto vmm = start(guest, std::move(options));
    RspClient client = connect();
    EXPECT_EQ(client.ask(packet), fmt::format("E.{}", why));
    EXPECT_THAT(client.ask("vCont;s:1"), testing::StartsWith("T05"));
    client.send("k");
    const RunResult r = vmm->finish();
    EXPECT_EQ(r.code, 0) << r.text();
    EXPECT_THAT(r.err, testing::HasSubstr(std::string(why)));
  }

  const TempFolder& folder() const { return folder_; }

 protected:
  const TempFolder folder_;
};

class Gdb : public KvmTest, protected GdbRig {};

}  // namespace vmm
