// /etc/lab.json of the initramfs: what the agent does before it says hello. Written by whoever
// makes the initramfs, read by the agent.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/base/result.h"

namespace vmm {

constexpr const char* kAgentConfigPath = "/etc/lab.json";

struct AgentModule {
  std::string path;        // in the initramfs; .xz, .gz and .zst only where the kernel unpacks them
  std::string parameters;  // "nested=1 npt=0"
  bool optional = false;   // the lab comes up without it as well
};

struct AgentConfig {
  std::vector<AgentModule> modules;  // in the order in which they are loaded
  // "tty": a character device. "mailbox": a disk, see mailbox.h.
  std::string channel_kind = "tty";
  std::string channel_device;  // "/dev/vport0p1", "/dev/ttyS1"
  // An I/O port that takes the word "Shutdown" for a power-off (Bochs: 8900h); 0: ACPI does it.
  std::uint16_t shutdown_port = 0;
};

std::string to_json(const AgentConfig& config);
// Members that nobody here knows are left alone. Errors of kind Lab.
Result<AgentConfig> parse_agent_config(std::string_view json);

}  // namespace vmm
