#include "vmm/lab/agent/command.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <pty.h>
#include <spawn.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <vector>

#include "vmm/base/text.h"

namespace vmm {

namespace {

struct Terminal {
  Fd master;
  Fd slave;  // held until the command has it: a master without a slave reads as hung up
  std::string path;
};

Result<Terminal> make_terminal(const TerminalSize& size) {
  winsize window{size.rows, size.columns, 0, 0};
  int master = -1;
  int slave = -1;
  std::array<char, 64> path{};
  if (::openpty(&master, &slave, path.data(), nullptr, &window) != 0)
    return fail(Error::system(ErrorKind::Lab, "make a terminal in the lab", errno));
  ::fcntl(master, F_SETFD, FD_CLOEXEC);
  ::fcntl(slave, F_SETFD, FD_CLOEXEC);
  return Terminal{Fd(master), Fd(slave), path.data()};
}

std::vector<char*> pointers(const std::vector<std::string>& strings) {
  std::vector<char*> list;
  for (const std::string& text : strings) list.push_back(const_cast<char*>(text.c_str()));
  list.push_back(nullptr);
  return list;
}

// posix_spawn's two arguments, freed with their owner.
class SpawnPlan {
 public:
  SpawnPlan() {
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawnattr_init(&attributes);
    sigset_t none;
    sigemptyset(&none);
    sigset_t all;
    sigfillset(&all);
    ::posix_spawnattr_setsigmask(&attributes, &none);
    ::posix_spawnattr_setsigdefault(&attributes, &all);
    ::posix_spawnattr_setflags(&attributes,
                               POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  }
  ~SpawnPlan() {
    ::posix_spawn_file_actions_destroy(&actions);
    ::posix_spawnattr_destroy(&attributes);
  }
  SpawnPlan(const SpawnPlan&) = delete;
  SpawnPlan& operator=(const SpawnPlan&) = delete;

  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
};

}  // namespace

Result<RunningCommand> start_command(const StartCommand& start) {
  SpawnPlan plan;
  RunningCommand running;
  std::vector<Fd> theirs;  // closed here when the command has them
  const Pipe err = VMM_TRY(make_pipe());
  running.err = VMM_TRY(duplicate(err.read.get()));
  if (start.terminal) {
    Terminal terminal = VMM_TRY(make_terminal(*start.terminal));
    // A session's leader without a terminal gets the first that it opens as its own.
    ::posix_spawn_file_actions_addopen(&plan.actions, 0, terminal.path.c_str(), O_RDWR, 0);
    ::posix_spawn_file_actions_adddup2(&plan.actions, 0, 1);
    running.in = {VMM_TRY(duplicate(terminal.master.get())), SinkKind::Terminal};
    running.out = std::move(terminal.master);
    theirs.push_back(std::move(terminal.slave));
  } else {
    Pipe in = VMM_TRY(make_pipe());
    Pipe out = VMM_TRY(make_pipe());
    ::posix_spawn_file_actions_adddup2(&plan.actions, in.read.get(), 0);
    ::posix_spawn_file_actions_adddup2(&plan.actions, out.write.get(), 1);
    running.in = {std::move(in.write), SinkKind::Plain};
    running.out = std::move(out.read);
    theirs.push_back(std::move(in.read));
    theirs.push_back(std::move(out.write));
  }
  ::posix_spawn_file_actions_adddup2(&plan.actions, err.write.get(), 2);
  ::posix_spawn_file_actions_addclosefrom_np(&plan.actions, 3);
  ::posix_spawn_file_actions_addchdir_np(&plan.actions, start.directory.c_str());
  for (const int fd : {running.in.fd.get(), running.out.get(), running.err.get()})
    VMM_TRY(set_nonblocking(fd));

  const auto argv = pointers(start.argv);
  std::vector<std::string> words = start.environment;
  // What this machine's C library should leave alone, the kernel's command line knows.
  if (const char* tunables = std::getenv("GLIBC_TUNABLES"))
    words.push_back(fmt::format("GLIBC_TUNABLES={}", tunables));
  const auto environment = pointers(words);
  const int reason = ::posix_spawn(&running.pid, argv[0], &plan.actions, &plan.attributes,
                                   argv.data(), environment.data());
  if (reason != 0)
    return fail(Error::system(ErrorKind::Lab,
                              fmt::format("start {} in {} of the lab", printable(start.argv[0]),
                                          printable(start.directory)),
                              reason));
  return running;
}

}  // namespace vmm
