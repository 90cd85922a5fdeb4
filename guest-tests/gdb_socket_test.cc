// Where a debugger connects, and who else tries to.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>

#include "guest-tests/gdb_rig.h"

namespace vmm {
namespace {

using testing::HasSubstr;
using testing::Not;

class GdbSocket : public Gdb {
 protected:
  // Of what runs in a lab: its debugger answers.
  bool is_up(VmmProcess& vmm) {
    if (test_lab().empty()) return vmm.wait_until_running();
    return vmm.wait_until([this] {
      RspClient client;
      return client.connect(socket()) && client.ask("qC") == "QC1";
    });
  }
};

TEST_F(GdbSocket, only_one_client_is_served) {
  const auto vmm = start("exit-0.elf");
  RspClient client = connect();
  EXPECT_EQ(client.ask("qC"), "QC1");
  RspClient other = connect();
  other.send("qC");
  EXPECT_EQ(other.next(5), "(nothing)");
  EXPECT_EQ(client.ask("vCont;c"), "W00");
  EXPECT_EQ(vmm->finish().code, 0);
}

TEST_F(GdbSocket, the_socket_is_the_users_alone_and_a_stale_one_is_replaced) {
  for (int i = 0; i < 2; ++i) {
    const auto vmm = start("exit-0.elf");
    RspClient client;
    ASSERT_TRUE(vmm->wait_until([&] { return client.connect(socket()); }));
    struct stat status {};
    ASSERT_EQ(::stat(socket().c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777, 0600U);
    if (i == 0) {
      vmm->kill(SIGKILL);
      vmm->finish();
      continue;
    }
    client.send("vCont;c");
    EXPECT_EQ(client.next(), "W00");
    EXPECT_EQ(vmm->finish().code, 0);
  }
}

TEST_F(GdbSocket, the_socket_goes_with_the_run_unless_another_file_is_there) {
  const auto ends = [&](const std::vector<std::string>& options, int signal, int code) {
    const auto vmm = start("spin.elf", options);
    if (signal != 0) {
      EXPECT_TRUE(is_up(*vmm));
      vmm->kill(signal);
    }
    EXPECT_EQ(vmm->finish().code, code);
  };
  ends({"--gdb-nowait", "--timeout", "0.1"}, 0, 124);
  EXPECT_FALSE(std::filesystem::exists(socket()));
  ends({}, SIGINT, 130);
  EXPECT_FALSE(std::filesystem::exists(socket()));
  EXPECT_EQ(run_guest("spin.elf", {"--dry-run", "--gdb", "unix:" + socket()}).code, 0);
  EXPECT_FALSE(std::filesystem::exists(socket()));
  const auto vmm = start("spin.elf");
  EXPECT_TRUE(is_up(*vmm));
  std::filesystem::remove(socket());
  folder_.write("gdb.sock", "another");
  vmm->kill(SIGTERM);
  EXPECT_EQ(vmm->finish().code, 143);
  EXPECT_EQ(read_text_file(socket()), "another");
}

TEST_F(GdbSocket, places_that_will_not_do_are_refused_with_the_reason) {
  const auto refused = [](const std::string& place, const char* why, int code = 64) {
    const RunResult r = run_guest("exit-0.elf", {"--gdb", place});
    EXPECT_EQ(r.code, code) << r.text();
    EXPECT_THAT(r.err, HasSubstr(why)) << r.text();
    EXPECT_THAT(r.err, Not(HasSubstr("waiting for"))) << r.text();
  };
  refused("unix:" + folder_.file(std::string(120, 'x')), "at most 107");
  refused("unix:" + folder_.write("a-file", "text"), "a file that is no socket is there");
  EXPECT_TRUE(std::filesystem::exists(folder_.file("a-file")));
  refused("unix:" + folder_.file("no/such/folder"), "ENOENT");
  refused("tcp:0.0.0.0:0", "--gdb-allow-remote");
  refused("tcp:127.0.0.1:99999", "0 to 65535");
  refused("tcp:host.example:1", "no IPv4 address");
  refused("tcp:127.0.0.1", "a port is missing");
  refused("1234", "where should it listen?");
  // Not by a second vmm: while one runs in a lab, another one waits.
  const Fd other(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un name{};
  name.sun_family = AF_UNIX;
  socket().copy(name.sun_path, sizeof name.sun_path - 1);
  ASSERT_EQ(::bind(other.get(), reinterpret_cast<const sockaddr*>(&name), sizeof name), 0);
  ASSERT_EQ(::listen(other.get(), 1), 0);
  refused("unix:" + socket(), "another process listens there");
}

TEST_F(GdbSocket, garbage_never_hurts_the_guest) {
  const auto vmm = start("exit-1.elf");
  for (int i = 0; i < 50; ++i) {
    RspClient client;
    ASSERT_TRUE(vmm->wait_until([&] { return client.connect(socket()); }));
    std::string bytes;
    unsigned state = static_cast<unsigned>(i) + 1;
    for (int n = 0; n < 5000; ++n) {
      state = state * 1103515245 + 12345;
      bytes += static_cast<char>(state >> 16);
      // Neither killed nor let go by chance.
      if (bytes.back() == '$') bytes.back() = 'q';
    }
    client.send_bytes(bytes + "$m0,ffffffffffffffff#00$X0,ffffffff:#00$Z0,,#00$vCont;;;;#00");
  }
  RspClient last;
  ASSERT_TRUE(vmm->wait_until([&] { return last.connect(socket()) && last.ask("qC") == "QC1"; }));
  EXPECT_EQ(last.ask("vCont;c"), "W01");
  EXPECT_EQ(vmm->finish().code, 1);
}

}  // namespace
}  // namespace vmm
