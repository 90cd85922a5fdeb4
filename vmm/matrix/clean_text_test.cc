#include "vmm/matrix/clean_text.h"

#include <gtest/gtest.h>

namespace vmm {
namespace {

using namespace std::string_view_literals;

TEST(CutText, never_cuts_a_character) {
  EXPECT_EQ(cut_text("abc", 3), "abc");
  EXPECT_EQ(cut_text("abcd", 3), "abc");
  EXPECT_EQ(cut_text("ab\xe2\x82\xac", 4), "ab");
  EXPECT_EQ(cut_text("\xf0\x9f\x98\x80", 3), "");
  EXPECT_EQ(cut_text("\x80\x80\x80\x80\x80\x80", 5), "\x80\x80") << "no text at all, but no loop";
}

TEST(CleanLine, shows_what_must_not_act) {
  EXPECT_EQ(clean_line("caf\xc3\xa9 \xe2\x9c\x93 </script>"), "caf\xc3\xa9 \xe2\x9c\x93 </script>");
  EXPECT_EQ(clean_line("a\x1b[31mb\0c\x7f"sv), "a^[[31mb^@c^?");
  EXPECT_EQ(clean_line("a\tb\nc\r"), "a b c ");
  EXPECT_EQ(clean_line("a\xff\xc3"), "a\xef\xbf\xbd\xef\xbf\xbd");
  EXPECT_EQ(clean_line("\xc0\xaf\xed\xa0\x80"),
            "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd")
      << "overlong, surrogate";
  EXPECT_EQ(clean_line("a\xe2\x80\xae"
                       "b\xc2\x9b"
                       "c\xef\xbf\xbf"),
            "a\xef\xbf\xbd"
            "b\xef\xbf\xbd"
            "c\xef\xbf\xbd")
      << "right-to-left override, C1, no character";
}

TEST(CleanLine, is_cut_with_dots) {
  EXPECT_EQ(clean_line("0123456789", 10), "0123456789");
  EXPECT_EQ(clean_line("0123456789a", 10), "0123456...");
  EXPECT_EQ(clean_line("abc", 2), "");
}

TEST(CleanLog, leaves_the_text_of_a_terminal) {
  EXPECT_EQ(clean_log("\x1b[1;32mok\x1b[0m\r\n\x1b[2J\x1b[Hnext"), "ok\nnext");
  EXPECT_EQ(clean_log("\x1b]0;title\x07"
                      "a\x1b]8;;http://x\x1b\\b\x1b(Bc\x1b"
                      "7d"),
            "abcd");
  EXPECT_EQ(clean_log("\x1bP+q\x1b\\x\x1b]never ended\nnext"), "x\nnext");
  EXPECT_EQ(clean_log("10%\r20%\r\n\r\r\nend\r"), "10%\n20%\n\nend");
  EXPECT_EQ(clean_log("|\b/\b-\bx\xc3\xa9\by\n\bz"), "xy\nz");
  EXPECT_EQ(clean_log("a\0b\x1b"sv), "a^@b^[");
}

}  // namespace
}  // namespace vmm
