// A few ACPI machine language terms as bytes (ACPI 6.4 chapter 20) and resource descriptors
// (section 6.4): what a DSDT without methods is made of.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string_view>
#include <vector>

namespace vmm::aml {

using Bytes = std::vector<std::uint8_t>;

// Everything, one after the other.
Bytes join(std::initializer_list<Bytes> parts);

// The shortest form of a constant.
Bytes integer(std::uint64_t value);
// The number that stands for a device id such as "PNP0A03": three capital letters, four hex digits
// (EISA ids, ACPI 6.4 section 19.6.36).
Bytes eisa_id(std::string_view id);
Bytes package(std::initializer_list<Bytes> elements);  // at most 255
Bytes buffer(const Bytes& bytes);

// `path` is one segment of 1 to 4 capital letters, digits or underscores, with or without a leading
// backslash. Contents are limited to what their length field holds, 256 MiB.
Bytes name(std::string_view path, const Bytes& value);
Bytes scope(std::string_view path, const Bytes& terms);
Bytes device(std::string_view path, const Bytes& terms);

// A method of `arguments` (0 to 7) that does nothing.
Bytes empty_method(std::string_view path, unsigned arguments);
// The name of an object, as an element of a package.
Bytes reference(std::string_view path);
// Elements that are known at run time only; at most 255.
Bytes package(const std::vector<Bytes>& elements);

// Resources of a device; the end tag is added.
Bytes resources(std::initializer_list<Bytes> descriptors);
// `count` ports from `base`, decoded with 16 address lines.
Bytes io_ports(std::uint16_t base, std::uint8_t count);
// An ISA interrupt, 0-15: edge, active high.
Bytes isa_irq(unsigned irq);
// An interrupt by its GSI: level, active high, shared.
Bytes shared_level_interrupt(std::uint32_t gsi);
// What a bridge passes on: bus numbers, ports, memory; first and last of each.
Bytes bus_numbers(std::uint16_t first, std::uint16_t last);
Bytes port_window(std::uint16_t first, std::uint16_t last);
Bytes memory_window(std::uint32_t first, std::uint32_t last);

}  // namespace vmm::aml
