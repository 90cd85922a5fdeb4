#include "vmm/machine/explain_stop.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "vmm/base/bytes.h"
#include "vmm/base/text.h"
#include "vmm/machine/descriptor_tables.h"
#include "vmm/machine/register_text.h"

namespace vmm {
namespace {

constexpr std::size_t kColumns = 120;
constexpr unsigned kExceptions = 32;

std::string name_without_offset(const Facts& f, Gva linear) {
  if (f.scene.symbols == nullptr) return {};
  const std::string name = f.scene.symbols->name_of(linear).value_or("");
  return name.substr(0, name.rfind('+'));
}

// The exceptions whose handler RIP is in: at its first instruction, or behind that within the same
// symbol.
struct Handler {
  std::vector<unsigned> vectors;
  bool at_entry = false;
  bool is_16bit = false;
};

Handler handler_here(const Facts& f) {
  Handler found;
  SystemReader reader{f};
  const std::string here = name_without_offset(f, f.rip);
  for (unsigned vector = 0; vector < kExceptions; ++vector) {
    const auto gate = reader.gate(vector);
    if (!gate || !gate->present || !gate->is_handler()) continue;
    const bool at_entry = gate->handler == f.cpu->regs.rip;
    const bool inside = at_entry || (gate->handler < f.rip && !here.empty() &&
                                     name_without_offset(f, gate->handler) == here);
    if (!inside) continue;
    // The first instruction is the better place.
    if (at_entry && !found.at_entry) found = {};
    if (found.at_entry && !at_entry) continue;
    found.at_entry = at_entry;
    found.is_16bit = gate->is_16bit();
    found.vectors.push_back(vector);
  }
  return found;
}

std::string names_of(const std::vector<unsigned>& vectors) {
  constexpr std::size_t kMost = 4;
  std::vector<std::string> names;
  for (const unsigned vector : vectors)
    if (names.size() < kMost) names.push_back(vector_name(vector));
  return fmt::format(
      "{}{}", fmt::join(names, ", "),
      vectors.size() > kMost ? fmt::format(" and {} more vectors", vectors.size() - kMost) : "");
}

// SDM vol. 3A table 6-1, APM vol. 2 table 8-1.
bool has_error_code(unsigned vector) {
  switch (vector) {
    case 8:
    case 10:
    case 11:
    case 12:
    case 13:
    case 14:
    case 17:
    case 21:
    case 29:
    case 30:
      return true;
    default:
      return false;
  }
}

// What the processor pushes before a handler's first instruction (SDM vol. 3A 6.12.1, 6.14.2), as
// it lies there now.
std::string frame_text(const Facts& f, unsigned vector) {
  const bool wide = f.mode == CpuMode::Long64;
  const std::size_t slot = wide ? 8 : 4;
  const Gva top = wide ? f.cpu->regs.rsp : f.cpu->sregs.ss.base + f.cpu->regs.rsp;
  const bool code = has_error_code(vector);
  const std::size_t count = (wide ? 5 : 3) + (code ? 1 : 0);
  const auto raw = f.read_linear(top, count * slot, {});
  if (raw.size() != count * slot) return "its stack cannot be read";
  std::size_t at = 0;
  const auto next = [&] {
    const std::uint64_t value = load_uint(std::span<const std::uint8_t>(raw).subspan(at, slot));
    at += slot;
    return value;
  };
  std::string text = fmt::format("the frame at {:x}h:", top);
  if (code) {
    const auto error = static_cast<std::uint32_t>(next());
    text += fmt::format(" error code {:x}h{},", error,
                        vector == 14 ? fmt::format(" ({})", page_fault_code_name(error)) : "");
  }
  const std::uint64_t rip = next();
  const std::uint64_t cs = next();
  const std::uint64_t flags = next();
  text += fmt::format(" it came from {:x}h:{}, RFLAGS {:x}h", cs & 0xffff, f.address(rip), flags);
  if (wide) {
    const std::uint64_t rsp = next();
    text += fmt::format(", with stack {:x}h:{:x}h", next() & 0xffff, rsp);
  }
  return text;
}

class Text {
 public:
  explicit Text(const Facts& facts) : f_(facts) {}

  std::vector<std::string> make() {
    if (f_.cpu == nullptr) return {};
    registers();
    instruction();
    places();
    handler();
    waiting();
    gates();
    for (const std::string& line : paging_lint_lines(f_.scene)) {
      constexpr std::string_view kPrefix = "paging: ";
      add("lint", line.starts_with(kPrefix) ? std::string_view(line).substr(kPrefix.size()) : line);
    }
    return std::move(lines_);
  }

 private:
  void add(std::string_view label, std::string_view text) { add_labelled(lines_, label, text); }

  void registers() {
    const kvm_sregs& s = f_.cpu->sregs;
    add("cpu", fmt::format("{}, {}, CPL {}, RIP {}, RSP {:x}h, {}", mode_text(f_.mode),
                           paging_text(f_.paging.mode()), f_.cpl, f_.address(f_.cpu->regs.rip),
                           f_.cpu->regs.rsp, rflags_text(f_.cpu->regs.rflags)));
    add("", fmt::format("{}, CR2 {:x}h, CR3 {:x}h, {}, {}", cr0_text(s.cr0, BitNames::Telling),
                        s.cr2, s.cr3, cr4_text(s.cr4, BitNames::Telling),
                        efer_text(s.efer, BitNames::Telling)));
  }

  void instruction() {
    const std::vector<std::uint8_t> bytes = f_.shown_code();
    if (bytes.empty()) {
      add("insn", fmt::format("{}: its bytes cannot be read", f_.address(f_.rip)));
    } else {
      std::string hex;
      const std::size_t count = f_.insn ? f_.insn->length : std::min<std::size_t>(bytes.size(), 8);
      for (std::size_t i = 0; i < count; ++i) hex += fmt::format("{:02x} ", bytes[i]);
      add("insn", fmt::format("{}: {} {}", f_.address(f_.rip), hex,
                              f_.insn ? printable(f_.insn->text, 80) : "(no instruction)"));
    }
    if (f_.fault)
      add("next", fmt::format("it would raise {}: {}", f_.fault->name(), f_.fault->text));
  }

  // Where RIP and the stack lead; a walk that fails is shown whole.
  void places() {
    place("RIP", f_.rip_place);
    place("push", f_.stack_place());
    if (f_.fault && f_.fault->place && f_.fault->place->linear != f_.rip)
      place("operand", *f_.fault->place);
  }
  void place(std::string_view name, const Place& place) {
    if (!place.failed()) {
      if (const auto gpa = place.gpa()) {
        const bool identity = *gpa == place.linear;
        const bool hole = place.backing == Backing::Hole;
        if (identity && !hole) return;
        add("walk", fmt::format("{} {:x}h is at {:x}h{}", name, place.linear, *gpa,
                                hole ? ", " + hole_name(*gpa) : ""));
      }
      return;
    }
    add("walk", fmt::format("{} {:x}h:", name, place.linear));
    for (const std::string& line : describe(place.walk)) add("", line);
  }

  void handler() {
    if (f_.mode == CpuMode::Real) return;
    const Handler here = handler_here(f_);
    if (here.vectors.empty()) return;
    std::string text = fmt::format("{} of the handler of {}",
                                   here.at_entry ? "at the first instruction" : "within the symbol",
                                   names_of(here.vectors));
    // Only there is it known where the frame lies, and only if it is known of which kind it is.
    if (here.at_entry && here.vectors.size() == 1 && !here.is_16bit)
      text += "; " + frame_text(f_, here.vectors[0]);
    add("fault", text);
    if (std::ranges::find(here.vectors, 14U) == here.vectors.end()) return;
    // Whether the access was a read or a write is the error code's to say, so this asks for a read.
    const Place last = f_.place_of(f_.cpu->sregs.cr2, {});
    add("", fmt::format("CR2, the address of the last page fault, is {}; {}",
                        f_.address(f_.cpu->sregs.cr2),
                        last.failed() ? "a read there would fault now: " + last.walk.failure->text
                        : last.gpa()  ? fmt::format("it is mapped to {:x}h now", *last.gpa())
                                      : "where it leads is not known"));
  }

  // KVM_GET_VCPU_EVENTS: what has been decided already.
  void waiting() {
    const kvm_vcpu_events& e = f_.cpu->events;
    if (e.exception.injected != 0 || e.exception.pending != 0)
      add("waits", fmt::format("the processor is about to take {}{}", vector_name(e.exception.nr),
                               e.exception.has_error_code != 0
                                   ? fmt::format(", error code {:x}h", e.exception.error_code)
                                   : ""));
    if (e.interrupt.injected != 0)
      add("waits", fmt::format("the processor is about to take interrupt {:x}h", e.interrupt.nr));
    if (e.nmi.injected != 0 || e.nmi.pending != 0) add("waits", "an NMI is on its way");
    if (e.nmi.masked != 0) add("waits", "NMIs are blocked until the next IRET");
    if (e.interrupt.shadow != 0)
      add("waits", "the instruction before was STI or MOV SS: no interrupt before the next one");
  }

  // A guest early in its life has no IDT: that is worth a line, no more.
  void gates() {
    if (f_.mode == CpuMode::Real) return;
    bool usable = true;
    for (const unsigned vector : {8U, 13U, 14U}) {
      const GateReport gate = f_.gate(vector);
      if (gate.usable || !gate.known) continue;
      usable = false;
      add("idt", fmt::format("cannot take an exception: {}", gate.text));
      if (gate.idt_missing) return;
    }
    if (usable) add("idt", "takes #DF, #GP and #PF");
  }

  const Facts& f_;
  std::vector<std::string> lines_;
};

}  // namespace

void add_labelled(std::vector<std::string>& lines, std::string_view label, std::string_view text) {
  const std::string wrapped = wrap_text(fmt::format("  {:<8}", label), text, kColumns);
  for (const std::string_view line : split(wrapped, '\n'))
    if (!line.empty()) lines.emplace_back(line);
}

std::vector<std::string> explain_stop(const Facts& facts) { return Text(facts).make(); }

}  // namespace vmm
