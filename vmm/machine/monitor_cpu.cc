// A processor: its registers, its MSRs, its CPUID, and which model it is.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <nlohmann/json.hpp>

#include "vmm/base/text.h"
#include "vmm/gdb/registers.h"
#include "vmm/machine/descriptor_tables.h"
#include "vmm/machine/explain_stop.h"
#include "vmm/machine/monitor_parts.h"
#include "vmm/machine/register_text.h"
#include "vmm/machine/state_json.h"

namespace vmm::monitor {
namespace {

using nlohmann::json;

std::string segment_line(std::string_view name, const kvm_segment& s, bool wide) {
  if (s.unusable != 0) return fmt::format("  {:<4} {:>4x}h  unusable\n", name, s.selector);
  Descriptor d;
  d.type = s.type;
  d.system = s.s == 0;
  d.l = s.l != 0;
  d.db = s.db != 0;
  return fmt::format("  {:<4} {:>4x}h  base {:>16x}h  limit {:>8x}h  DPL {}  {}{}\n", name,
                     s.selector, s.base, s.limit, s.dpl, descriptor_name(d, wide),
                     s.present != 0 ? "" : ", not present");
}

std::string regs_text(const MonitorScene& scene, unsigned vcpu, const DebugRegisters& registers) {
  const kvm_regs& r = registers.cpu.regs;
  const kvm_sregs& s = registers.cpu.sregs;
  const PagingContext paging = PagingContext::from(registers.cpu, scene.paging);
  const CpuMode mode = cpu_mode(s);
  const bool wide = (s.efer & spec::EFER_LMA) != 0;
  std::string text = fmt::format("vCPU {}: {}, {}, {}\n", vcpu, mode_text(mode),
                                 paging_text(paging.mode()), mp_state_name(registers.cpu.mp_state));
  const std::pair<std::string_view, std::uint64_t> general[] = {
      {"RAX", r.rax}, {"RBX", r.rbx}, {"RCX", r.rcx}, {"RDX", r.rdx},
      {"RSI", r.rsi}, {"RDI", r.rdi}, {"RBP", r.rbp}, {"RSP", r.rsp},
      {"R8", r.r8},   {"R9", r.r9},   {"R10", r.r10}, {"R11", r.r11},
      {"R12", r.r12}, {"R13", r.r13}, {"R14", r.r14}, {"R15", r.r15}};
  for (std::size_t i = 0; i < std::size(general); ++i)
    text += fmt::format("  {:<3} {:016x}h{}", general[i].first, general[i].second,
                        i % 4 == 3 ? "\n" : "");
  text += fmt::format("  RIP {}\n  {}\n", place_name(scene, r.rip), rflags_text(r.rflags));
  text += segment_line("CS", s.cs, wide) + segment_line("SS", s.ss, wide) +
          segment_line("DS", s.ds, wide) + segment_line("ES", s.es, wide) +
          segment_line("FS", s.fs, wide) + segment_line("GS", s.gs, wide) +
          segment_line("LDTR", s.ldt, wide) + segment_line("TR", s.tr, wide);
  for (const auto& [name, table] : {std::pair("GDTR", &s.gdt), std::pair("IDTR", &s.idt)})
    text += fmt::format("  {:<4}        base {:>16x}h  limit {:>8x}h\n", name, table->base,
                        table->limit);
  const auto add = [&](const std::string& line) { text += wrap_text("  ", line, 120); };
  add(cr0_text(s.cr0, BitNames::All));
  add(fmt::format("CR2 {:x}h, CR3 {:x}h, CR8 {:x}h", s.cr2, s.cr3, s.cr8));
  add(cr4_text(s.cr4, BitNames::All));
  add(efer_text(s.efer, BitNames::All));
  const kvm_debugregs& d = registers.cpu.debugregs;
  add(fmt::format("DR0 {:x}h, DR1 {:x}h, DR2 {:x}h, DR3 {:x}h, DR6 {:x}h, DR7 {:x}h", d.db[0],
                  d.db[1], d.db[2], d.db[3], d.dr6, d.dr7));
  add(fmt::format("XCR0 {:x}h, IA32_APIC_BASE {:x}h", registers.xcr0, s.apic_base));
  return text;
}

struct MsrName {
  std::uint32_t index = 0;
  std::string name;  // as gdb has it; empty: it has none there
};

// "0x10", "c0000082h", "lstar".
std::optional<MsrName> msr_of(const MonitorScene& scene, std::string_view word) {
  const auto table = gdb::register_table(gdb::Arch::X86_64, scene.target.cpuid());
  const auto index = number_of(scene, word);
  for (const gdb::Register& r : table) {
    if (r.place.kind != gdb::RegisterPlace::Kind::Msr) continue;
    if (r.name == word || (index && r.place.index == *index)) return MsrName{r.place.index, r.name};
  }
  if (!index || *index > 0xffffffff) return std::nullopt;
  return MsrName{static_cast<std::uint32_t>(*index), {}};
}

json cpuid_json(CpuidKey key, const CpuidRegs& regs) {
  return {{"leaf", json_hex(key.leaf)}, {"subleaf", json_hex(key.subleaf)},
          {"eax", json_hex(regs.eax)},  {"ebx", json_hex(regs.ebx)},
          {"ecx", json_hex(regs.ecx)},  {"edx", json_hex(regs.edx)}};
}

}  // namespace

MonitorAnswer regs(const Request& r) {
  const bool all = r.words.size() == 1 && r.words[0] == "all";
  if (!r.words.empty() && !all) return usage();
  json document = json::array();
  std::string text;
  for (unsigned i = 0; i < r.scene.target.vcpu_count(); ++i) {
    if (!all && i != r.scene.vcpu) continue;
    const auto registers = r.scene.target.registers(i);
    if (!registers) return failed(registers.error());
    if (r.json) {
      json one = registers_json(registers->cpu);
      one["vcpu"] = i;
      one["mp_state"] = mp_state_name(registers->cpu.mp_state);
      one["control"]["xcr0"] = json_hex(registers->xcr0);
      document.push_back(std::move(one));
    } else {
      text += regs_text(r.scene, i, *registers);
    }
  }
  return r.json ? done_json(document) : done(std::move(text));
}

MonitorAnswer msr(const Request& r) {
  if (r.words.empty() || r.words.size() > 2) return usage();
  const auto which = msr_of(r.scene, r.words[0]);
  if (!which)
    return usage(fmt::format("{}: neither an MSR's number nor a name", printable(r.words[0])));
  if (r.words.size() == 2) {
    const auto value = number_of(r.scene, r.words[1]);
    if (!value) return usage(fmt::format("{}: no number", printable(r.words[1])));
    if (const auto set = r.scene.target.set_msr(r.scene.vcpu, which->index, *value); !set)
      return failed(set.error());
  }
  const auto value = r.scene.target.msr(r.scene.vcpu, which->index);
  if (!value) return failed(value.error());
  if (r.json)
    return done_json(json{{"vcpu", r.scene.vcpu},
                          {"msr", json_hex(which->index)},
                          {"name", which->name.empty() ? json() : json(which->name)},
                          {"value", json_hex(*value)}});
  return done(fmt::format("MSR {:x}h{} = {:x}h on vCPU {}\n", which->index,
                          which->name.empty() ? "" : " (" + which->name + ")", *value,
                          r.scene.vcpu));
}

MonitorAnswer cpuid(const Request& r) {
  if (r.words.size() > 2) return usage();
  std::optional<std::uint64_t> wanted[2];
  for (std::size_t i = 0; i < r.words.size(); ++i) {
    wanted[i] = number_of(r.scene, r.words[i]);
    if (!wanted[i] || *wanted[i] > 0xffffffff)
      return usage(fmt::format("{}: no number of 32 bits", printable(r.words[i])));
  }
  json document = json::array();
  std::string text = "      leaf.sub       EAX      EBX      ECX      EDX\n";
  bool any = false;
  for (const auto& [key, regs] : r.scene.target.cpuid().entries()) {
    if ((wanted[0] && key.leaf != *wanted[0]) || (wanted[1] && key.subleaf != *wanted[1])) continue;
    any = true;
    document.push_back(cpuid_json(key, regs));
    text += fmt::format("  {:>8x}h.{:<3x}  {:08x} {:08x} {:08x} {:08x}\n", key.leaf, key.subleaf,
                        regs.eax, regs.ebx, regs.ecx, regs.edx);
  }
  if (!any && r.json) return done_json(document);
  if (!any)
    return done(fmt::format("CPUID {:x}h{}: not in the guest's table\n", wanted[0].value_or(0),
                            wanted[1] ? fmt::format(".{:x}h", *wanted[1]) : ""));
  return r.json ? done_json(document) : done(std::move(text));
}

MonitorAnswer model(const Request& r) {
  if (!r.words.empty()) return usage();
  const MachineAbout about = r.scene.machine.about();
  const CpuidTable& cpuid = r.scene.target.cpuid();
  std::vector<std::string> lines;
  add_labelled(lines, "model", fmt::format("{}, policy {}", printable(about.model), about.policy));
  add_labelled(lines, "cpuid",
               fmt::format("{}, {}", printable(cpuid.vendor()),
                           cpuid.brand().empty() ? "no brand string" : printable(cpuid.brand())));
  if (!about.missing.empty())
    add_labelled(lines, "missing",
                 fmt::format("{} (the host cannot give them)", fmt::join(about.missing, " ")));
  for (const std::string& note : about.notes) add_labelled(lines, "note", note);
  add_labelled(lines, "host", fmt::format("KVM on {}, Linux {}", about.backend, about.kernel));
  add_labelled(lines, "tsc",
               fmt::format("{} kHz{}", about.tsc_khz,
                           about.tsc_lost ? "; KVM takes it for another than RDTSC gives" : ""));
  add_labelled(lines, "irqchip",
               fmt::format("{}{}", about.irqchip,
                           about.irqchip_reason.empty() ? "" : ": " + about.irqchip_reason));
  add_labelled(lines, "vcpus", fmt::format("{}", r.scene.target.vcpu_count()));
  add_labelled(lines, "memory", format_size(about.memory));
  return done(fmt::format("{}\n", fmt::join(lines, "\n")));
}

}  // namespace vmm::monitor
