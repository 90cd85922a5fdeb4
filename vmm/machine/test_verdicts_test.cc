#include "vmm/machine/test_verdicts.h"

#include <gtest/gtest.h>

#include <string>
#include <string_view>

namespace vmm {
namespace {

class Sink final : public ByteSink {
 public:
  bool put(std::uint8_t byte) override {
    if (refuses) return false;
    text += static_cast<char>(byte);
    return true;
  }
  bool refuses = false;
  std::string text;
};

TestVerdicts count(std::string_view text) {
  Sink sink;
  VerdictCounter counter(sink);
  for (const char c : text) EXPECT_TRUE(counter.put(static_cast<std::uint8_t>(c)));
  EXPECT_EQ(sink.text, text);
  return counter.verdicts();
}

TEST(TestVerdicts, lines_are_counted_by_their_first_word) {
  EXPECT_EQ(count("PASS: one\nFAIL: two\r\nSKIP: three\nPASS: four\n"), (TestVerdicts{2, 1, 1}));
}

TEST(TestVerdicts, words_within_a_line_and_short_lines_are_not_verdicts) {
  EXPECT_EQ(count("a PASS\n XFAIL: known\nXFAIL: known\nPAS\nS\n\n"), TestVerdicts{});
}

TEST(TestVerdicts, a_line_that_is_never_ended_counts) {
  EXPECT_EQ(count("FAIL"), (TestVerdicts{0, 1, 0}));
}

TEST(TestVerdicts, a_byte_that_is_refused_and_comes_again_counts_once) {
  Sink sink;
  VerdictCounter counter(sink);
  for (const char c : std::string_view("PAS")) counter.put(static_cast<std::uint8_t>(c));
  sink.refuses = true;
  EXPECT_FALSE(counter.put('S'));
  sink.refuses = false;
  EXPECT_TRUE(counter.put('S'));
  EXPECT_EQ(counter.verdicts().passed, 1u);
}

}  // namespace
}  // namespace vmm
