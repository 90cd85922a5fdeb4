// The smallest set of differences between two CPUs that makes a difference.
#include "vmm/cpu/bisect.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>

#include "vmm/cpu/flatten.h"

namespace vmm {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::Not;

using Set = std::vector<std::size_t>;

BisectCpu cpu_of(const std::string& text) {
  const WholeCpu whole = *resolve_whole(text, HostGrant{});
  return {*flatten(*parse_cpu_selection(text), whole, "side"), whole.nesting.empty()};
}

std::vector<std::string> texts(const std::vector<CpuDelta>& deltas) {
  std::vector<std::string> result;
  for (const CpuDelta& delta : deltas) result.push_back(delta.text);
  return result;
}

Set all_of(std::size_t count) {
  Set set(count);
  for (std::size_t i = 0; i < count; ++i) set[i] = i;
  return set;
}

TEST(Bisect, finds_every_pair_and_triple) {
  std::mt19937 random(1);
  for (int round = 0; round < 300; ++round) {
    const std::size_t count = 1 + random() % 60;
    std::set<std::size_t> guilty;
    for (std::size_t i = 0; i < std::min<std::size_t>(1 + random() % 3, count); ++i)
      guilty.insert(random() % count);
    std::set<Set> asked;
    const auto result = bisect(
        count,
        [&](const Set& set) -> Result<BisectVerdict> {
          EXPECT_TRUE(std::ranges::is_sorted(set));
          EXPECT_TRUE(asked.insert(set).second) << "asked twice";
          return std::ranges::includes(set, guilty) ? BisectVerdict::Bad : BisectVerdict::Good;
        },
        100000);
    ASSERT_TRUE(result);
    EXPECT_EQ(result->smallest, Set(guilty.begin(), guilty.end()));
    EXPECT_EQ(result->asked, asked.size());
    EXPECT_TRUE(result->finished);
  }
}

TEST(Bisect, sets_without_a_verdict_are_gone_around) {
  std::mt19937 random(2);
  for (int round = 0; round < 100; ++round) {
    const std::size_t count = 8 + random() % 30;
    const std::size_t guilty = random() % count;
    // Each of these needs its neighbour.
    const std::size_t needs = random() % (count - 1);
    const auto has = [](const Set& set, std::size_t i) {
      return std::ranges::binary_search(set, i);
    };
    const auto result = bisect(
        count,
        [&](const Set& set) -> Result<BisectVerdict> {
          if (has(set, needs) && !has(set, needs + 1)) return BisectVerdict::Unresolved;
          return has(set, guilty) ? BisectVerdict::Bad : BisectVerdict::Good;
        },
        100000);
    ASSERT_TRUE(result);
    const Set expected = guilty == needs ? Set{needs, needs + 1} : Set{guilty};
    EXPECT_EQ(result->smallest, expected) << guilty << " of " << count << ", " << needs;
  }
}

TEST(Bisect, a_limit_and_an_error_end_it) {
  const auto limited = bisect(
      40,
      [](const Set& set) -> Result<BisectVerdict> {
        return set.size() == 40 ? BisectVerdict::Bad : BisectVerdict::Good;
      },
      5);
  ASSERT_TRUE(limited);
  EXPECT_FALSE(limited->finished);
  EXPECT_EQ(limited->asked, 5U);
  EXPECT_EQ(limited->smallest, all_of(40));
  EXPECT_FALSE(bisect(
      3, [](const Set&) -> Result<BisectVerdict> { return fail(Error::host("gone")); }, 100));
}

TEST(Bisect, deltas_are_the_names_of_what_differs) {
  const BisectCpu good = cpu_of("haswell");
  EXPECT_THAT(texts(deltas_between(good, cpu_of("haswell,+pdpe1gb,-avx2,phys-bits=46"))),
              ElementsAre("phys-bits=46", "-avx2", "+pdpe1gb"));
  EXPECT_THAT(deltas_between(good, good), IsEmpty());
  // What only a nested guest sees counts for such a guest only.
  EXPECT_THAT(deltas_between(cpu_of("skylake-client@3"), cpu_of("skylake-client@4")),
              Contains(testing::Field(&CpuDelta::text, "+xsaves")));
  EXPECT_THAT(texts(deltas_between(cpu_of("skylake-client@3"), cpu_of("skylake-client@4"))),
              Not(Contains("+vmx-xsaves")));
  EXPECT_THAT(
      texts(deltas_between(cpu_of("skylake-client@3,+vmx"), cpu_of("skylake-client@4,+vmx"))),
      Contains("+vmx-xsaves"));
  EXPECT_THAT(texts(deltas_between(good, cpu_of("haswell,+vmx,vmx.hlt-exit=fixed"))),
              ElementsAre("+vmx", "vmx-hlt-exit=fixed"));
}

TEST(Bisect, all_deltas_make_the_bad_cpu_and_none_the_good_one) {
  for (const auto& [left, right] : {std::pair{"haswell", "skylake-server,+vmx"},
                                    {"epyc,+svm", "zen3"},
                                    {"skylake-xeon@2,+vmx", "epyc-turin"},
                                    {"haswell,+la57", "haswell,+vmx,vmx.hlt-exit=fixed"}}) {
    const BisectCpu good = cpu_of(left);
    const BisectCpu bad = cpu_of(right);
    const std::vector<CpuDelta> deltas = deltas_between(good, bad);
    EXPECT_EQ(with_deltas(good, bad, deltas, {}), good);
    BisectCpu all = with_deltas(good, bad, deltas, all_of(deltas.size()));
    all.model.title = bad.model.title;
    EXPECT_THAT(deltas_between(all, bad), IsEmpty()) << left << " " << right;
    EXPECT_TRUE(stands(good, good, bad) && stands(bad, good, bad));
  }
}

TEST(Bisect, a_feature_without_what_it_needs_does_not_stand) {
  const BisectCpu good = cpu_of("haswell");
  const BisectCpu bad = cpu_of("haswell,-avx");
  const std::vector<CpuDelta> deltas = deltas_between(good, bad);
  const auto index_of = [&](std::string_view text) {
    return static_cast<std::size_t>(std::ranges::find(deltas, text, &CpuDelta::text) -
                                    deltas.begin());
  };
  EXPECT_FALSE(stands(with_deltas(good, bad, deltas, {index_of("-avx")}), good, bad));
  EXPECT_TRUE(stands(with_deltas(good, bad, deltas, {index_of("-avx2")}), good, bad));
  // A fault that one of the two has is not held against what is between them.
  const BisectCpu faulty = cpu_of("skylake-client@3,+xsaves,+vmx,+vmx-xsaves,-vmx-ept");
  EXPECT_TRUE(stands(faulty, good, faulty));
}

}  // namespace
}  // namespace vmm
