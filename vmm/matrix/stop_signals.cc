#include "vmm/matrix/stop_signals.h"

#include <sys/signalfd.h>
#include <unistd.h>

#include <cerrno>

namespace vmm {

Result<StopSignals> StopSignals::take() {
  StopSignals signals;
  ::sigemptyset(&signals.set_);
  for (const int number : {SIGINT, SIGTERM, SIGHUP}) ::sigaddset(&signals.set_, number);
  ::pthread_sigmask(SIG_BLOCK, &signals.set_, &signals.before_);
  signals.fd_ = Fd(::signalfd(-1, &signals.set_, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!signals.fd_) return fail(Error::system(ErrorKind::Internal, "signalfd", errno));
  return signals;
}

StopSignals::~StopSignals() {
  if (fd_) ::pthread_sigmask(SIG_SETMASK, &before_, nullptr);
}

std::optional<int> StopSignals::taken() const {
  signalfd_siginfo info;
  if (::read(fd_.get(), &info, sizeof info) != sizeof info) return std::nullopt;
  return static_cast<int>(info.ssi_signo);
}

}  // namespace vmm
