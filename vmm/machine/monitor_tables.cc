// The tables of segments and gates, as the processor reads them.
#include <fmt/format.h>

#include <array>

#include "vmm/base/bytes.h"
#include "vmm/base/text.h"
#include "vmm/machine/descriptor_tables.h"
#include "vmm/machine/explain_exit.h"
#include "vmm/machine/monitor_parts.h"

namespace vmm::monitor {
namespace {

constexpr unsigned kVectors = 256;
constexpr unsigned kNamedVectors = 32;

std::string vector_text(unsigned vector) {
  return fmt::format("{:3} ({:02x}h) {:<5}", vector, vector,
                     vector < kNamedVectors ? vector_name(vector) : "");
}

// Entries that say nothing, a line for each run of a kind, with the words of its first.
class Gaps {
 public:
  void add(unsigned index, std::string_view kind, std::string_view more = {}) {
    if (count_ != 0 && kind != kind_) flush();
    if (count_++ != 0) return;
    first_ = index;
    kind_ = kind;
    more_ = more;
  }
  void flush() {
    if (count_ == 1) lines_ += fmt::format("  {:3}: {}{}\n", first_, kind_, more_);
    if (count_ > 1)
      lines_ += fmt::format("  {:3} to {}: {}{}\n", first_, first_ + count_ - 1, kind_, more_);
    count_ = 0;
  }
  std::string& lines() {
    flush();
    return lines_;
  }

 private:
  unsigned first_ = 0;
  unsigned count_ = 0;
  std::string kind_;
  std::string more_;
  std::string lines_;
};

// Real mode: four bytes a vector (SDM vol. 3A 20.1.4).
std::string vectors_text(const MonitorScene& scene, const Facts& f, SystemReader& reader) {
  const kvm_dtable& idt = f.cpu->sregs.idt;
  std::string text =
      fmt::format("interrupt vectors of real mode at {:x}h, limit {:x}h\n", idt.base, idt.limit);
  Gaps gaps;
  for (unsigned vector = 0; vector < kVectors && vector * 4 + 3 <= idt.limit; ++vector) {
    const auto raw = reader.read(idt.base + vector * 4, 4);
    if (raw.empty()) {
      gaps.add(vector, "cannot be read", ": " + reader.problem);
      continue;
    }
    const auto ip = load<std::uint16_t>(raw);
    const auto cs = load<std::uint16_t>(raw, 2);
    if (ip == 0 && cs == 0) {
      gaps.add(vector, "0000:0000");
      continue;
    }
    gaps.lines() += fmt::format("  {} {:04x}:{:04x} = {}\n", vector_text(vector), cs, ip,
                                place_name(scene, (Gva{cs} << 4) + ip));
  }
  return text + gaps.lines();
}

std::string gates_text(const MonitorScene& scene, const Facts& f, SystemReader& reader) {
  const kvm_dtable& idt = f.cpu->sregs.idt;
  const unsigned size = reader.long_mode() ? 16 : 8;
  std::string text = fmt::format("IDT at {:x}h, limit {:x}h: {} gates of {} bytes\n", idt.base,
                                 idt.limit, std::min((idt.limit + 1) / size, kVectors), size);
  Gaps gaps;
  for (unsigned vector = 0; vector < kVectors && vector * size + size - 1 <= idt.limit; ++vector) {
    const auto gate = reader.gate(vector);
    if (!gate) {
      gaps.add(vector, "cannot be read", ": " + reader.problem);
    } else if (gate->is_empty()) {
      gaps.add(vector, "zero");
    } else if (!gate->present) {
      gaps.add(vector, "not present");
    } else {
      gaps.lines() +=
          fmt::format("  {} {:<16} {:>4x}h:{}  DPL {}{}\n", vector_text(vector),
                      gate_type_name(*gate), gate->selector, place_name(scene, gate->handler),
                      gate->dpl, gate->ist != 0 ? fmt::format("  IST{}", gate->ist) : "");
    }
  }
  return text + gaps.lines();
}

// Which segment registers hold a selector of this entry of the GDT.
std::string holders(const kvm_sregs& s, unsigned offset) {
  std::string names;
  const std::pair<std::string_view, const kvm_segment*> registers[] = {
      {"CS", &s.cs}, {"SS", &s.ss}, {"DS", &s.ds},    {"ES", &s.es},
      {"FS", &s.fs}, {"GS", &s.gs}, {"LDTR", &s.ldt}, {"TR", &s.tr}};
  constexpr unsigned kLdt = 4;
  for (const auto& [name, segment] : registers)
    if (segment->selector >= 4 && (segment->selector & kLdt) == 0 &&
        (segment->selector & 0xfff8u) == offset)
      names += fmt::format("{}{}", names.empty() ? "  " : " ", name);
  return names;
}

struct TssField {
  std::string_view name;
  unsigned offset;
  unsigned size;
};
// SDM vol. 3A 7.2.1 and 7.7.
constexpr TssField kWideTss[] = {{"RSP0", 0x04, 8}, {"RSP1", 0x0c, 8},        {"RSP2", 0x14, 8},
                                 {"IST1", 0x24, 8}, {"IST2", 0x2c, 8},        {"IST3", 0x34, 8},
                                 {"IST4", 0x3c, 8}, {"IST5", 0x44, 8},        {"IST6", 0x4c, 8},
                                 {"IST7", 0x54, 8}, {"I/O map base", 0x66, 2}};
constexpr TssField kTss[] = {{"ESP0", 0x04, 4},   {"SS0", 0x08, 2},         {"ESP1", 0x0c, 4},
                             {"SS1", 0x10, 2},    {"ESP2", 0x14, 4},        {"SS2", 0x18, 2},
                             {"CR3", 0x1c, 4},    {"EIP", 0x20, 4},         {"ESP", 0x38, 4},
                             {"back link", 0, 2}, {"I/O map base", 0x66, 2}};

}  // namespace

MonitorAnswer idt(const Request& r) {
  if (r.words.size() > 1) return usage();
  std::optional<std::uint64_t> vector;
  if (!r.words.empty()) {
    vector = count_of(r.words[0]);
    if (!vector || *vector >= kVectors) return usage("VECTOR is a number from 0 to 255, or ..h");
  }
  const auto live = live_facts(r.scene, r.scene.vcpu);
  if (!live) return failed(live.error());
  const Facts& f = *(*live)->facts;
  SystemReader reader{f};
  if (vector) {
    const GateReport gate = f.gate(static_cast<unsigned>(*vector));
    return done(fmt::format("{}{}\n", gate.text, gate.usable ? "" : "  <-- cannot be taken"));
  }
  return done(f.mode == CpuMode::Real ? vectors_text(r.scene, f, reader)
                                      : gates_text(r.scene, f, reader));
}

MonitorAnswer gdt(const Request& r) {
  if (!r.words.empty()) return usage();
  const auto live = live_facts(r.scene, r.scene.vcpu);
  if (!live) return failed(live.error());
  const Facts& f = *(*live)->facts;
  SystemReader reader{f};
  const kvm_sregs& s = f.cpu->sregs;
  const bool wide = reader.long_mode();
  std::string text = fmt::format("GDT at {:x}h, limit {:x}h\n", s.gdt.base, s.gdt.limit);
  // A table that fills its limit has 8192 entries, which nobody reads.
  constexpr unsigned kMostLines = 128;
  unsigned lines = 0;
  for (unsigned offset = 8; offset + 7 <= s.gdt.limit; offset += 8) {
    auto raw = reader.read(s.gdt.base + offset, 8);
    if (raw.empty()) {
      text += fmt::format("  {:4x}h  cannot be read: {}\n", offset, reader.problem);
      break;
    }
    Descriptor d = decode_descriptor(raw);
    if (d.low == 0) continue;
    if (lines++ == kMostLines) {
      text += fmt::format("  (more than {} entries: the rest is left out)\n", kMostLines);
      break;
    }
    const unsigned at = offset;
    if (wide && d.system && offset + 15 <= s.gdt.limit) {
      if (const auto both = reader.read(s.gdt.base + offset, 16); !both.empty())
        d = decode_descriptor(both);
      offset += 8;
    }
    text += fmt::format("  {:4x}h  base {:>16x}h  limit {:>8x}h  DPL {}  {}{}{}\n", at, d.base,
                        d.limit, d.dpl, descriptor_name(d, wide), d.present ? "" : ", not present",
                        holders(s, at));
  }
  return done(std::move(text));
}

MonitorAnswer tss(const Request& r) {
  if (!r.words.empty()) return usage();
  const auto live = live_facts(r.scene, r.scene.vcpu);
  if (!live) return failed(live.error());
  const Facts& f = *(*live)->facts;
  SystemReader reader{f};
  const kvm_segment& tr = f.cpu->sregs.tr;
  std::string text =
      fmt::format("TR {:x}h: TSS at {:x}h, limit {:x}h\n", tr.selector, tr.base, tr.limit);
  if ((tr.selector & 0xfffc) == 0) return done(text + "  (no TSS was loaded)\n");
  const bool wide = reader.long_mode();
  constexpr unsigned kSmallTss = 3;
  if (!wide && tr.type <= kSmallTss)
    return failed("a 16-bit TSS (type " + std::to_string(tr.type) + "), which is not decoded");
  for (const TssField& field : wide ? std::span<const TssField>(kWideTss) : kTss) {
    text += fmt::format("  {:<12} ", field.name);
    if (field.offset + field.size - 1 > tr.limit) {
      text += "beyond the limit\n";
      continue;
    }
    const auto raw = reader.read(tr.base + field.offset, field.size);
    if (raw.empty()) return failed(text + "cannot be read: " + reader.problem);
    const std::uint64_t value = load_uint(std::span<const std::uint8_t>(raw));
    text += field.size == 2 ? fmt::format("{:x}h\n", value) : place_name(r.scene, value) + "\n";
  }
  return done(std::move(text));
}

}  // namespace vmm::monitor
