#include "loader/aml.h"

#include <algorithm>

#include "loader/table_bytes.h"
#include "vmm/base/check.h"

namespace vmm::aml {
namespace spec {
namespace {

constexpr std::uint8_t ZERO_OP = 0x00;
constexpr std::uint8_t ONE_OP = 0x01;
constexpr std::uint8_t NAME_OP = 0x08;
constexpr std::uint8_t BYTE_PREFIX = 0x0a;
constexpr std::uint8_t WORD_PREFIX = 0x0b;
constexpr std::uint8_t DWORD_PREFIX = 0x0c;
constexpr std::uint8_t QWORD_PREFIX = 0x0e;
constexpr std::uint8_t SCOPE_OP = 0x10;
constexpr std::uint8_t BUFFER_OP = 0x11;
constexpr std::uint8_t PACKAGE_OP = 0x12;
constexpr std::uint8_t METHOD_OP = 0x14;
constexpr std::uint8_t EXT_OP_PREFIX = 0x5b;
constexpr std::uint8_t DEVICE_OP = 0x82;

// Small resource descriptors: type and length in one byte.
constexpr std::uint8_t IRQ_NO_FLAGS = 0x22;
constexpr std::uint8_t IO_PORT = 0x47;
constexpr std::uint8_t IO_DECODE_16 = 0x01;
constexpr std::uint8_t END_TAG = 0x79;

// Extended interrupt descriptor (6.4.3.6): consumer, level, active high, shared.
constexpr std::uint8_t EXTENDED_INTERRUPT = 0x89;
constexpr std::uint8_t INTERRUPT_SHARED_LEVEL_HIGH = 0x09;

// Address space descriptors (6.4.3.5).
constexpr std::uint8_t DWORD_SPACE = 0x87;
constexpr std::uint8_t WORD_SPACE = 0x88;
constexpr std::uint8_t MEMORY_RANGE = 0;
constexpr std::uint8_t IO_RANGE = 1;
constexpr std::uint8_t BUS_RANGE = 2;
constexpr std::uint8_t MIN_AND_MAX_FIXED = 0x0c;
constexpr std::uint8_t IO_ENTIRE_RANGE = 0x03;
constexpr std::uint8_t MEMORY_READ_WRITE = 0x01;

}  // namespace
}  // namespace spec

namespace {

// `rest` behind its length, which counts its own 1 to 4 bytes (20.2.4).
Bytes with_length(const Bytes& rest) {
  std::size_t extra = 0;  // length bytes after the first
  if (rest.size() + 1 > 0x3f)
    for (extra = 1; rest.size() + 1 + extra >= std::size_t{1} << (4 + 8 * extra);) ++extra;
  VMM_CHECK(extra <= 3, "an AML term is longer than its length field can say");
  const std::size_t length = rest.size() + 1 + extra;
  Bytes bytes;
  if (extra == 0) {
    bytes.push_back(static_cast<std::uint8_t>(length));
  } else {
    bytes.push_back(static_cast<std::uint8_t>(extra << 6 | (length & 0x0f)));
    for (std::size_t i = 0; i < extra; ++i)
      bytes.push_back(static_cast<std::uint8_t>(length >> (4 + 8 * i)));
  }
  append_bytes(bytes, rest);
  return bytes;
}

bool is_name_char(char c) { return (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_'; }

Bytes name_string(std::string_view path) {
  Bytes bytes;
  if (path.starts_with('\\')) {
    bytes.push_back('\\');
    path.remove_prefix(1);
  }
  VMM_CHECK(
      !path.empty() && path.size() <= 4 && std::all_of(path.begin(), path.end(), is_name_char),
      "an AML name has up to four letters");
  for (std::size_t i = 0; i < 4; ++i)
    bytes.push_back(static_cast<std::uint8_t>(i < path.size() ? path[i] : '_'));
  return bytes;
}

template <typename T>
Bytes address_space(std::uint8_t descriptor, std::uint8_t type, std::uint8_t type_flags, T first,
                    T last) {
  VMM_CHECK(first <= last, "a window ends before it begins");
  Bytes bytes{descriptor};
  append_number(bytes, static_cast<std::uint16_t>(3 + 5 * sizeof(T)));
  append_bytes(bytes, {type, spec::MIN_AND_MAX_FIXED, type_flags});
  append_number(bytes, T{0});  // granularity
  append_number(bytes, first);
  append_number(bytes, last);
  append_number(bytes, T{0});  // translation
  append_number(bytes, static_cast<T>(last - first + 1));
  return bytes;
}

}  // namespace

Bytes join(std::initializer_list<Bytes> parts) {
  Bytes bytes;
  for (const Bytes& part : parts) append_bytes(bytes, part);
  return bytes;
}

Bytes integer(std::uint64_t value) {
  Bytes bytes;
  if (value <= 1) {
    bytes.push_back(value == 0 ? spec::ZERO_OP : spec::ONE_OP);
  } else if (value <= 0xff) {
    bytes.push_back(spec::BYTE_PREFIX);
    append_number(bytes, static_cast<std::uint8_t>(value));
  } else if (value <= 0xffff) {
    bytes.push_back(spec::WORD_PREFIX);
    append_number(bytes, static_cast<std::uint16_t>(value));
  } else if (value <= 0xffff'ffff) {
    bytes.push_back(spec::DWORD_PREFIX);
    append_number(bytes, static_cast<std::uint32_t>(value));
  } else {
    bytes.push_back(spec::QWORD_PREFIX);
    append_number(bytes, value);
  }
  return bytes;
}

Bytes eisa_id(std::string_view id) {
  VMM_CHECK(id.size() == 7, "an EISA id has seven characters");
  std::uint32_t value = 0;
  for (const char letter : id.substr(0, 3)) {
    VMM_CHECK(letter >= 'A' && letter <= 'Z', "an EISA id begins with three capital letters");
    value = value << 5 | static_cast<std::uint32_t>(letter - 'A' + 1);
  }
  for (const char digit : id.substr(3)) {
    const bool decimal = digit >= '0' && digit <= '9';
    VMM_CHECK(decimal || (digit >= 'A' && digit <= 'F'), "an EISA id ends with four hex digits");
    value = value << 4 | static_cast<std::uint32_t>(decimal ? digit - '0' : digit - 'A' + 10);
  }
  // Big-endian in memory.
  return integer(__builtin_bswap32(value));
}

Bytes package(std::initializer_list<Bytes> elements) {
  return package(std::vector<Bytes>(elements));
}

Bytes package(const std::vector<Bytes>& elements) {
  VMM_CHECK(elements.size() <= 0xff, "an AML package has up to 255 elements");
  Bytes rest{static_cast<std::uint8_t>(elements.size())};
  for (const Bytes& element : elements) append_bytes(rest, element);
  return join({{spec::PACKAGE_OP}, with_length(rest)});
}

Bytes reference(std::string_view path) { return name_string(path); }

Bytes empty_method(std::string_view path, unsigned arguments) {
  VMM_CHECK(arguments <= 7, "an AML method has up to seven arguments");
  return join({{spec::METHOD_OP},
               with_length(join({name_string(path), {static_cast<std::uint8_t>(arguments)}}))});
}

Bytes buffer(const Bytes& bytes) {
  return join({{spec::BUFFER_OP}, with_length(join({integer(bytes.size()), bytes}))});
}

Bytes name(std::string_view path, const Bytes& value) {
  return join({{spec::NAME_OP}, name_string(path), value});
}

Bytes scope(std::string_view path, const Bytes& terms) {
  return join({{spec::SCOPE_OP}, with_length(join({name_string(path), terms}))});
}

Bytes device(std::string_view path, const Bytes& terms) {
  return join(
      {{spec::EXT_OP_PREFIX, spec::DEVICE_OP}, with_length(join({name_string(path), terms}))});
}

// The end tag's checksum 0 means that there is none.
Bytes resources(std::initializer_list<Bytes> descriptors) {
  return buffer(join({join(descriptors), {spec::END_TAG, 0x00}}));
}

Bytes io_ports(std::uint16_t base, std::uint8_t count) {
  Bytes bytes{spec::IO_PORT, spec::IO_DECODE_16};
  append_number(bytes, base);
  append_number(bytes, base);
  append_bytes(bytes, {1, count});  // alignment, length
  return bytes;
}

Bytes isa_irq(unsigned irq) {
  VMM_CHECK(irq < 16, "there are 16 ISA interrupts");
  Bytes bytes{spec::IRQ_NO_FLAGS};
  append_number(bytes, static_cast<std::uint16_t>(1U << irq));
  return bytes;
}

Bytes shared_level_interrupt(std::uint32_t gsi) {
  Bytes bytes{spec::EXTENDED_INTERRUPT};
  append_number(bytes, std::uint16_t{6});
  append_bytes(bytes, {spec::INTERRUPT_SHARED_LEVEL_HIGH, 1});
  append_number(bytes, gsi);
  return bytes;
}

Bytes bus_numbers(std::uint16_t first, std::uint16_t last) {
  return address_space(spec::WORD_SPACE, spec::BUS_RANGE, 0, first, last);
}

Bytes port_window(std::uint16_t first, std::uint16_t last) {
  return address_space(spec::WORD_SPACE, spec::IO_RANGE, spec::IO_ENTIRE_RANGE, first, last);
}

Bytes memory_window(std::uint32_t first, std::uint32_t last) {
  return address_space(spec::DWORD_SPACE, spec::MEMORY_RANGE, spec::MEMORY_READ_WRITE, first, last);
}

}  // namespace vmm::aml
