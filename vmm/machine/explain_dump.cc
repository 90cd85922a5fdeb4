#include "vmm/machine/explain_dump.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "vmm/base/bytes.h"
#include "vmm/base/text.h"
#include "vmm/machine/explain_dump_parts.h"
#include "vmm/machine/explain_facts.h"

namespace vmm {
namespace {

using dump::PlacedCard;

// The few words of memory that a trace has shown.
class SparseMemory final : public MemoryReader {
 public:
  void put(Gpa gpa, std::uint64_t value, unsigned size) {
    for (unsigned i = 0; i < size; ++i) bytes_[gpa + i] = static_cast<std::uint8_t>(value >> i * 8);
  }
  bool read(Gpa gpa, std::span<std::uint8_t> data) const override {
    for (std::size_t i = 0; i < data.size(); ++i) {
      const auto byte = bytes_.find(gpa + i);
      if (byte == bytes_.end()) return false;
      data[i] = byte->second;
    }
    return true;
  }

 private:
  std::map<Gpa, std::uint8_t> bytes_;
};

constexpr std::uint32_t kErrorRsvd = 1u << 3;

// What a walk of KVM's says about a CPU whose CPUID is unknown: an entry that it called reserved.
PagingFeatures infer_features(const dump::TraceWalk& walk, CpuState& cpu) {
  PagingFeatures features = PagingFeatures::all_allowed();
  if ((walk.error.value_or(0) & kErrorRsvd) == 0 || walk.entries.empty()) return features;
  const auto [level, entry] = walk.entries.back();
  if (level == 3 && bit(entry, 7) && walk.entries.front().first >= 4) {
    features.pdpe1gb = false;
  } else if (bit(entry, 63)) {
    cpu.sregs.efer &= ~spec::EFER_NXE;
  } else {
    // The highest address bit that is set is one that MAXPHYADDR does not reach.
    for (unsigned index = 51; index >= 32; --index) {
      if (!bit(entry, index)) continue;
      features.phys_bits = index;
      break;
    }
  }
  return features;
}

// Puts the entries of a trace where the processor found them, from CR3 on.
void place_entries(const dump::TraceWalk& walk, CpuState& cpu, SparseMemory& memory) {
  if (walk.entries.empty()) return;
  const unsigned levels = walk.entries.front().first;
  if (levels >= 4) cpu.sregs.efer |= spec::EFER_LME | spec::EFER_LMA;
  const unsigned size = levels == 2 ? 4 : 8;
  const unsigned index_bits = levels == 2 ? 10 : 9;
  Gpa table = levels == 3 ? cpu.sregs.cr3 & 0xffffffe0 : cpu.sregs.cr3 & 0x000ffffffffff000;
  for (const auto& [level, entry] : walk.entries) {
    const unsigned shift = 12 + (level - 1) * index_bits;
    const std::uint64_t index = (walk.address >> shift) & low_mask(index_bits);
    memory.put(table + index * size, entry, size);
    table = entry & 0x000ffffffffff000;
  }
}

std::string level_name(unsigned level) {
  constexpr std::array<std::string_view, 6> kNames = {"", "PTE", "PDE", "PDPTE", "PML4E", "PML5E"};
  return std::string(kNames[std::min(level, 5u)]);
}

// A card for a trace that stands alone.
CrashCard trace_card(const dump::Trace& trace) {
  std::vector<std::pair<std::string, std::string>> rows;
  std::string rule = "unexplained";
  std::string cause = "a KVM trace, in which no walk and no instruction failed";
  const dump::TraceWalk* walk = trace.failed.empty() ? nullptr : &trace.failed.back();
  std::vector<std::string> tries;
  if (walk != nullptr) {
    const std::uint32_t error = walk->error.value_or(0);
    const bool has_entry = !walk->entries.empty();
    const auto [level, entry] =
        has_entry ? walk->entries.back() : std::pair<unsigned, std::uint64_t>{0, 0};
    const bool long_mode = has_entry && walk->entries.front().first >= 4;
    if ((error & kErrorRsvd) != 0 && level == 3 && bit(entry, 7) && long_mode) {
      rule = "pdpte-ps-without-pdpe1gb";
      cause = fmt::format(
          "the PDPTE (level 3) {:x}h has PS set (a 1 GiB page), reserved without pdpe1gb (CPUID "
          "80000001h.EDX[26])",
          entry);
      tries = {"-cpu MODEL,+pdpe1gb, a model that has it (Skylake-Server, EPYC), or 2 MiB pages"};
    } else if ((error & kErrorRsvd) != 0) {
      rule = "page-walk-reserved-bit";
      cause = fmt::format("the walk of {:x}h met a reserved bit in the level-{} entry {:x}h",
                          walk->address, level, entry);
      tries = {"NX without EFER.NXE, address bits beyond MAXPHYADDR, PS in a PML4E: one of them"};
    } else if ((error & 1) == 0) {
      rule = "page-walk-not-present";
      cause = fmt::format("the walk of {:x}h met a level-{} entry that is not present ({:x}h)",
                          walk->address, level, entry);
    } else {
      rule = "page-walk-no-rights";
      cause = fmt::format("the walk of {:x}h ended in missing rights ({})", walk->address,
                          page_fault_code_name(error));
    }
    std::string steps;
    for (const auto& [step_level, step_entry] : walk->entries)
      steps +=
          fmt::format("{}{} {:x}h", steps.empty() ? "" : ", ", level_name(step_level), step_entry);
    rows.emplace_back("walk", fmt::format("of {:x}h for {}: {}", walk->address,
                                          (walk->wanted & 0x10) != 0 ? "a fetch"
                                          : (walk->wanted & 2) != 0  ? "a write"
                                                                     : "a read",
                                          steps.empty() ? "no entry read" : steps));
    rows.emplace_back("fault",
                      fmt::format("#PF error code {:x}h ({})", error, page_fault_code_name(error)));
  } else if (trace.emulation_failed) {
    rule = "emulation-unsupported-instruction";
    cause = fmt::format("KVM could not emulate the instruction at {:x}h", trace.emulated_rip);
  }
  if (!trace.emulated.empty()) {
    std::string hex;
    for (const std::uint8_t byte : trace.emulated) hex += fmt::format("{:02x} ", byte);
    rows.emplace_back("emulate", fmt::format("{:x}h: {}{}", trace.emulated_rip, hex,
                                             trace.emulation_failed ? "failed" : ""));
  }
  if (!trace.exit_reason.empty())
    rows.emplace_back("exit", fmt::format("{} at RIP {:x}h", trace.exit_reason, trace.exit_rip));
  if (!trace.userspace_reason.empty()) rows.emplace_back("ended", trace.userspace_reason);
  for (std::string& text : tries) rows.emplace_back("try", std::move(text));
  return dump::plain_card(rule, cause, "guest", rows);
}

// A dump of QEMU's, with the walk of the trace that belongs to it.
CrashCard qemu_card(dump::QemuDump& dump, const dump::TraceWalk* walk) {
  SparseMemory memory;
  if (walk != nullptr) {
    CpuState& cpu = dump.scene.vcpus[0];
    place_entries(*walk, cpu, memory);
    dump.scene.paging_features = infer_features(*walk, cpu);
    dump.scene.memory = &memory;
  }
  CrashCard card = explain(dump.scene);
  dump.scene.memory = nullptr;
  return card;
}

// The card inside an outcome of ours (--outcome-json), as it was written.
std::optional<CrashCard> outcome_card(std::string_view text) {
  constexpr std::size_t kMaxJson = 1u << 20;
  text = trim(text);
  if (text.empty() || text.front() != '{' || text.size() > kMaxJson) return std::nullopt;
  const auto json = nlohmann::json::parse(text, nullptr, false);
  if (!json.is_object() || !json.contains("cause") || !json["cause"].is_object())
    return std::nullopt;
  const auto& cause = json["cause"];
  const auto word = [&](const char* key) -> std::string {
    return cause.contains(key) && cause[key].is_string()
               ? printable(cause[key].get_ref<const std::string&>(), 400)
               : "";
  };
  CrashCard card;
  card.rule = word("rule");
  card.cause = word("text");
  if (card.rule.empty() || card.cause.empty()) return std::nullopt;
  card.layer = json.contains("layer") && json["layer"].is_string()
                   ? printable(json["layer"].get_ref<const std::string&>(), 40)
                   : "guest";
  if (cause.contains("card") && cause["card"].is_array()) {
    for (const auto& line : cause["card"]) {
      if (!line.is_string() || card.lines.size() >= kMaxCardLines) break;
      card.lines.push_back(printable(line.get_ref<const std::string&>(), 117));
    }
  }
  if (card.lines.empty()) card.lines.push_back(card.cause);
  return card;
}

Error nothing_found() {
  return Error::image("this text holds no crash that vmm knows")
      .hint(
          "looked for: QEMU's \"KVM internal error\" and \"KVM: entry failed\" with registers, KVM "
          "trace events (kvm_exit, kvm_mmu_*, kvm_emulate_insn), a host kernel's messages "
          "(rdmsr, wrmsr, EPT misconfiguration, *** Guest State ***), "
          "IA32_VMX_PROCBASED_CTLS2 words, an outcome of vmm run");
}

}  // namespace

Result<std::vector<CrashCard>> explain_dump(std::string_view text) {
  if (text.size() > kMaxDumpSize) text = text.substr(0, kMaxDumpSize);
  if (auto card = outcome_card(text)) return std::vector<CrashCard>{std::move(*card)};
  dump::QemuReader qemu;
  dump::TraceReader trace_reader;
  dump::KernelReader kernel;
  dump::CapabilityReader capability;
  std::size_t number = 0;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, std::min(end, dump::kMaxLine));
    text.remove_prefix(std::min(end + 1, text.size()));
    while (!line.empty() && line.back() == '\r') line.remove_suffix(1);
    ++number;
    if (line.empty()) continue;
    if (trace_reader.feed(line, number)) continue;
    if (kernel.feed(line, number)) continue;
    if (capability.feed(line, number)) continue;
    qemu.feed(line, number);
  }

  std::vector<PlacedCard> cards = kernel.finish();
  if (auto card = capability.finish()) cards.push_back(std::move(*card));
  const std::optional<dump::Trace> trace = trace_reader.finish();
  bool trace_used = false;
  bool error_named = false;
  for (dump::QemuDump& dump : qemu.finish()) {
    // Registers alone are no crash; behind an error they are the other processors.
    error_named |= dump.error_named;
    if (!error_named) continue;
    const dump::TraceWalk* walk = nullptr;
    if (trace && dump.has_registers) {
      const Gva rip = linear_rip(dump.scene.vcpus[0]);
      for (const dump::TraceWalk& candidate : trace->failed)
        if (candidate.address == rip) walk = &candidate;
    }
    trace_used |= walk != nullptr;
    CrashCard card = qemu_card(dump, walk);
    if (dump.error_named || card.rule != "unexplained")
      cards.push_back({dump.line, std::move(card)});
  }
  if (trace && !trace_used) cards.push_back({trace->line, trace_card(*trace)});
  if (cards.empty()) return fail(nothing_found());
  std::stable_sort(cards.begin(), cards.end(),
                   [](const PlacedCard& a, const PlacedCard& b) { return a.line < b.line; });
  std::vector<CrashCard> result;
  for (PlacedCard& placed : cards) result.push_back(std::move(placed.card));
  return result;
}

}  // namespace vmm
