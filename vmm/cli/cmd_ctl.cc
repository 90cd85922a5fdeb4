// vmm ctl: a command of the monitor's to a guest that runs with --ctl.
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <memory>

#include "vmm/base/fd.h"
#include "vmm/base/text.h"
#include "vmm/cli/commands.h"
#include "vmm/machine/control_session.h"

namespace vmm {
namespace {

constexpr int kNoAnswer = 74;  // EX_IOERR of sysexits.h
constexpr int kNotDone = 1;    // the command could not be carried out
constexpr int kPatience = 30;  // seconds

struct Options {
  std::string socket;
  std::vector<std::string> words;
};

Result<Fd> connect_to(const std::string& path) {
  sockaddr_un name{};
  name.sun_family = AF_UNIX;
  if (path.size() >= sizeof name.sun_path)
    return fail(Error::usage(fmt::format("{}: the path has {} bytes, and a socket's at most {}",
                                         printable(path), path.size(), sizeof name.sun_path - 1)));
  path.copy(name.sun_path, sizeof name.sun_path - 1);
  Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  // Of a socket whose owner takes nobody, connect() would wait for ever.
  const timeval patience{.tv_sec = kPatience, .tv_usec = 0};
  if (fd) ::setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  if (!fd || ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&name), sizeof name) != 0)
    return fail(Error::system(ErrorKind::Usage, printable(path), errno)
                    .hint("vmm run --ctl unix:PATH listens as long as its guest lives"));
  return fd;
}

Result<MonitorAnswer> ask(const std::string& path, const std::string& line) {
  const Fd fd = VMM_TRY(connect_to(path));
  const std::string sent = line + "\n";
  if (::send(fd.get(), sent.data(), sent.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(sent.size()))
    return fail(Error::system(ErrorKind::Usage, printable(path), errno));
  std::string received;
  std::array<char, 65536> bytes;
  while (true) {
    pollfd entry{fd.get(), POLLIN, 0};
    const int ready = ::poll(&entry, 1, kPatience * 1000);
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0)
      return fail(
          Error::usage(fmt::format("{}: no answer within {} seconds", printable(path), kPatience)));
    const ssize_t n = ::read(fd.get(), bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0)
      return fail(Error::usage(
          fmt::format("{}: the other side hung up before it answered", printable(path))));
    received.append(bytes.data(), static_cast<std::size_t>(n));
    if (auto answer = VMM_TRY_CONTEXT(control::decode(received), printable(path))) return *answer;
  }
}

Result<int> run_ctl(const Options& options) {
  const std::string line = fmt::format("{}", fmt::join(options.words, " "));
  if (line.size() > control::kMaxLine || line.find('\n') != std::string::npos)
    return fail(
        Error::usage(fmt::format("a command is one line of at most {} bytes", control::kMaxLine)));
  constexpr std::string_view kUnix = "unix:";
  const std::string path =
      options.socket.starts_with(kUnix) ? options.socket.substr(kUnix.size()) : options.socket;
  const auto answer = ask(path, line);
  if (!answer) {
    print_error(answer.error());
    return kNoAnswer;
  }
  if (answer->status == MonitorAnswer::Status::Done) {
    fmt::print("{}", answer->text);
    return 0;
  }
  fmt::print(stderr, "{}", answer->text);
  return answer->status == MonitorAnswer::Status::Usage ? exit_code(ErrorKind::Usage) : kNotDone;
}

}  // namespace

void add_ctl_command(CLI::App& app, Command& chosen) {
  auto options = std::make_shared<Options>();
  CLI::App* command =
      app.add_subcommand("ctl", "ask a guest that runs with --ctl, such as: ctl SOCKET regs all");
  command->add_option("SOCKET", options->socket, "as after --ctl, with or without unix:")
      ->type_name("")
      ->required();
  // What follows is the monitor's, options and all; nothing is help.
  command->prefix_command();
  command->footer("COMMAND... follows SOCKET; help lists what there is (docs/debugger.md).");
  command->callback([command, options, &chosen] {
    options->words = command->remaining();
    chosen.run = [options] { return run_ctl(*options); };
  });
}

}  // namespace vmm
