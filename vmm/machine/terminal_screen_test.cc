#include "vmm/machine/terminal_screen.h"

#include <gtest/gtest.h>

#include <string>
#include <string_view>

namespace vmm {
namespace {

class Sink final : public ByteSink {
 public:
  bool put(std::uint8_t byte) override {
    if (full) return false;
    text += static_cast<char>(byte);
    return true;
  }
  std::string text;
  bool full = false;
};

class TerminalScreenTest : public testing::Test {
 protected:
  Sink sink;
  TerminalScreen terminal{sink};

  std::string show(std::string_view bytes) {
    for (const char c : bytes) EXPECT_TRUE(terminal.put(static_cast<std::uint8_t>(c)));
    return render_text(terminal.screen());
  }
};

TEST_F(TerminalScreenTest, text_goes_through_and_is_drawn) {
  EXPECT_EQ(show("one\r\ntwo"), "one\ntwo\n");
  EXPECT_EQ(sink.text, "one\r\ntwo");
  EXPECT_EQ(terminal.screen().cursor.column, 3u);
  EXPECT_EQ(terminal.screen().cursor.row, 1u);
}

TEST_F(TerminalScreenTest, what_the_line_does_not_take_is_not_drawn) {
  sink.full = true;
  EXPECT_FALSE(terminal.put('x'));
  EXPECT_EQ(render_text(terminal.screen()), "");
}

// As OVMF's boot manager begins: clear, home, a mode, a place, colours.
TEST_F(TerminalScreenTest, draws_what_firmware_sends) {
  EXPECT_EQ(show("old\x1b[2J\x1b[01;01H\x1b[=3h\x1b[06;05H\x1b[1m\x1b[33m\x1b[44mShell> "),
            "\n\n\n\n\n    Shell>\n");
  const VgaCell cell = terminal.screen().cell(4, 5);
  EXPECT_EQ(cell.character, 'S');
  EXPECT_EQ(cell.attribute, 0x1e) << "yellow on blue";
}

TEST_F(TerminalScreenTest, erases_lines_and_their_ends) {
  EXPECT_EQ(show("abcdef\x1b[1;4H\x1b[K"), "abc\n");
  EXPECT_EQ(show("\x1b[1;2H\x1b[1K"), "  c\n");
  EXPECT_EQ(show("\x1b[2K"), "");
  EXPECT_EQ(show("\x1b[Hx\r\ny\r\nz\x1b[2;1H\x1b[J"), "x\n");
}

TEST_F(TerminalScreenTest, moves_stay_on_the_screen) {
  show("\x1b[999;999Hx");
  EXPECT_EQ(terminal.screen().cell(99, 30).character, 'x');
  show("\x1b[99A\x1b[99Dy");
  EXPECT_EQ(terminal.screen().cell(0, 0).character, 'y');
  show("\x1b[4294967295B\x1b[99999999999999999999Cz");
  EXPECT_EQ(terminal.screen().cell(99, 30).character, 'z');
}

TEST_F(TerminalScreenTest, wraps_and_scrolls) {
  EXPECT_EQ(show(std::string(101, 'a')), std::string(100, 'a') + "\na\n");
  std::string lines;
  for (int i = 0; i < 40; ++i) lines += "line\r\n";
  show("\x1b[2J\x1b[H" + lines + "last");
  EXPECT_EQ(terminal.screen().cell(0, 30).character, 'l');
  EXPECT_EQ(terminal.screen().cell(1, 30).character, 'a');
}

TEST_F(TerminalScreenTest, knows_utf8_as_far_as_code_page_437_does) {
  show("\xe2\x94\x80\xe2\x95\x94\xc3\xa9\xe4\xb8\xad");  // ─ ╔ é and a Chinese character
  EXPECT_EQ(terminal.screen().cell(0, 0).character, 0xc4);
  EXPECT_EQ(terminal.screen().cell(1, 0).character, 0xc9);
  EXPECT_EQ(terminal.screen().cell(2, 0).character, 0x82);
  EXPECT_EQ(terminal.screen().cell(3, 0).character, '?');
  show("\r\xb3x");  // no UTF-8: the code page itself
  EXPECT_EQ(terminal.screen().cell(0, 0).character, 0xb3);
}

TEST_F(TerminalScreenTest, strings_and_unknown_sequences_leave_no_trace) {
  EXPECT_EQ(show("a\x1b]0;title\x07"
                 "b\x1b[?25lc\x1b[5nd\x1bPxyz\x1b\\e\x1b(Bf"),
            "abcdeBf\n");
}

// Any bytes at all: the cells stay within the screen (under ASan).
TEST_F(TerminalScreenTest, survives_noise) {
  std::uint32_t random = 1;
  for (int i = 0; i < 200000; ++i) {
    random = random * 1664525 + 1013904223;
    const auto byte = static_cast<std::uint8_t>(random >> 24);
    ASSERT_TRUE(terminal.put(byte % 5 == 0 ? 0x1b : byte % 5 == 1 ? '[' : byte));
  }
  EXPECT_EQ(terminal.screen().cells.size(), 3100u);
}

}  // namespace
}  // namespace vmm
