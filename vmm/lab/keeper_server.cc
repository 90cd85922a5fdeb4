#include "vmm/lab/keeper_server.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

namespace vmm {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

// Whoever connects and says nothing is sent away after this.
constexpr milliseconds kGreeting{2000};
constexpr std::size_t kMaxVisitors = 16;
constexpr std::size_t kMaxJobs = 64;

Result<Fd> event(int flags) {
  Fd fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK | flags));
  if (!fd) return fail(Error::system(ErrorKind::Lab, "eventfd", errno));
  return fd;
}

void signal(const Fd& event) {
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t n = ::write(event.get(), &one, sizeof one);
}

bool is_readable(int fd) {
  pollfd polled = {.fd = fd, .events = POLLIN, .revents = 0};
  return ::poll(&polled, 1, 0) > 0;
}

// Readable when one of the two is, or has hung up.
Result<Fd> either(int one, int other) {
  Fd both(::epoll_create1(EPOLL_CLOEXEC));
  if (!both) return fail(Error::system(ErrorKind::Lab, "epoll_create1", errno));
  for (const int fd : {one, other}) {
    epoll_event wanted{};
    wanted.events = EPOLLIN;
    if (fd >= 0 && ::epoll_ctl(both.get(), EPOLL_CTL_ADD, fd, &wanted) != 0)
      return fail(Error::system(ErrorKind::Lab, "epoll_ctl", errno));
  }
  return both;
}

bool is_this_user(const Fd& client) {
  ucred peer{};
  socklen_t size = sizeof peer;
  return ::getsockopt(client.get(), SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 &&
         peer.uid == ::geteuid();
}

}  // namespace

Result<std::unique_ptr<KeeperServer>> KeeperServer::open(KeeperSocket socket, const Boot& boot) {
  Fd stop = VMM_TRY(event(0));
  Fd work = VMM_TRY(event(EFD_SEMAPHORE));
  Fd leave = VMM_TRY(event(0));
  return std::unique_ptr<KeeperServer>(new KeeperServer(std::move(socket), boot, std::move(stop),
                                                        std::move(work), std::move(leave)));
}

KeeperServer::KeeperServer(KeeperSocket socket, const Boot& boot, Fd stop, Fd work, Fd leave)
    : socket_(std::move(socket)),
      stop_(std::move(stop)),
      work_(std::move(work)),
      leave_(std::move(leave)),
      lab_([boot, given_up = stop_.get()](int cancel) { return boot(cancel, given_up); }),
      door_([this] { attend_door(); }) {}

KeeperServer::~KeeperServer() { end(); }

Result<std::string> KeeperServer::boot(int cancel) {
  const Fd given_up = VMM_TRY(either(cancel, stop_.get()));
  VMM_TRY(lab_.boot(given_up.get()));
  publish(lab_.state());
  return lab_.description();
}

void KeeperServer::serve() {
  while (!stopped()) {
    pollfd polled[] = {{stop_.get(), POLLIN, 0}, {work_.get(), POLLIN, 0}};
    ::poll(polled, 2, -1);
    if (polled[0].revents != 0 || polled[1].revents == 0) continue;
    std::uint64_t one = 0;
    [[maybe_unused]] const ssize_t n = ::read(work_.get(), &one, sizeof one);
    std::optional<Job> job;
    {
      const auto shared = shared_.lock();
      if (shared->jobs.empty()) continue;
      job = std::move(shared->jobs.front());
      shared->jobs.pop_front();
    }
    run(*std::move(job));
  }
}

void KeeperServer::run(Job job) {
  if (is_readable(job.client.get())) return;  // it has gone while it waited
  publish("busy");
  const std::size_t out = job.streams.size() - 2;
  const LabStreams streams = {.in = out == 0 ? -1 : job.streams[0].get(),
                              .out = job.streams[out].get(),
                              .err = job.streams[out + 1].get()};
  KeeperReply reply;
  // A client that goes away no longer wants its command.
  auto given_up = either(job.client.get(), stop_.get());
  auto result = given_up ? lab_.execute(job.command, streams, given_up->get())
                         : Result<LabExit>(fail(std::move(given_up).error()));
  if (result)
    reply.exit = *result;
  else
    reply.error = std::move(result).error();
  publish(lab_.state());
  job.streams.clear();  // before the client goes on: whoever reads them sees their end
  send(job.client, std::move(reply));
}

void KeeperServer::end(const Error& why) {
  if (std::exchange(ended_, true)) return;
  lab_.end();
  signal(leave_);
  door_.join();
  socket_.close();
  // Nobody else is left to touch these.
  const auto shared = shared_.lock();
  for (const Job& job : shared->jobs) {
    KeeperReply reply;
    reply.error = why;
    reply.pid = ::getpid();
    [[maybe_unused]] const auto sent = send_keeper_message(job.client, to_json(reply));
  }
  for (const Fd& client : shared->stops) {
    KeeperReply reply;
    reply.pid = ::getpid();
    [[maybe_unused]] const auto sent = send_keeper_message(client, to_json(reply));
  }
  shared->jobs.clear();
  shared->stops.clear();
}

void KeeperServer::publish(const std::string& state) {
  const auto shared = shared_.lock();
  shared->state = state;
  shared->description = lab_.description();
}

bool KeeperServer::stopped() const { return is_readable(stop_.get()); }

// --- The door's thread ---

void KeeperServer::attend_door() {
  std::vector<Visitor> visitors;
  while (true) {
    std::vector<pollfd> polled = {{leave_.get(), POLLIN, 0}};
    for (const Visitor& visitor : visitors) polled.push_back({visitor.fd.get(), POLLIN, 0});
    // Those who find the house full wait in the socket's own queue.
    if (visitors.size() < kMaxVisitors) polled.push_back({socket_.fd(), POLLIN, 0});
    ::poll(polled.data(), polled.size(), visitors.empty() ? -1 : 200);
    if (polled[0].revents != 0) return;
    std::vector<Visitor> waiting;
    for (std::size_t i = 0; i < visitors.size(); ++i) {
      if (polled[i + 1].revents != 0)
        receive(std::move(visitors[i].fd));
      else if (Clock::now() - visitors[i].since < kGreeting)
        waiting.push_back(std::move(visitors[i]));
    }
    const bool knocks = polled.size() > visitors.size() + 1 && polled.back().revents != 0;
    visitors = std::move(waiting);
    if (!knocks) continue;
    Fd client(::accept4(socket_.fd(), nullptr, nullptr, SOCK_CLOEXEC));
    if (client && is_this_user(client)) visitors.push_back({std::move(client), Clock::now()});
  }
}

void KeeperServer::receive(Fd client) {
  auto message = receive_keeper_message(client, 0, -1);
  if (!message) return;
  auto request = parse_keeper_request(message->text);
  if (request) return answer(*std::move(request), std::move(message->fds), std::move(client));
  KeeperReply reply;
  reply.error = std::move(request).error();
  send(client, std::move(reply));
}

void KeeperServer::answer(KeeperRequest request, std::vector<Fd> fds, Fd client) {
  switch (request.kind) {
    case KeeperRequest::Kind::Status:
      send(client, {});
      break;
    case KeeperRequest::Kind::Stop:
      shared_.lock()->stops.push_back(std::move(client));
      signal(stop_);
      break;
    case KeeperRequest::Kind::Execute:
      enqueue(std::move(request), std::move(fds), std::move(client));
      break;
  }
}

void KeeperServer::enqueue(KeeperRequest request, std::vector<Fd> fds, Fd client) {
  KeeperReply reply;
  {
    const auto shared = shared_.lock();
    if (fds.size() != (request.has_input ? 3U : 2U)) {
      reply.error = Error::lab("a command for a lab came without its descriptors");
    } else if (shared->jobs.size() >= kMaxJobs) {
      reply.error = Error::lab(fmt::format("{} commands wait for the lab already", kMaxJobs));
    } else {
      shared->jobs.push_back({std::move(request.command), std::move(fds), std::move(client)});
      signal(work_);
      return;
    }
  }
  send(client, std::move(reply));
}

void KeeperServer::send(const Fd& client, KeeperReply reply) {
  {
    const auto shared = shared_.lock();
    reply.state = shared->state;
    reply.description = shared->description;
  }
  reply.pid = ::getpid();
  // A client that is gone needs no answer.
  [[maybe_unused]] const auto sent = send_keeper_message(client, to_json(reply));
}

}  // namespace vmm
