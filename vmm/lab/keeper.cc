#include "vmm/lab/keeper.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "vmm/base/descriptors.h"
#include "vmm/base/fd.h"
#include "vmm/lab/keeper_messages.h"
#include "vmm/lab/keeper_socket.h"

namespace vmm {
namespace {

Result<Fd> connect_to_lab(const std::string& name) {
  const std::string path = VMM_TRY(lab_socket_path(name));
  auto socket = VMM_TRY(connect_to_keeper(path));
  if (socket) return std::move(*socket);
  return fail(Error::no_lab("no lab '" + name + "' is up")
                  .hint("vmm lab start boots one, vmm lab list shows those that are up"));
}

Result<KeeperReply> ask(const Fd& socket, const KeeperRequest& request, std::span<const int> fds,
                        int milliseconds, int cancel) {
  VMM_TRY(send_keeper_message(socket, to_json(request), fds));
  const KeeperMessage message = VMM_TRY(receive_keeper_message(socket, milliseconds, cancel));
  KeeperReply reply = VMM_TRY(parse_keeper_reply(message.text));
  if (reply.error) return fail(std::move(*reply.error));
  return reply;
}

// The keeper's process from its first to its last moment. `report` takes how the boot went, and
// gives it up when its other end is closed.
[[noreturn]] void keep(KeeperSocket socket, const KeeperServer::Boot& boot, Fd report) {
  ::setsid();
  // The terminal stays the user's: nothing here reads from it or writes to it.
  if (const Fd null(::open("/dev/null", O_RDWR | O_CLOEXEC)); null)
    for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) ::dup2(null.get(), fd);
  KeeperReply reply;
  std::optional<Error> failed;
  {
    auto server = KeeperServer::open(std::move(socket), boot);
    auto up = server ? (*server)->boot(report.get()) : Result<std::string>(fail(server.error()));
    if (up)
      reply.description = *up;
    else
      failed = reply.error = std::move(up).error();
    if (failed && server) (*server)->end(*failed);
    [[maybe_unused]] const auto sent = send_keeper_message(report, to_json(reply));
    report.reset();
    if (!failed) (*server)->serve();
    if (server) (*server)->end();
  }
  ::_exit(0);
}

// Waits some seconds for the end of a keeper that was told to give up, and then helps.
void wait_for_end(pid_t keeper) {
  constexpr int kSteps = 250;
  constexpr int kStep = 20;
  for (int step = 0; step < kSteps; ++step) {
    const pid_t ended = ::waitpid(keeper, nullptr, WNOHANG);
    if (ended == keeper || (ended < 0 && errno != EINTR)) return;
    ::poll(nullptr, 0, kStep);
  }
  ::kill(keeper, SIGKILL);
  while (::waitpid(keeper, nullptr, 0) < 0 && errno == EINTR) {
  }
}

}  // namespace

std::vector<RunningLab> running_labs() {
  constexpr int kAnswer = 500;
  std::vector<RunningLab> labs;
  for (const std::string& name : lab_socket_names()) {
    auto socket = connect_to_lab(name);
    if (!socket) continue;
    RunningLab lab;
    lab.name = name;
    lab.state = "does not answer";
    if (auto reply = ask(*socket, {}, {}, kAnswer, -1)) {
      lab.description = reply->description;
      lab.state = reply->state;
      lab.pid = reply->pid;
    }
    labs.push_back(std::move(lab));
  }
  return labs;
}

Result<std::string> start_lab(const std::string& name, const LabSpec& spec,
                              std::chrono::seconds patience, int cancel) {
  return start_lab(
      name,
      [spec, patience](int given_up, int stop) {
        return Lab::boot(spec, {.patience = patience, .cancel = given_up, .stop = stop});
      },
      cancel);
}

Result<std::string> start_lab(const std::string& name, const KeeperServer::Boot& boot, int cancel) {
  KeeperSocket socket = VMM_TRY(KeeperSocket::listen(name));
  auto [ours, theirs] = VMM_TRY(make_socket_pair(SOCK_SEQPACKET));
  const pid_t child = ::fork();
  if (child < 0) return fail(Error::system(ErrorKind::Lab, "fork", errno));
  if (child == 0) {
    ours.reset();
    keep(std::move(socket), boot, std::move(theirs));
  }
  theirs.reset();
  const auto message = receive_keeper_message(ours, -1, cancel);
  ours.reset();
  auto reply =
      message ? parse_keeper_reply(message->text) : Result<KeeperReply>(fail(message.error()));
  if (reply && !reply->error) {
    socket.hand_over();
    return reply->description;
  }
  wait_for_end(child);
  return fail(reply ? std::move(*reply->error) : std::move(reply).error());
}

Result<LabExit> execute_in_lab(const std::string& name, const LabCommand& command,
                               const LabStreams& streams, int cancel) {
  const Fd socket = VMM_TRY(connect_to_lab(name));
  std::vector<int> fds;
  if (streams.in >= 0) fds.push_back(streams.in);
  fds.insert(fds.end(), {streams.out, streams.err});
  const KeeperReply reply = VMM_TRY(
      ask(socket,
          {.kind = KeeperRequest::Kind::Execute, .command = command, .has_input = streams.in >= 0},
          fds, -1, cancel));
  return reply.exit;
}

Result<void> stop_lab(const std::string& name) {
  const Fd socket = VMM_TRY(connect_to_lab(name));
  const auto reply = ask(
      socket, {.kind = KeeperRequest::Kind::Stop, .command = {}, .has_input = false}, {}, -1, -1);
  // One that is gone without a word is down as well.
  if (!reply && connect_to_lab(name)) return fail(reply.error());
  return {};
}

}  // namespace vmm
