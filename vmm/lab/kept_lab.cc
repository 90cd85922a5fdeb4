#include "vmm/lab/kept_lab.h"

#include <fmt/format.h>
#include <poll.h>

#include <climits>

#include "vmm/base/descriptors.h"
#include "vmm/base/text.h"

namespace vmm {
namespace {

// One line for whoever waits for a command. Dropped where it would have to wait itself.
void say_on(int fd, const std::string& text) {
  pollfd polled = {.fd = fd, .events = POLLOUT, .revents = 0};
  if (::poll(&polled, 1, 0) != 1 || (polled.revents & POLLOUT) == 0) return;
  const auto sink = borrow_descriptor(fd, true);
  if (!sink) return;
  const SigpipeGuard guard;
  const std::string line = fmt::format("vmm: lab: {}\n", printable(text, PIPE_BUF / 2));
  (void)write_some(*sink, {reinterpret_cast<const std::uint8_t*>(line.data()), line.size()});
}

}  // namespace

Result<void> KeptLab::boot(int cancel) {
  lab_.reset();
  auto lab = boot_(cancel);
  if (!lab) {
    trouble_ = lab.error().text();
    return fail(std::move(lab).error());
  }
  lab_ = *std::move(lab);
  lab_->pause();
  description_ = lab_->description();
  trouble_.clear();
  return {};
}

void KeptLab::look_after() {
  if (!lab_ || !trouble_.empty()) return;
  if (const auto answer = lab_->check(); !answer) trouble_ = answer.error().text();
}

Result<LabExit> KeptLab::execute(const LabCommand& command, const LabStreams& streams, int cancel) {
  look_after();
  if (!lab_ || !trouble_.empty()) {
    if (!trouble_.empty()) say_on(streams.err, "it boots anew: " + trouble_);
    VMM_TRY(boot(cancel));
  }
  auto result = lab_->execute(command, streams, cancel);
  if (lab_->healthy()) {
    lab_->pause();
  } else {
    trouble_ = result ? "the lab failed" : result.error().text();
    lab_.reset();  // what is left of it would only cost processor time
  }
  return result;
}

}  // namespace vmm
