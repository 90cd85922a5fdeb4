// For tests: a lab without a machine (the agent as a process, its files in a folder), a wire to it
// that can lose and change frames, and a scripted other side that breaks the rules.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <sstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "vmm/base/fd.h"
#include "vmm/lab/frame.h"

namespace vmm {

struct SocketPair {
  Fd here;
  Fd there;
  explicit SocketPair(int here_flags = SOCK_NONBLOCK) {
    int fds[2] = {-1, -1};
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    here = Fd(fds[0]);
    there = Fd(fds[1]);
    if (here_flags == SOCK_NONBLOCK) ::fcntl(here.get(), F_SETFL, O_NONBLOCK);
  }
};

class TemporaryFolder {
 public:
  TemporaryFolder() {
    char name[] = "/tmp/vmm-lab-test-XXXXXX";
    EXPECT_NE(::mkdtemp(name), nullptr);
    path_ = name;
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

inline void write_text(const std::string& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

inline std::string read_text(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return std::move(text).str();
}

// `vmm-lab-init --serve` on one end of a socket.
class AgentProcess {
 public:
  AgentProcess(const Fd& channel, const std::string& root) {
    // The child gets the descriptor under a number of its own.
    posix_spawn_file_actions_t actions;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawn_file_actions_adddup2(&actions, channel.get(), 3);
    ::posix_spawn_file_actions_addclosefrom_np(&actions, 4);
    std::string words[] = {VMM_LAB_INIT, "--serve", "3", "svm", root};
    char* argv[] = {words[0].data(), words[1].data(), words[2].data(),
                    words[3].data(), words[4].data(), nullptr};
    char* environment[] = {nullptr};
    EXPECT_EQ(::posix_spawn(&pid_, VMM_LAB_INIT, &actions, nullptr, argv, environment), 0);
    ::posix_spawn_file_actions_destroy(&actions);
  }
  ~AgentProcess() { kill(); }
  void kill() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    wait();
  }
  // Its wait status.
  int wait() {
    int status = 0;
    ::waitpid(pid_, &status, 0);
    pid_ = 0;
    return status;
  }
  pid_t pid() const { return pid_; }

 private:
  pid_t pid_ = 0;
};

enum class WireFault { None, Drop, Flip, Duplicate, Truncate };

// Carries frames both ways between two sockets and does `fault` to one of them: the first of one
// direction, after `spared` others, whose payload has `chosen` in it.
class FaultyWire {
 public:
  FaultyWire(Fd host, Fd lab, WireFault fault, bool to_lab, std::string chosen, int spared = 0)
      : host_(std::move(host)),
        lab_(std::move(lab)),
        fault_(fault),
        to_lab_(to_lab),
        chosen_(std::move(chosen)),
        spared_(spared),
        thread_([this] { run(); }) {}
  ~FaultyWire() {
    stop_ = true;
    ::shutdown(host_.get(), SHUT_RDWR);
    ::shutdown(lab_.get(), SHUT_RDWR);
    thread_.join();
  }
  bool struck() const { return struck_; }

 private:
  void run() {
    std::vector<std::uint8_t> up, down;
    while (!stop_) {
      pollfd polled[] = {{host_.get(), POLLIN, 0}, {lab_.get(), POLLIN, 0}};
      ::poll(polled, 2, 20);
      if (polled[0].revents != 0 && !carry(host_, lab_, down, to_lab_)) return;
      if (polled[1].revents != 0 && !carry(lab_, host_, up, !to_lab_)) return;
    }
  }
  bool carry(const Fd& from, const Fd& to, std::vector<std::uint8_t>& bytes, bool faulty) {
    std::uint8_t buffer[65536];
    const ssize_t count = ::read(from.get(), buffer, sizeof buffer);
    if (count <= 0) {
      ::shutdown(from.get(), SHUT_RDWR);
      ::shutdown(to.get(), SHUT_RDWR);
      return false;
    }
    bytes.insert(bytes.end(), buffer, buffer + count);
    while (bytes.size() >= kFrameHeader) {
      std::uint32_t length = 0;
      std::memcpy(&length, bytes.data() + 12, 4);
      const std::size_t size = kFrameHeader + length;
      if (bytes.size() < size) break;
      const auto end = bytes.begin() + static_cast<std::ptrdiff_t>(size);
      std::vector<std::uint8_t> frame(bytes.begin(), end);
      bytes.erase(bytes.begin(), end);
      if (faulty && !struck_) strike(frame);
      for (std::size_t at = 0; at < frame.size();) {
        const ssize_t done = ::send(to.get(), frame.data() + at, frame.size() - at, MSG_NOSIGNAL);
        if (done < 0) return false;
        at += static_cast<std::size_t>(done);
      }
    }
    return true;
  }
  void strike(std::vector<std::uint8_t>& frame) {
    const std::string payload(frame.begin() + kFrameHeader, frame.end());
    if (payload.find(chosen_) == payload.npos || spared_-- > 0) return;
    struck_ = true;
    const std::vector<std::uint8_t> copy = frame;
    if (fault_ == WireFault::Drop) frame.clear();
    if (fault_ == WireFault::Flip) frame.back() = static_cast<std::uint8_t>(frame.back() ^ 1);
    if (fault_ == WireFault::Duplicate) frame.insert(frame.end(), copy.begin(), copy.end());
    if (fault_ == WireFault::Truncate) frame.resize(frame.size() - 1);
  }

  Fd host_, lab_;
  WireFault fault_;
  bool to_lab_;
  std::string chosen_;
  int spared_;
  std::atomic<bool> struck_{false};
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

// The other side of a channel, frame by frame. `answer` is called for each frame that comes (with
// its kind, stream and payload) and may send.
class ScriptedPeer {
 public:
  using Answer = std::function<void(ScriptedPeer&, FrameKind, std::uint32_t, const std::string&)>;
  ScriptedPeer(Fd fd, Answer answer)
      : fd_(std::move(fd)), answer_(std::move(answer)), thread_([this] { run(); }) {}
  ~ScriptedPeer() {
    stop_ = true;
    ::shutdown(fd_.get(), SHUT_RDWR);  // it may be in a send() that nobody reads
    thread_.join();
  }
  void send(FrameKind kind, std::uint32_t stream, const std::string& payload) {
    std::vector<std::uint8_t> bytes;
    writer_.append(bytes, kind, stream,
                   {reinterpret_cast<const std::uint8_t*>(payload.data()), payload.size()});
    (void)::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
  }
  void control(const std::string& json) { send(FrameKind::Control, 0, json); }

 private:
  void run() {
    FrameReader reader("the scripted peer's channel");
    while (!stop_) {
      pollfd polled{fd_.get(), POLLIN, 0};
      if (::poll(&polled, 1, 20) <= 0) continue;
      const auto room = reader.room();
      const ssize_t count = ::read(fd_.get(), room.data(), room.size());
      if (count <= 0) return;
      reader.add(static_cast<std::size_t>(count));
      for (;;) {
        const auto frame = reader.next();
        if (!frame || !*frame) break;
        answer_(*this, (*frame)->kind, (*frame)->stream, std::string((*frame)->text()));
      }
    }
  }

  Fd fd_;
  FrameWriter writer_;
  Answer answer_;
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

}  // namespace vmm
