// Which cells a matrix makes.
#include "vmm/matrix/expand.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <set>

#include "vmm/matrix/selection.h"

namespace vmm {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

struct Expanded {
  MatrixSpec spec;
  Expansion expansion;
  std::vector<std::string> ids() const {
    std::vector<std::string> ids;
    for (const Cell& cell : expansion.cells) ids.push_back(cell_id(spec, cell));
    return ids;
  }
};

Expanded expanded(const std::string& text) {
  Expanded result;
  auto spec = parse_matrix(text, "all.toml");
  EXPECT_TRUE(spec) << (spec ? "" : spec.error().text());
  if (!spec) return result;
  result.spec = std::move(*spec);
  auto expansion = expand(result.spec);
  EXPECT_TRUE(expansion) << (expansion ? "" : expansion.error().text());
  if (expansion) result.expansion = std::move(*expansion);
  return result;
}

std::string refusal(const std::string& text) {
  auto spec = parse_matrix(text, "all.toml");
  EXPECT_TRUE(spec) << (spec ? "" : spec.error().text());
  if (!spec) return {};
  const auto expansion = expand(*spec);
  EXPECT_FALSE(expansion);
  return expansion ? "" : expansion.error().text();
}

const std::string kGuest = "[guest.g]\nkernel = \"k\"\n";

TEST(Expand, the_product_counts_the_last_axis_fastest) {
  EXPECT_THAT(expanded("[axes]\nsmp = [1, 2]\nirqchip = [\"user\", \"split\"]\n" + kGuest).ids(),
              ElementsAre("g smp=1 irqchip=user", "g smp=1 irqchip=split", "g smp=2 irqchip=user",
                          "g smp=2 irqchip=split"));
}

TEST(Expand, excluded_cells_are_counted_with_their_reason) {
  const Expanded all = expanded("[axes]\nsmp = [1, 2, 4]\n" + kGuest +
                                "[[exclude]]\nsmp = [2, 4]\nreason = \"slow\"\n");
  EXPECT_THAT(all.ids(), ElementsAre("g smp=1"));
  EXPECT_EQ(all.expansion.left_out.at(0).cells, 2u);
  EXPECT_EQ(all.expansion.left_out.at(0).reason, "slow");
}

TEST(Expand, an_included_cell_may_have_values_that_no_axis_has) {
  EXPECT_THAT(
      expanded("[axes]\nsmp = [1, 2]\n" + kGuest + "[[include]]\nguest = \"g\"\nsmp = 8\n").ids(),
      ElementsAre("g smp=1", "g smp=2", "g smp=8"));
}

TEST(Expand, the_same_cell_twice_is_an_error) {
  EXPECT_THAT(refusal("[axes]\nsmp = [1, 2]\n" + kGuest + "[[include]]\nguest = \"g\"\nsmp = 2\n"),
              HasSubstr("all.toml:5:1: the cell 'g smp=2' is there twice"));
}

TEST(Expand, the_host_has_no_parameters_of_a_labs_kvm) {
  EXPECT_THAT(
      expanded("[axes]\non = [\"host\", \"svm\"]\nkvm-param = [\"npt=1\", \"npt=0\"]\n" + kGuest)
          .ids(),
      ElementsAre("g on=host", "g on=svm kvm-param=npt=1", "g on=svm kvm-param=npt=0"));
}

TEST(Expand, what_is_left_without_a_cell_is_an_error_or_a_note) {
  EXPECT_THAT(refusal(kGuest + "[[exclude]]\nguest = \"*\"\n"),
              HasSubstr("every cell is excluded"));
  EXPECT_THAT(expanded("[axes]\nsmp = [1]\n" + kGuest + "[[exclude]]\nsmp = 3\n").expansion.notes,
              ElementsAre(HasSubstr("this [[exclude]] matches no cell")));
}

TEST(Expand, a_product_beyond_the_limit_is_refused_before_it_is_made) {
  std::string text = "[args]\n";
  for (int axis = 0; axis < 12; ++axis) {
    text += fmt::format("a{} = [0", axis);
    for (int value = 1; value < 100; ++value) text += fmt::format(", {}", value);
    text += "]\n";
  }
  EXPECT_THAT(refusal(text + kGuest), HasSubstr("more than 1000000 cells for guest 'g' alone"));
}

TEST(Expand, the_digest_knows_the_text_and_the_cells) {
  const Expanded one = expanded(kGuest);
  const Expanded same = expanded(kGuest);
  const Expanded other = expanded(kGuest + "# a comment\n");
  EXPECT_EQ(matrix_digest(one.spec, one.expansion), matrix_digest(same.spec, same.expansion));
  EXPECT_NE(matrix_digest(one.spec, one.expansion), matrix_digest(other.spec, other.expansion));
}

// Every pair of values that the rows have, by brute force.
using Pairs = std::set<std::array<std::size_t, 4>>;
Pairs pairs_of(const std::vector<std::vector<std::uint16_t>>& rows) {
  Pairs pairs;
  for (const auto& row : rows)
    for (std::size_t a = 0; a < row.size(); ++a)
      for (std::size_t b = a + 1; b < row.size(); ++b) pairs.insert({a, row[a], b, row[b]});
  return pairs;
}

TEST(Pairwise, every_pair_is_met_and_few_rows_are_needed) {
  std::mt19937 random(4711);
  for (int round = 0; round < 30; ++round) {
    const std::size_t axes = 2 + random() % 4;
    std::vector<std::uint16_t> sizes;
    std::size_t product = 1;
    for (std::size_t i = 0; i < axes; ++i) {
      sizes.push_back(static_cast<std::uint16_t>(1 + random() % 4));
      product *= sizes.back();
    }
    std::vector<std::vector<std::uint16_t>> rows;
    for (std::size_t n = 0; n < product; ++n) {
      std::vector<std::uint16_t> row;
      std::size_t rest = n;
      for (const std::uint16_t size : sizes) {
        row.push_back(static_cast<std::uint16_t>(rest % size));
        rest /= size;
      }
      // Some combinations are excluded, as a matrix may have it.
      if (random() % 5 != 0 || rows.empty()) rows.push_back(row);
    }
    std::vector<std::vector<std::uint16_t>> chosen;
    for (const std::size_t row : covering_rows(rows)) chosen.push_back(rows[row]);
    EXPECT_EQ(pairs_of(chosen), pairs_of(rows));
    EXPECT_LE(chosen.size(), rows.size());
  }
}

TEST(Pairwise, ten_axes_of_three_values_need_a_few_dozen_cells_of_59049) {
  std::string text = "pairwise = true\n[args]\n";
  for (int axis = 0; axis < 10; ++axis) text += fmt::format("a{} = [1, 2, 3]\n", axis);
  const Expanded all = expanded(text + kGuest);
  EXPECT_LE(all.expansion.cells.size(), 30u);
  EXPECT_EQ(all.expansion.cells.size() + all.expansion.pairs_left_out, 59049u);
}

Selection only(const std::vector<std::string>& filters) {
  Selection selection;
  for (const std::string& text : filters) {
    auto parsed = parse_only(text);
    EXPECT_TRUE(parsed);
    if (parsed) selection.only.push_back(std::move(*parsed));
  }
  return selection;
}

TEST(Selection, axes_have_to_fit_all_and_patterns_of_one_axis_any) {
  const Expanded all =
      expanded("[axes]\nsmp = [1, 2, 4]\nirqchip = [\"user\", \"split\"]\n" + kGuest);
  const auto count = [&](const std::vector<std::string>& filters) {
    const auto chosen = select(all.spec, all.expansion, only(filters));
    return chosen ? chosen->size() : 0;
  };
  EXPECT_EQ(count({}), 6u);
  EXPECT_EQ(count({"smp=2"}), 2u);
  EXPECT_EQ(count({"smp=2", "smp=4"}), 4u);
  EXPECT_EQ(count({"smp=2", "irqchip=us*"}), 1u);
  const auto unknown = select(all.spec, all.expansion, only({"cpus=2"}));
  ASSERT_FALSE(unknown);
  EXPECT_THAT(unknown.error().text(), HasSubstr("an axis 'cpus'"));
}

TEST(Selection, shards_share_the_cells_without_one_twice) {
  const Expanded all = expanded("[args]\nn = [1, 2, 3, 4, 5, 6, 7]\n" + kGuest);
  std::vector<std::size_t> seen;
  for (const char* text : {"1/3", "2/3", "3/3"}) {
    Selection selection;
    ASSERT_TRUE(parse_shard(text, selection));
    const auto chosen = select(all.spec, all.expansion, selection);
    ASSERT_TRUE(chosen);
    seen.insert(seen.end(), chosen->begin(), chosen->end());
  }
  std::sort(seen.begin(), seen.end());
  EXPECT_THAT(seen, ElementsAre(0, 1, 2, 3, 4, 5, 6));
  Selection selection;
  for (const char* text : {"0/3", "4/3", "1", "/", "x/y", ""})
    EXPECT_FALSE(parse_shard(text, selection)) << text;
}

TEST(Glob, stars_and_question_marks) {
  EXPECT_TRUE(glob_matches("*,-pdpe1gb", "epyc,-pdpe1gb"));
  EXPECT_TRUE(glob_matches("vmx-?ello", "vmx-hello"));
  EXPECT_TRUE(glob_matches("*a*b*", "xxaxxbxx"));
  EXPECT_FALSE(glob_matches("*a*b", "xxaxxbxx"));
  EXPECT_FALSE(glob_matches("a", "ab"));
  EXPECT_TRUE(glob_matches("", ""));
  EXPECT_TRUE(glob_matches("**", ""));
  EXPECT_FALSE(glob_matches("?", ""));
}

}  // namespace
}  // namespace vmm
