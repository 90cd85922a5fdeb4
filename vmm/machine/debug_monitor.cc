#include "vmm/machine/debug_monitor.h"

#include <fmt/format.h>

#include <array>
#include <span>
#include <vector>

#include "vmm/base/text.h"
#include "vmm/gdb/packet.h"

namespace vmm {
namespace {

using Words = std::span<const std::string_view>;

struct Command {
  std::string_view name;
  std::string_view arguments;
  std::string_view help;
  std::string (*run)(const MonitorScene& scene, Words words);
};
std::span<const Command> commands();

// A symbol, or a number as gdb prints it.
std::optional<Gva> address_of(const MonitorScene& scene, std::string_view word) {
  if (word.starts_with("0x") || word.starts_with("0X")) return gdb::parse_number(word.substr(2));
  if (const auto address = scene.target.symbols().address_of(word)) return address;
  if (word.ends_with('h')) word.remove_suffix(1);
  return gdb::parse_number(word);
}

std::string help(const MonitorScene&, Words) {
  std::string text;
  for (const Command& command : commands())
    text += fmt::format("{:<24} {}\n", fmt::format("{} {}", command.name, command.arguments),
                        command.help);
  return text;
}

std::string walk(const MonitorScene& scene, Words words) {
  if (words.size() != 1) return "monitor walk ADDRESS: a number or a symbol\n";
  const auto address = address_of(scene, words[0]);
  if (!address) return fmt::format("{}: neither a number nor a symbol\n", printable(words[0]));
  const auto state = scene.target.cpu_state(scene.vcpu);
  if (!state) return state.error().text() + "\n";
  const Walk found =
      walk_page(scene.target.memory(), PagingContext::from(*state, scene.paging), *address, {});
  std::string text = fmt::format("{:x}h on vCPU {}:\n", *address, scene.vcpu);
  for (const std::string& line : describe(found)) text += "  " + line + "\n";
  return text;
}

std::string step(const MonitorScene& scene, Words words) {
  if (words.size() == 2 && words[0] == "irq" && (words[1] == "on" || words[1] == "off"))
    scene.debugger.step_into_interrupts(words[1] == "on");
  else if (!words.empty())
    return "monitor step irq on|off\n";
  return scene.debugger.steps_into_interrupts() ? "steps take interrupts\n"
                                                : "steps leave interrupts pending\n";
}

std::span<const Command> commands() {
  static constexpr Command kCommands[] = {
      {"help", "", "this list", help},
      {"step", "irq on|off", "whether single steps take interrupts (off)", step},
      {"walk", "ADDRESS", "how the guest's tables translate it, and which rule fails", walk},
  };
  return kCommands;
}

}  // namespace

std::string run_monitor(const MonitorScene& scene, std::string_view line) {
  constexpr std::size_t kMostWords = 8;
  std::vector<std::string_view> words;
  while (true) {
    const std::size_t begin = line.find_first_not_of(" \t");
    if (begin == std::string_view::npos) break;
    line.remove_prefix(begin);
    words.push_back(line.substr(0, line.find_first_of(" \t")));
    line.remove_prefix(words.back().size());
    if (words.size() > kMostWords) return "too many words; monitor help lists the commands\n";
  }
  if (words.empty()) return help(scene, {});
  std::vector<std::string> names;
  for (const Command& command : commands()) {
    if (command.name == words[0]) return command.run(scene, Words(words).subspan(1));
    names.emplace_back(command.name);
  }
  const auto nearest = nearest_name(words[0], names);
  return fmt::format("{}: no such command{}; monitor help lists them\n", printable(words[0]),
                     nearest ? fmt::format(" (did you mean {}?)", *nearest) : std::string());
}

}  // namespace vmm
