#include "vmm/machine/explain_dump.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <iostream>
#include <iterator>
#include <random>

namespace vmm {
namespace {

std::string fixture(const std::string& name) {
  std::ifstream file("vmm/machine/testdata/dumps/" + name, std::ios::binary);
  EXPECT_TRUE(file) << name;
  return {std::istreambuf_iterator<char>(file), {}};
}

std::vector<CrashCard> cards_of(const std::string& text) {
  auto cards = explain_dump(text);
  EXPECT_TRUE(cards) << (cards ? "" : cards.error().text());
  if (!cards) return {};
  for (const CrashCard& card : *cards) {
    EXPECT_FALSE(card.lines.empty());
    EXPECT_LE(card.lines.size(), kMaxCardLines);
    for (const std::string& line : card.lines) EXPECT_LE(line.size(), 120u) << line;
  }
  return std::move(*cards);
}
TEST(ExplainDump, x) {
  for (const char* n : {"a-vga-hole.txt", "b-one-gib-pages.txt", "c-one-gib-pages-trace.txt",
                        "d-procbased-ctls2.txt"})
    for (auto& c : cards_of(fixture(n)))
      std::cout << n << " " << c.rule << "\n" << c.text() << "\n";
  for (auto& c : cards_of(fixture("b-one-gib-pages.txt") + fixture("c-one-gib-pages-trace.txt")))
    std::cout << c.rule << "\n" << c.text() << "\n";
}
}  // namespace
}  // namespace vmm
