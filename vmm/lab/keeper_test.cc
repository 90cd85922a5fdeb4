// A keeper in a process of its own, as `vmm lab start` leaves it behind; its labs are agents in
// processes, without a machine.
#include "vmm/lab/keeper.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <sstream>

#include "vmm/lab/wire_fake.h"

namespace vmm {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::StartsWith;

constexpr const char* kName = "kept";

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define VMM_UNDER_TSAN 1
#endif
#endif
#ifdef VMM_UNDER_TSAN
constexpr bool kThreadSanitizer = true;
#else
constexpr bool kThreadSanitizer = false;
#endif

class AgentMachine final : public Emulator {
 public:
  explicit AgentMachine(const std::string& root) : agent_(wire_.there, root) {
    wire_.there.reset();
  }
  // An agent that is left takes its command along, as a machine that is switched off.
  ~AgentMachine() override {
    wire_.here.reset();
    ::kill(agent_.pid(), SIGCONT);
    agent_.wait();
  }
  const Fd& channel() const override { return wire_.here; }
  std::optional<std::string> death() override { return std::nullopt; }
  void pause() override {}
  void resume() override {}
  pid_t pid() const { return agent_.pid(); }

 private:
  SocketPair wire_;
  AgentProcess agent_;
};

// Its commands never end, whatever they are sent.
class StuckMachine final : public Emulator {
 public:
  const Fd& channel() const override { return wire_.here; }
  std::optional<std::string> death() override { return std::nullopt; }
  void pause() override {}
  void resume() override {}

 private:
  static void answer(ScriptedPeer& peer, FrameKind kind, const std::string& payload) {
    const auto says = [&](const char* word) { return payload.find(word) != payload.npos; };
    if (kind == FrameKind::Greeting)
      peer.send(FrameKind::Greeting, 0,
                R"({"protocol":1,"release":"6.1","backend":"svm",)" + payload.substr(1));
    else if (kind != FrameKind::Control || says("\"kill\""))
      return;
    else if (says("\"ping\""))
      peer.control(R"({"is":"pong"})");
    else
      peer.control(says("\"start\"") ? R"({"is":"started"})" : R"({"is":"done"})");
  }

  SocketPair wire_;
  ScriptedPeer peer_{std::move(wire_.there),
                     [](ScriptedPeer& peer, FrameKind kind, std::uint32_t,
                        const std::string& payload) { answer(peer, kind, payload); }};
};

template <typename Condition>
bool wait_until(Condition condition) {
  for (int step = 0; step < 4000; ++step) {
    if (condition()) return true;
    std::this_thread::sleep_for(milliseconds(5));
  }
  return false;
}

class KeeperTest : public testing::Test {
 protected:
  void SetUp() override {
    // Its runtime was seen to spin for ever in the fork() of a process that has had threads.
    if (kThreadSanitizer) GTEST_SKIP() << "not under ThreadSanitizer: a keeper is forked";
    ::setenv("XDG_RUNTIME_DIR", folder_.path().c_str(), 1);
  }
  void TearDown() override {
    if (kThreadSanitizer) return;
    for (const RunningLab& lab : running_labs()) (void)stop_lab(lab.name);
    ::unsetenv("XDG_RUNTIME_DIR");
  }

  // The diary is a file: it is the keeper's process that writes it.
  void note(const std::string& line) const {
    std::ofstream(folder_ / "diary", std::ios::app) << line << '\n';
  }
  std::vector<std::string> diary() const {
    std::vector<std::string> lines;
    std::istringstream text(read_text(folder_ / "diary"));
    for (std::string line; std::getline(text, line);) lines.push_back(line);
    return lines;
  }

  KeeperServer::Boot agents() {
    return [this](int cancel, int stop) -> Result<std::unique_ptr<Lab>> {
      auto machine = std::make_unique<AgentMachine>(root_.path());
      note("boot " + std::to_string(machine->pid()));
      return Lab::join(LabBackend::Svm, std::move(machine),
                       {.patience = seconds(20), .cancel = cancel, .stop = stop});
    };
  }
  // Says nothing until it is given up.
  KeeperServer::Boot silence() {
    return [this](int cancel, int stop) -> Result<std::unique_ptr<Lab>> {
      auto machine = std::make_unique<AgentMachine>(root_.path());
      ::kill(machine->pid(), SIGSTOP);
      note("silent");
      return Lab::join(LabBackend::Svm, std::move(machine),
                       {.patience = seconds(600), .cancel = cancel, .stop = stop});
    };
  }

  static std::string outcome(const Result<std::string>& started) {
    return started ? "up: " + *started : "error: " + started.error().text();
  }

  static LabCommand shell(const std::string& script) {
    return {.argv = {"/bin/sh", "-c", script},
            .directory = "/",
            .environment = {"PATH=/usr/bin:/bin"},
            .paths = {}};
  }
  // What a command wrote and how it ended.
  std::string run(const std::string& script, int cancel = -1) {
    const std::string path = folder_ / ("out" + std::to_string(++outputs_));
    const auto out = Fd::open(path, O_RDWR | O_CREAT | O_TRUNC);
    const auto ended = execute_in_lab(kName, shell(script),
                                      {.in = -1, .out = out->get(), .err = out->get()}, cancel);
    std::string text = read_text(path);
    if (!ended) return text + "error: " + ended.error().text();
    return text + (ended->code ? "code " + std::to_string(*ended->code)
                               : "signal " + std::to_string(*ended->signal));
  }

  static std::string state() {
    const auto labs = running_labs();
    return labs.size() == 1 ? labs[0].state : std::to_string(labs.size()) + " labs";
  }

  TemporaryFolder folder_;
  TemporaryFolder root_;
  std::atomic<int> outputs_ = 0;
};

TEST_F(KeeperTest, one_lab_serves_many_commands) {
  EXPECT_THAT(outcome(start_lab(kName, agents(), -1)), StartsWith("up: Linux "));
  for (int i = 0; i < 20; ++i)
    EXPECT_EQ(run("echo " + std::to_string(i) + "; exit 7"), std::to_string(i) + "\ncode 7");
  const auto labs = running_labs();
  ASSERT_EQ(labs.size(), 1u);
  EXPECT_EQ(labs[0].name, kName);
  EXPECT_EQ(labs[0].state, "idle");
  EXPECT_THAT(labs[0].description, HasSubstr("kvm_amd in QEMU"));
  EXPECT_NE(labs[0].pid, ::getpid());
  EXPECT_EQ(diary().size(), 1u);
  EXPECT_THAT(outcome(start_lab(kName, agents(), -1)), HasSubstr("a lab 'kept' is up already"));
  EXPECT_TRUE(stop_lab(kName));
  EXPECT_THAT(running_labs(), IsEmpty());
  EXPECT_EQ(stop_lab(kName).error().kind(), ErrorKind::NoLab);
  EXPECT_THAT(run("true"), HasSubstr("no lab 'kept' is up"));
}

TEST_F(KeeperTest, a_busy_lab_says_so_and_is_stopped_at_once) {
  ASSERT_TRUE(start_lab(kName, agents(), -1));
  const std::string marker = folder_ / "marker";
  std::string running, waiting;
  std::thread first([&] { running = run("echo $$ > " + marker + "; sleep 1000"); });
  EXPECT_TRUE(wait_until([&] { return read_text(marker).ends_with('\n'); }));
  EXPECT_EQ(state(), "busy");
  std::thread second([&] { waiting = run("echo never"); });
  // It was heard when a later client is answered, or comes too late and hears of no lab.
  EXPECT_TRUE(wait_until([&] { return outputs_ == 2; }));
  EXPECT_EQ(state(), "busy");
  EXPECT_TRUE(stop_lab(kName));
  first.join();
  second.join();
  EXPECT_EQ(running, "error: the lab was stopped");
  EXPECT_THAT(waiting, testing::AnyOf("error: the lab was stopped", "error: no lab 'kept' is up",
                                      "error: the lab's keeper has ended"));
  EXPECT_THAT(running_labs(), IsEmpty());
  const pid_t command = std::stoi(read_text(marker));
  EXPECT_TRUE(wait_until([&] { return ::kill(command, 0) != 0; }));
}

TEST_F(KeeperTest, a_name_is_free_once_its_lab_is_stopped) {
  for (int i = 0; i < 20; ++i) {
    ASSERT_THAT(outcome(start_lab(kName, agents(), -1)), StartsWith("up: ")) << i;
    ASSERT_EQ(run("exit 3"), "code 3") << i;
    ASSERT_TRUE(stop_lab(kName)) << i;
  }
}

TEST_F(KeeperTest, of_many_that_take_a_name_one_gets_it) {
  constexpr int kMany = 6;
  for (int round = 0; round < 5; ++round) {
    std::vector<pid_t> starters;
    for (int i = 0; i < kMany; ++i) {
      const pid_t pid = ::fork();
      if (pid == 0) ::_exit(start_lab(kName, agents(), -1) ? 0 : 1);
      starters.push_back(pid);
    }
    int up = 0;
    for (const pid_t pid : starters) {
      int status = -1;
      EXPECT_EQ(::waitpid(pid, &status, 0), pid);
      up += status == 0 ? 1 : 0;
    }
    EXPECT_EQ(up, 1);
    EXPECT_EQ(run("exit 4"), "code 4");
    EXPECT_TRUE(stop_lab(kName));
  }
}

TEST_F(KeeperTest, a_client_that_goes_takes_its_command_along) {
  ASSERT_TRUE(start_lab(kName, agents(), -1));
  const std::string marker = folder_ / "marker";
  SocketPair cancel;
  std::thread later([&] {
    EXPECT_TRUE(wait_until([&] { return read_text(marker).ends_with('\n'); }));
    EXPECT_EQ(::write(cancel.there.get(), "x", 1), 1);
  });
  EXPECT_EQ(run("echo $$ > " + marker + "; sleep 1000", cancel.here.get()), "error: given up");
  later.join();
  const pid_t command = std::stoi(read_text(marker));
  EXPECT_TRUE(wait_until([&] { return ::kill(command, 0) != 0; }));
  EXPECT_EQ(run("exit 5"), "code 5");
  EXPECT_EQ(diary().size(), 1u);
}

TEST_F(KeeperTest, a_lab_whose_command_cannot_be_killed_boots_anew) {
  const auto boot = [this, agents = agents()](int cancel,
                                              int stop) -> Result<std::unique_ptr<Lab>> {
    if (!diary().empty()) return agents(cancel, stop);
    note("stuck");
    auto machine = std::make_unique<StuckMachine>();
    auto session = LabSession::open(machine->channel(), {}, seconds(20),
                                    {.term = milliseconds(20), .kill = milliseconds(100)});
    if (!session) return fail(session.error());
    return std::make_unique<Lab>(LabBackend::Svm, std::move(machine), *std::move(session));
  };
  ASSERT_THAT(outcome(start_lab(kName, boot, -1)), StartsWith("up: "));
  SocketPair cancel;
  std::thread later([&] {
    EXPECT_TRUE(wait_until([] { return state() == "busy"; }));
    EXPECT_EQ(::write(cancel.there.get(), "x", 1), 1);
  });
  EXPECT_EQ(run("true", cancel.here.get()), "error: given up");
  later.join();
  EXPECT_EQ(run("exit 6"),
            "vmm: lab: it boots anew: the command in the lab does not end when it is killed\n"
            "code 6");
  EXPECT_EQ(run("exit 7"), "code 7");
  EXPECT_THAT(diary(), ElementsAre("stuck", StartsWith("boot ")));
}

TEST_F(KeeperTest, a_lab_that_dies_boots_anew) {
  ASSERT_TRUE(start_lab(kName, agents(), -1));
  ::kill(std::stoi(diary().at(0).substr(5)), SIGKILL);
  EXPECT_THAT(run("exit 8"), testing::AllOf(StartsWith("vmm: lab: it boots anew: "),
                                            testing::EndsWith("\ncode 8")));
  EXPECT_EQ(diary().size(), 2u);
}

TEST_F(KeeperTest, whoever_says_nothing_or_nonsense_holds_up_nobody) {
  ASSERT_TRUE(start_lab(kName, agents(), -1));
  const std::string path = *lab_socket_path(kName);
  std::vector<Fd> silent;
  for (int i = 0; i < 40; ++i) {
    auto client = connect_to_keeper(path);
    // One more than the socket's own queue holds would have to wait.
    if (client && *client) silent.push_back(*std::move(*client));
    if (i == 8) {
      EXPECT_EQ(run("exit 9"), "code 9");
    }
    if (i == 12) break;
  }
  for (const std::string& text :
       {std::string("nonsense"), std::string(R"({"do":"dance"})"),
        std::string(R"({"do":"execute"})"), std::string(1 << 16, '['),
        std::string(R"({"do":"execute","argv":["x"],"directory":"/","environment":[],"paths":[],)"
                    R"("terminal":false,"input":true})")}) {
    const auto client = connect_to_keeper(path);
    ASSERT_TRUE(client && *client);
    ASSERT_TRUE(send_keeper_message(**client, text));
    const auto answer = receive_keeper_message(**client, 10'000, -1);
    ASSERT_TRUE(answer) << answer.error().text();
    const auto reply = parse_keeper_reply(answer->text);
    ASSERT_TRUE(reply && reply->error);
    EXPECT_EQ(reply->error->kind(), ErrorKind::Lab);
  }
  EXPECT_EQ(run("exit 10"), "code 10");
  EXPECT_TRUE(stop_lab(kName));
}

TEST_F(KeeperTest, what_a_killed_keeper_leaves_is_no_lab) {
  ASSERT_TRUE(start_lab(kName, agents(), -1));
  const auto keeper = static_cast<pid_t>(running_labs().at(0).pid);
  ::kill(keeper, SIGKILL);
  EXPECT_EQ(::waitpid(keeper, nullptr, 0), keeper);
  EXPECT_TRUE(std::filesystem::exists(*lab_socket_path(kName)));
  EXPECT_THAT(running_labs(), IsEmpty());
  EXPECT_THAT(outcome(start_lab(kName, agents(), -1)), StartsWith("up: "));
  EXPECT_EQ(run("exit 11"), "code 11");
}

TEST_F(KeeperTest, a_boot_that_fails_or_is_given_up_leaves_nothing) {
  const auto failing = [](int, int) -> Result<std::unique_ptr<Lab>> {
    return fail(Error::no_lab("no emulator").hint("install one"));
  };
  const auto failed = start_lab(kName, failing, -1);
  EXPECT_EQ(outcome(failed), "error: no emulator");
  EXPECT_EQ(failed.error().kind(), ErrorKind::NoLab);
  EXPECT_EQ(failed.error().hint_text(), "install one");
  EXPECT_FALSE(std::filesystem::exists(*lab_socket_path(kName)));

  SocketPair cancel;
  EXPECT_EQ(::write(cancel.there.get(), "x", 1), 1);
  EXPECT_EQ(outcome(start_lab(kName, silence(), cancel.here.get())), "error: given up");
  EXPECT_FALSE(std::filesystem::exists(*lab_socket_path(kName)));
  EXPECT_THAT(outcome(start_lab(kName, agents(), -1)), StartsWith("up: "));
}

TEST_F(KeeperTest, a_lab_that_boots_says_so_and_can_be_stopped) {
  const pid_t starter = ::fork();
  if (starter == 0) {
    const auto started = start_lab(kName, silence(), -1);
    ::_exit(!started && started.error().text() == "the lab was stopped" ? 0 : 1);
  }
  EXPECT_TRUE(wait_until([] { return state() == "starting"; }));
  EXPECT_TRUE(stop_lab(kName));
  int status = -1;
  EXPECT_EQ(::waitpid(starter, &status, 0), starter);
  EXPECT_EQ(status, 0);
  EXPECT_FALSE(std::filesystem::exists(*lab_socket_path(kName)));
}

TEST_F(KeeperTest, names_that_would_leave_the_directory_are_refused) {
  for (const char* name : {"", "a/b", "..", "a b", "abcdefghijklmnopqrstuvwxyz0123456"})
    EXPECT_EQ(start_lab(name, agents(), -1).error().kind(), ErrorKind::Usage) << name;
  ASSERT_EQ(::chmod(lab_socket_directory()->c_str(), 0755), 0);
  EXPECT_THAT(outcome(start_lab(kName, agents(), -1)),
              HasSubstr("is not a directory of this user's alone"));
  ::chmod((folder_ / "vmm-labs").c_str(), 0700);
}

}  // namespace
}  // namespace vmm
