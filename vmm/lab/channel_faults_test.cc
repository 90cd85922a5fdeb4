// Frames lost and changed on purpose, and a lab that breaks the rules: always an error of the lab,
// never a hang, never a wrong verdict.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <memory>

#include "vmm/base/bytes.h"
#include "vmm/lab/channel.h"
#include "vmm/lab/session.h"
#include "vmm/lab/wire_fake.h"

namespace vmm {
namespace {

using std::chrono::seconds;
using testing::AnyOf;
using testing::HasSubstr;

struct FaultCase {
  const char* name;
  WireFault fault;
  bool to_lab;
  const char* chosen;  // in the payload of the frame that is hit
};

class FaultyChannel : public testing::TestWithParam<FaultCase> {};

TEST_P(FaultyChannel, is_a_failure_of_the_lab) {
  const FaultCase& c = GetParam();
  TemporaryFolder lab, files;
  SocketPair host_side, lab_side(0);
  const AgentProcess agent(lab_side.there, lab.path());
  lab_side.there.reset();
  ::fcntl(host_side.there.get(), F_SETFL, 0);
  const FaultyWire wire(std::move(host_side.there), std::move(lab_side.here), c.fault, c.to_lab,
                        c.chosen);
  auto session = LabSession::open(host_side.here, {}, seconds(3));
  ASSERT_TRUE(session) << session.error().text();
  write_text(files / "in", std::string(300'000, 'i') + "#" + std::string(300'000, 'j'));
  const auto in = Fd::open(files / "in", O_RDONLY);
  const auto out = Fd::open(files / "out", O_RDWR | O_CREAT | O_TRUNC);
  LabCommand command;
  command.argv = {"/bin/sh", "-c", "echo needle-out; cat; exit 7"};
  command.directory = "/";
  const auto ended = (*session)->execute(command, {in->get(), out->get(), 2});
  EXPECT_TRUE(wire.struck());
  ASSERT_FALSE(ended);
  EXPECT_EQ(ended.error().kind(), ErrorKind::Lab);
  EXPECT_THAT(
      ended.error().text(),
      AnyOf(HasSubstr("lost a frame: number"), HasSubstr("repeated a frame: number"),
            HasSubstr("is garbled: the frame after number"), HasSubstr("has been silent for")));
}

constexpr FaultCase kFaultCases[] = {
    {"drop_start", WireFault::Drop, true, "\"start\""},
    {"drop_stdin", WireFault::Drop, true, "#"},
    {"drop_stdout", WireFault::Drop, false, "needle-out"},
    {"drop_exit", WireFault::Drop, false, "exited"},
    {"flip_start", WireFault::Flip, true, "\"start\""},
    {"flip_stdin", WireFault::Flip, true, "#"},
    {"flip_stdout", WireFault::Flip, false, "needle-out"},
    {"flip_exit", WireFault::Flip, false, "exited"},
    {"duplicate_start", WireFault::Duplicate, true, "\"start\""},
    {"duplicate_stdin", WireFault::Duplicate, true, "#"},
    {"duplicate_stdout", WireFault::Duplicate, false, "needle-out"},
    {"truncate_start", WireFault::Truncate, true, "\"start\""},
    {"truncate_stdin", WireFault::Truncate, true, "#"},
    {"truncate_stdout", WireFault::Truncate, false, "needle-out"},
    {"truncate_exit", WireFault::Truncate, false, "exited"},
};
INSTANTIATE_TEST_SUITE_P(Faults, FaultyChannel, testing::ValuesIn(kFaultCases),
                         [](const auto& tested) { return std::string(tested.param.name); });

// Whatever frame is hit: the command's own verdict and all its bytes, or a failure of the lab.
class AnyFrame : public testing::TestWithParam<WireFault> {};

TEST_P(AnyFrame, that_is_hit_changes_no_verdict) {
  const std::string content = std::string(90'000, 'a') + "#" + std::string(90'000, 'b');
  int struck = 0;
  int failed = 0;
  // Some forty frames go each way.
  for (int spared = 0; spared < 40; spared += 5) {
    for (const bool to_lab : {false, true}) {
      TemporaryFolder host, lab, files;
      SocketPair host_side, lab_side(0);
      const AgentProcess agent(lab_side.there, lab.path());
      lab_side.there.reset();
      ::fcntl(host_side.there.get(), F_SETFL, 0);
      const FaultyWire wire(std::move(host_side.there), std::move(lab_side.here), GetParam(),
                            to_lab, "", spared);
      write_text(host / "input", content);
      write_text(files / "in", content);
      const auto in = Fd::open(files / "in", O_RDONLY);
      const auto out = Fd::open(files / "out", O_RDWR | O_CREAT | O_TRUNC);
      LabCommand command;
      command.argv = {"/bin/sh", "-c", "cat; cat input > output; exit 7"};
      command.directory = host.path();
      command.environment = {"PATH=/usr/bin:/bin"};
      command.paths = {{PathUse::Kind::Input, "input"}, {PathUse::Kind::Output, "output"}};
      auto session = LabSession::open(host_side.here, {}, seconds(1));
      const auto ended = session ? (*session)->execute(command, {in->get(), out->get(), 2})
                                 : Result<LabExit>(fail(session.error()));
      struck += wire.struck() ? 1 : 0;
      if (ended) {
        EXPECT_EQ(ended->code, 7) << spared;
        EXPECT_EQ(read_text(files / "out"), content) << spared;
        EXPECT_EQ(read_text(host / "output"), content) << spared;
      } else {
        ++failed;
        EXPECT_EQ(ended.error().kind(), ErrorKind::Lab) << ended.error().text();
        // Nothing half-done under the name.
        const std::string output = read_text(host / "output");
        EXPECT_TRUE(output.empty() || output == content) << spared;
      }
    }
  }
  EXPECT_GE(struck, 8);
  EXPECT_GE(failed, 4);
}

std::string fault_name(const testing::TestParamInfo<WireFault>& tested) {
  constexpr const char* kNames[] = {"none", "drop", "flip", "duplicate", "truncate"};
  return kNames[static_cast<std::size_t>(tested.param)];
}
INSTANTIATE_TEST_SUITE_P(Faults, AnyFrame,
                         testing::Values(WireFault::Drop, WireFault::Flip, WireFault::Duplicate,
                                         WireFault::Truncate),
                         fault_name);

// --- A hostile lab ---

const char kGreeting[] = R"({"protocol":1,"nonce":"","release":"6.1","backend":"svm"})";

// Greets as it should and answers every question with what `answer` says for it.
class HostileLab {
 public:
  using Answer = std::function<void(ScriptedPeer&, const std::string& question)>;
  explicit HostileLab(Answer answer)
      : peer_(std::move(wire_.there),
              [answer = std::move(answer)](ScriptedPeer& peer, FrameKind kind, std::uint32_t,
                                           const std::string& payload) {
                if (kind == FrameKind::Greeting) {
                  std::string greeting = kGreeting;
                  const std::size_t begin = payload.find(":\"") + 2;
                  greeting.insert(greeting.find("\"nonce\":\"") + 9,
                                  payload.substr(begin, payload.find('"', begin) - begin));
                  peer.send(FrameKind::Greeting, 0, greeting);
                } else if (kind == FrameKind::Control && payload.find("\"ping\"") != payload.npos) {
                  peer.control(R"({"is":"pong"})");
                } else if (kind == FrameKind::Control) {
                  answer(peer, payload);
                }
              }) {}

  // What comes of a command that has the output `out_path`, or the input `in_path`.
  std::string run_input(const std::string& in_path) { return run("", in_path); }
  std::string run(const std::string& out_path = "", const std::string& in_path = "") {
    auto session = LabSession::open(wire_.here, {}, seconds(3));
    if (!session) return session.error().text();
    const auto null = Fd::open("/dev/null", O_RDWR);
    LabCommand command;
    command.argv = {"/bin/true"};
    command.directory = "/";
    if (!out_path.empty()) command.paths = {{PathUse::Kind::Output, out_path}};
    if (!in_path.empty()) command.paths = {{PathUse::Kind::Input, in_path}};
    const auto ended = (*session)->execute(command, {-1, null->get(), null->get()});
    if (ended) return "ran";
    EXPECT_EQ(ended.error().kind(), ErrorKind::Lab);
    return ended.error().text();
  }

  const Fd& wire() const { return wire_.here; }

 private:
  SocketPair wire_;
  ScriptedPeer peer_;
};

bool asks(const std::string& question, const char* what) {
  return question.find(std::string("\"do\":\"") + what + "\"") != question.npos;
}

// Streams 1, 2 and 3 are the command's; what happens once it has started is `then`.
HostileLab::Answer once_started(std::function<void(ScriptedPeer&)> then) {
  return [then = std::move(then)](ScriptedPeer& peer, const std::string& question) {
    if (!asks(question, "start")) return peer.control(R"({"is":"done"})");
    peer.control(R"({"is":"started"})");
    then(peer);
  };
}

std::string run_started(std::function<void(ScriptedPeer&)> then) {
  return HostileLab(once_started(std::move(then))).run();
}

TEST(HostileLabTest, streams_that_do_not_exist) {
  EXPECT_THAT(run_started([](auto& peer) { peer.send(FrameKind::Data, 99, "x"); }),
              HasSubstr("speaks of stream 99, which does not exist"));
  EXPECT_THAT(run_started([](auto& peer) { peer.send(FrameKind::Reset, 99, ""); }),
              HasSubstr("speaks of stream 99, which does not exist"));
  EXPECT_THAT(run_started([](auto& peer) { peer.send(FrameKind::Window, 0, "abcd"); }),
              HasSubstr("speaks of stream 0, which does not exist"));
}

TEST(HostileLabTest, bytes_where_none_may_come) {
  EXPECT_THAT(run_started([](auto& peer) { peer.send(FrameKind::Data, 1, "x"); }),
              HasSubstr("sent bytes on stream 1, where it only gets some"));
  EXPECT_THAT(run_started([](auto& peer) {
                peer.send(FrameKind::Eof, 2, "");
                peer.send(FrameKind::Data, 2, "x");
              }),
              AnyOf(HasSubstr("after the end of stream 2"), HasSubstr("which does not exist")));
}

TEST(HostileLabTest, windows_that_nobody_granted) {
  EXPECT_THAT(run_started([](auto& peer) {
                peer.send(FrameKind::Window, 2, std::string("\x01\0\0\0", 4));
              }),
              HasSubstr("granted stream 2 more than its window"));
  EXPECT_THAT(run_started([](auto& peer) { peer.send(FrameKind::Window, 2, "abc"); }),
              HasSubstr("granted stream 2 no number"));
}

TEST(HostileLabTest, more_bytes_than_the_window) {
  // A reader that never reads, so that nothing is granted anew.
  SocketPair wire, out;
  std::vector<pollfd> polled;
  Channel channel(wire.here.get(), "the channel");
  StreamSpec spec;
  spec.sink = {Fd(::dup(out.here.get())), SinkKind::Socket};
  channel.open(1, std::move(spec));
  std::vector<std::uint8_t> bytes;
  FrameWriter writer;
  const std::vector<std::uint8_t> payload(kMaxPayload, 1);
  writer.append(bytes, FrameKind::Greeting, 0, {});
  Result<void> served;
  const auto serve = [&] {
    bool heard = false;
    polled.clear();
    channel.want(polled);
    ::poll(polled.data(), polled.size(), 0);
    served = channel.serve(
        polled, [](const auto&) -> Result<void> { return {}; }, heard);
  };
  std::size_t sent = 0;
  for (; sent < 10 << 20 && served; sent += payload.size()) {
    writer.append(bytes, FrameKind::Data, 1, payload);
    ASSERT_EQ(::write(wire.there.get(), bytes.data(), bytes.size()),
              static_cast<ssize_t>(bytes.size()));
    bytes.clear();
    serve();
  }
  ASSERT_FALSE(served);
  EXPECT_THAT(served.error().text(), HasSubstr("sent more on stream 1 than its window"));
  EXPECT_LT(sent, std::size_t{2} << 20);
}

TEST(HostileLabTest, answers_that_do_not_fit) {
  const auto always = [](const char* json) {
    return HostileLab([json](ScriptedPeer& peer, const std::string&) { peer.control(json); }).run();
  };
  EXPECT_THAT(always(R"({"is":"absent"})"), HasSubstr("answers another question"));
  EXPECT_THAT(always(R"({"is":"file","mode":420,"size":5})"),
              HasSubstr("a file that nobody asked for"));
  EXPECT_THAT(always(R"({"is":"exited","code":0})"), HasSubstr("a command that never ran"));
  EXPECT_THAT(always("nonsense"), HasSubstr("it is not a JSON object"));
  EXPECT_THAT(always(R"({"is":"failed","text":"no \u0001 room"})"), HasSubstr("no \\x01 room"));
  EXPECT_THAT(HostileLab([](ScriptedPeer& peer, const std::string&) {
                peer.control(R"({"is":"done"})");
                peer.control(R"({"is":"done"})");
              }).run(),
              AnyOf(HasSubstr("that nobody asked"), HasSubstr("does not say")));
  EXPECT_THAT(HostileLab([](ScriptedPeer& peer, const std::string&) {
                for (int i = 0; i < 100; ++i)
                  peer.send(FrameKind::ControlPart, 0, std::string(kMaxPayload, 'x'));
              }).run(),
              HasSubstr("sent a message of more than 1 MiB"));
}

TEST(HostileLabTest, an_exit_that_never_comes_is_waited_for_while_pings_are_answered) {
  // The command's streams end, the exit follows.
  EXPECT_EQ(run_started([](auto& peer) {
              for (const std::uint32_t stream : {1u, 2u, 3u}) peer.send(FrameKind::Eof, stream, "");
              peer.control(R"({"is":"exited","code":0})");
            }),
            "ran");
}

TEST(HostileLabTest, a_cancelled_command_that_does_not_end_is_the_end_of_the_session) {
  SocketPair cancel;
  std::atomic<bool> killed = false;
  HostileLab lab([&](ScriptedPeer& peer, const std::string& question) {
    if (asks(question, "kill")) {
      if (question.find("\"signal\":9") != question.npos) killed = true;
      return;
    }
    if (!asks(question, "start")) return peer.control(R"({"is":"done"})");
    peer.control(R"({"is":"started"})");
    EXPECT_EQ(::write(cancel.there.get(), "x", 1), 1);
  });
  auto session = LabSession::open(
      lab.wire(), {}, seconds(20),
      {.term = std::chrono::milliseconds(50), .kill = std::chrono::milliseconds(300)});
  ASSERT_TRUE(session) << session.error().text();
  const auto null = Fd::open("/dev/null", O_RDWR);
  LabCommand command;
  command.argv = {"/bin/true"};
  command.directory = "/";
  const LabStreams streams{-1, null->get(), null->get()};
  const auto ended = (*session)->execute(command, streams, cancel.here.get());
  ASSERT_FALSE(ended);
  EXPECT_EQ(ended.error().kind(), ErrorKind::Lab);
  EXPECT_THAT(ended.error().text(), HasSubstr("does not end when it is killed"));
  for (int step = 0; step < 1000 && !killed; ++step)
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  EXPECT_TRUE(killed);
  // It still runs there: no other command is let in.
  EXPECT_TRUE((*session)->broken());
  EXPECT_THAT((*session)->execute(command, streams).error().text(),
              HasSubstr("does not end when it is killed"));
}

// A lab whose command ends well; the question for its output is answered by `get`.
std::string run_with_output(const std::string& path, std::function<void(ScriptedPeer&)> get) {
  return HostileLab([get = std::move(get)](ScriptedPeer& peer, const std::string& question) {
           if (asks(question, "get")) return get(peer);
           if (!asks(question, "start")) return peer.control(R"({"is":"done"})");
           peer.control(R"({"is":"started"})");
           for (const std::uint32_t stream : {1u, 2u, 3u}) peer.send(FrameKind::Eof, stream, "");
           peer.control(R"({"is":"exited","code":0})");
         })
      .run(path);
}

TEST(HostileLabTest, outputs_are_no_larger_than_announced_and_leave_nothing_half) {
  TemporaryFolder folder;
  const std::string path = folder / "out";
  EXPECT_EQ(run_with_output(path,
                            [](auto& peer) {
                              peer.control(R"({"is":"file","mode":420,"size":3})");
                              peer.send(FrameKind::Data, 4, "abc");
                              peer.send(FrameKind::Eof, 4, "");
                            }),
            "ran");
  EXPECT_EQ(read_text(path), "abc");
  EXPECT_THAT(run_with_output(path,
                              [](auto& peer) {
                                peer.control(R"({"is":"file","mode":420,"size":3})");
                                peer.send(FrameKind::Data, 4, "abcd");
                              }),
              HasSubstr("sent more on stream 4 than was agreed"));
  EXPECT_THAT(run_with_output(path,
                              [](auto& peer) {
                                peer.control(R"({"is":"file","mode":420,"size":5})");
                                peer.send(FrameKind::Data, 4, "wxyz");
                                peer.send(FrameKind::Eof, 4, "");
                              }),
              HasSubstr("came from the lab with 4 of its 5 bytes"));
  for (const char* extents : {"[0,4,3,1]", "[0,11]", "[0,0]", "[5]", "[-1,1]", "[0,\"4\"]", "7"})
    EXPECT_THAT(run_with_output(
                    path,
                    [extents](auto& peer) {
                      peer.control(std::string(R"({"is":"file","mode":420,"size":10,"extents":)") +
                                   extents + "}");
                    }),
                HasSubstr("its 'extents'"));
  EXPECT_THAT(
      run_with_output(
          path,
          [](auto& peer) {
            peer.control(
                R"({"is":"file","mode":420,"size":9007199254740992,"extents":[9007199254740000,1]})");
          }),
      HasSubstr("its 'extents'"));
  EXPECT_THAT(run_with_output(path,
                              [](auto& peer) {
                                peer.control(R"({"is":"file","mode":420,"size":99999999999999})");
                              }),
              HasSubstr("larger than it was allowed"));
  EXPECT_EQ(read_text(path), "abc");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 1);
}

TEST(HostileLabTest, files_that_nobody_spoke_of) {
  TemporaryFolder folder;
  write_text(folder / "in", "x");
  for (const char* indices : {"[1]", "[0,0]", "[4294967295]"}) {
    const std::string answer = std::string(R"({"is":"missing","indices":)") + indices + "}";
    SocketPair wire;
    HostileLab lab([&](ScriptedPeer& peer, const std::string& question) {
      peer.control(asks(question, "missing") ? answer : R"({"is":"done"})");
    });
    EXPECT_THAT(lab.run_input(folder / "in"), AnyOf(HasSubstr("files that nobody spoke of"),
                                                    HasSubstr("something that is no index")));
  }
}

TEST(HostileLabTest, one_that_only_talks_noise) {
  SocketPair wire;
  std::thread noise([fd = std::move(wire.there)] {
    const std::string line(4096, '#');
    while (::send(fd.get(), line.data(), line.size(), MSG_NOSIGNAL) > 0) {
    }
  });
  const auto session = LabSession::open(wire.here, {}, seconds(3));
  wire.here.reset();
  noise.join();
  ASSERT_FALSE(session);
  EXPECT_THAT(session.error().text(), HasSubstr("carries something else than frames"));
}

TEST(HostileLabTest, another_protocol) {
  SocketPair wire;
  const ScriptedPeer peer(
      std::move(wire.there), [](ScriptedPeer& self, FrameKind, std::uint32_t, const std::string&) {
        self.send(FrameKind::Greeting, 0, R"({"protocol":2,"nonce":"","release":"","backend":""})");
      });
  const auto session = LabSession::open(wire.here, {}, seconds(3));
  ASSERT_FALSE(session);
  EXPECT_THAT(session.error().text(), HasSubstr("the lab speaks protocol 2"));
}

TEST(HostileLabTest, silence) {
  SocketPair wire;
  const auto session = LabSession::open(wire.here, {}, seconds(1));
  ASSERT_FALSE(session);
  EXPECT_THAT(session.error().text(), HasSubstr("the lab has been silent for 1 s"));
}

}  // namespace
}  // namespace vmm
