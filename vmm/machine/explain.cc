#include "vmm/machine/explain.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "vmm/base/bytes.h"
#include "vmm/base/text.h"
#include "vmm/machine/explain_rules.h"
#include "vmm/machine/explain_starts.h"
#include "vmm/machine/register_text.h"

namespace vmm {
namespace {

constexpr std::size_t kColumns = 120;
constexpr std::size_t kLabel = 10;  // columns before the text of a section

// Cuts `text` into lines of at most kColumns, the first `first` columns being taken, at blanks.
std::vector<std::string> wrap(std::string text, std::size_t indent) {
  std::vector<std::string> lines;
  const std::size_t width = kColumns - indent;
  while (text.size() > width) {
    std::size_t cut = text.rfind(' ', width);
    if (cut == std::string::npos || cut < width / 2) cut = width;
    lines.push_back(text.substr(0, cut));
    text.erase(0, text[cut] == ' ' ? cut + 1 : cut);
  }
  lines.push_back(std::move(text));
  return lines;
}

// One part of the card. The less it weighs, the sooner it goes when the card is too long.
struct Section {
  std::string_view label;
  std::vector<std::string> lines;
  int weight = 5;
  std::size_t keep = 1;          // that many lines stay as long as the section stays
  bool drop_from_front = false;  // of the last exits, the newest stay
};

class Card {
 public:
  Card(const Facts& facts, Verdict verdict) : f_(facts), verdict_(std::move(verdict)) {}

  CrashCard make() {
    ended();
    hypervisors();
    if (f_.cpu != nullptr && registers_matter()) {
      fault();
      registers();
      if (!halted()) instruction();
      walks();
      gates();
      lint();
    }
    starts();
    exits();
    CrashCard card;
    card.rule = verdict_.rule;
    card.cause = verdict_.cause;
    card.layer = verdict_.layer;
    card.lines = lay_out();
    return card;
  }

 private:
  bool registers_matter() const {
    const auto& outcome = f_.scene.outcome;
    if (std::holds_alternative<ending::TripleFault>(outcome))
      return f_.scene.registers_trusted || !f_.is_reset_state();
    return f_.holds_internal_error() || std::holds_alternative<ending::EntryFailure>(outcome) ||
           std::holds_alternative<ending::Caught>(outcome) ||
           (std::holds_alternative<ending::HaltedForever>(outcome) && f_.scene.vcpus.size() == 1);
  }
  bool halted() const { return std::holds_alternative<ending::HaltedForever>(f_.scene.outcome); }

  void ended() {
    std::string line = headline(f_.scene.outcome);
    if (!f_.scene.vcpu_known) {
      // "on vCPU 0" is a default here.
      constexpr std::string_view kName = " on vCPU 0";
      if (const auto at = line.find(kName); at != std::string::npos) line.erase(at, kName.size());
    }
    if (line != verdict_.cause) add({"ended", {line}, 9});
    if (!f_.error.lines.empty()) add({"exit", f_.error.lines, 7, 2});
    if (!verdict_.notes.empty()) add({"note", verdict_.notes, 8, 2});
  }

  void hypervisors() {
    std::vector<std::string> lines;
    for (const NestedFinding& finding : f_.nested)
      lines.insert(lines.end(), finding.lines.begin(), finding.lines.end());
    if (!lines.empty()) add({"nested", std::move(lines), 8, 3});
  }

  // The chain from the first exception to the shutdown, as far as it can be inferred.
  void fault() {
    if (!f_.fault || halted()) return;
    const bool triple = std::holds_alternative<ending::TripleFault>(f_.scene.outcome);
    if (!triple && f_.fault->kind != FirstFault::Kind::Fetch) return;
    const bool confirmed = f_.fault->vector == 14 && f_.fault->place &&
                           f_.fault->place->linear == f_.cpu->sregs.cr2 && f_.cpu->sregs.cr2 != 0;
    std::string line = fmt::format("{}{} ", confirmed ? "" : "probably ", f_.fault->name());
    if (f_.fault->kind == FirstFault::Kind::Fetch)
      line += fmt::format("on the fetch at {}", f_.address(f_.fault->place->linear));
    else if (f_.fault->place)
      line += fmt::format("on the {} {}", f_.fault->place->access.write ? "write to" : "read of",
                          f_.address(f_.fault->place->linear));
    else
      line += fmt::format("by the instruction at {}", f_.address(f_.rip));
    if (confirmed) line += " (as CR2 says)";
    if (triple) line += ", then #DF, then shutdown";
    add({"fault", {line}, 8});
  }

  void registers() {
    const kvm_sregs& s = f_.cpu->sregs;
    const kvm_regs& r = f_.cpu->regs;
    const std::uint64_t flags = r.rflags;
    std::vector<std::string> lines;
    lines.push_back(fmt::format("{}, CPL {}, RIP {}, RSP {:x}h, RFLAGS {:x}h (IF={})",
                                mode_text(f_.mode), f_.cpl, f_.address(r.rip), r.rsp, flags,
                                (flags & spec::RFLAGS_IF) != 0 ? 1 : 0));
    if (!halted())
      lines.push_back(fmt::format(
          "{}, CR2 {:x}h, CR3 {:x}h, {}, {}{}", cr0_text(s.cr0, BitNames::Telling), s.cr2, s.cr3,
          cr4_text(s.cr4, BitNames::Telling), efer_text(s.efer, BitNames::Telling),
          f_.scene.efer_known ? "" : ", inferred"));
    add({f_.at_fault() ? "cpu" : "before", std::move(lines), 8, 2});
  }

  void instruction() {
    const std::vector<std::uint8_t> bytes = f_.shown_code();
    if (bytes.empty()) return;
    const bool guessed = f_.code.empty();
    const auto insn =
        decode_instruction(bytes, f_.mode, f_.cpu->regs.rip, nullptr, f_.scene.symbols);
    const std::size_t count = insn ? insn->length : std::min<std::size_t>(bytes.size(), 8);
    std::string hex;
    for (std::size_t i = 0; i < count; ++i) hex += fmt::format("{:02x} ", bytes[i]);
    add({"insn",
         {fmt::format("{}: {} {}{}", f_.address(f_.rip), hex,
                      insn ? printable(insn->text, 80) : "(no instruction)",
                      guessed ? "  (the bytes at that physical address)" : "")},
         7});
  }

  void walk_section(const Place& place, std::string name, int weight) {
    std::vector<std::string> lines = describe(place.walk);
    if (lines.empty()) return;
    const bool refused = place.known && !f_.scene.host_has_pdpe1gb && place.walk.page_size == 1_GiB;
    const bool fails = place.failed() || refused;
    if (refused && lines.size() >= 2) lines[lines.size() - 2] += "  <-- PS: not on this host";
    if (place.known && place.backing == Backing::Hole && !fails)
      lines.back() += fmt::format(": {}", hole_name(*place.gpa()));
    if (!place.known) {
      // The end of what the dump holds.
      lines.pop_back();
      if (lines.empty()) return;
      lines.push_back("the rest of the tables is not in the dump");
    }
    if (!fails && lines.size() > 1 && place.known) {
      // A sound walk of some other address is one line.
      lines = {fmt::format("{} {}", name, lines.back())};
    } else {
      lines.insert(lines.begin(), fmt::format("{} ({}):", name, paging_text(place.walk.mode)));
    }
    add({"walk", std::move(lines), weight, fails ? 6u : 1u});
  }

  void walks() {
    if (halted()) return;
    if (verdict_.place) walk_section(*verdict_.place, verdict_.place_name, 8);
    const std::string by_cr3 =
        verdict_.place ? fmt::format(" by the last CR3, {:x}h,", f_.cpu->sregs.cr3) : "";
    walk_section(f_.rip_place, fmt::format("RIP {:x}h{}", f_.rip, by_cr3),
                 f_.rip_place.failed() ? 8 : 3);
    // The next page of an instruction that crosses, or the operand at fault.
    const Place* at_fault = f_.fault && f_.fault->place ? &*f_.fault->place : nullptr;
    if (at_fault != nullptr && at_fault->linear != f_.rip)
      walk_section(*at_fault, fmt::format("{:x}h", at_fault->linear), 8);
    for (const Operand& operand : f_.operands) {
      if (operand.place.failed()) continue;
      const bool hole = operand.place.gpa() && operand.place.backing == Backing::Hole;
      if (hole) walk_section(operand.place, fmt::format("operand {:x}h", operand.use.linear), 6);
    }
    if (f_.cr2 && f_.cr2->failed() && f_.cr2->linear != f_.rip &&
        (at_fault == nullptr || f_.cr2->linear >> 12 != at_fault->linear >> 12))
      walk_section(*f_.cr2, fmt::format("CR2 {:x}h", f_.cr2->linear), 4);
  }

  void gates() {
    if (!std::holds_alternative<ending::TripleFault>(f_.scene.outcome)) return;
    const kvm_dtable& idt = f_.cpu->sregs.idt;
    std::vector<unsigned> vectors = {8, 13, 14};
    if (!f_.at_fault()) return;  // its verdict names them
    if (f_.fault) vectors = {f_.fault->vector, 8};
    std::vector<std::string> lines = {fmt::format("base {:x}h, limit {:x}h", idt.base, idt.limit)};
    for (const unsigned vector : vectors) {
      const GateReport gate = f_.gate(vector);
      lines.push_back(gate.text + (gate.usable || !gate.known ? "" : "  <--"));
      if (gate.idt_missing && vector >= 8) break;  // the others fail the same way
    }
    add({"idt", std::move(lines), 6, 2});
  }

  void lint() {
    if (halted()) return;
    std::vector<std::string> lines;
    for (std::string line : paging_lint_lines(f_.scene)) {
      constexpr std::string_view kPrefix = "paging: ";
      if (line.starts_with(kPrefix)) line.erase(0, kPrefix.size());
      lines.push_back(std::move(line));
    }
    if (!lines.empty()) add({"lint", std::move(lines), 4});
  }

  void starts() {
    // Where the start is the cause, the first line has said it.
    if (verdict_.rule.starts_with("processor-started")) return;
    if (auto lines = start_lines(f_); !lines.empty()) add({"start", std::move(lines), 5, 1});
  }

  void exits() {
    constexpr std::size_t kExits = 4;
    const auto& events = f_.scene.last_exits;
    if (events.empty()) return;
    std::vector<std::string> lines;
    for (std::size_t i = events.size() - std::min(kExits, events.size()); i < events.size(); ++i)
      lines.push_back(fmt::format("vCPU {} at {}: {}", events[i].vcpu, f_.address(events[i].rip),
                                  printable(events[i].text(), 70)));
    add({"exits", std::move(lines), 2, 1, true});
  }

  void add(Section section) { sections_.push_back(std::move(section)); }

  std::vector<std::string> lay_out() {
    if (!verdict_.tries.empty()) add({"try", verdict_.tries, 9, verdict_.tries.size()});
    std::vector<std::string> head = wrap(verdict_.cause, 0);
    for (std::size_t i = 1; i < head.size(); ++i) head[i].insert(0, 2, ' ');
    // Every line is wrapped first, so that the count is the real one.
    for (Section& section : sections_) {
      std::vector<std::string> wrapped;
      for (const std::string& line : section.lines) {
        bool first = true;
        for (std::string& part : wrap(line, kLabel + 2)) {
          wrapped.push_back((first ? "" : "  ") + part);
          first = false;
        }
      }
      section.lines = std::move(wrapped);
    }
    const auto total = [&] {
      std::size_t count = head.size();
      for (const Section& section : sections_) count += section.lines.size();
      return count;
    };
    while (total() > kMaxCardLines && shrink()) {
    }
    std::vector<std::string> lines = std::move(head);
    for (const Section& section : sections_) {
      for (std::size_t i = 0; i < section.lines.size(); ++i)
        lines.push_back(
            fmt::format("  {:<{}}{}", i == 0 ? section.label : "", kLabel - 2, section.lines[i]));
    }
    lines.resize(std::min(lines.size(), kMaxCardLines));
    return lines;
  }

  // Takes one line away: from the lightest section that has more than it must keep, else the
  // lightest one goes. False when nothing is left.
  bool shrink() {
    Section* best = nullptr;
    for (Section& section : sections_)
      if (section.lines.size() > section.keep && (best == nullptr || section.weight < best->weight))
        best = &section;
    if (best == nullptr) {
      for (Section& section : sections_)
        if (!section.lines.empty() && (best == nullptr || section.weight < best->weight))
          best = &section;
      if (best == nullptr) return false;
    }
    if (best->drop_from_front)
      best->lines.erase(best->lines.begin());
    else
      best->lines.pop_back();
    return true;
  }

  const Facts& f_;
  Verdict verdict_;
  std::vector<Section> sections_;
};

}  // namespace

std::string CrashCard::text() const {
  std::string all;
  for (const std::string& line : lines) {
    all += line;
    all += '\n';
  }
  return all;
}

CrashCard explain(const CrashScene& scene) { return explain(scene, nested_findings(scene)); }

CrashCard explain(const CrashScene& scene, const std::vector<NestedFinding>& nested) {
  if (scene.hypervisor_memory == nullptr)
    if (const auto l2 = l2_memory(scene, scene.vcpu)) {
      CrashScene in_l2 = scene;
      in_l2.memory = l2.get();
      in_l2.hypervisor_memory = scene.memory;
      return explain(in_l2, nested);
    }
  const Facts facts(scene, nested);
  return Card(facts, judge(facts)).make();
}

std::vector<std::string> paging_lint_lines(const CrashScene& scene) {
  std::vector<std::string> lines;
  if (scene.memory == nullptr || scene.memory_is_partial || scene.cpuid.entries().empty())
    return lines;
  const PagingFeatures features = PagingFeatures::from(scene.cpuid);
  std::vector<std::uint64_t> seen;       // CR3 values
  std::vector<std::string> rules;        // each is named once
  constexpr std::size_t kMaxTables = 8;  // different CR3 values that are looked at
  for (std::size_t i = 0; i < scene.vcpus.size() && seen.size() < kMaxTables; ++i) {
    const std::size_t index = i == 0 && scene.vcpu < scene.vcpus.size() ? scene.vcpu
                              : i == scene.vcpu                         ? 0
                                                                        : i;
    const PagingContext context = PagingContext::from(scene.vcpus[index], features);
    if (context.mode() == PagingMode::None ||
        std::find(seen.begin(), seen.end(), context.cr3) != seen.end())
      continue;
    seen.push_back(context.cr3);
    for (const PagingFinding& finding : lint_paging(*scene.memory, context, 200'000)) {
      if (std::find(rules.begin(), rules.end(), finding.rule) != rules.end()) continue;
      rules.push_back(finding.rule);
      lines.push_back("paging: " + finding.text);
    }
  }
  return lines;
}

}  // namespace vmm
