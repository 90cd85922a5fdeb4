// The session with a real agent in a process of its own: no emulator, the same code.
#include "vmm/lab/session.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <chrono>
#include <memory>
#include <random>

#include "vmm/base/descriptors.h"
#include "vmm/base/sha256.h"
#include "vmm/lab/wire_fake.h"

namespace vmm {
namespace {

using std::chrono::seconds;
using testing::AnyOf;
using testing::HasSubstr;
using testing::StartsWith;

std::string random_text(std::size_t size) {
  std::mt19937_64 random(size);
  std::string text(size, '\0');
  for (char& c : text) c = static_cast<char>(random());
  return text;
}

std::string sha(const std::string& text) { return sha256_hex(text); }

class LabSessionTest : public testing::Test {
 protected:
  void SetUp() override {
    // A folder of the host, and the lab's root, in which the host's paths are mirrored.
    host_ = std::make_unique<TemporaryFolder>();
    lab_ = std::make_unique<TemporaryFolder>();
  }

  // Opens the session; everything in `lab_` is the agent's.
  void open(seconds patience = seconds(20)) {
    agent_ = std::make_unique<AgentProcess>(wire_.there, lab_->path());
    wire_.there.reset();
    auto session = LabSession::open(wire_.here, {}, patience);
    ASSERT_TRUE(session) << session.error().text();
    session_ = *std::move(session);
  }

  LabCommand shell(const std::string& script) const {
    LabCommand command;
    command.argv = {"/bin/sh", "-c", script};
    command.directory = host_->path();
    command.environment = {"PATH=/usr/bin:/bin"};
    return command;
  }

  // Runs `command` with `input` as its stdin, and keeps what it wrote.
  Result<LabExit> run(const LabCommand& command, const std::string& input = "", int cancel = -1) {
    write_text(files_ / "in", input);
    const auto in = Fd::open(files_ / "in", O_RDONLY);
    const auto out = Fd::open(files_ / "out", O_RDWR | O_CREAT | O_TRUNC);
    const auto err = Fd::open(files_ / "err", O_RDWR | O_CREAT | O_TRUNC);
    auto result = session_->execute(command, {in->get(), out->get(), err->get()}, cancel);
    out_ = read_text(files_ / "out");
    err_ = read_text(files_ / "err");
    return result;
  }

  // The exit code, or what else happened as text.
  std::string ending(const Result<LabExit>& result) {
    if (!result) return "error: " + result.error().text();
    if (result->code) return "code " + std::to_string(*result->code);
    return "signal " + std::to_string(result->signal.value_or(-1));
  }

  std::string in_lab(const std::string& name) const {
    return lab_->path() + host_->path() + "/" + name;
  }

  SocketPair wire_;
  TemporaryFolder files_;
  std::unique_ptr<TemporaryFolder> host_;
  std::unique_ptr<TemporaryFolder> lab_;
  std::unique_ptr<AgentProcess> agent_;
  std::unique_ptr<LabSession> session_;
  std::string out_;
  std::string err_;
};

TEST_F(LabSessionTest, hello_says_what_the_lab_is) {
  open();
  EXPECT_EQ(session_->hello().backend, "svm");
  EXPECT_THAT(session_->hello().release, HasSubstr("."));
}

TEST_F(LabSessionTest, exit_codes_and_signals_come_through) {
  open();
  for (const int code : {0, 1, 7, 64, 80, 124, 255})
    EXPECT_EQ(ending(run(shell("exit " + std::to_string(code)))), "code " + std::to_string(code));
  EXPECT_EQ(ending(run(shell("kill -9 $$"))), "signal 9");
  EXPECT_EQ(ending(run(shell("kill -TERM $$"))), "signal 15");
}

TEST_F(LabSessionTest, ten_megabytes_go_through_cat_unchanged) {
  open();
  const std::string input = random_text(10 << 20);
  EXPECT_EQ(ending(run(shell("cat"), input)), "code 0");
  EXPECT_EQ(out_.size(), input.size());
  EXPECT_EQ(sha(out_), sha(input));
}

TEST_F(LabSessionTest, stderr_is_separate_and_arguments_arrive_as_they_are) {
  open();
  LabCommand command = shell("printf '%s|' \"$@\" \"$X\"; echo problem >&2; pwd");
  command.argv.insert(command.argv.end(), {"sh", "a b", "", "\xff\"\\"});
  command.environment.push_back("X=\xfe y");
  EXPECT_EQ(ending(run(command)), "code 0");
  EXPECT_EQ(out_, "a b||\xff\"\\|\xfe y|" + lab_->path() + host_->path() + "\n");
  EXPECT_EQ(err_, "problem\n");
}

TEST_F(LabSessionTest, a_command_gets_no_other_descriptors) {
  open();
  EXPECT_EQ(ending(run(shell("for n in 3 4 5 6 7 8 9; do test -e /proc/$$/fd/$n && echo $n; done; "
                             "test -e /proc/$$/fd/2"))),
            "code 0");
  EXPECT_EQ(out_, "");
}

TEST_F(LabSessionTest, no_stdin_is_an_end_of_file) {
  open();
  const auto out = Fd::open(files_ / "out", O_RDWR | O_CREAT | O_TRUNC);
  const auto ended = session_->execute(shell("cat; echo end"), {-1, out->get(), 2});
  EXPECT_EQ(ending(ended), "code 0");
  EXPECT_EQ(read_text(files_ / "out"), "end\n");
}

TEST_F(LabSessionTest, a_command_that_ends_without_reading_its_stdin_holds_up_nobody) {
  open();
  EXPECT_EQ(ending(run(shell("exit 3"), random_text(4 << 20))), "code 3");
}

TEST_F(LabSessionTest, a_command_that_does_not_exist_is_an_error_and_the_next_one_runs) {
  open();
  LabCommand command = shell("");
  command.argv = {"/no/such/program"};
  EXPECT_THAT(ending(run(command)), StartsWith("error: start /no/such/program in "));
  EXPECT_THAT(ending(run(command)), HasSubstr("ENOENT"));
  EXPECT_FALSE(session_->broken());
  EXPECT_EQ(ending(run(shell("exit 5"))), "code 5");
}

TEST_F(LabSessionTest, what_a_command_leaves_running_ends_with_it) {
  open();
  EXPECT_EQ(ending(run(shell("sleep 1000 & echo $!"))), "code 0");
  const pid_t left = std::stoi(out_);
  for (int i = 0; i < 500 && ::kill(left, 0) == 0; ++i) ::usleep(10'000);
  EXPECT_NE(::kill(left, 0), 0);
}

TEST_F(LabSessionTest, an_unread_stdout_leaves_the_lab_alive_and_is_delivered_at_last) {
  open(seconds(2));
  int pipe_fds[2];
  ASSERT_EQ(::pipe2(pipe_fds, O_CLOEXEC), 0);
  const Fd reader(pipe_fds[0]);
  Fd writer(pipe_fds[1]);
  std::string got;
  // Nobody reads for longer than the patience: only answered pings keep the session alive.
  std::thread late([&] {
    std::this_thread::sleep_for(seconds(4));
    char buffer[65536];
    for (ssize_t count; (count = ::read(reader.get(), buffer, sizeof buffer)) > 0;)
      got.append(buffer, static_cast<std::size_t>(count));
  });
  const auto ended =
      session_->execute(shell("head -c 3000000 /dev/zero; exit 9"), {-1, writer.get(), 2});
  writer.reset();
  late.join();
  EXPECT_EQ(ending(ended), "code 9");
  EXPECT_EQ(got.size(), 3'000'000u);
}

TEST_F(LabSessionTest, a_closed_stdout_ends_the_command_and_not_us) {
  open();
  int pipe_fds[2];
  ASSERT_EQ(::pipe2(pipe_fds, O_CLOEXEC), 0);
  ::close(pipe_fds[0]);
  const Fd writer(pipe_fds[1]);
  const auto ended =
      session_->execute(shell("while :; do echo xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx || exit 1; done"),
                        {-1, writer.get(), 2});
  EXPECT_THAT(ending(ended), AnyOf("signal 13", "code 1"));
}

TEST_F(LabSessionTest, our_stdin_may_be_nonblocking_and_late) {
  open();
  SocketPair in;
  std::thread late([&] {
    for (const char* word : {"one ", "two ", "three"}) {
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
      EXPECT_GT(::write(in.there.get(), word, std::strlen(word)), 0);
    }
    in.there.reset();
  });
  const auto out = Fd::open(files_ / "out", O_RDWR | O_CREAT | O_TRUNC);
  const auto ended = session_->execute(shell("cat"), {in.here.get(), out->get(), 2});
  late.join();
  EXPECT_EQ(ending(ended), "code 0");
  EXPECT_EQ(read_text(files_ / "out"), "one two three");
}

TEST_F(LabSessionTest, inputs_are_there_and_outputs_come_back) {
  open();
  const std::string kernel = random_text(700'000);
  write_text(*host_ / "kernel", kernel);
  ::chmod((*host_ / "kernel").c_str(), 0751);
  LabCommand command = shell("stat -c %a kernel; cat kernel > copy; echo '{}' > out.json");
  command.paths = {{PathUse::Kind::Input, *host_ / "kernel"},
                   {PathUse::Kind::Output, "copy"},
                   {PathUse::Kind::Output, *host_ / "out.json"},
                   {PathUse::Kind::Output, *host_ / "never"}};
  EXPECT_EQ(ending(run(command)), "code 0");
  EXPECT_EQ(out_, "751\n");
  EXPECT_EQ(sha(read_text(*host_ / "copy")), sha(kernel));
  EXPECT_EQ(read_text(*host_ / "out.json"), "{}\n");
  EXPECT_FALSE(std::filesystem::exists(*host_ / "never"));
  // Nothing but what was asked for was left here.
  std::size_t files = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(host_->path()))
    ++files;
  EXPECT_EQ(files, 3u);
}

std::uintmax_t blocks_of(const std::string& path) {
  struct stat status {};
  return ::stat(path.c_str(), &status) == 0 ? static_cast<std::uintmax_t>(status.st_blocks) : 0;
}

// 256 MiB, four times 1 byte in them; through a channel that is given a second or so.
TEST_F(LabSessionTest, holes_survive_both_ways) {
  open();
  const std::string image = *host_ / "image";
  constexpr off_t kSize = 256 << 20;
  {
    const Fd file = *Fd::open(image, O_RDWR | O_CREAT);
    for (const off_t at : {off_t{0}, off_t{100 << 20}, off_t{200 << 20}})
      ASSERT_EQ(::pwrite(file.get(), "data", 4, at), 4);
    ASSERT_EQ(::ftruncate(file.get(), kSize), 0);
  }
  LabCommand command = shell("stat -c %b image; cp --sparse=always image copy; printf end >> copy");
  command.paths = {{PathUse::Kind::Input, "image"}, {PathUse::Kind::Output, "copy"}};
  EXPECT_EQ(ending(run(command)), "code 0");
  EXPECT_LT(std::stoul(out_), 4096u) << "blocks of 512 bytes";
  EXPECT_LT(blocks_of(*host_ / "copy"), 4096u);
  EXPECT_EQ(std::filesystem::file_size(*host_ / "copy"), static_cast<std::uintmax_t>(kSize) + 3);
  const std::string got = read_text(*host_ / "copy");
  EXPECT_TRUE(std::string_view(got).substr(0, kSize) == read_text(image));
  EXPECT_EQ(got.substr(kSize), "end");
}

TEST_F(LabSessionTest, a_file_of_one_hole_and_an_empty_one_come_through) {
  open();
  LabCommand command = shell("truncate -s 1M hole; : > empty; stat -c %s in-hole in-empty");
  write_text(*host_ / "in-empty", "");
  write_text(*host_ / "in-hole", "");
  std::filesystem::resize_file(*host_ / "in-hole", 3 << 20);
  command.paths = {{PathUse::Kind::Input, "in-hole"},
                   {PathUse::Kind::Input, "in-empty"},
                   {PathUse::Kind::Output, "hole"},
                   {PathUse::Kind::Output, "empty"}};
  EXPECT_EQ(ending(run(command)), "code 0");
  EXPECT_EQ(out_, "3145728\n0\n");
  EXPECT_EQ(read_text(*host_ / "hole"), std::string(1 << 20, '\0'));
  EXPECT_EQ(std::filesystem::file_size(*host_ / "empty"), 0u);
}

// What cannot be moved back and forth gets the zeroes.
TEST_F(LabSessionTest, holes_are_filled_for_a_fifo) {
  open();
  ASSERT_EQ(::mkfifo((*host_ / "fifo").c_str(), 0600), 0);
  const Fd reader = *Fd::open(*host_ / "fifo", O_RDWR | O_NONBLOCK);
  LabCommand command = shell("truncate -s 8000 fifo; printf x >> fifo");
  command.paths = {{PathUse::Kind::Output, "fifo"}};
  EXPECT_EQ(ending(run(command)), "code 0");
  std::string got(10000, '-');
  EXPECT_EQ(::read(reader.get(), got.data(), got.size()), 8001);
  EXPECT_EQ(got.substr(0, 8001), std::string(8000, '\0') + "x");
}

TEST_F(LabSessionTest, outputs_of_an_earlier_command_are_not_those_of_this_one) {
  open();
  LabCommand command = shell("echo old > result");
  command.paths = {{PathUse::Kind::Output, "result"}};
  EXPECT_EQ(ending(run(command)), "code 0");
  EXPECT_EQ(read_text(*host_ / "result"), "old\n");
  std::filesystem::remove(*host_ / "result");
  command.argv.back() = "true";
  EXPECT_EQ(ending(run(command)), "code 0");
  EXPECT_FALSE(std::filesystem::exists(*host_ / "result"));
}

TEST_F(LabSessionTest, a_new_result_is_no_more_public_than_it_was_in_the_lab) {
  open();
  LabCommand command = shell("umask 077; echo x > secret; umask 0; echo x > public; echo x > old");
  write_text(*host_ / "old", "");
  ::chmod((*host_ / "old").c_str(), 0640);
  for (const char* name : {"secret", "public", "old"})
    command.paths.push_back({PathUse::Kind::Output, name});
  EXPECT_EQ(ending(run(command)), "code 0");
  const auto mode = [&](const char* name) {
    struct stat status {};
    EXPECT_EQ(::stat((*host_ / name).c_str(), &status), 0);
    return status.st_mode & 0777;
  };
  EXPECT_EQ(mode("secret"), 0600u);
  EXPECT_EQ(mode("public") & 022, 0u) << "the umask here";
  EXPECT_EQ(mode("old"), 0640u);
}

TEST_F(LabSessionTest, a_file_can_be_input_and_output) {
  open();
  write_text(*host_ / "vars", "before");
  LabCommand command = shell("cat vars; echo after > vars");
  command.paths = {{PathUse::Kind::Input, "vars"}, {PathUse::Kind::Output, "vars"}};
  EXPECT_EQ(ending(run(command)), "code 0");
  EXPECT_EQ(out_, "before");
  EXPECT_EQ(read_text(*host_ / "vars"), "after\n");
}

TEST_F(LabSessionTest, directories_are_mirrored_with_modes_and_links) {
  open();
  std::filesystem::create_directories(*host_ / "tree/deep/er");
  write_text(*host_ / "tree/deep/er/file", "content");
  write_text(*host_ / "tree/run.sh", "#!/bin/sh\n");
  write_text(*host_ / "tree/empty", "");
  write_text(*host_ / "tree/gone", "soon");
  ::chmod((*host_ / "tree/run.sh").c_str(), 0755);
  ::chmod((*host_ / "tree/deep").c_str(), 0710);
  std::filesystem::create_symlink("deep/er/file", *host_ / "tree/link");
  ASSERT_EQ(::mkfifo((*host_ / "tree/fifo").c_str(), 0600), 0);
  LabCommand command = shell("cd tree && find . | sort && cat link && stat -c %a deep run.sh");
  command.paths = {{PathUse::Kind::Input, "tree"}};
  EXPECT_EQ(ending(run(command)), "code 0");
  EXPECT_EQ(out_,
            ".\n./deep\n./deep/er\n./deep/er/file\n./empty\n./gone\n./link\n./run.sh\n"
            "content710\n755\n");
  // What has gone here goes there, and a file may become a directory.
  std::filesystem::remove(*host_ / "tree/gone");
  std::filesystem::remove(*host_ / "tree/empty");
  std::filesystem::create_directories(*host_ / "tree/empty/not");
  std::filesystem::remove_all(*host_ / "tree/deep");
  write_text(*host_ / "tree/deep", "a file now");
  EXPECT_EQ(ending(run(command)), "code 1");  // the link leads nowhere
  EXPECT_EQ(out_, ".\n./deep\n./empty\n./empty/not\n./link\n./run.sh\n");
  EXPECT_EQ(read_text(in_lab("tree/deep")), "a file now");
}

TEST_F(LabSessionTest, bad_inputs_are_found_before_anything_runs) {
  open();
  LabCommand command = shell("echo ran");
  command.paths = {{PathUse::Kind::Input, "missing"}};
  auto ended = run(command);
  ASSERT_FALSE(ended);
  EXPECT_EQ(ended.error().kind(), ErrorKind::Usage);
  EXPECT_THAT(ended.error().text(), HasSubstr("missing: ENOENT"));
  ASSERT_EQ(::mkfifo((*host_ / "fifo").c_str(), 0600), 0);
  command.paths = {{PathUse::Kind::Input, "fifo"}};
  ended = run(command);
  ASSERT_FALSE(ended);
  EXPECT_THAT(ended.error().text(), HasSubstr("neither a file nor a directory"));
  EXPECT_EQ(out_, "");
  command.paths = {};
  EXPECT_EQ(ending(run(command)), "code 0");
}

TEST_F(LabSessionTest, an_output_that_cannot_be_written_here_is_the_users_affair) {
  open();
  LabCommand command = shell("mkdir -p no; echo x > no/such");
  command.paths = {{PathUse::Kind::Output, "no/such"}};
  const auto ended = run(command);
  ASSERT_FALSE(ended);
  EXPECT_EQ(ended.error().kind(), ErrorKind::Usage);
  EXPECT_THAT(ended.error().text(), HasSubstr("no/such: ENOENT"));
  EXPECT_EQ(ending(run(shell("exit 4"))), "code 4");
}

TEST_F(LabSessionTest, what_the_lab_holds_is_not_sent_again) {
  open();
  write_text(*host_ / "binary", random_text(1 << 20));
  write_text(*host_ / "other", "other");
  LabCommand command = shell("stat -c %i binary other");
  command.paths = {{PathUse::Kind::Input, "binary"}, {PathUse::Kind::Input, "other"}};
  EXPECT_EQ(ending(run(command)), "code 0");
  const std::string first = out_;
  // A transfer makes a new file; the same inode is the same transfer.
  EXPECT_EQ(ending(run(command)), "code 0");
  EXPECT_EQ(out_, first);
  write_text(*host_ / "binary", random_text(2 << 20));
  EXPECT_EQ(ending(run(command)), "code 0");
  EXPECT_NE(out_, first);
  EXPECT_EQ(sha(read_text(in_lab("binary"))), sha(random_text(2 << 20)));
}

TEST_F(LabSessionTest, what_a_command_changed_is_sent_again) {
  open();
  write_text(*host_ / "data", "original");
  LabCommand command = shell("cat data; sleep 0.05; echo changed > data");
  command.paths = {{PathUse::Kind::Input, "data"}};
  EXPECT_EQ(ending(run(command)), "code 0");
  EXPECT_EQ(ending(run(command)), "code 0");
  EXPECT_EQ(out_, "original");
  ::chmod((*host_ / "data").c_str(), 0600);
  command.argv.back() = "stat -c %a data";
  EXPECT_EQ(ending(run(command)), "code 0");
  EXPECT_EQ(out_, "600\n");
}

TEST_F(LabSessionTest, cancelling_ends_a_command) {
  open();
  SocketPair cancel;
  std::thread later([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    EXPECT_EQ(::write(cancel.there.get(), "x", 1), 1);
  });
  EXPECT_EQ(ending(run(shell("sleep 1000"), "", cancel.here.get())), "signal 15");
  later.join();
  EXPECT_EQ(ending(run(shell("exit 6"))), "code 6");
}

TEST_F(LabSessionTest, cancelling_ends_a_command_that_ignores_it) {
  open();
  SocketPair cancel;
  EXPECT_EQ(::write(cancel.there.get(), "x", 1), 1);
  std::thread later;
  EXPECT_EQ(ending(run(shell("true"), "", cancel.here.get())), "signal 15");
  SocketPair second;
  later = std::thread([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(500));
    EXPECT_EQ(::write(second.there.get(), "x", 1), 1);
  });
  EXPECT_EQ(ending(run(shell("trap '' TERM; while :; do sleep 0.1; done"), "", second.here.get())),
            "signal 9");
  later.join();
}

TEST_F(LabSessionTest, a_terminal_is_a_terminal_inside) {
  open();
  LabCommand command = shell(
      "test -t 0 && test -t 1 && ! test -t 2 && stty size && read x && "
      "echo got $x; echo err >&2; cat; echo eof");
  command.terminal = true;
  EXPECT_EQ(ending(run(command, "word\n")), "code 0");
  EXPECT_THAT(out_, HasSubstr("24 80\r\n"));
  EXPECT_THAT(out_, HasSubstr("got word\r\n"));
  EXPECT_THAT(out_, HasSubstr("eof\r\n"));
  EXPECT_EQ(err_, "err\n");
}

// Connects to a Unix socket, says `word`, and returns all that comes back until the end.
std::string ask_socket(const std::string& path, const std::string& word) {
  Fd fd;
  for (int i = 0; i < 1000 && !fd; ++i) {
    auto connected = connect_unix(path);
    if (connected)
      fd = *std::move(connected);
    else
      ::usleep(10'000);
  }
  if (!fd) return "no connection";
  ::fcntl(fd.get(), F_SETFL, 0);
  (void)::send(fd.get(), word.data(), word.size(), MSG_NOSIGNAL);
  ::shutdown(fd.get(), SHUT_WR);
  std::string all;
  char buffer[4096];
  for (ssize_t count; (count = ::read(fd.get(), buffer, sizeof buffer)) > 0;)
    all.append(buffer, static_cast<std::size_t>(count));
  return all;
}

TEST_F(LabSessionTest, several_connections_to_a_socket_are_relayed) {
  open();
  LabCommand command = shell("");
  // Late on purpose: the first connection is there before the command listens.
  command.argv = {"/usr/bin/python3", "-c",
                  "import socket, time\n"
                  "time.sleep(0.5)\n"
                  "s = socket.socket(socket.AF_UNIX); s.bind('gdb'); s.listen(8)\n"
                  "cs = [s.accept()[0] for _ in range(3)]\n"
                  "for c in cs:\n"
                  "    data = b''\n"
                  "    while True:\n"
                  "        part = c.recv(65536)\n"
                  "        if not part: break\n"
                  "        data += part\n"
                  "    c.sendall(b'echo ' + data); c.close()\n"};
  if (!std::filesystem::exists(command.argv[0])) GTEST_SKIP() << "no python3 here";
  command.paths = {{PathUse::Kind::Socket, "gdb"}};
  std::vector<std::string> answers(3);
  const std::string long_word = random_text(1 << 20);
  std::vector<std::thread> clients;
  for (std::size_t i = 0; i < 3; ++i)
    clients.emplace_back([&, i] {
      answers[i] = ask_socket(*host_ / "gdb", i == 2 ? long_word : "word" + std::to_string(i));
    });
  EXPECT_EQ(ending(run(command)), "code 0") << err_;
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(answers[0], "echo word0");
  EXPECT_EQ(answers[1], "echo word1");
  EXPECT_EQ(sha(answers[2]), sha("echo " + long_word));
  EXPECT_FALSE(std::filesystem::exists(*host_ / "gdb"));
}

TEST_F(LabSessionTest, a_file_that_took_a_sockets_place_stays) {
  open();
  LabCommand command = shell("sleep 0.5");
  command.paths = {{PathUse::Kind::Socket, "ctl"}};
  const auto path = *host_ / "ctl";
  std::thread other([&] {
    while (!std::filesystem::exists(path)) std::this_thread::yield();
    std::filesystem::remove(path);
    write_text(path, "another");
  });
  EXPECT_EQ(ending(run(command)), "code 0");
  other.join();
  EXPECT_TRUE(std::filesystem::is_regular_file(path));
}

TEST_F(LabSessionTest, a_connection_to_a_command_that_never_listens_ends_with_it) {
  open();
  LabCommand command = shell("sleep 0.5");
  command.paths = {{PathUse::Kind::Socket, "ctl"}};
  std::string answer = "unset";
  std::thread client([&] { answer = ask_socket(*host_ / "ctl", "hello"); });
  EXPECT_EQ(ending(run(command)), "code 0");
  client.join();
  EXPECT_EQ(answer, "");
}

TEST_F(LabSessionTest, something_at_a_sockets_path_is_an_error_and_a_stale_socket_is_not) {
  open();
  LabCommand command = shell("true");
  command.paths = {{PathUse::Kind::Socket, "ctl"}};
  write_text(*host_ / "ctl", "");
  const auto ended = run(command);
  ASSERT_FALSE(ended);
  EXPECT_THAT(ended.error().text(), HasSubstr("a file that is no socket is there"));
  std::filesystem::remove(*host_ / "ctl");
  ASSERT_TRUE(listen_unix(*host_ / "ctl"));  // and closed again
  EXPECT_EQ(ending(run(command)), "code 0");
}

TEST_F(LabSessionTest, paths_longer_than_a_socket_address_work) {
  open();
  const std::string folder = std::string(100, 'd') + "/" + std::string(100, 'e');
  std::filesystem::create_directories(*host_ / folder);
  LabCommand command = shell("sleep 0.2");
  command.paths = {{PathUse::Kind::Socket, folder + "/ctl"}};
  std::string answer = "unset";
  std::thread client([&] { answer = ask_socket(*host_ / (folder + "/ctl"), "hello"); });
  EXPECT_EQ(ending(run(command)), "code 0");
  client.join();
  EXPECT_EQ(answer, "");
}

TEST_F(LabSessionTest, a_lab_that_dies_mid_command_is_a_failure_of_the_lab) {
  open();
  std::thread killer([this] {
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    ::kill(agent_->pid(), SIGKILL);
  });
  const auto ended = run(shell("sleep 3"));
  killer.join();
  ASSERT_FALSE(ended);
  EXPECT_EQ(ended.error().kind(), ErrorKind::Lab);
  EXPECT_THAT(ended.error().text(), HasSubstr("the channel to the lab was closed"));
  // And stays one.
  EXPECT_TRUE(session_->broken());
  EXPECT_THAT(ending(run(shell("true"))), HasSubstr("the channel to the lab was closed"));
}

TEST_F(LabSessionTest, a_dead_emulators_words_are_the_reason) {
  agent_ = std::make_unique<AgentProcess>(wire_.there, lab_->path());
  wire_.there.reset();
  std::atomic<bool> dead{false};
  auto session = LabSession::open(
      wire_.here,
      [&]() -> std::optional<std::string> {
        if (!dead) return std::nullopt;
        return "the emulator died of an assertion";
      },
      seconds(20));
  ASSERT_TRUE(session);
  session_ = *std::move(session);
  std::thread killer([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    ::kill(agent_->pid(), SIGKILL);
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    dead = true;
  });
  EXPECT_EQ(ending(run(shell("sleep 3"))), "error: the emulator died of an assertion");
  killer.join();
}

TEST_F(LabSessionTest, a_stopped_lab_is_noticed) {
  open(seconds(1));
  std::thread stopper([this] {
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    ::kill(agent_->pid(), SIGSTOP);
  });
  const auto ended = run(shell("sleep 100"));
  stopper.join();
  ASSERT_FALSE(ended);
  EXPECT_EQ(ended.error().kind(), ErrorKind::Lab);
  EXPECT_THAT(ended.error().text(), StartsWith("the lab has been silent for"));
}

TEST_F(LabSessionTest, a_session_that_ends_takes_the_command_with_it) {
  open();
  SocketPair unused;
  std::thread cutter([this] {
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    ::shutdown(wire_.here.get(), SHUT_RDWR);
  });
  write_text(*host_ / "marker", "");
  const auto ended = run(shell("sleep 1000"));
  cutter.join();
  EXPECT_FALSE(ended);
  EXPECT_EQ(agent_->wait(), 0);  // having killed and reaped it
}

TEST_F(LabSessionTest, power_off_ends_the_agent) {
  open();
  session_->power_off();
  EXPECT_EQ(agent_->wait(), 0);
}

TEST_F(LabSessionTest, a_second_session_on_the_same_channel_greets_anew) {
  open();
  EXPECT_EQ(ending(run(shell("exit 1"))), "code 1");
  auto second = LabSession::open(wire_.here, {}, seconds(20));
  ASSERT_TRUE(second) << second.error().text();
  session_ = *std::move(second);
  EXPECT_EQ(ending(run(shell("exit 2"))), "code 2");
}

}  // namespace
}  // namespace vmm
