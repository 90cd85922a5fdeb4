// vmm-lab-init: the first program of a lab, /init of its initramfs. `vmm-lab-init --serve FD
// [BACKEND [ROOT]]` serves a channel as an ordinary process, the lab's files under ROOT.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <string_view>
#include <thread>

#include "vmm/base/text.h"
#include "vmm/lab/agent/agent.h"
#include "vmm/lab/agent/init.h"

namespace vmm {
namespace {

constexpr std::size_t kConfigLimit = 1 << 20;
constexpr int kUsage = 64;
constexpr int kFailure = 75;
// How long a lab waits for a host that has closed the channel, before it gives its machine up.
constexpr auto kAbandonedStep = std::chrono::milliseconds(200);
constexpr int kAbandonedSteps = 300;

LabGreeting about_this_machine(std::string backend) {
  utsname name{};
  ::uname(&name);
  return {kLabProtocol, "", name.release, std::move(backend)};
}

int serve_descriptor(std::string_view number, std::string_view backend, std::string_view root) {
  const auto fd = parse_number(number);
  if (!fd || *fd > 1 << 20 || ::fcntl(static_cast<int>(*fd), F_SETFD, FD_CLOEXEC) != 0) {
    fmt::print(stderr, "vmm-lab: '{}' is no open descriptor\n", printable(number));
    return kUsage;
  }
  const int channel = static_cast<int>(*fd);
  auto served = set_nonblocking(channel);
  if (served) {
    auto agent = Agent::make(channel, about_this_machine(std::string(backend)), std::string(root));
    if (agent) {
      (*agent)->serve();
      return 0;
    }
    served = fail(agent.error());
  }
  fmt::print(stderr, "vmm-lab: {}\n", served.error().text());
  return kFailure;
}

Result<void> run_machine(AgentConfig& config) {
  VMM_TRY(mount_what_is_needed());
  const auto text = VMM_TRY(read_file(kAgentConfigPath, kConfigLimit, ErrorKind::Lab));
  config =
      VMM_TRY_CONTEXT(parse_agent_config({reinterpret_cast<const char*>(text.data()), text.size()}),
                      kAgentConfigPath);
  VMM_TRY(load_modules(config));
  const Fd channel = VMM_TRY(open_channel(config));
  const auto agent = VMM_TRY(Agent::make(channel.get(), about_this_machine(loaded_backend())));
  agent->on_greeting(live_with);
  // The host's end may be closed when we begin, and for a moment when its owner changes.
  for (int step = 0; step < kAbandonedSteps; ++step) {
    const auto begun = std::chrono::steady_clock::now();
    if (agent->serve() == Agent::Ending::PowerOff) return {};
    if (std::chrono::steady_clock::now() - begun > kAbandonedStep) step = 0;
    std::this_thread::sleep_for(kAbandonedStep);
  }
  return fail(Error::lab("the host has gone"));
}

[[noreturn]] void be_init() {
  AgentConfig config;
  if (const auto done = run_machine(config); !done) say(done.error().text());
  power_off_machine(config.shutdown_port);
}

}  // namespace
}  // namespace vmm

int main(int argc, char** argv) {
  try {
    if (argc >= 3 && std::string_view(argv[1]) == "--serve")
      return vmm::serve_descriptor(argv[2], argc > 3 ? argv[3] : "", argc > 4 ? argv[4] : "");
    if (::getpid() == 1) vmm::be_init();
    fmt::print(stderr, "usage: vmm-lab-init --serve FD [BACKEND [ROOT]]\n");
    return vmm::kUsage;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "vmm-lab-init: error: %s: this is a fault of vmm's\n", e.what());
    return 70;
  }
}
