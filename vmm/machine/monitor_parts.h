// What the files of the monitor's commands have in common (monitor_*.cc); not for others.
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "vmm/machine/debug_monitor.h"
#include "vmm/machine/explain_facts.h"

namespace vmm::monitor {

struct Request {
  const MonitorScene& scene;
  std::span<const std::string_view> words;  // behind the command's name
  bool json = false;                        // --json
};

struct Command {
  std::string_view name;
  std::string_view arguments;
  std::string_view help;
  MonitorAnswer (*run)(const Request& request);
  bool has_json = false;
};

MonitorAnswer done(std::string text);
MonitorAnswer done_json(const nlohmann::json& document);
// A line end is added.
MonitorAnswer failed(std::string text);
MonitorAnswer failed(const Error& error);
// Answered with the usage of the command.
MonitorAnswer usage();
// The same behind what is wrong.
MonitorAnswer usage(std::string problem);

// An address, an index or a value: 0x1234, 1234h, $register, a symbol, else hexadecimal digits.
std::optional<std::uint64_t> number_of(const MonitorScene& scene, std::string_view word);
// How many, or which of few: decimal unless it says 0x or h.
std::optional<std::uint64_t> count_of(std::string_view word);
// "10012fh (kernel_main+1h)".
std::string place_name(const MonitorScene& scene, Gva address);

// The facts about one vCPU of the machine as it stands.
struct LiveFacts {
  CrashScene scene;
  std::shared_ptr<const NestedMemory> l2;  // what `scene` reads where the vCPU is in L2
  std::optional<Facts> facts;              // refers to `scene`
};
enum class Look : std::uint8_t {
  AtVcpu,      // and what guest hypervisors are about on each
  Everywhere,  // also through all of memory, for VMCBs that VMRUN refused, and at KVM's counters
};
Result<std::unique_ptr<LiveFacts>> live_facts(const MonitorScene& scene, unsigned vcpu,
                                              Look look = Look::AtVcpu);

// By file.
MonitorAnswer walk(const Request& request);
MonitorAnswer phys(const Request& request);
MonitorAnswer symbols(const Request& request);
MonitorAnswer mmio(const Request& request);
MonitorAnswer regs(const Request& request);
MonitorAnswer msr(const Request& request);
MonitorAnswer cpuid(const Request& request);
MonitorAnswer model(const Request& request);
MonitorAnswer idt(const Request& request);
MonitorAnswer gdt(const Request& request);
MonitorAnswer tss(const Request& request);
MonitorAnswer lapic(const Request& request);
MonitorAnswer ioapic(const Request& request);
MonitorAnswer explain_stopped(const Request& request);
MonitorAnswer level(const Request& request);
MonitorAnswer vmcs(const Request& request);
MonitorAnswer vmcb(const Request& request);
MonitorAnswer exits(const Request& request);
MonitorAnswer screen(const Request& request);
MonitorAnswer trace(const Request& request);
MonitorAnswer step(const Request& request);
MonitorAnswer quit(const Request& request);
MonitorAnswer reset(const Request& request);

}  // namespace vmm::monitor
