#include "vmm/core/exit.h"

#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <vector>

namespace vmm {
namespace {

TEST(ExitText, ports_show_width_and_value) {
  std::array<std::uint8_t, 4> data = {0x41, 0x42, 0x43, 0x44};
  EXPECT_EQ(to_string(Exit{PioIn{0x3fd, 1, std::span(data).first(1)}}), "in 3fdh width 1");
  EXPECT_EQ(to_string(Exit{PioOut{0x3f8, 1, std::span(data).first(1)}}), "out 3f8h width 1 41h");
  EXPECT_EQ(to_string(Exit{PioOut{0xcf8, 4, data}}), "out cf8h width 4 44434241h");
}

TEST(ExitText, string_instructions_show_their_count) {
  const std::vector<std::uint8_t> data(4096);
  EXPECT_EQ(to_string(Exit{PioOut{0x3f8, 1, data}}), "out 3f8h width 1 4096 x 1 bytes");
  EXPECT_EQ(to_string(Exit{PioOut{0xf4, 4, std::span(data).first(8)}}),
            "out f4h width 4 2 x 4 bytes");
}

TEST(ExitText, an_impossible_width_is_no_crash) {
  const std::array<std::uint8_t, 4> data{};
  EXPECT_EQ(to_string(Exit{PioOut{0x3f8, 0, data}}), "out 3f8h width 0 nothing");
  EXPECT_EQ(to_string(Exit{PioOut{0x3f8, 0, {}}}), "out 3f8h width 0 nothing");
  EXPECT_EQ(to_string(Exit{PioOut{0x3f8, 4, std::span(data).first(3)}}),
            "out 3f8h width 4 0 x 4 bytes");
}

TEST(ExitText, memory_shows_address_and_value) {
  std::array<std::uint8_t, 8> data = {0x41, 0x07};
  EXPECT_EQ(to_string(Exit{MmioRead{0xd0000000, data}}), "mmio read d0000000h width 8");
  EXPECT_EQ(to_string(Exit{MmioWrite{0xb8000, std::span(data).first(2)}}),
            "mmio write b8000h 0741h");
  EXPECT_EQ(to_string(Exit{MmioWrite{0xb8000, {}}}), "mmio write b8000h nothing");
}

TEST(ExitText, each_other_kind_has_its_words) {
  EXPECT_EQ(to_string(Exit{MsrRead{0x6e0, 0, nullptr, nullptr}}), "rdmsr 6e0h");
  EXPECT_EQ(to_string(Exit{MsrWrite{0x6e0, 0, 0x1234, nullptr}}), "wrmsr 6e0h 1234h");
  EXPECT_EQ(to_string(Exit{Halt{}}), "hlt");
  EXPECT_EQ(to_string(Exit{IrqWindow{}}), "irq window");
  EXPECT_EQ(to_string(Exit{SetTpr{}}), "set tpr");
  EXPECT_EQ(to_string(Exit{IoapicEoi{0x24}}), "ioapic eoi 24h");
  EXPECT_EQ(to_string(Exit{DebugStop{1, 0x100000, 0, 0}}), "debug #DB at 100000h");
  EXPECT_EQ(to_string(Exit{DebugStop{3, 0x100000, 0, 0}}), "debug #BP at 100000h");
  EXPECT_EQ(to_string(Exit{SystemEvent{2}}), "system event 2");
  EXPECT_EQ(to_string(Exit{Shutdown{}}), "shutdown (triple fault)");
  EXPECT_EQ(to_string(Exit{FailEntry{0x80000021, 0}}), "entry failure 80000021h");
  EXPECT_EQ(to_string(Exit{InternalError{.suberror = 1}}), "internal error EMULATION");
  EXPECT_EQ(to_string(Exit{Interrupted{}}), "interrupted");
  EXPECT_EQ(to_string(Exit{UnknownExit{4711}}), "exit reason 4711");
}

TEST(SuberrorName, is_the_kernels_or_the_number) {
  EXPECT_EQ(suberror_name(1), "EMULATION");
  EXPECT_EQ(suberror_name(2), "SIMUL_EX");
  EXPECT_EQ(suberror_name(3), "DELIVERY_EV");
  EXPECT_EQ(suberror_name(4), "UNEXPECTED_EXIT_REASON");
  EXPECT_EQ(suberror_name(77), "suberror 77");
}

TEST(InternalErrorValue, compares_all_its_words) {
  InternalError a{.suberror = 1, .ndata = 1};
  InternalError b = a;
  EXPECT_EQ(a, b);
  b.data[15] = 1;
  EXPECT_NE(a, b);
}

}  // namespace
}  // namespace vmm
