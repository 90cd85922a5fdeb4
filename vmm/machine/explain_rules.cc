#include "vmm/machine/explain_rules.h"

#include <fmt/format.h>

#include "vmm/core/uapi.h"
#include "vmm/machine/explain_rule_parts.h"
#include "vmm/machine/explain_starts.h"

namespace vmm {
namespace {

MaybeVerdict unexplained(const Facts& f) {
  Verdict v;
  v.cause = headline(f.scene.outcome);
  v.layer = std::string(layer_name(f.scene.outcome));
  if (wants_explanation(f.scene.outcome)) {
    v.notes.push_back("no rule fits: what is known stands below");
    v.tries = {"a trace of the exits before it (--trace) or a debugger (--gdb)"};
  }
  return v;
}

}  // namespace

std::vector<Rule> all_rules() {
  std::vector<Rule> rules;
  for (const auto group : {ending_rules(), code_rules(), fault_rules()})
    rules.insert(rules.end(), group.begin(), group.end());
  rules.push_back({"unexplained", unexplained});
  return rules;
}

Verdict judge(const Facts& facts) {
  for (const Rule& rule : all_rules()) {
    if (auto verdict = rule.fits(facts)) {
      if (verdict->rule.empty()) verdict->rule = rule.id;
      return std::move(*verdict);
    }
  }
  return {};
}

Gva place_of_halt(const Facts& facts, const CpuState& cpu) {
  const Gva rip = linear_rip(cpu);
  if (facts.scene.memory == nullptr || rip == 0) return rip;
  constexpr std::uint8_t kHlt = 0xf4;
  const Walk walk =
      walk_page(*facts.scene.memory, PagingContext::from(cpu, facts.paging.features), rip - 1, {});
  if (!walk.gpa) return rip;
  return facts.scene.memory->read_value<std::uint8_t>(*walk.gpa) == kHlt ? rip - 1 : rip;
}

std::vector<std::string> vcpu_lines(const Facts& facts, std::size_t count) {
  std::vector<std::string> lines;
  const auto& vcpus = facts.scene.vcpus;
  for (std::size_t i = 0; i < vcpus.size() && i < count; ++i) {
    const CpuState& cpu = vcpus[i];
    const bool interrupts = (cpu.regs.rflags & spec::RFLAGS_IF) != 0;
    std::string state;
    switch (cpu.mp_state) {
      case KVM_MP_STATE_UNINITIALIZED:
      case KVM_MP_STATE_INIT_RECEIVED: {
        const std::string why = waiting_text(facts, static_cast<unsigned>(i));
        lines.push_back(fmt::format("vCPU {}: waits for a SIPI ({})", i,
                                    why.empty() ? "never started, or INIT" : why));
        continue;
      }
      case KVM_MP_STATE_HALTED:
        state = "halted";
        break;
      default:
        state =
            std::holds_alternative<ending::HaltedForever>(facts.scene.outcome) ? "halted" : "runs";
    }
    const Gva at = state == "halted" ? place_of_halt(facts, cpu) : linear_rip(cpu);
    lines.push_back(
        fmt::format("vCPU {}: {} at {}, IF={}", i, state, facts.address(at), interrupts ? 1 : 0));
  }
  if (vcpus.size() > count) lines.push_back(fmt::format("and {} more", vcpus.size() - count));
  return lines;
}

}  // namespace vmm
