// A VMCS, a VMCB or KVM's nested state as text: what the monitor prints and read_blob() reads, so
// that whoever has a console, a log or a pipe has a file.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/base/result.h"

namespace vmm::nested {

// A line that says what it is and how many bytes, rows of 32 bytes behind their offset, those of
// zeroes left out, and a line that ends it. `what` is one line.
std::string dump_text(std::string_view what, std::span<const std::uint8_t> bytes);

// The bytes of the first dump in `text`, whatever stands around it; nothing where none begins. An
// Image error names the line that does not fit, or says that the end is missing.
Result<std::optional<std::vector<std::uint8_t>>> parse_dump(std::string_view text);

}  // namespace vmm::nested
