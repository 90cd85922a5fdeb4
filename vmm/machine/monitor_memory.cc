// Memory: the guest's tables, physical bytes, devices.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "vmm/base/bytes.h"
#include "vmm/base/text.h"
#include "vmm/core/vcpu_memory.h"
#include "vmm/machine/explain_nested.h"
#include "vmm/machine/explain_stop.h"
#include "vmm/machine/monitor_parts.h"
#include "vmm/machine/state_json.h"

namespace vmm::monitor {
namespace {

using nlohmann::json;

constexpr std::size_t kRow = 16;

// A byte where there is RAM.
using Row = std::array<std::optional<std::uint8_t>, kRow>;

Row read_row(const MemoryReader& memory, Gpa gpa, std::size_t count) {
  Row row;
  for (std::size_t i = 0; i < count; ++i) {
    std::uint8_t byte = 0;
    if (memory.read(gpa + i, std::span(&byte, 1))) row[i] = byte;
  }
  return row;
}

std::string row_text(Gpa gpa, const Row& row, std::size_t count) {
  std::string hex;
  std::string text;
  for (std::size_t i = 0; i < count; ++i) {
    hex += row[i] ? fmt::format(" {:02x}", *row[i]) : " --";
    text += row[i] && *row[i] >= 0x20 && *row[i] < 0x7f ? static_cast<char>(*row[i]) : '.';
  }
  return fmt::format("{:012x}: {:<48}  {}\n", gpa, hex, text);
}

json nested_json(const Request& r, Gpa l2_address) {
  const auto live = live_facts(r.scene, r.scene.vcpu);
  if (!live) return {};
  const auto walk = walk_nested((*live)->scene, r.scene.vcpu, l2_address, false);
  return walk ? nested_walk_json(*walk) : json();
}

bool is_access_size(std::uint64_t size) { return size == 1 || size == 2 || size == 4 || size == 8; }

}  // namespace

MonitorAnswer walk(const Request& r) {
  if (r.words.size() != 1) return usage();
  const auto address = number_of(r.scene, r.words[0]);
  if (!address)
    return usage(fmt::format("{}: no number, symbol or $register", printable(r.words[0])));
  const auto memory = VcpuMemory::of(r.scene.target, r.scene.vcpu, r.scene.paging);
  if (!memory) return failed(memory.error());
  const Walk found = memory->walk(*address);
  const NestedPosition& position = memory->position();
  const bool in_l2 = position.level == 2;
  const NestedMemory* nested = position.memory.get();
  if (r.json) {
    json document = walk_json(*address, found);
    document["level"] = position.level;
    if (nested != nullptr) {
      const auto place = found.gpa ? nested->place(*found.gpa) : std::nullopt;
      document["l1_gpa"] = place ? json(json_hex(*place)) : json();
      document["nested"] = found.gpa ? nested_json(r, *found.gpa) : json();
    }
    return done_json(document);
  }
  std::string text =
      fmt::format("{:x}h on vCPU {}{}:\n", *address, r.scene.vcpu, in_l2 ? ", in L2" : "");
  for (const std::string& line : describe(found)) text += "  " + line + "\n";
  if (nested != nullptr && found.gpa) {
    text += fmt::format("{:x}h of L2's memory by its hypervisor's nested tables:\n", *found.gpa);
    for (const std::string& line : nested->describe(*found.gpa)) text += "  " + line + "\n";
  }
  return done(std::move(text));
}

MonitorAnswer phys(const Request& r) {
  constexpr std::uint64_t kUsual = 64, kMost = 4096;
  if (r.words.empty() || r.words.size() > 2) return usage();
  const auto address = number_of(r.scene, r.words[0]);
  if (!address)
    return usage(fmt::format("{}: no number, symbol or $register", printable(r.words[0])));
  const auto count = r.words.size() == 2 ? count_of(r.words[1]) : kUsual;
  if (!count || *count == 0 || *count > kMost)
    return usage(fmt::format("COUNT is a number from 1 to {}", kMost));
  if (*address + (*count - 1) < *address) return usage("that goes beyond the last address");
  std::string text;
  bool any = false;
  for (std::uint64_t at = 0; at < *count; at += kRow) {
    const std::size_t part = std::min<std::uint64_t>(kRow, *count - at);
    const Row row = read_row(r.scene.target.memory(), *address + at, part);
    any = any || std::ranges::any_of(row, [](const auto& byte) { return byte.has_value(); });
    text += row_text(*address + at, row, part);
  }
  if (!any)
    return failed(
        fmt::format("{:x}h: no RAM there ({}); mmio reads devices", *address, hole_name(*address)));
  return done(std::move(text));
}

MonitorAnswer symbols(const Request& r) {
  if (r.words.size() > 1) return usage();
  const SymbolTable& table = r.scene.target.symbols();
  if (!r.words.empty()) {
    const auto address = number_of(r.scene, r.words[0]);
    if (!address)
      return usage(fmt::format("{}: no number, symbol or $register", printable(r.words[0])));
    return done(place_name(r.scene, *address) + "\n");
  }
  std::vector<std::string> lines;
  add_labelled(lines, "symbols", fmt::format("{}, of the images and --symbols", table.size()));
  if (table.slide() != 0)
    add_labelled(lines, "moved",
                 fmt::format("by {:x}h (KASLR); for gdb: symbol-file -o 0x{:x} VMLINUX",
                             table.slide(), table.slide()));
  return done(fmt::format("{}\n", fmt::join(lines, "\n")));
}

MonitorAnswer mmio(const Request& r) {
  const bool is_write = !r.words.empty() && r.words[0] == "write";
  if (r.words.size() != (is_write ? 4U : 3U) || (!is_write && r.words[0] != "read")) return usage();
  const auto address = number_of(r.scene, r.words[1]);
  const auto size = count_of(r.words[2]);
  if (!address)
    return usage(fmt::format("{}: no number, symbol or $register", printable(r.words[1])));
  if (!size || !is_access_size(*size)) return usage("SIZE is 1, 2, 4 or 8 bytes");
  std::array<std::uint8_t, 8> bytes{};
  const std::span<std::uint8_t> data = std::span(bytes).first(*size);
  std::uint64_t value = 0;
  if (is_write) {
    const auto wanted = number_of(r.scene, r.words[3]);
    if (!wanted) return usage(fmt::format("{}: no number", printable(r.words[3])));
    if (*size < 8 && *wanted >> (*size * 8) != 0)
      return usage(fmt::format("{:x}h has more than {} bytes", *wanted, *size));
    value = *wanted;
    store(std::span(bytes), 0, value);
  }
  const auto device = is_write ? r.scene.machine.mmio_write(r.scene.vcpu, *address, data)
                               : r.scene.machine.mmio_read(r.scene.vcpu, *address, data);
  if (!device) return failed(device.error());
  if (is_write) return done(fmt::format("{:x}h <- {:x}h: {}\n", *address, value, *device));
  return done(fmt::format("{:x}h -> {:x}h: {}\n", *address,
                          load_uint(std::span<const std::uint8_t>(data)), *device));
}

}  // namespace vmm::monitor
