// What kind of file this is. load_image() and parse_image() are declared in loader/boot.h.
#pragma once

#include <cstdint>
#include <span>
#include <string>

namespace vmm {

// What an unacceptable file starts with, and what it looks like where that is known: "it starts
// with 1f 8b 08 00 (looks like a gzip file)".
std::string describe_content(std::span<const std::uint8_t> bytes);

}  // namespace vmm
