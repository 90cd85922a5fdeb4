#include "vmm/machine/keyboard.h"

#include <gtest/gtest.h>

#include <string_view>

namespace vmm {
namespace {

using Codes = std::vector<std::uint8_t>;
using Keys = std::vector<Codes>;
using Event = TerminalKeys::Event;

class Typing : public testing::Test {
 protected:
  Keys typed(std::string_view text) {
    Keys keys;
    event = terminal.take({reinterpret_cast<const std::uint8_t*>(text.data()), text.size()}, keys);
    return keys;
  }
  TerminalKeys terminal;
  Event event = Event::None;
};

TEST_F(Typing, letters_digits_and_signs_are_keys_of_a_us_keyboard) {
  EXPECT_EQ(typed("a1 /"), (Keys{{0x1e, 0x9e}, {0x02, 0x82}, {0x39, 0xb9}, {0x35, 0xb5}}));
  EXPECT_EQ(event, Event::Keys);
  EXPECT_EQ(typed("A!\""),
            (Keys{{0x2a, 0x1e, 0x9e, 0xaa}, {0x2a, 0x02, 0x82, 0xaa}, {0x2a, 0x28, 0xa8, 0xaa}}));
}

TEST_F(Typing, every_printable_character_has_a_key) {
  for (char c = 0x20; c < 0x7f; ++c) EXPECT_EQ(typed({&c, 1}).size(), 1U) << c;
}

TEST_F(Typing, control_characters_are_their_keys) {
  EXPECT_EQ(typed("\r\t\x7f\x1b"), (Keys{{0x1c, 0x9c}, {0x0f, 0x8f}, {0x0e, 0x8e}, {0x01, 0x81}}));
  EXPECT_EQ(typed("\x03"), (Keys{{0x1d, 0x2e, 0xae, 0x9d}}));
  EXPECT_EQ(typed("\x1c"), (Keys{{0x1d, 0x2b, 0xab, 0x9d}}));
}

TEST_F(Typing, escape_sequences_are_one_key_each) {
  EXPECT_EQ(typed("\x1b[A"), (Keys{{0xe0, 0x48, 0xe0, 0xc8}}));
  EXPECT_EQ(typed("\x1bOP\x1b[24~x"), (Keys{{0x3b, 0xbb}, {0x58, 0xd8}, {0x2d, 0xad}}));
  EXPECT_EQ(typed("\x1b[[E"), (Keys{{0x3f, 0xbf}}));
  // Unknown ones are passed over as a whole.
  EXPECT_EQ(typed("\x1b[1;5Xa"), (Keys{{0x1e, 0x9e}}));
  EXPECT_EQ(typed("\x1b["), (Keys{{0x38, 0x1a, 0x9a, 0xb8}})) << "Alt-[";
}

TEST_F(Typing, alt_comes_as_escape_in_front) {
  EXPECT_EQ(typed("\x1bx"), (Keys{{0x38, 0x2d, 0xad, 0xb8}}));
}

TEST_F(Typing, ctrl_a_is_the_prefix) {
  EXPECT_TRUE(typed("\x01").empty());
  EXPECT_TRUE(typed("q").empty());
  EXPECT_EQ(typed("\x01\x01"), (Keys{{0x1d, 0x1e, 0x9e, 0x9d}}));
  typed("\x01");
  typed("x");
  EXPECT_EQ(event, Event::Quit);
}

TEST_F(Typing, any_bytes_are_survived) {
  std::string all;
  for (int i = 0; i < 256; ++i) {
    all += static_cast<char>(i);
    all += '\x1b';
  }
  for (std::size_t size = 0; size <= all.size(); ++size) typed(all.substr(0, size));
}

}  // namespace
}  // namespace vmm
