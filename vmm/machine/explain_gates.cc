// Could the processor have taken an exception? The IDT, the GDT, the TSS and the stack, read the
// way it reads them (SDM vol. 3A ch. 6).
#include <fmt/format.h>

#include "vmm/base/bytes.h"
#include "vmm/machine/descriptor_tables.h"

namespace vmm {
namespace {

// The stack that the handler gets: of the IST, of the TSS from CPL 3, else the present one.
std::optional<std::string> stack_problem(SystemReader& reader, unsigned ist) {
  const Facts& f = reader.facts;
  const kvm_segment& tr = f.cpu->sregs.tr;
  Place place = f.stack_place();
  std::string name = fmt::format("the stack (RSP {:x}h)", f.cpu->regs.rsp);
  if (ist != 0 || f.cpl == 3) {
    const bool wide = reader.long_mode();
    const unsigned offset = ist != 0 ? 0x24 + (ist - 1) * 8 : 4;
    const unsigned size = wide ? 8 : 4;
    const std::string field =
        ist != 0 ? fmt::format("IST{}", ist) : std::string(wide ? "RSP0" : "ESP0");
    if (offset + size - 1 > tr.limit)
      return fmt::format("it wants {} of the TSS, whose limit is {:x}h (TR {:x}h)", field, tr.limit,
                         tr.selector);
    const auto raw = reader.read(tr.base + offset, size);
    if (raw.empty()) {
      if (reader.known) return fmt::format("the TSS at {}", reader.problem);
      return std::nullopt;
    }
    const std::uint64_t top = load_uint(raw);
    place = f.place_of(align_down(top, 16) - 8, {.write = true, .implicit = true});
    name = fmt::format("{} of the TSS ({:x}h)", field, top);
  }
  if (place.failed())
    return fmt::format("{} cannot be pushed to: {}", name, place.walk.failure->text);
  if (place.known && place.backing == Backing::Hole)
    return fmt::format("{} leads to {}", name, hole_name(*place.gpa()));
  return std::nullopt;
}

}  // namespace

GateReport Facts::gate(unsigned vector) const {
  GateReport report;
  report.vector = vector;
  SystemReader reader{*this};
  const auto fails = [&](std::string text, bool whole = false) {
    report.usable = false;
    report.idt_missing = whole;
    report.text = fmt::format("gate {} ({}): {}", vector, vector_name(vector), text);
    return report;
  };
  const auto unknown = [&] {
    report.known = false;
    report.text = fmt::format("gate {} ({}): not in the dump", vector, vector_name(vector));
    return report;
  };
  const kvm_dtable& idt = cpu->sregs.idt;
  const bool wide = reader.long_mode();
  const unsigned size = mode == CpuMode::Real ? 4 : wide ? 16 : 8;
  const unsigned needed = vector * size + size - 1;
  if (needed > idt.limit)
    return fails(fmt::format("IDTR.limit {:x}h is too small, it needs {:x}h", idt.limit, needed),
                 true);
  const auto raw = reader.read(idt.base + vector * size, size);
  if (raw.empty()) return reader.known ? fails("the IDT at " + reader.problem, true) : unknown();
  if (mode == CpuMode::Real) {
    const std::uint16_t ip = load<std::uint16_t>(raw);
    const std::uint16_t cs = load<std::uint16_t>(raw, 2);
    if (ip == 0 && cs == 0) return fails("the vector is 0000:0000");
    report.text =
        fmt::format("vector {} ({}): handler at {:x}:{:x}", vector, vector_name(vector), cs, ip);
    return report;
  }
  const Gate found = decode_gate(raw);
  const std::uint16_t selector = found.selector;
  if (found.is_empty()) return fails("the entry is all zero");
  if (!found.present) return fails(fmt::format("not present ({:x}h)", found.low));
  if (found.is_task()) {
    report.text =
        fmt::format("gate {} ({}): a task gate to {:x}h", vector, vector_name(vector), selector);
    return report;
  }
  if (!found.is_handler())
    return fails(fmt::format("type {:x}h is no interrupt or trap gate", found.type));
  if ((selector & 0xfffc) == 0) return fails("its selector is null");
  const auto code_segment = reader.descriptor(selector);
  if (!code_segment) return reader.known ? fails(reader.problem) : unknown();
  if (!bit(*code_segment, 47))
    return fails(fmt::format("its code segment {:x}h is not present", selector));
  if (!bit(*code_segment, 44) || !bit(*code_segment, 43))
    return fails(fmt::format("its selector {:x}h is no code segment", selector));
  if (wide && !bit(*code_segment, 53))
    return fails(fmt::format("its code segment {:x}h is not 64-bit (L is 0)", selector));
  const Gva handler = found.handler;
  const Place entry = place_of(handler, {.fetch = true, .implicit = true});
  if (entry.failed())
    return fails(fmt::format("its handler {} is not mapped for a fetch: {}", address(handler),
                             entry.walk.failure->text));
  if (entry.known && entry.backing == Backing::Hole)
    return fails(fmt::format("its handler {} is in {}", address(handler), hole_name(*entry.gpa())));
  const unsigned ist = found.ist;
  if (const auto problem = stack_problem(reader, ist)) return fails(*problem);
  report.text = fmt::format("gate {} ({}): handler {}{}", vector, vector_name(vector),
                            address(handler), ist != 0 ? fmt::format(", IST{}", ist) : "");
  return report;
}

std::optional<FirstFault> Facts::selector_fault(std::uint16_t selector,
                                                std::string_view target) const {
  if (mode == CpuMode::Real || bit(cpu->regs.rflags, 17)) return std::nullopt;
  FirstFault bad;
  bad.kind = FirstFault::Kind::Selector;
  bad.vector = 13;
  bad.error_code = selector & 0xfffcu;
  const auto fails = [&](std::string text) -> std::optional<FirstFault> {
    bad.text = fmt::format("{} is loaded with selector {:x}h: {}", target, selector, text);
    return bad;
  };
  const bool code_segment = target == "cs";
  if ((selector & 0xfffc) == 0) {
    if (code_segment || target == "tr" || (target == "ss" && mode != CpuMode::Long64)) {
      bad.error_code = 0;
      return fails("it is null");
    }
    return std::nullopt;
  }
  if (bit(selector, 2)) return std::nullopt;  // the LDT is not looked at
  SystemReader reader{*this};
  const auto raw = reader.descriptor(selector);
  if (!raw) {
    if (!reader.known) return std::nullopt;
    if (reader.problem.starts_with("the GDT")) {
      bad.vector = 14;
      bad.error_code.reset();
    }
    return fails(reader.problem);
  }
  const bool is_code = bit(*raw, 44) && bit(*raw, 43);
  const bool is_data = bit(*raw, 44) && !bit(*raw, 43);
  if (target == "tr") {
    if (bit(*raw, 44) || bits(*raw, 43, 40) != 9)
      return fails(fmt::format("the descriptor {:x}h is no available TSS", *raw));
  } else if (target == "ldtr") {
    if (bit(*raw, 44) || bits(*raw, 43, 40) != 2)
      return fails(fmt::format("the descriptor {:x}h is no LDT", *raw));
  } else if (code_segment) {
    // A far branch may also go through a call gate or a TSS.
    if (is_data || *raw == 0) return fails(fmt::format("the descriptor {:x}h is no code", *raw));
    if (is_code && reader.long_mode() && bit(*raw, 53) && bit(*raw, 54))
      return fails(fmt::format("the descriptor {:x}h has L and D both set", *raw));
  } else if (target == "ss" ? !is_data || !bit(*raw, 41)
                            : !is_data && !(is_code && bit(*raw, 41))) {
    return fails(fmt::format("the descriptor {:x}h is no {} segment", *raw,
                             target == "ss" ? "writable data" : "readable"));
  }
  if (!bit(*raw, 47)) {
    bad.vector = target == "ss" ? 12 : 11;
    return fails(fmt::format("the descriptor {:x}h is not present", *raw));
  }
  return std::nullopt;
}

}  // namespace vmm
