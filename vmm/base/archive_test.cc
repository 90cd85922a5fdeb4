#include "vmm/base/archive.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

namespace vmm {
namespace {

using std::chrono::nanoseconds;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

enum class Phase : std::uint8_t { Idle, Busy };

// One field of each kind that an archive takes.
struct Chip {
  std::uint8_t ier = 0;
  std::int16_t drift = 0;
  std::uint64_t wide = 0;
  bool irq = false;
  Phase phase = Phase::Idle;
  nanoseconds due{0};
  std::array<std::uint8_t, 3> latch{};
  std::deque<std::uint8_t> fifo;
  std::vector<std::uint8_t> buffer;
  std::optional<std::uint32_t> deadline;

  bool operator==(const Chip&) const = default;

  void visit(Archive& a) {
    a.block("chip", 2);
    a("ier", ier)("drift", drift)("wide", wide)("irq", irq)("phase", phase)("due", due);
    a("latch", latch)("fifo", fifo, 4)("buffer", buffer, 4)("deadline", deadline);
  }
};

Chip busy_chip() {
  Chip chip;
  chip.ier = 0x0f;
  chip.drift = -2;
  chip.wide = ~std::uint64_t{0};
  chip.irq = true;
  chip.phase = Phase::Busy;
  chip.due = nanoseconds(-5);
  chip.latch = {1, 2, 0xff};
  chip.fifo = {7, 8};
  chip.buffer = {0, 0, 0, 0};
  chip.deadline = 42;
  return chip;
}

// The saved state of a busy chip with the value of one field replaced.
StateBlock saved_with(std::string_view name, const std::string& value) {
  Chip chip = busy_chip();
  StateBlock state = save_state(chip);
  for (auto& field : state.fields)
    if (field.first == name) field.second = value;
  return state;
}

std::string refusal_of(const StateBlock& state) {
  Chip chip;
  const auto result = load_state(chip, state);
  return result.has_value() ? "" : result.error().text();
}

TEST(Archive, what_is_saved_loads_again) {
  Chip chip = busy_chip();
  const StateBlock state = save_state(chip);
  Chip other;
  ASSERT_TRUE(load_state(other, state).has_value());
  EXPECT_EQ(other, chip);
  EXPECT_EQ(save_state(other), state);
}

TEST(Archive, loading_overwrites_what_was_there) {
  Chip idle;
  const StateBlock state = save_state(idle);
  Chip chip = busy_chip();
  ASSERT_TRUE(load_state(chip, state).has_value());
  EXPECT_EQ(chip, Chip{});
}

TEST(Archive, prints_one_line_a_field_in_visiting_order) {
  Chip chip = busy_chip();
  EXPECT_EQ(save_state(chip).print(),
            "chip v2\n"
            "  ier = 0xf\n"
            "  drift = 0xfffe\n"
            "  wide = 0xffffffffffffffff\n"
            "  irq = 0x1\n"
            "  phase = 0x1\n"
            "  due = 0xfffffffffffffffb\n"
            "  latch = 0102ff\n"
            "  fifo = 0708\n"
            "  buffer = 00000000\n"
            "  deadline.present = 0x1\n"
            "  deadline = 0x2a\n");
}

TEST(Archive, an_absent_optional_has_no_value_field) {
  Chip chip;
  const StateBlock state = save_state(chip);
  EXPECT_EQ(state.fields.back(), (std::pair<std::string, std::string>("deadline.present", "0x0")));
}

TEST(Archive, a_state_of_another_kind_or_version_is_refused) {
  Chip chip;
  StateBlock state = save_state(chip);
  state.version = 3;
  EXPECT_THAT(refusal_of(state), HasSubstr("'chip' v3"));
  state.version = 2;
  state.kind = "chop";
  EXPECT_THAT(refusal_of(state), HasSubstr("wanted is 'chip' v2"));
}

TEST(Archive, missing_misplaced_and_unknown_fields_are_named) {
  Chip chip;
  StateBlock state = save_state(chip);
  state.fields.pop_back();
  EXPECT_EQ(refusal_of(state), "field 'deadline.present' is missing");
  state = save_state(chip);
  std::swap(state.fields[0], state.fields[1]);
  EXPECT_EQ(refusal_of(state), "field 'ier' is missing");
  state = save_state(chip);
  state.fields.emplace_back("extra", "0x1");
  EXPECT_EQ(refusal_of(state), "field 'extra' is unknown");
  EXPECT_EQ(refusal_of(StateBlock{"chip", 2, {}}), "field 'ier' is missing");
}

TEST(Archive, numbers_wider_than_their_field_are_refused) {
  EXPECT_EQ(refusal_of(saved_with("ier", "0xff")), "");
  EXPECT_EQ(refusal_of(saved_with("ier", "0x100")),
            "field 'ier': '0x100' is not a number of 8 bits");
  EXPECT_EQ(refusal_of(saved_with("irq", "0x2")), "field 'irq': '0x2' is not a number of 1 bits");
  EXPECT_THAT(refusal_of(saved_with("wide", "0x10000000000000000")), HasSubstr("64 bits"));
}

TEST(Archive, what_is_no_number_is_refused_and_shown_without_its_control_characters) {
  for (const char* text : {"", "-1", "0x", "1 ", "0x1g"})
    EXPECT_THAT(refusal_of(saved_with("ier", text)), HasSubstr("is not a number")) << text;
  EXPECT_THAT(refusal_of(saved_with("ier", "\x1b[2J")), HasSubstr("'\\x1b[2J'"));
}

TEST(Archive, byte_sequences_keep_their_limits) {
  EXPECT_EQ(refusal_of(saved_with("fifo", "")), "");
  EXPECT_EQ(refusal_of(saved_with("fifo", "01020304")), "");
  EXPECT_THAT(refusal_of(saved_with("fifo", "0102030405")), HasSubstr("0 to 4 bytes"));
  EXPECT_THAT(refusal_of(saved_with("latch", "0102")), HasSubstr("3 to 3 bytes"));
  EXPECT_THAT(refusal_of(saved_with("latch", "01020304")), HasSubstr("3 to 3 bytes"));
}

TEST(Archive, byte_sequences_that_are_not_hex_are_refused) {
  for (const char* text : {"1", "010", "0g", "0x01", "+1", " 1"})
    EXPECT_THAT(refusal_of(saved_with("buffer", text)), HasSubstr("bytes in hex")) << text;
}

TEST(Archive, a_refused_field_and_all_behind_it_keep_their_values) {
  Chip chip = busy_chip();
  StateBlock state = save_state(chip);
  state.fields[0].second = "0x3";
  state.fields[1].second = "0x10000";
  Chip target;
  EXPECT_FALSE(load_state(target, state).has_value());
  EXPECT_EQ(target.ier, 3);
  target.ier = 0;
  EXPECT_EQ(target, Chip{});
}

TEST(Archive, only_the_first_problem_is_reported) {
  StateBlock state = saved_with("ier", "x");
  state.fields.pop_back();
  EXPECT_EQ(refusal_of(state), "field 'ier': 'x' is not a number of 8 bits");
}

TEST(ArchiveDiff, names_each_field_that_changed) {
  Chip chip = busy_chip();
  const StateBlock before = save_state(chip);
  EXPECT_THAT(diff(before, before), IsEmpty());
  chip.ier = 0;
  chip.fifo.clear();
  EXPECT_THAT(diff(before, save_state(chip)), ElementsAre("ier: 0xf -> 0x0", "fifo: 0708 -> "));
}

TEST(ArchiveDiff, shows_fields_that_only_one_side_has) {
  Chip chip = busy_chip();
  const StateBlock before = save_state(chip);
  chip.deadline.reset();
  const StateBlock after = save_state(chip);
  EXPECT_THAT(diff(before, after),
              ElementsAre("deadline.present: 0x1 -> 0x0", "deadline: 0x2a -> (absent)"));
  EXPECT_THAT(diff(after, before),
              ElementsAre("deadline.present: 0x0 -> 0x1", "deadline: (absent) -> 0x2a"));
}

}  // namespace
}  // namespace vmm
