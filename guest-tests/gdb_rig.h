// A debugger at real guests: Debian's gdb in batch mode, and a client of our own for what gdb never
// does.
#pragma once

#include <fmt/format.h>

#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "guest-tests/rsp_client.h"
#include "guest-tests/run_vmm.h"
#include "guest-tests/shell_output.h"

namespace vmm {

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
    std::string line =
        "timeout 50 gdb -nx -batch -ex 'set pagination off' -ex 'target remote " + socket() + "'";
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

  const TempFolder& folder() const { return folder_; }

 protected:
  const TempFolder folder_;
};

class Gdb : public KvmTest, protected GdbRig {};

}  // namespace vmm
