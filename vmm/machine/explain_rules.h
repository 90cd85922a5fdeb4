// The rules that name a cause. Each has a stable id, which the outcome carries and matrices
// compare; they are asked in order and the first that fits wins.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "vmm/machine/explain_facts.h"

namespace vmm {

struct Verdict {
  std::string rule;
  std::string cause;               // one sentence
  std::string layer = "guest";     // who has to change something: "guest", "host", "monitor"
  std::vector<std::string> notes;  // what else should be known
  std::vector<std::string> tries;  // what to try, most promising first
  // A walk that shows the cause and does not follow from the registers, with its heading.
  std::optional<Place> place{};
  std::string place_name{};
};

struct Rule {
  std::string_view id;
  std::optional<Verdict> (*fits)(const Facts&);
};

// All rules, in the order in which they are asked; the last fits always.
std::vector<Rule> all_rules();
Verdict judge(const Facts& facts);

// A broken rule of VM entry (SDM vol. 3C 26.3): a short id and what is wrong.
using EntryViolation = std::pair<std::string_view, std::string>;
std::vector<EntryViolation> entry_violations(const Facts& facts);

// Where `cpu` is, linear: its RIP, or the HLT just before it.
Gva place_of_halt(const Facts& facts, const CpuState& cpu);
// "vCPU 1: halted at 10005h (idle+1h), IF=0", for each, at most `count`.
std::vector<std::string> vcpu_lines(const Facts& facts, std::size_t count);

}  // namespace vmm
