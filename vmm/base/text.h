// Small helpers on text: splitting, numbers and sizes as users write them, the nearest known name.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/base/result.h"

namespace vmm {

// The parts between `separator`; "a,,b" has three, "" has one (empty).
std::vector<std::string_view> split(std::string_view text, char separator);
// Without white space at either end.
std::string_view trim(std::string_view text);
// ASCII lower case.
std::string lower(std::string_view text);
// The same, with '-' for '_': as CPU models and their features are spelt ("Opteron_G3").
std::string dashed(std::string_view text);
// A decimal number or one with 0x before it; nothing else around it.
std::optional<std::uint64_t> parse_number(std::string_view text);
// Bytes: "256M", "3G", "64K", "1T", "4096", 1024-based, also "256MiB". A Usage error otherwise, or
// when the product passes 2^63.
Result<std::uint64_t> parse_size(std::string_view text);
// "256 MiB", "4 GiB", "4100 bytes": the largest unit that loses nothing.
std::string format_size(std::uint64_t bytes);
// The name closest to `wanted` (case ignored, at most a third of its letters changed or
// swapped with their neighbours).
std::optional<std::string> nearest_name(std::string_view wanted,
                                        std::span<const std::string> names);
// `head` and the words of `text`, in lines of at most `columns`, later lines indented as far as
// `head` is long; ends in a newline. A word longer than a line stands alone.
std::string wrap_text(std::string_view head, std::string_view text, std::size_t columns);
// A hostile text made safe for a terminal: control characters as \xNN, cut at `max` bytes with
// "...".
std::string printable(std::string_view text, std::size_t max = 200);

// "FILE:LINE:COLUMN" of the byte at `offset` of a file's text, both counted from 1.
std::string text_place(std::string_view file, std::string_view text, std::size_t offset);

}  // namespace vmm
