// The probe's result for people and for programs.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "vmm/probe/classify.h"

namespace vmm {

// The counts, every contradiction, hole and differing word, and the digest; with `all` also the
// table of every feature. At most 100 columns where the reasons let it.
std::vector<std::string> probe_lines(const ResolvedCpu& cpu, const HostGrant& host,
                                     const ProbeResult& result, bool all);

nlohmann::json probe_json(const ResolvedCpu& cpu, const HostGrant& host,
                          const ProbeReading& reading, const ProbeResult& result);

}  // namespace vmm
