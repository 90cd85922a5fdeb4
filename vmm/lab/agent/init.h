// What the agent does because it is the first and only program of its machine.
#pragma once

#include <string>

#include "vmm/base/fd.h"
#include "vmm/base/result.h"
#include "vmm/lab/agent_config.h"
#include "vmm/lab/messages.h"

namespace vmm {

// Standard descriptors, /proc, /sys, /dev with its parts, /tmp and /run.
Result<void> mount_what_is_needed();
Result<void> load_modules(const AgentConfig& config);
// "svm", "vmx" or nothing: whose module of KVM is loaded.
std::string loaded_backend();
// A non-blocking descriptor of the channel that the configuration names, as soon as its device is
// there (within some seconds): the device itself, made raw if it is a terminal, or a socket that a
// thread relays through the mailbox on a disk.
Result<Fd> open_channel(const AgentConfig& config);
// Takes over the host's clock, and its word into the random numbers: both are those of an earlier
// lab in one that was loaded from a saved state.
void live_with(const HostGreeting& greeting);
// One line on the console.
void say(std::string_view text);
[[noreturn]] void power_off_machine(std::uint16_t shutdown_port);

}  // namespace vmm
