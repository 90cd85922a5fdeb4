// Registers and events as JSON, the same in the outcome (docs/outcome.md) and in a monitor's
// answer.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "vmm/core/cpu_state.h"
#include "vmm/core/page_walk.h"
#include "vmm/core/trace.h"
#include "vmm/nested/rule.h"

namespace vmm {

struct NestedWalk;

// "0x3f8": JSON's numbers have 53 bits.
std::string json_hex(std::uint64_t value);
nlohmann::json registers_json(const CpuState& cpu);
// "runnable", "wait-for-sipi", "halted", ...
std::string mp_state_name(std::uint32_t state);
nlohmann::json event_json(const TraceEvent& event);
nlohmann::json walk_json(Gva address, const Walk& walk);
nlohmann::json nested_walk_json(const NestedWalk& walk);
// A broken rule of VM entry or VMRUN.
nlohmann::json violation_json(const nested::Violation& violation);

}  // namespace vmm
