#include "vmm/machine/control_session.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>

namespace vmm {
namespace {

using testing::ElementsAre;
using testing::EndsWith;
using testing::HasSubstr;
using testing::IsEmpty;
using Status = MonitorAnswer::Status;

TEST(ControlWords, an_answer_survives_whatever_its_text_is) {
  for (const std::string text : {"", "ok\n", "a\n\n b\n", "failed\nusage\n"})
    for (const Status status : {Status::Done, Status::Usage, Status::Failed}) {
      std::string sent = control::encode({status, text}) + "more";
      const auto answer = control::decode(sent);
      ASSERT_TRUE(answer && *answer) << text;
      EXPECT_EQ((*answer)->text, text);
      EXPECT_EQ((*answer)->status, status);
      EXPECT_EQ(sent, "more");
    }
}

TEST(ControlWords, half_an_answer_is_none_yet_and_something_else_is_an_error) {
  std::string half = " text\no";
  EXPECT_EQ((*control::decode(half)).has_value(), false);
  std::string other = "HTTP/1.1 400 Bad Request\r\n";
  const auto answer = control::decode(other);
  ASSERT_FALSE(answer);
  EXPECT_THAT(answer.error().text(), HasSubstr("HTTP/1.1 400"));
}

// A session on a socket in a folder of its own.
class ControlSessionTest : public testing::Test {
 protected:
  ControlSessionTest() {
    std::signal(SIGPIPE, SIG_IGN);
    char name[] = "/tmp/vmm-control-XXXXXX";
    folder_ = ::mkdtemp(name);
    auto session = ControlSession::open({.kind = DebugAddress::Kind::Unix, .path = path()},
                                        [this](std::string_view line) -> Result<MonitorAnswer> {
                                          lines_.emplace_back(line);
                                          return MonitorAnswer{Status::Done, answer_};
                                        });
    EXPECT_TRUE(session);
    session_ = std::move(*session);
  }
  ~ControlSessionTest() override { std::filesystem::remove_all(folder_); }
  std::string path() const { return folder_ + "/ctl"; }
  Fd connect() const {
    Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un name{};
    name.sun_family = AF_UNIX;
    path().copy(name.sun_path, sizeof name.sun_path - 1);
    EXPECT_EQ(::connect(fd.get(), reinterpret_cast<const sockaddr*>(&name), sizeof name), 0);
    return fd;
  }
  static void say(const Fd& fd, std::string_view text) {
    (void)!::send(fd.get(), text.data(), text.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  }
  // What is there to be read; "(closed)" behind it once the other side has hung up.
  static std::string hear(const Fd& fd) {
    std::string text;
    char bytes[65536];
    while (true) {
      const ssize_t n = ::recv(fd.get(), bytes, sizeof bytes, MSG_DONTWAIT);
      if (n < 0 && errno == EAGAIN) return text;
      if (n <= 0) return text + "(closed)";
      text.append(bytes, static_cast<std::size_t>(n));
    }
  }
  // Turns of the event loop until nothing happens any more.
  void turn(int most = 100) {
    for (int i = 0; i < most; ++i) {
      std::vector<pollfd> fds;
      session_->add_poll(fds);
      if (::poll(fds.data(), fds.size(), 0) <= 0) return;
      ASSERT_TRUE(session_->serve(fds));
    }
  }

  std::string folder_;
  std::string answer_ = "text\n";
  std::vector<std::string> lines_;
  std::unique_ptr<ControlSession> session_;
};

TEST_F(ControlSessionTest, lines_are_carried_out_in_their_order) {
  struct stat status {};
  ASSERT_EQ(::stat(path().c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600U);
  const Fd client = connect();
  turn();
  say(client, "one\r\ntwo\nthr");
  turn();
  EXPECT_THAT(lines_, ElementsAre("one", "two"));
  EXPECT_EQ(hear(client), " text\nok\n text\nok\n");
  say(client, "ee\n");
  turn();
  EXPECT_THAT(lines_, ElementsAre("one", "two", "three"));
}

TEST_F(ControlSessionTest, a_client_that_sends_no_more_is_answered_before_it_is_left) {
  const Fd client = connect();
  turn();
  say(client, "one\ntwo");
  ::shutdown(client.get(), SHUT_WR);
  turn();
  EXPECT_THAT(lines_, ElementsAre("one", "two"));
  EXPECT_EQ(hear(client), " text\nok\n text\nok\n(closed)");
}

TEST_F(ControlSessionTest, a_line_without_end_is_refused) {
  const Fd client = connect();
  turn();
  say(client, std::string(3 * control::kMaxLine, 'x'));
  turn();
  EXPECT_THAT(lines_, IsEmpty());
  EXPECT_EQ(hear(client), " a line has at most 4096 bytes\nusage\n(closed)");
}

TEST_F(ControlSessionTest, one_who_takes_no_answer_is_not_heard_and_holds_nobody_up) {
  answer_.assign(4 << 20, 'x');
  const Fd greedy = connect();
  turn();
  for (int i = 0; i < 100; ++i) say(greedy, "again\n");
  turn();
  EXPECT_EQ(lines_.size(), 1U);
  answer_ = "short\n";
  const Fd other = connect();
  turn();
  say(other, "me\n");
  turn();
  EXPECT_EQ(hear(other), " short\nok\n");
}

TEST_F(ControlSessionTest, too_many_are_turned_away_with_a_word) {
  std::vector<Fd> clients;
  for (std::size_t i = 0; i < control::kMaxClients; ++i) {
    clients.push_back(connect());
    turn();
  }
  const Fd more = connect();
  turn();
  EXPECT_THAT(hear(more), EndsWith("failed\n(closed)"));
  clients.pop_back();
  turn();
  const Fd next = connect();
  turn();
  say(next, "x\n");
  turn();
  EXPECT_EQ(hear(next), " text\nok\n");
}

TEST_F(ControlSessionTest, clients_that_vanish_at_any_byte_hurt_nobody) {
  const std::string text = "one\ntwo\n";
  for (std::size_t cut = 0; cut <= text.size(); ++cut) {
    {
      const Fd client = connect();
      say(client, text.substr(0, cut));
    }
    turn();
  }
  const Fd client = connect();
  turn();
  say(client, "last\n");
  turn();
  EXPECT_EQ(hear(client), " text\nok\n");
}

}  // namespace
}  // namespace vmm
