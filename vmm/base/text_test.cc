#include "vmm/base/text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

namespace vmm {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(Split, keeps_empty_parts) {
  EXPECT_THAT(split("a,,b", ','), ElementsAre("a", "", "b"));
  EXPECT_THAT(split("", ','), ElementsAre(""));
  EXPECT_THAT(split(",", ','), ElementsAre("", ""));
  EXPECT_THAT(split("a;b", ','), ElementsAre("a;b"));
}

TEST(Trim, takes_white_space_at_the_ends_only) {
  EXPECT_EQ(trim("  a b\t\r\n"), "a b");
  EXPECT_EQ(trim(" \t "), "");
  EXPECT_EQ(trim(""), "");
}

TEST(Lower, leaves_what_is_not_an_ascii_letter) {
  EXPECT_EQ(lower("Skylake-Server@2 \xc4"), "skylake-server@2 \xc4");
}

TEST(ParseNumber, reads_decimal_and_hex) {
  EXPECT_EQ(parse_number("0"), 0u);
  EXPECT_EQ(parse_number("18446744073709551615"), std::numeric_limits<std::uint64_t>::max());
  EXPECT_EQ(parse_number("0xffffffffffffffff"), std::numeric_limits<std::uint64_t>::max());
  EXPECT_EQ(parse_number("0XaBc"), 0xabcu);
  EXPECT_EQ(parse_number("007"), 7u);
}

TEST(ParseNumber, refuses_anything_else) {
  for (const char* text : {"", "0x", "x", "-1", "+1", " 1", "1 ", "1k", "0x-1", "0x0x1", "0xg",
                           "18446744073709551616", "0x10000000000000000", "1.5", "1e3"})
    EXPECT_EQ(parse_number(text), std::nullopt) << text;
  EXPECT_EQ(parse_number(std::string_view("1\0", 2)), std::nullopt);
}

TEST(ParseSize, knows_the_units) {
  EXPECT_EQ(parse_size("4096").value(), 4096u);
  EXPECT_EQ(parse_size("64K").value(), 64u << 10);
  EXPECT_EQ(parse_size("256M").value(), 256u << 20);
  EXPECT_EQ(parse_size("3g").value(), std::uint64_t{3} << 30);
  EXPECT_EQ(parse_size("1T").value(), std::uint64_t{1} << 40);
  EXPECT_EQ(parse_size("256MiB").value(), 256u << 20);
  EXPECT_EQ(parse_size(" 0x10M ").value(), 16u << 20);
  EXPECT_EQ(parse_size("0").value(), 0u);
}

TEST(ParseSize, refuses_what_it_does_not_know) {
  for (const char* text : {"", "M", "MiB", "iB", "-1M", "1.5G", "256MB", "256X", "4096iB", "1KK",
                           "1 G", "0xM", "1MiBiB"}) {
    const auto size = parse_size(text);
    ASSERT_FALSE(size.has_value()) << text;
    EXPECT_EQ(size.error().kind(), ErrorKind::Usage);
    EXPECT_THAT(size.error().hint_text(), HasSubstr("256M"));
  }
}

TEST(ParseSize, refuses_what_passes_2_to_the_63) {
  EXPECT_EQ(parse_size("9223372036854775807").value(), ~std::uint64_t{0} >> 1);
  EXPECT_EQ(parse_size("8388607T").value(), std::uint64_t{8388607} << 40);
  for (const char* text : {"9223372036854775808", "8388608T", "8589934592G", "16777216T",
                           "18446744073709551615", "18446744073709551615K", "99999999999999999999"})
    EXPECT_FALSE(parse_size(text).has_value()) << text;
}

TEST(ParseSize, shows_a_hostile_text_without_its_control_characters) {
  EXPECT_EQ(parse_size("\x1b[2J").error().text(), "'\\x1b[2J' is not a size");
}

TEST(FormatSize, takes_the_largest_unit_that_loses_nothing) {
  EXPECT_EQ(format_size(0), "0 bytes");
  EXPECT_EQ(format_size(1), "1 bytes");
  EXPECT_EQ(format_size(4100), "4100 bytes");
  EXPECT_EQ(format_size(4096), "4 KiB");
  EXPECT_EQ(format_size(256u << 20), "256 MiB");
  EXPECT_EQ(format_size(std::uint64_t{5} << 30), "5 GiB");
  EXPECT_EQ(format_size(std::uint64_t{1} << 62), "4194304 TiB");
}

class NearestName : public testing::Test {
 protected:
  const std::vector<std::string> names_ = {"pdpe1gb", "xsave", "xsavec", "vmx", "skylake-server"};
};

TEST_F(NearestName, finds_a_slip_of_the_finger) {
  EXPECT_EQ(nearest_name("pdpe1g", names_), "pdpe1gb");
  EXPECT_EQ(nearest_name("Skylake_Server", names_), "skylake-server");
  EXPECT_EQ(nearest_name("vnx", names_), "vmx");
  EXPECT_EQ(nearest_name("mvx", names_), "vmx");
  EXPECT_EQ(nearest_name("pdep1bg", names_), "pdpe1gb");
}

TEST_F(NearestName, prefers_the_exact_name) {
  EXPECT_EQ(nearest_name("xsave", names_), "xsave");
  EXPECT_EQ(nearest_name("XSAVEC", names_), "xsavec");
}

TEST_F(NearestName, says_nothing_when_nothing_is_near) {
  EXPECT_EQ(nearest_name("haswell", names_), std::nullopt);
  EXPECT_EQ(nearest_name("abc", names_), std::nullopt);
  EXPECT_EQ(nearest_name("vmx", {}), std::nullopt);
  EXPECT_EQ(nearest_name("", names_), std::nullopt);
  EXPECT_EQ(nearest_name(std::string(100'000, 'x'), names_), std::nullopt);
}

TEST(Printable, leaves_plain_text_alone) {
  EXPECT_EQ(printable("a b~"), "a b~");
  EXPECT_EQ(printable(""), "");
}

TEST(Printable, writes_control_and_foreign_bytes_as_hex) {
  EXPECT_EQ(printable(std::string_view("a\0\n\x1b\x7f\xff", 6)), "a\\x00\\x0a\\x1b\\x7f\\xff");
}

TEST(Printable, cuts_what_is_too_long) {
  EXPECT_EQ(printable("abcdef", 4), "abcd...");
  EXPECT_EQ(printable("abcd", 4), "abcd");
  EXPECT_EQ(printable(std::string(1'000'000, 'a')).size(), 203u);
}

TEST(WrapText, breaks_at_words_and_indents_like_the_head) {
  EXPECT_EQ(wrap_text("why  ", "one two three", 13), "why  one two\n     three\n");
  EXPECT_EQ(wrap_text("", "a  b", 80), "a b\n");
}

TEST(WrapText, a_word_that_is_too_long_stands_alone) {
  EXPECT_EQ(wrap_text("- ", "x 0123456789abcdef y", 8), "- x\n  0123456789abcdef\n  y\n");
  EXPECT_EQ(wrap_text("- ", "", 8), "- \n");
}

TEST(Text, places_count_lines_and_columns_from_one) {
  EXPECT_EQ(text_place("f", "", 0), "f:1:1");
  EXPECT_EQ(text_place("f", "ab\ncd", 1), "f:1:2");
  EXPECT_EQ(text_place("f", "ab\ncd", 2), "f:1:3");
  EXPECT_EQ(text_place("f", "ab\ncd", 3), "f:2:1");
  EXPECT_EQ(text_place("f", "ab\ncd", 99), "f:2:3");
}

}  // namespace
}  // namespace vmm
