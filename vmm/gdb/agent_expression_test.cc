#include "vmm/gdb/agent_expression.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "vmm/gdb/packet.h"

namespace vmm::gdb {
namespace {

using ::testing::HasSubstr;

// Register n holds 1000h + n up to 9; memory is there below 100h, each byte its own address.
AgentContext context() {
  return {.read_register = [](unsigned number) -> Result<std::uint64_t> {
            if (number > 9) return fail(Error::usage("there is no such register"));
            return 0x1000u + number;
          },
          .read_memory = [](std::uint64_t address, unsigned size) -> Result<std::uint64_t> {
            if (address >= 0x100) return fail(Error::usage("no memory there"));
            std::uint64_t value = 0;
            for (unsigned i = 0; i < size; ++i) value |= ((address + i) & 0xff) << (8 * i);
            return value;
          }};
}

Result<std::uint64_t> run(std::string_view hex) {
  const auto bytes = from_hex(hex);
  if (!bytes) return fail(Error::internal("the test's own digits"));
  return VMM_TRY(AgentExpression::parse(*bytes)).evaluate(context());
}
std::string error_of(std::string_view hex) {
  const auto value = run(hex);
  return value ? fmt::format("no error but {:x}", *value) : value.error().text();
}

constexpr std::uint64_t kMinusOne = ~0ull;
constexpr std::uint64_t kLowest = 1ull << 63;

struct Case {
  const char* name;
  const char* bytecode;  // without the `end` that follows
  std::uint64_t value;
};
// One or more for each instruction; 22xx pushes a byte, 25 eight of them.
constexpr Case kCases[] = {
    {"const8", "22ff", 0xff},
    {"const16", "23fffe", 0xfffe},
    {"const32", "24fffefdfc", 0xfffefdfc},
    {"const64", "258000000000000001", kLowest + 1},
    {"add", "2203220402", 7},
    {"sub", "2203220403", kMinusOne},
    {"mul", "25ffffffffffffffff220504", kMinusOne - 4},
    {"div_signed", "25fffffffffffffff9220205", static_cast<std::uint64_t>(-3)},
    {"div_signed that wraps", "25800000000000000025ffffffffffffffff05", kLowest},
    {"div_unsigned", "25fffffffffffffff9220206", 0x7ffffffffffffffc},
    {"rem_signed", "25fffffffffffffff9220207", kMinusOne},
    {"rem_signed that wraps", "25800000000000000025ffffffffffffffff07", 0},
    {"rem_unsigned", "25fffffffffffffff9220208", 1},
    {"lsh", "2203220409", 0x30},
    {"lsh by 64", "2203224009", 0},
    {"rsh_signed", "25800000000000000022040a", 0xf800000000000000},
    {"rsh_signed by 200", "25800000000000000022c80a", kMinusOne},
    {"rsh_unsigned", "25800000000000000022040b", 0x0800000000000000},
    {"rsh_unsigned by 64", "25800000000000000022400b", 0},
    {"log_not of 0", "22000e", 1},
    {"log_not", "22070e", 0},
    {"bit_and", "220c220a0f", 8},
    {"bit_or", "220c220a10", 0xe},
    {"bit_xor", "220c220a11", 6},
    {"bit_not", "220012", kMinusOne},
    {"equal", "2205220513", 1},
    {"equal of others", "2205220613", 0},
    {"less_signed", "25ffffffffffffffff220014", 1},
    {"less_signed of equals", "2205220514", 0},
    {"less_unsigned", "25ffffffffffffffff220015", 0},
    {"less_unsigned", "2204220515", 1},
    {"ext", "22801608", static_cast<std::uint64_t>(-128)},
    {"ext of a positive", "227f1608", 0x7f},
    {"ext of all",
     "258000000000000000"
     "1640",
     kLowest},
    {"ext of more",
     "2281"
     "16ff",
     0x81},
    {"zero_ext", "23ff812a08", 0x81},
    {"zero_ext of all", "25ffffffffffffffff2a40", kMinusOne},
    {"ref8", "221017", 0x10},
    {"ref16", "221018", 0x1110},
    {"ref32", "221019", 0x13121110},
    {"ref64", "22101a", 0x1716151413121110},
    {"if_goto taken", "220120000722052206", 6},
    {"if_goto not taken", "22002000072205220602", 11},
    {"goto", "210005220922072208", 8},
    {"reg", "260009", 0x1009},
    {"dup", "22032802", 6},
    {"pop", "2203220429", 3},
    {"swap", "220322042b03", 1},
    {"pick 0", "220322043200", 4},
    {"pick 1", "220322043201", 3},
    {"rot: on top", "22012202220333", 2},
    {"rot: below", "2201220222033329", 1},
    {"rot: at the bottom",
     "22012202220333"
     "2929",
     3},
};

TEST(AgentExpression, each_instruction_does_what_the_manual_says) {
  for (const Case& c : kCases) {
    const auto value = run(std::string(c.bytecode) + "27");
    ASSERT_TRUE(value) << c.name << ": " << value.error().text();
    EXPECT_EQ(*value, c.value) << c.name;
  }
}

TEST(AgentExpression, gdb_13s_conditions_are_understood) {
  // `$rbx == 10000` and `*(int *) 0x10 == 0x13121110 && $rax != 0`, as its `maint agent-eval` has
  // it.
  EXPECT_EQ(run("2600012327101327").value(), 0U);
  EXPECT_EQ(run("260001231001"
                "1327")
                .value(),
            1U);
}

TEST(AgentExpression, a_loop_runs_as_often_as_it_says) {
  // 5, then: subtract 1, while it is not 0.
  EXPECT_EQ(run("220522010328"
                "200002"
                "27")
                .value(),
            0U);
}

TEST(AgentExpression, what_is_no_condition_is_refused) {
  // trace, trace_quick, floats, variables, printf, and what no manual has.
  for (const char* hex : {"0c", "0d10", "30", "01", "1b", "1c", "1d", "1e", "1f", "2c0001",
                          "2d0001", "2e0001", "2f", "34", "00", "31", "80", "ff"})
    EXPECT_THAT(error_of(std::string("2201") + hex), HasSubstr("is no instruction of a condition"))
        << hex;
  EXPECT_THAT(error_of(""), HasSubstr("0 bytes"));
  EXPECT_THAT(error_of(std::string(2 * 4097, '2')), HasSubstr("4097 bytes"));
}

TEST(AgentExpression, what_is_cut_off_or_jumps_beside_an_instruction_is_refused) {
  for (const char* hex :
       {"22", "2310", "24101010", "2510101010101010", "2600", "2000", "21", "16", "2a", "220132"})
    EXPECT_THAT(error_of(hex), HasSubstr("is cut off")) << hex;
  EXPECT_THAT(error_of("210001"), HasSubstr("where no instruction begins"));
  EXPECT_THAT(error_of("210003"), HasSubstr("where no instruction begins"));
  EXPECT_THAT(error_of("2201200004"
                       "27"),
              HasSubstr("where no instruction begins"));
  EXPECT_THAT(error_of("2201160027"), HasSubstr("from no bit at all"));
  EXPECT_THAT(error_of("22012a0027"), HasSubstr("from no bit at all"));
}

TEST(AgentExpression, what_cannot_be_asked_is_an_error) {
  EXPECT_THAT(error_of("2201220005"
                       "27"),
              HasSubstr("a division by zero"));
  EXPECT_THAT(error_of("2201220006"
                       "27"),
              HasSubstr("a division by zero"));
  EXPECT_THAT(error_of("2201220007"
                       "27"),
              HasSubstr("a division by zero"));
  EXPECT_THAT(error_of("2201220008"
                       "27"),
              HasSubstr("a division by zero"));
  EXPECT_THAT(error_of("2301001727"), HasSubstr("no memory there"));
  EXPECT_THAT(error_of("26000a27"), HasSubstr("there is no such register"));
  EXPECT_THAT(error_of("2201"), HasSubstr("past its last byte"));
}

TEST(AgentExpression, the_stack_has_two_ends) {
  for (const char* hex :
       {"27", "220102", "29", "28", "22012b", "2201220233", "0e", "17", "200003", "22013201"})
    EXPECT_THAT(error_of(std::string(hex) + "27"), HasSubstr("values on the stack")) << hex;
  std::string deep;
  for (std::size_t i = 0; i < AgentExpression::kMostStack; ++i) deep += "2201";
  EXPECT_EQ(run(deep + "27").value(), 1U);
  for (const char* one_more : {"2201", "28", "3200", "260001"})
    EXPECT_THAT(error_of(deep + one_more + "27"), HasSubstr("more than 256 values")) << one_more;
}

TEST(AgentExpression, what_would_not_end_is_ended) {
  EXPECT_THAT(error_of("210000"), HasSubstr("no end after 10000 instructions"));
  EXPECT_THAT(error_of("2201200000"), HasSubstr("no end after 10000 instructions"));
}

}  // namespace
}  // namespace vmm::gdb
