// KVM's trace events as trace-cmd and ftrace print them.
#include <fmt/format.h>

#include <algorithm>

#include "vmm/base/text.h"
#include "vmm/machine/explain_dump_parts.h"

namespace vmm::dump {
namespace {

// What stands behind "NAME:" of an event; nothing when the line is not that event.
std::optional<std::string_view> event_body(std::string_view line, std::string_view name) {
  const std::size_t at = line.find(name);
  if (at == std::string_view::npos) return std::nullopt;
  const std::size_t end = at + name.size();
  if (end >= line.size() || line[end] != ':') return std::nullopt;
  return trim(line.substr(end + 1));
}

// The word behind "KEY ".
std::string word_after(std::string_view body, std::string_view key) {
  std::size_t at = 0;
  if (!body.starts_with(key)) {
    at = body.find(fmt::format(" {}", key));
    if (at == std::string_view::npos) return "";
    ++at;
  }
  const std::string_view rest = trim(body.substr(at + key.size()));
  return printable(rest.substr(0, rest.find_first_of(" \t")), 40);
}

}  // namespace

bool TraceReader::feed(std::string_view line, std::size_t number) {
  if (line.find("kvm_") == std::string_view::npos) return false;
  const auto seen = [&] {
    if (trace_.events++ == 0) trace_.line = number;
    return true;
  };
  if (const auto exit = event_body(line, "kvm_exit")) {
    trace_.exit_reason = word_after(*exit, "reason ");
    trace_.exit_rip = hex_after(*exit, "rip ").value_or(0);
    return seen();
  }
  if (const auto walk = event_body(line, "kvm_mmu_pagetable_walk")) {
    const auto address = hex_after(*walk, "addr ");
    if (!address) return false;
    walk_.emplace();
    walk_->line = number;
    walk_->address = *address;
    walk_->wanted = static_cast<std::uint32_t>(hex_after(*walk, "pferr ").value_or(0));
    return seen();
  }
  if (const auto element = event_body(line, "kvm_mmu_paging_element")) {
    const auto pte = hex_after(*element, "pte ");
    const auto level = hex_after(*element, "level ");
    if (walk_ && pte && level && *level >= 1 && *level <= 5 && walk_->entries.size() < kMaxLevels &&
        (walk_->entries.empty() || walk_->entries.back().first == *level + 1))
      walk_->entries.emplace_back(static_cast<unsigned>(*level), *pte);
    return seen();
  }
  if (const auto error = event_body(line, "kvm_mmu_walker_error")) {
    const auto code = hex_after(*error, "pferr ");
    if (walk_ && code) {
      walk_->error = static_cast<std::uint32_t>(*code);
      if (trace_.failed.size() >= kMaxThings) trace_.failed.erase(trace_.failed.begin());
      trace_.failed.push_back(std::move(*walk_));
    }
    walk_.reset();
    return seen();
  }
  if (const auto insn = event_body(line, "kvm_emulate_insn")) {
    // "0:133025: ec FAIL", "0:133025:ec 90 (prot32) failed".
    const std::size_t base_end = insn->find(':');
    const std::size_t rip_end =
        base_end == std::string_view::npos ? base_end : insn->find(':', base_end + 1);
    if (rip_end == std::string_view::npos) return false;
    std::string_view rip = insn->substr(base_end + 1, rip_end - base_end - 1);
    std::string_view rest = insn->substr(rip_end + 1);
    trace_.emulated_rip = take_hex(rip).value_or(0);
    trace_.emulated.clear();
    while (trace_.emulated.size() < 15) {
      while (!rest.empty() && rest[0] == ' ') rest.remove_prefix(1);
      const std::string_view before = rest;
      const auto byte = take_hex(rest);
      if (!byte || *byte > 0xff || before.size() - rest.size() != 2 ||
          (!rest.empty() && rest[0] != ' '))
        break;
      trace_.emulated.push_back(static_cast<std::uint8_t>(*byte));
    }
    trace_.emulation_failed = insn->find("FAIL") != std::string_view::npos ||
                              insn->find("failed") != std::string_view::npos;
    return seen();
  }
  if (const auto user = event_body(line, "kvm_userspace_exit")) {
    trace_.userspace_reason = word_after(*user, "reason ");
    return seen();
  }
  return false;
}

std::optional<Trace> TraceReader::finish() {
  if (trace_.events == 0) return std::nullopt;
  return std::move(trace_);
}

}  // namespace vmm::dump
