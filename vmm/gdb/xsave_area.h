// Parts of an XSAVE area in its standard form (SDM vol. 1 13.4), read and written by component.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>

#include "vmm/core/cpuid_table.h"

namespace vmm::gdb {

// Bits of XCR0 and XSTATE_BV, SDM vol. 1 13.1.
enum XsaveComponentNumber : std::uint8_t {
  kX87 = 0,
  kSse = 1,
  kAvx = 2,
  kOpmask = 5,
  kZmmHi256 = 6,
  kHi16Zmm = 7,
};

// Offsets in the legacy region, SDM vol. 1 13.4.1; that region belongs to x87 and SSE both.
namespace legacy {
constexpr std::uint32_t kFcw = 0;
constexpr std::uint32_t kFsw = 2;
constexpr std::uint32_t kFtw = 4;  // one bit a register: not empty
constexpr std::uint32_t kFop = 6;
constexpr std::uint32_t kFip = 8;
constexpr std::uint32_t kFcs = 12;
constexpr std::uint32_t kFdp = 16;
constexpr std::uint32_t kFds = 20;
constexpr std::uint32_t kMxcsr = 24;
constexpr std::uint32_t kMxcsrMask = 28;
constexpr std::uint32_t kSt0 = 32;
constexpr std::uint32_t kXmm0 = 160;
constexpr std::uint32_t kXmmEnd = 416;
}  // namespace legacy

// Where the components are, CPUID.0Dh.
struct XsaveLayout {
  struct Range {
    std::uint32_t offset = 0;
    std::uint32_t size = 0;  // 0: this guest has none
  };
  std::array<Range, 8> components{};

  static XsaveLayout of(const CpuidTable& cpuid);
};

// A component whose bit in XSTATE_BV is clear is in its initial state, whatever the bytes say.
// Nothing, or false, for what the area or the layout has no room for.
std::optional<std::array<std::uint8_t, 64>> xsave_read(std::span<const std::uint8_t> area,
                                                       const XsaveLayout& layout,
                                                       unsigned component, std::uint32_t offset,
                                                       std::size_t size);
// Sets the component's bit, after the rest of it got its initial values.
bool xsave_write(std::span<std::uint8_t> area, const XsaveLayout& layout, unsigned component,
                 std::uint32_t offset, std::span<const std::uint8_t> bytes);

// The legacy region as FXSAVE would give it, initial states written out. `area` has its header.
std::array<std::uint8_t, 512> xsave_legacy(std::span<const std::uint8_t> area);

// MXCSR is there with SSE or with AVX, SDM vol. 1 13.7.
std::optional<std::uint32_t> xsave_mxcsr(std::span<const std::uint8_t> area);
bool xsave_set_mxcsr(std::span<std::uint8_t> area, std::uint32_t value);
// The bits that this processor's MXCSR has.
std::uint32_t xsave_mxcsr_mask(std::span<const std::uint8_t> area);

// The tag word with two bits a register (SDM vol. 1 8.1.7), as the content gives them.
std::optional<std::uint16_t> xsave_tag_word(std::span<const std::uint8_t> area);
bool xsave_set_tag_word(std::span<std::uint8_t> area, std::uint16_t tags);

}  // namespace vmm::gdb
