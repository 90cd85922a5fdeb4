// How the other processors were started: which SIPI sent each where, by whom and when, and what
// lies there.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "vmm/machine/explain_rules.h"

namespace vmm {

struct StartPlace {
  enum class Content { Code, Zeroes, Ones, Hole, Unknown };
  Gpa page = 0;
  const TraceEvent* sipi = nullptr;  // null: inferred from CS, where KVM's LAPIC took the SIPI
  Content content = Content::Unknown;
  std::string content_text;  // "only zeroes", "code: cli; cld"
};

// Where vCPU `vcpu` was started; nothing for the first, for one that never was, and where no one
// knows.
std::optional<StartPlace> start_place(const Facts& facts, unsigned vcpu);

// "SIPI 70h from vCPU 0 at 1.234 ms (guest_main+1ah)".
std::string sipi_text(const Facts& facts, const TraceEvent& sipi);
// Of a processor that waits for a SIPI: "none came", "INIT from vCPU 0 at 1.234 ms, none since";
// empty when that is not known.
std::string waiting_text(const Facts& facts, unsigned vcpu);

// For the card: one line for each processor whose start matters to this ending.
std::vector<std::string> start_lines(const Facts& facts);

// A processor was sent to where no code is, and never got away from there.
std::optional<Verdict> started_in_nothing(const Facts& facts);

}  // namespace vmm
