// The machine under its control socket (control_session.h): stopped for a command, and on again.
#include <fmt/format.h>

#include "vmm/base/text.h"
#include "vmm/machine/control_session.h"
#include "vmm/machine/debug_session.h"
#include "vmm/machine/machine.h"

namespace vmm {
namespace {

using Status = MonitorAnswer::Status;

// "vcpu N COMMAND" is about that one, everything else about vCPU 0.
Result<unsigned> take_vcpu(std::string_view& line, unsigned vcpus) {
  constexpr std::string_view kWord = "vcpu ";
  if (!line.starts_with(kWord)) return 0U;
  std::string_view rest = trim(line.substr(kWord.size()));
  const std::string_view digits = rest.substr(0, rest.find(' '));
  const auto number = parse_number(digits);
  if (!number || *number >= vcpus)
    return fail(
        Error::usage(fmt::format("usage: vcpu N COMMAND: N is a number from 0 to {}", vcpus - 1)));
  line = trim(rest.substr(digits.size()));
  return static_cast<unsigned>(*number);
}

bool asks_for_reset(std::string_view line) { return line.substr(0, line.find(' ')) == "reset"; }

// What only the socket has.
void add_own_help(std::string_view line, MonitorAnswer& answer) {
  if (line != "help" && !line.empty()) return;
  answer.text +=
      "pause                                stops the guest until resume\n"
      "resume                               lets it run\n"
      "vcpu N COMMAND                       the same about vCPU N instead of 0\n";
}

}  // namespace

Result<void> Machine::open_control() {
  if (!spec_.ctl) return {};
  control_ = VMM_TRY(
      ControlSession::open(*spec_.ctl, [this](std::string_view line) { return control(line); }));
  return {};
}

// What has stopped by itself meanwhile is for the event loop, which lets the others run on if they
// are to.
Result<MonitorAnswer> Machine::peek_beside_debugger(std::string_view line, unsigned vcpu) {
  VMM_TRY(pause());
  // Behind a reset there is nothing to put back into memory.
  MonitorAnswer answer =
      asks_for_reset(line) ? debugger_->monitor(line, vcpu) : debugger_->peek(line, vcpu);
  if (!debug_stops_.lock()->empty())
    wake();
  else if (!threads_->ending() && !debugger_->holds_guest())
    VMM_TRY(debugger_->run_on());
  return answer;
}

Result<MonitorAnswer> Machine::control(std::string_view line) {
  line = trim(line);
  const auto vcpu = take_vcpu(line, vcpu_count());
  if (!vcpu) return MonitorAnswer{Status::Usage, vcpu.error().text() + "\n"};
  if (spec_.gdb && (line == "pause" || line == "resume"))
    return MonitorAnswer{Status::Failed, "a debugger (--gdb) has the guest: use that\n"};
  // It could not be told, and would show registers and memory from before.
  if (spec_.gdb && debugger_->has_client() && debugger_->holds_guest() && asks_for_reset(line))
    return MonitorAnswer{Status::Failed,
                         "a debugger has the guest stopped: say monitor reset there\n"};
  const bool ran = !paused();
  if (line == "resume") {
    if (!ran) VMM_TRY(debugger_ != nullptr ? debugger_->run() : resume());
    return MonitorAnswer{Status::Done, ran ? "the guest runs already\n" : "the guest runs\n"};
  }
  if (line == "pause") {
    VMM_TRY(debugger_ != nullptr ? debugger_->halt() : pause());
    return MonitorAnswer{Status::Done, "the guest is stopped\n"};
  }
  if (debugger_ != nullptr) {
    MonitorAnswer answer = debugger_->holds_guest() ? debugger_->monitor(line, *vcpu)
                                                    : VMM_TRY(peek_beside_debugger(line, *vcpu));
    if (!spec_.gdb) add_own_help(line, answer);
    return answer;
  }
  VMM_TRY(pause());
  const PagingFeatures paging = PagingFeatures::from(guest_cpuid_);
  MonitorAnswer answer = run_monitor({.target = *this,
                                      .machine = *this,
                                      .debugger = nullptr,
                                      .paging = paging,
                                      .vcpu = *vcpu,
                                      .stop = {.kind = StopReason::Kind::Asked}},
                                     line);
  add_own_help(line, answer);
  if (ran && !threads_->ending()) VMM_TRY(resume());
  return answer;
}

}  // namespace vmm
