#include "vmm/machine/debug_monitor.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <span>
#include <vector>

#include "vmm/base/bytes.h"
#include "vmm/base/text.h"
#include "vmm/gdb/packet.h"
#include "vmm/gdb/registers.h"
#include "vmm/machine/monitor_parts.h"

namespace vmm {
namespace monitor {
namespace {

std::span<const Command> commands();

std::string usage_line(const Command& command) {
  return fmt::format("usage: {}{}{}{}: {}\n", command.name, command.has_json ? " [--json]" : "",
                     command.arguments.empty() ? "" : " ", command.arguments, command.help);
}

MonitorAnswer help(const Request&) {
  std::string text;
  for (const Command& command : commands())
    text += fmt::format("{:<36} {}\n",
                        fmt::format("{}{}{}{}", command.name, command.has_json ? " [--json]" : "",
                                    command.arguments.empty() ? "" : " ", command.arguments),
                        command.help);
  return done(std::move(text));
}

std::span<const Command> commands() {
  static constexpr bool kJson = true;
  static constexpr Command kCommands[] = {
      {"cpuid", "[LEAF [SUBLEAF]]", "what the guest finds in CPUID", cpuid, kJson},
      {"exits", "[COUNT]", "the last exits of each vCPU (8)", exits, kJson},
      {"explain", "", "why the guest stopped, and where it stands", explain_stopped},
      {"gdt", "", "the descriptors of the GDT", gdt},
      {"help", "", "this list", help},
      {"idt", "[VECTOR]", "the gates of the IDT, or whether that one can be taken", idt},
      {"ioapic", "", "the redirection table", ioapic, kJson},
      {"level", "", "in which level each vCPU is: L1 or L2 of a guest hypervisor", level},
      {"lapic", "[VCPU]", "a local APIC: pending vectors, LVT, timer", lapic, kJson},
      {"mmio", "read|write ADDRESS SIZE [VALUE]", "an access to a device, with its side effects",
       mmio},
      {"model", "", "the CPU model, its host, the TSC's rate, the interrupt controllers", model},
      {"msr", "INDEX [VALUE]", "an MSR, by number or as gdb names it; VALUE is written", msr,
       kJson},
      {"phys", "ADDRESS [COUNT]", "bytes of physical memory (64); never touches a device", phys},
      {"quit", "", "ends the run", quit},
      {"regs", "[all]", "general, segment and control registers, of every vCPU with all", regs,
       kJson},
      {"reset", "", "the machine starts again from its images, as after power-on", reset},
      {"screen", "", "the VGA's text", screen},
      {"step", "irq on|off", "whether single steps take interrupts (off)", step},
      {"symbols", "[ADDRESS]", "how many, and how far the kernel moved itself; or what is there",
       symbols},
      {"trace", "", "whether --trace is on, and how far it is", trace},
      {"tss", "", "the stacks in the TSS", tss},
      {"vmcb", "[show|check|dump|diff] ADDRESS...",
       "the VMCB there, what it breaks, its bytes, how two differ", vmcb},
      {"vmcs", "[show|check|dump|diff] [ADDRESS...]",
       "the current VMCS or one in memory, what it breaks, its bytes, how two differ", vmcs},
      {"walk", "ADDRESS", "how the guest's tables translate it, and which rule fails", walk, kJson},
  };
  return kCommands;
}

}  // namespace

MonitorAnswer done(std::string text) { return {MonitorAnswer::Status::Done, std::move(text)}; }

MonitorAnswer done_json(const nlohmann::json& document) { return done(document.dump(2) + "\n"); }

MonitorAnswer failed(std::string text) {
  return {MonitorAnswer::Status::Failed, std::move(text) + "\n"};
}

MonitorAnswer failed(const Error& error) { return failed(error.text()); }

MonitorAnswer usage() { return {MonitorAnswer::Status::Usage, {}}; }

MonitorAnswer usage(std::string problem) {
  return {MonitorAnswer::Status::Usage, std::move(problem) + "\n"};
}

namespace {

// By gdb's name, which has an R in long mode where it has an E in others.
std::optional<std::uint64_t> register_of(const MonitorScene& scene, std::string name) {
  if (name == "pc" || name == "sp" || name == "fp")
    name = name == "pc" ? "rip" : name == "sp" ? "rsp" : "rbp";
  const gdb::RegisterSet set(gdb::Arch::X86_64, scene.target.cpuid());
  const gdb::Register* found = set.find(name);
  if (found == nullptr && name.starts_with('e')) found = set.find("r" + name.substr(1));
  if (found == nullptr || found->size() > sizeof(std::uint64_t)) return std::nullopt;
  if (const auto index = set.msr(found->number)) {
    const auto value = scene.target.msr(scene.vcpu, *index);
    return value ? std::optional(*value) : std::nullopt;
  }
  if (const auto which = set.nested(found->number))
    return gdb::nested_value(*which, scene.target.nested_position(scene.vcpu));
  const auto registers = scene.target.registers(scene.vcpu);
  if (!registers) return std::nullopt;
  const auto bytes = set.read(found->number, *registers);
  return bytes ? std::optional(load_uint(*bytes)) : std::nullopt;
}

}  // namespace

std::optional<std::uint64_t> number_of(const MonitorScene& scene, std::string_view word) {
  if (word.starts_with('$')) return register_of(scene, std::string(word.substr(1)));
  if (word.starts_with("0x") || word.starts_with("0X")) return gdb::parse_number(word.substr(2));
  if (const auto address = scene.target.symbols().address_of(word)) return address;
  if (word.ends_with('h')) word.remove_suffix(1);
  return gdb::parse_number(word);
}

std::optional<std::uint64_t> count_of(std::string_view word) {
  if (word.ends_with('h')) return gdb::parse_number(word.substr(0, word.size() - 1));
  return parse_number(word);
}

std::string place_name(const MonitorScene& scene, Gva address) {
  if (const auto name = scene.target.symbols().name_of(address))
    return fmt::format("{:x}h ({})", address, printable(*name, 48));
  return fmt::format("{:x}h", address);
}

Result<std::unique_ptr<LiveFacts>> live_facts(const MonitorScene& from, unsigned vcpu, Look look) {
  auto live = std::make_unique<LiveFacts>();
  const MachineAbout about = from.machine.about();
  CrashScene& scene = live->scene;
  scene.model = about.model;
  scene.cpuid = from.target.cpuid();
  for (unsigned i = 0; i < from.target.vcpu_count(); ++i)
    scene.vcpus.push_back(VMM_TRY(from.target.cpu_state(i)));
  scene.vcpu = vcpu;
  scene.memory = &from.target.memory();
  scene.symbols = &from.target.symbols();
  scene.kvm_backend = about.backend;
  scene.host_has_pdpe1gb = about.host_has_pdpe1gb;
  scene.nested_paging = about.nested_paging;
  scene.paging_features = from.paging;
  for (unsigned i = 0; i < from.target.vcpu_count(); ++i)
    scene.hypervisors.push_back(from.machine.hypervisor_state(i));
  if (look == Look::Everywhere) {
    scene.refused_vmcbs = from.machine.refused_vmcbs();
    for (unsigned i = 0; i < from.target.vcpu_count(); ++i)
      scene.hypervisors[i].counters = from.machine.counters(i);
  }
  if ((live->l2 = l2_memory(scene, vcpu)) != nullptr) {
    scene.hypervisor_memory = scene.memory;
    scene.memory = live->l2.get();
  }
  live->facts.emplace(scene);
  return live;
}

}  // namespace monitor

MonitorAnswer run_monitor(const MonitorScene& scene, std::string_view line) {
  using monitor::Command;
  constexpr std::size_t kMostWords = 8;
  std::vector<std::string_view> words;
  while (true) {
    const std::size_t begin = line.find_first_not_of(" \t");
    if (begin == std::string_view::npos) break;
    line.remove_prefix(begin);
    words.push_back(line.substr(0, line.find_first_of(" \t")));
    line.remove_prefix(words.back().size());
    if (words.size() > kMostWords) return monitor::usage("too many words; help lists the commands");
  }
  if (words.empty()) words.emplace_back("help");
  std::vector<std::string> names;
  for (const Command& command : monitor::commands()) {
    names.emplace_back(command.name);
    if (command.name != words[0]) continue;
    std::span<const std::string_view> arguments = std::span(words).subspan(1);
    const bool json = !arguments.empty() && arguments[0] == "--json";
    if (json && !command.has_json)
      return monitor::usage(fmt::format("{} has no --json", command.name));
    MonitorAnswer answer = command.run({scene, arguments.subspan(json ? 1 : 0), json});
    if (answer.status == MonitorAnswer::Status::Usage) answer.text += monitor::usage_line(command);
    return answer;
  }
  const auto nearest = nearest_name(words[0], names);
  return monitor::usage(
      fmt::format("{}: no such command{}; help lists them", printable(words[0]),
                  nearest ? fmt::format(" (did you mean {}?)", *nearest) : std::string()));
}

}  // namespace vmm
