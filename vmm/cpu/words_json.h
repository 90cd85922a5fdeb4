// CPUID tables and MSRs as JSON: fixed-width hex, one register set a line.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json_fwd.hpp>

#include "vmm/base/result.h"
#include "vmm/core/cpuid_table.h"
#include "vmm/cpu/json_node.h"

namespace vmm {

// {"00000007.01": "EAX EBX ECX EDX"}: leaf and subleaf, then four registers of 8 digits.
nlohmann::ordered_json cpuid_json(const CpuidTable& table);
// Usage errors for anything that cpuid_json() would not have written, and for more than 1024
// entries. (KVM knows 256.)
Result<CpuidTable> cpuid_of_json(const JsonNode& node);

// {"0000010a": "000000000c0aa0eb"}: index and value.
nlohmann::ordered_json msrs_json(const std::map<std::uint32_t, std::uint64_t>& msrs);
// As above; at most 1024 MSRs.
Result<std::map<std::uint32_t, std::uint64_t>> msrs_of_json(const JsonNode& node);

}  // namespace vmm
