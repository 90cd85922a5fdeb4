// What a matrix file means, and what is said of one that means nothing.
#include "vmm/matrix/spec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "vmm/matrix/expand.h"

namespace vmm {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

constexpr const char* kHello = "[guest.hello]\nkernel = \"hello.elf\"\n";

MatrixSpec parsed(const std::string& text) {
  auto spec = parse_matrix(text, "dir/all.toml");
  EXPECT_TRUE(spec) << (spec ? "" : spec.error().text());
  return spec ? std::move(*spec) : MatrixSpec{};
}

// The error of a text that is refused, with its hint behind it.
std::string refusal(const std::string& text) {
  const auto spec = parse_matrix(text, "all.toml");
  EXPECT_FALSE(spec) << text;
  if (spec) return {};
  return spec.error().text() +
         (spec.error().hint_text().empty() ? "" : " | " + spec.error().hint_text());
}

TEST(MatrixSpec, one_guest_alone_is_one_cell) {
  MatrixSpec spec = parsed(kHello);
  EXPECT_EQ(spec.name, "all");
  EXPECT_EQ(spec.directory, "dir");
  const auto expansion = expand(spec);
  ASSERT_TRUE(expansion);
  ASSERT_EQ(expansion->cells.size(), 1u);
  EXPECT_EQ(cell_id(spec, expansion->cells[0]), "hello");
}

TEST(MatrixSpec, a_guests_own_axis_takes_the_place_of_the_matrixs) {
  const MatrixSpec spec = parsed(std::string("[axes]\nsmp = [1, 2]\non = \"host\"\n") + kHello +
                                 "axes = { smp = [4] }\n");
  ASSERT_EQ(spec.guests[0].axes.size(), 2u);
  EXPECT_EQ(spec.guests[0].axes[0].name, "on") << "built-in axes keep their order";
  EXPECT_THAT(spec.guests[0].axis("smp")->values, ElementsAre("4"));
}

TEST(MatrixSpec, settings_come_from_defaults_then_templates_then_the_guest) {
  const MatrixSpec spec = parsed(R"(
[defaults]
timeout = 10
output = ["a"]
[template.inner]
timeout = 20
retries = 1
[template.outer]
template = "inner"
retries = 2
output = ["b"]
[guest.hello]
template = "outer"
kernel = "k"
output = ["c"]
)");
  const Settings& s = spec.guests[0].settings;
  EXPECT_EQ(s.timeout, 20.0);
  EXPECT_EQ(s.retries, 2u);
  ASSERT_EQ(s.output.size(), 3u) << "lines to look for add up";
  EXPECT_EQ(s.output[0].text(), "a");
  EXPECT_EQ(s.output[2].text(), "c");
}

TEST(MatrixSpec, guests_stand_in_the_order_of_the_file) {
  const MatrixSpec spec = parsed("[guest.zeta]\nkernel = \"z\"\n[guest.alpha]\nkernel = \"a\"\n");
  EXPECT_EQ(spec.guests[0].name, "zeta");
  EXPECT_EQ(spec.guests[1].name, "alpha");
}

TEST(MatrixSpec, a_later_expect_wins) {
  MatrixSpec spec = parsed(std::string("[axes]\nsmp = [1, 2]\n") + kHello + R"(
[[expect]]
guest = "h*"
expect = "fail"
[[expect]]
smp = 2
expect = "xfail"
reason = "lost"
)");
  const auto expansion = expand(spec);
  ASSERT_TRUE(expansion);
  EXPECT_EQ(cell_settings(spec, expansion->cells[0]).expectation_text(), "fail");
  EXPECT_EQ(cell_settings(spec, expansion->cells[1]).expectation_text(), "xfail: lost");
}

TEST(MatrixSpec, an_unknown_key_is_named_with_its_place_and_the_nearest) {
  EXPECT_EQ(refusal(std::string(kHello) + "tiemout = 3\n"),
            "all.toml:3:1: unknown key 'tiemout' | did you mean 'timeout'?");
  EXPECT_THAT(refusal("[axis]\nsmp = 1\n" + std::string(kHello)),
              HasSubstr("did you mean 'axes'?"));
}

TEST(MatrixSpec, values_of_axes_are_checked_where_they_stand) {
  const auto axis = [](const std::string& text) {
    return refusal("[axes]\n" + text + "\n" + kHello);
  };
  EXPECT_THAT(axis("irqchip = [\"split\", \"spilt\"]"),
              StartsWith("all.toml:2:21: 'irqchip' is 'spilt'"));
  EXPECT_THAT(axis("cpu-model = \"epyk\""), HasSubstr("epyc"));
  EXPECT_THAT(axis("cpu-model = \"epyc,+pdpe1gbb\""), HasSubstr("pdpe1gb"));
  EXPECT_THAT(axis("on = \"kvm\""), HasSubstr("allowed are host, svm, vmx"));
  EXPECT_THAT(axis("smp = 0"), StartsWith("all.toml:2:7"));
  EXPECT_THAT(axis("mem = \"12 elephants\""), StartsWith("all.toml:2:7"));
  EXPECT_THAT(axis("kvm-param = \"npt\""), HasSubstr("no NAME=VALUE"));
  EXPECT_THAT(axis("smp = []"), HasSubstr("has no value"));
  EXPECT_THAT(axis("smp = [1, 1]"), HasSubstr("'1' twice"));
}

TEST(MatrixSpec, templates_that_go_round_are_refused_with_their_circle) {
  EXPECT_THAT(refusal(R"(
[template.a]
template = "b"
[template.b]
template = "a"
[guest.g]
kernel = "k"
template = "a"
)"),
              HasSubstr("a -> b -> a"));
  EXPECT_THAT(
      refusal("[template.base]\ntimeout = 1\n[guest.g]\nkernel = \"k\"\ntemplate = \"bas\"\n"),
      HasSubstr("did you mean 'base'?"));
}

TEST(MatrixSpec, a_pattern_for_a_guest_that_is_not_there_is_a_slip) {
  EXPECT_THAT(refusal(std::string(kHello) + "[[exclude]]\nguest = \"helo\"\n"),
              HasSubstr("did you mean 'hello'?"));
  EXPECT_THAT(refusal(std::string(kHello) + "[[exclude]]\nreason = \"all of them\"\n"),
              HasSubstr("names no axis"));
}

TEST(MatrixSpec, an_expression_that_is_none_is_refused_at_its_place) {
  EXPECT_THAT(refusal(std::string(kHello) + "output = [\"ok\", \"a(b\"]\n"),
              StartsWith("all.toml:3:17: 'a(b' is no regular expression"));
}

TEST(MatrixSpec, ones_own_axes_have_names_of_their_own) {
  EXPECT_THAT(refusal("[args]\nsmp = [1]\n" + std::string(kHello)),
              HasSubstr("belongs into [axes]"));
  EXPECT_THAT(refusal("[args]\n\"a b\" = [1]\n" + std::string(kHello)),
              HasSubstr("1 to 32 letters"));
}

TEST(MatrixSpec, what_a_cell_writes_stays_in_it) {
  const auto with = [](const char* line) {
    return refusal(std::string(kHello) + "firmware = \"CODE.fd\"\n" + line);
  };
  EXPECT_THAT(with("vars = \"v.fd\"\n"), HasSubstr("'vars' is 'v.fd': what one cell writes would "
                                                   "reach the others"));
  EXPECT_THAT(with("vars = \",copy\"\n"), HasSubstr("--vars needs a file"));
  EXPECT_THAT(with("disk = [\"raw:a\"]\n"), HasSubstr("would reach the others"));
  EXPECT_THAT(with("disk = [\"qcow2:a\"]\n"), HasSubstr("format 'qcow2' is unknown"));
  EXPECT_THAT(with("share = [\"a\", \"b,rw\"]\n"), HasSubstr("'share' is 'b,rw'"));
}

TEST(MatrixSpec, nothing_to_run_is_an_error) {
  EXPECT_THAT(refusal("pairwise = true\n"), HasSubstr("nothing to run"));
  EXPECT_THAT(refusal("[guest.hello]\ntimeout = 1\n"), HasSubstr("has no kernel"));
}

}  // namespace
}  // namespace vmm
