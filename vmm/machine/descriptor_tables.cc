#include "vmm/machine/descriptor_tables.h"

#include <fmt/format.h>

#include <array>

#include "vmm/base/bytes.h"

namespace vmm {
namespace {

constexpr PageAccess kSystemRead{.implicit = true};
constexpr std::size_t kDescriptorSize = 8;
constexpr unsigned kWideGate = 16;

}  // namespace

Gate decode_gate(std::span<const std::uint8_t> raw) {
  Gate gate;
  gate.low = load<std::uint64_t>(raw);
  gate.wide = raw.size() == kWideGate;
  if (gate.wide) gate.high = load<std::uint64_t>(raw, 8);
  gate.type = static_cast<unsigned>(bits(gate.low, 43, 40));
  gate.system = !bit(gate.low, 44);
  gate.present = bit(gate.low, 47);
  gate.dpl = static_cast<unsigned>(bits(gate.low, 46, 45));
  gate.selector = static_cast<std::uint16_t>(bits(gate.low, 31, 16));
  gate.handler =
      bits(gate.low, 15, 0) | bits(gate.low, 63, 48) << 16 | (gate.high & 0xffffffff) << 32;
  if (!gate.wide && gate.is_16bit()) gate.handler &= 0xffff;
  if (gate.wide) gate.ist = static_cast<unsigned>(bits(gate.low, 34, 32));
  return gate;
}

std::string gate_type_name(const Gate& gate) {
  if (gate.is_task()) return "task";
  if (!gate.is_handler()) return fmt::format("type {:x}h", gate.type);
  return fmt::format("{}{}", gate.type % 2 == 0 ? "interrupt" : "trap",
                     gate.is_16bit() ? " 16-bit" : "");
}

Descriptor decode_descriptor(std::span<const std::uint8_t> raw) {
  Descriptor d;
  d.low = load<std::uint64_t>(raw);
  d.base = bits(d.low, 39, 16) | bits(d.low, 63, 56) << 24;
  if (raw.size() >= 2 * kDescriptorSize)
    d.base |= (load<std::uint64_t>(raw, kDescriptorSize) & 0xffffffff) << 32;
  d.limit = static_cast<std::uint32_t>(bits(d.low, 15, 0) | bits(d.low, 51, 48) << 16);
  if (bit(d.low, 55)) d.limit = d.limit << 12 | 0xfff;
  d.type = static_cast<unsigned>(bits(d.low, 43, 40));
  d.system = !bit(d.low, 44);
  d.present = bit(d.low, 47);
  d.dpl = static_cast<unsigned>(bits(d.low, 46, 45));
  d.l = bit(d.low, 53);
  d.db = bit(d.low, 54);
  return d;
}

std::string descriptor_name(const Descriptor& d, bool wide) {
  if (d.system) {
    // SDM vol. 3A table 3-2; empty: reserved.
    constexpr std::array<std::string_view, 16> kNames = {"",
                                                         "16-bit TSS",
                                                         "LDT",
                                                         "busy 16-bit TSS",
                                                         "16-bit call gate",
                                                         "task gate",
                                                         "16-bit interrupt gate",
                                                         "16-bit trap gate",
                                                         "",
                                                         "32-bit TSS",
                                                         "",
                                                         "busy 32-bit TSS",
                                                         "32-bit call gate",
                                                         "",
                                                         "32-bit interrupt gate",
                                                         "32-bit trap gate"};
    constexpr std::array<std::string_view, 16> kWideNames = {"",
                                                             "",
                                                             "LDT",
                                                             "",
                                                             "",
                                                             "",
                                                             "",
                                                             "",
                                                             "",
                                                             "64-bit TSS",
                                                             "",
                                                             "busy 64-bit TSS",
                                                             "64-bit call gate",
                                                             "",
                                                             "64-bit interrupt gate",
                                                             "64-bit trap gate"};
    const std::string_view name = (wide ? kWideNames : kNames)[d.type];
    return name.empty() ? fmt::format("reserved system type {:x}h", d.type) : std::string(name);
  }
  constexpr unsigned kCode = 8, kConforming = 4, kReadable = 2, kExpandDown = 4, kWritable = 2;
  if ((d.type & kCode) != 0) {
    const std::string_view width = d.l && d.db ? "code with L and D (invalid)"
                                   : d.l       ? "code 64-bit"
                                   : d.db      ? "code 32-bit"
                                               : "code 16-bit";
    return fmt::format("{}{}{}", width, (d.type & kReadable) != 0 ? ", readable" : "",
                       (d.type & kConforming) != 0 ? ", conforming" : "");
  }
  return fmt::format("data{}{}", (d.type & kWritable) != 0 ? ", writable" : ", read-only",
                     (d.type & kExpandDown) != 0 ? ", expand-down" : "");
}

std::vector<std::uint8_t> SystemReader::read(Gva linear, std::size_t size) {
  auto bytes = facts.read_linear(linear, size, kSystemRead);
  if (bytes.size() == size) return bytes;
  const Place place = facts.place_of(linear + bytes.size(), kSystemRead);
  if (!place.known || (place.gpa() && place.backing == Backing::Unknown))
    known = false;
  else if (place.failed())
    problem = fmt::format("{:x}h is not mapped ({})", place.linear, place.walk.failure->text);
  else
    problem = fmt::format("{:x}h is {}", place.linear, hole_name(place.gpa().value_or(0)));
  return {};
}

std::optional<std::uint64_t> SystemReader::descriptor(std::uint16_t selector) {
  const kvm_dtable& gdt = facts.cpu->sregs.gdt;
  const unsigned offset = selector & 0xfff8u;
  if (offset + 7 > gdt.limit) {
    problem = fmt::format("selector {:x}h is beyond GDTR.limit {:x}h", selector, gdt.limit);
    return std::nullopt;
  }
  const auto raw = read(gdt.base + offset, kDescriptorSize);
  if (raw.empty()) {
    if (!problem.empty()) problem = "the GDT at " + problem;
    return std::nullopt;
  }
  return load<std::uint64_t>(raw);
}

std::optional<Gate> SystemReader::gate(unsigned vector) {
  if (facts.mode == CpuMode::Real) return std::nullopt;
  const kvm_dtable& idt = facts.cpu->sregs.idt;
  const unsigned size = long_mode() ? kWideGate : kDescriptorSize;
  if (vector * size + size - 1 > idt.limit) return std::nullopt;
  const auto raw = read(idt.base + vector * size, size);
  if (raw.empty()) return std::nullopt;
  return decode_gate(raw);
}

}  // namespace vmm
