// A host's grant as a file, so that another machine can ask what would run there. The form is in
// docs/host-dump.md.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "vmm/base/result.h"
#include "vmm/cpu/json_node.h"
#include "vmm/cpu/resolve.h"

namespace vmm {

// A JSON document of schema "vmm-host-dump", version 1, with a newline at its end.
std::string host_dump_text(const HostGrant& host);

// Reads one; equal to what was written. Usage errors carry the file and the path of the value in it
// (FILE:LINE:COLUMN for what is not JSON at all): unknown keys, another schema or version, wrong
// types, numbers out of range, more than 1 MiB, a host without leaf 0. `file` is only used in
// messages.
Result<HostGrant> parse_host_dump(std::string_view text, std::string_view file);
// From disk.
Result<HostGrant> read_host_dump(const std::string& path);

// The same as part of another document.
nlohmann::ordered_json host_dump_json(const HostGrant& host);
Result<HostGrant> host_dump_of_json(const JsonNode& node);

}  // namespace vmm
