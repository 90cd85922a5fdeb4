#include "guest-tests/run_vmm.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <regex>
#include <sstream>
#include <stdexcept>

namespace vmm {
namespace {

using std::chrono::milliseconds;

[[noreturn]] void give_up(const char* what) {
  throw std::runtime_error(fmt::format("{}: {}", what, std::strerror(errno)));
}

std::pair<Fd, Fd> make_pipe() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) give_up("pipe2");
  return {Fd(ends[0]), Fd(ends[1])};
}

// Takes what is there; closes `fd` at its end.
void take(Fd& fd, std::string& into) {
  char buffer[65536];
  const ssize_t n = ::read(fd.get(), buffer, sizeof buffer);
  if (n > 0)
    into.append(buffer, static_cast<std::size_t>(n));
  else if (n == 0 || (errno != EINTR && errno != EAGAIN))
    fd = Fd();
}

}  // namespace

std::string test_lab() {
  const char* name = std::getenv("VMM_TEST_LAB");
  return name == nullptr ? "" : name;
}

std::vector<std::string> lab_words() {
  if (test_lab().empty()) return {};
  return {"lab", "exec", "--name", test_lab(), "--"};
}

std::string RunResult::last_error_line() const {
  std::string line;
  std::istringstream lines(err);
  for (std::string next; std::getline(lines, next);)
    if (!next.empty()) line = next;
  return line;
}

std::string RunResult::unwrapped_err() const {
  return std::regex_replace(err, std::regex("\\n +"), " ");
}

std::string RunResult::text() const {
  return fmt::format("exit code {}, signal {}{}, after {:.2f} s\n-- stdout\n{}\n-- stderr\n{}\n",
                     code, signal, hung ? ", killed for hanging" : "", seconds, out, err);
}

VmmProcess::VmmProcess(RunSetup setup)
    : start_(std::chrono::steady_clock::now()),
      limit_((test_lab().empty() ? kHangLimit : kLabHangLimit) + setup.more_time) {
  signal(SIGPIPE, SIG_IGN);
  if (setup.in == ChildStdin::Terminal) {
    terminal_master_ = Fd(posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC));
    if (!terminal_master_ || grantpt(terminal_master_.get()) != 0 ||
        unlockpt(terminal_master_.get()) != 0)
      give_up("posix_openpt");
    char name[128];
    if (ptsname_r(terminal_master_.get(), name, sizeof name) != 0) give_up("ptsname_r");
    terminal_slave_ = Fd(::open(name, O_RDWR | O_NOCTTY | O_CLOEXEC));
    if (!terminal_slave_) give_up(name);
  }
  auto [in_read, in_write] = make_pipe();
  auto [out_read, out_write] = make_pipe();
  auto [err_read, err_write] = make_pipe();
  const int in = setup.in == ChildStdin::Closed     ? -1
                 : setup.in == ChildStdin::Terminal ? terminal_slave_.get()
                                                    : in_read.get();
  const int out = setup.out == ChildStdout::Closed     ? -1
                  : setup.out == ChildStdout::Terminal ? terminal_slave_.get()
                                                       : out_write.get();
  pid_ = fork();
  if (pid_ < 0) give_up("fork");
  if (pid_ == 0)
    child_exec(setup, in, out, setup.err_on_terminal ? terminal_slave_.get() : err_write.get());
  err_ = std::move(err_read);
  fcntl(in_write.get(), F_SETFL, O_NONBLOCK);
  if (setup.in == ChildStdin::Text || setup.in == ChildStdin::Open) in_ = std::move(in_write);
  close_when_sent_ = setup.in == ChildStdin::Text;
  if (setup.out == ChildStdout::Captured)
    out_ = std::move(out_read);
  else if (setup.out == ChildStdout::Stuck)
    stuck_ = std::move(out_read);
  to_send_ = std::move(setup.input);
}

VmmProcess::~VmmProcess() {
  if (ended_) return;
  ::kill(pid_, SIGKILL);
  reaped(true);
}

void VmmProcess::child_exec(const RunSetup& setup, int in, int out, int err) {
  signal(SIGPIPE, SIG_DFL);
  if (setup.in == ChildStdin::Terminal && (setsid() < 0 || ioctl(in, TIOCSCTTY, 0) != 0))
    _exit(126);
  const auto place = [](int from, int to) {
    if (from < 0)
      ::close(to);
    else if (dup2(from, to) != to)
      _exit(126);
  };
  place(in, STDIN_FILENO);
  place(out, STDOUT_FILENO);
  place(err, STDERR_FILENO);
  if (setup.user != 0 && (setgid(setup.user) != 0 || setuid(setup.user) != 0)) _exit(126);
  for (const auto& [name, value] : setup.environment) setenv(name.c_str(), value.c_str(), 1);
  std::vector<char*> argv{const_cast<char*>(VMM_BINARY)};
  std::vector<std::string> words = setup.here ? std::vector<std::string>() : lab_words();
  words.insert(words.end(), setup.arguments.begin(), setup.arguments.end());
  for (const std::string& word : words) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  execv(VMM_BINARY, argv.data());
  _exit(127);
}

bool VmmProcess::over_limit() const { return std::chrono::steady_clock::now() - start_ > limit_; }

bool VmmProcess::reaped(bool block) {
  if (ended_) return true;
  const pid_t pid = waitpid(pid_, &status_, block ? 0 : WNOHANG);
  if (pid != pid_) return false;
  ended_ = true;
  result_.seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  return true;
}

void VmmProcess::pump(milliseconds wait) {
  if (to_send_.empty() && close_when_sent_) in_ = Fd();
  std::vector<pollfd> fds;
  for (const Fd* fd : {&out_, &err_, &terminal_master_})
    fds.push_back({*fd ? fd->get() : -1, POLLIN, 0});
  if (!terminal_is_read_) fds.back().fd = -1;
  fds.push_back({in_ && !to_send_.empty() ? in_.get() : -1, POLLOUT, 0});
  if (::poll(fds.data(), fds.size(), static_cast<int>(wait.count())) <= 0) return;
  if (fds[0].revents != 0) take(out_, result_.out);
  if (fds[1].revents != 0) take(err_, result_.err);
  if (fds[2].revents != 0) take(terminal_master_, result_.out);
  if (fds[3].revents != 0) {
    const ssize_t n = ::write(in_.get(), to_send_.data(), to_send_.size());
    if (n > 0)
      to_send_.erase(0, static_cast<std::size_t>(n));
    else if (errno != EAGAIN && errno != EINTR)
      to_send_.clear();  // nobody reads any more
  }
}

bool VmmProcess::wait_until(const std::function<bool()>& condition) {
  while (true) {
    const bool ended = reaped(false);
    pump(milliseconds(ended ? 0 : 5));
    if (condition()) return true;
    if (ended || over_limit()) return false;
  }
}

bool VmmProcess::wait_for_output(const std::string& text) {
  return wait_until([&] {
    return result_.out.find(text) != std::string::npos ||
           result_.err.find(text) != std::string::npos;
  });
}

bool VmmProcess::wait_until_running(unsigned vcpus) {
  return wait_until([&] {
    std::error_code error;
    const std::filesystem::directory_iterator tasks(fmt::format("/proc/{}/task", pid_), error);
    // KVM itself may have a thread there as well.
    if (error || std::distance(begin(tasks), end(tasks)) < vcpus + 1) return false;
    // Seccomp: 2 is a filter; the main thread loads its own when all vCPUs are ready.
    return read_text_file(fmt::format("/proc/{}/task/{}/status", pid_, pid_)).find("Seccomp:\t2") !=
           std::string::npos;
  });
}

void VmmProcess::send(std::string_view input) {
  if (!terminal_slave_) {
    to_send_ += input;
    return;
  }
  if (::write(terminal_master_.get(), input.data(), input.size()) !=
      static_cast<ssize_t>(input.size()))
    give_up("write to the terminal");
}

void VmmProcess::kill(int signal) {
  if (!ended_) ::kill(pid_, signal);
}

void VmmProcess::stop_and_continue() {
  kill(SIGSTOP);
  wait_until([&] {
    return read_text_file(fmt::format("/proc/{}/status", pid_)).find("State:\tT") !=
           std::string::npos;
  });
  kill(SIGCONT);
}

void VmmProcess::hold_terminal_output(bool hold) {
  if (tcflow(terminal_slave_.get(), hold ? TCOOFF : TCOON) != 0) give_up("tcflow");
}

termios VmmProcess::terminal_mode() const {
  termios mode{};
  if (tcgetattr(terminal_slave_.get(), &mode) != 0) give_up("tcgetattr");
  return mode;
}

RunResult VmmProcess::finish() {
  while (!reaped(false) && !over_limit()) pump(milliseconds(5));
  if (!ended_) {
    result_.hung = true;
    ::kill(pid_, SIGKILL);
    reaped(true);
  }
  // The rest of its output; a grandchild cannot hold a pipe open, there is none.
  while (out_ || err_) pump(milliseconds(100));
  for (std::size_t before = ~std::size_t{0}; terminal_master_ && before != result_.out.size();) {
    before = result_.out.size();
    pump(milliseconds(0));
  }
  if (WIFEXITED(status_)) result_.code = WEXITSTATUS(status_);
  if (WIFSIGNALED(status_)) result_.signal = WTERMSIG(status_);
  return result_;
}

RunResult run_vmm(RunSetup setup) { return VmmProcess(std::move(setup)).finish(); }

RunResult run_guest(const std::string& guest, std::vector<std::string> options, std::string input) {
  RunSetup setup{.arguments = {"run", guest_path(guest)}, .input = std::move(input)};
  setup.arguments.insert(setup.arguments.end(), options.begin(), options.end());
  return run_vmm(std::move(setup));
}

std::string guest_path(const std::string& name) { return std::string(GUEST_DIR) + "/" + name; }

std::string host_backend() {
  static const std::string backend = [] {
    const RunResult host = run_vmm({.arguments = {"host", "--json"}});
    return nlohmann::json::parse(host.out).at("backend").get<std::string>();
  }();
  return backend;
}

std::string read_text_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

nlohmann::json read_json_file(const std::string& path) {
  return nlohmann::json::parse(read_text_file(path));
}

TempFolder::TempFolder() : path_(testing::TempDir() + "vmm-test-XXXXXX") {
  if (mkdtemp(path_.data()) == nullptr) give_up("mkdtemp");
}

TempFolder::~TempFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::string TempFolder::write(const std::string& name, std::string_view text) const {
  std::ofstream(file(name), std::ios::binary) << text;
  return file(name);
}

void KvmTest::SetUp() {
  if (test_lab().empty() && ::access("/dev/kvm", R_OK | W_OK) != 0)
    GTEST_SKIP() << "/dev/kvm cannot be used: " << std::strerror(errno);
  // While a guest runs in a lab, nothing else does.
  if (!test_lab().empty()) host_backend();
}

}  // namespace vmm
