#include "vmm/base/result.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <memory>
#include <string>

namespace vmm {
namespace {

TEST(Error, each_kind_has_its_exit_code) {
  EXPECT_EQ(exit_code(ErrorKind::Usage), 64);
  EXPECT_EQ(exit_code(ErrorKind::Image), 65);
  EXPECT_EQ(exit_code(ErrorKind::Internal), 70);
  EXPECT_EQ(exit_code(ErrorKind::Lab), 75);
  EXPECT_EQ(exit_code(ErrorKind::NoLab), 76);
  EXPECT_EQ(exit_code(ErrorKind::Host), 77);
}

TEST(Error, the_makers_set_the_kind) {
  EXPECT_EQ(Error::usage("x").kind(), ErrorKind::Usage);
  EXPECT_EQ(Error::image("x").kind(), ErrorKind::Image);
  EXPECT_EQ(Error::internal("x").kind(), ErrorKind::Internal);
  EXPECT_EQ(Error::host("x").kind(), ErrorKind::Host);
}

TEST(Error, place_comes_first_then_the_outermost_context) {
  const Error error = Error::usage("unknown feature 'pdpe1g'")
                          .context("reading the model")
                          .at("skylake.toml:14:3")
                          .context("resolving the CPU");
  EXPECT_EQ(error.text(),
            "skylake.toml:14:3: resolving the CPU: reading the model: unknown feature 'pdpe1g'");
  EXPECT_EQ(error.place(), "skylake.toml:14:3");
}

TEST(Error, the_hint_stands_apart_from_the_text) {
  const Error error = Error::usage("no model 'skylak'").hint("did you mean skylake?");
  EXPECT_EQ(error.text(), "no model 'skylak'");
  EXPECT_EQ(error.hint_text(), "did you mean skylake?");
  EXPECT_EQ(Error::usage("x").hint_text(), "");
}

TEST(Error, a_system_error_has_the_name_and_words_of_its_errno) {
  const Error error = Error::system(ErrorKind::Host, "open /dev/kvm", EACCES);
  EXPECT_EQ(error.text(), "open /dev/kvm: EACCES (Permission denied)");
  EXPECT_EQ(error.errno_value(), EACCES);
  EXPECT_EQ(error.kind(), ErrorKind::Host);
  EXPECT_EQ(Error::usage("x").errno_value(), 0);
}

TEST(Error, a_detail_takes_the_place_of_the_errno_words) {
  EXPECT_EQ(Error::system(ErrorKind::Host, "KVM_SET_CPUID2", E2BIG, "nent=81").text(),
            "KVM_SET_CPUID2: E2BIG (nent=81)");
}

TEST(Error, an_errno_without_a_name_is_still_told) {
  EXPECT_EQ(errno_name(ENOENT), "ENOENT");
  EXPECT_EQ(errno_name(4711), "errno 4711");
  EXPECT_EQ(errno_name(-1), "errno -1");
  EXPECT_EQ(Error::system(ErrorKind::Internal, "x", 4711).text(), "x: errno 4711 (unknown error)");
}

Result<int> half(int number) {
  if (number % 2 != 0) return fail(Error::usage("odd"));
  return number / 2;
}
Result<int> quarter(int number) { return half(VMM_TRY(half(number))); }
Result<int> eighth(int number) { return half(VMM_TRY_CONTEXT(quarter(number), "quartering")); }
Result<void> check_even(int number) {
  VMM_TRY(half(number));
  return {};
}
Result<std::string> check_first(int number) {
  VMM_TRY(check_even(number));
  return "even";
}

TEST(Try, passes_the_value_on_or_returns_the_error) {
  EXPECT_EQ(quarter(12).value(), 3);
  EXPECT_EQ(quarter(6).error().text(), "odd");
  EXPECT_EQ(quarter(3).error().text(), "odd");
}

TEST(Try, adds_its_context_to_errors_of_the_call_alone) {
  EXPECT_EQ(eighth(16).value(), 2);
  EXPECT_EQ(eighth(2).error().text(), "quartering: odd");
  EXPECT_EQ(eighth(4).error().text(), "odd");
}

TEST(Try, works_without_a_value) {
  EXPECT_EQ(check_first(2).value(), "even");
  EXPECT_EQ(check_first(1).error().text(), "odd");
}

Result<std::unique_ptr<int>> boxed(int number) {
  if (number < 0) return fail(Error::internal("negative"));
  return std::make_unique<int>(number);
}
Result<int> unboxed(int number) {
  const std::unique_ptr<int> box = VMM_TRY(boxed(number));
  return *box;
}

TEST(Try, moves_values_that_cannot_be_copied) {
  EXPECT_EQ(unboxed(5).value(), 5);
  EXPECT_EQ(unboxed(-1).error().text(), "negative");
}

}  // namespace
}  // namespace vmm
