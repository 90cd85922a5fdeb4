#include "vmm/matrix/report_junit.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <pugixml.hpp>

#include "vmm/matrix/record_fake.h"

namespace vmm {
namespace {

using namespace std::string_literals;
using testing::HasSubstr;

class JunitReport : public testing::Test {
 protected:
  void parse(const RunRecord& run) {
    text_ = junit_report(run);
    const auto result = document_.load_string(text_.c_str(), pugi::parse_default);
    ASSERT_TRUE(result) << result.description() << "\n" << text_;
  }
  pugi::xml_node suite(const char* name) const {
    return document_.child("testsuites").find_child_by_attribute("testsuite", "name", name);
  }
  pugi::xml_node test(const char* guest) const { return suite(guest).child("testcase"); }

  std::string text_;
  pugi::xml_document document_;
};

TEST_F(JunitReport, is_a_suite_a_guest_and_a_case_a_cell) {
  parse(fake_run({fake_cell("a", "epyc", "host"), fake_cell("b", "epyc", "host"),
                  fake_cell("a", "epyc", "svm", CellVerdict::Fail, "exit code 1 instead of 0")}));
  const pugi::xml_node all = document_.child("testsuites");
  EXPECT_STREQ(all.attribute("name").value(), "all");
  EXPECT_EQ(all.attribute("tests").as_int(), 3);
  EXPECT_EQ(all.attribute("failures").as_int(), 1);
  EXPECT_EQ(suite("a").attribute("tests").as_int(), 2);
  EXPECT_EQ(suite("a").attribute("failures").as_int(), 1);
  EXPECT_STREQ(suite("a").attribute("timestamp").value(), "2025-11-27T18:00:00");
  EXPECT_STREQ(suite("a").attribute("time").value(), "0.500");
  EXPECT_EQ(suite("b").attribute("failures").as_int(), 0);
  const pugi::xml_node second = test("a").next_sibling("testcase");
  EXPECT_STREQ(second.attribute("classname").value(), "all.a");
  EXPECT_STREQ(second.attribute("name").value(), "cpu-model=epyc on=svm");
  EXPECT_STREQ(second.attribute("time").value(), "0.250");
  EXPECT_STREQ(second.child("failure").attribute("message").value(), "exit code 1 instead of 0");
  EXPECT_STREQ(second.child("failure").attribute("type").value(), "FAIL");
  EXPECT_THAT(second.child("failure").text().get(),
              HasSubstr("ending: guest-exit\nexit code: 1\n"));
  EXPECT_THAT(second.child("system-out").text().get(), HasSubstr("command: vmm run --cpu-model"));
  EXPECT_THAT(second.child("system-out").text().get(), HasSubstr("guest digest: bbbb"));
}

TEST_F(JunitReport, each_verdict_has_its_element) {
  std::vector<CellRecord> cells;
  for (const CellVerdict verdict : kVerdicts)
    cells.push_back(fake_cell(std::string(verdict_word(verdict)), "epyc", "host", verdict, "why"));
  parse(fake_run(std::move(cells)));
  for (const char* word : {"FAIL", "TIMEOUT", "CRASH", "XPASS"}) {
    EXPECT_STREQ(test(word).child("failure").attribute("message").value(), "why") << word;
    EXPECT_STREQ(test(word).child("failure").attribute("type").value(), word);
  }
  for (const char* word : {"SKIP", "XFAIL"}) {
    EXPECT_STREQ(test(word).child("skipped").attribute("message").value(), "why") << word;
    EXPECT_FALSE(test(word).child("failure"));
  }
  EXPECT_STREQ(test("INFRA").child("error").attribute("message").value(), "why");
  EXPECT_FALSE(test("PASS").child("failure"));
  EXPECT_FALSE(test("PASS").child("skipped"));
  EXPECT_STREQ(test("FLAKY").child("flakyFailure").attribute("message").value(), "why");
  EXPECT_THAT(test("FLAKY").child("flakyFailure").child("stackTrace").text().get(),
              HasSubstr("exit code: 1"));
  EXPECT_FALSE(test("FLAKY").child("failure"));
  const pugi::xml_node all = document_.child("testsuites");
  EXPECT_EQ(all.attribute("tests").as_int(), 9);
  EXPECT_EQ(all.attribute("failures").as_int(), 4);
  EXPECT_EQ(all.attribute("errors").as_int(), 1);
  EXPECT_EQ(all.attribute("skipped").as_int(), 2);
}

TEST_F(JunitReport, repetitions_of_a_failure_are_told) {
  CellRecord cell = fake_cell("a", "epyc", "host", CellVerdict::Fail, "first");
  cell.attempts.push_back(cell.attempts[0]);
  cell.attempts[1].reason = "second";
  parse(fake_run({cell}));
  EXPECT_STREQ(test("a").child("failure").attribute("message").value(), "first");
  EXPECT_STREQ(test("a").child("rerunFailure").attribute("message").value(), "second");
}

TEST_F(JunitReport, what_did_not_run_is_an_error) {
  RunRecord run = fake_run({fake_cell("a", "epyc", "host"), fake_cell("b", "epyc", "host")});
  run.cells.pop_back();
  run.finished = 0;
  parse(run);
  EXPECT_STREQ(test("not run").attribute("name").value(), "b cpu-model=epyc on=host");
  EXPECT_TRUE(test("not run").child("error"));
  EXPECT_EQ(document_.child("testsuites").attribute("errors").as_int(), 1);
}

TEST_F(JunitReport, no_byte_breaks_it) {
  std::string reason;
  for (int i = 0; i < 256; ++i) reason += static_cast<char>(i);
  reason += "]]></failure><failure>\xef\xbf\xbe\xed\xa0\x80";
  CellRecord cell = fake_cell("a", "epyc", "host", CellVerdict::Fail, reason);
  cell.attempts[0].results.failed = 1;
  cell.attempts[0].results.failures = {reason};
  parse(fake_run({cell}));
  EXPECT_THAT(test("a").child("failure").attribute("message").value(),
              HasSubstr("]]></failure><failure>"));
  EXPECT_FALSE(test("a").child("failure").next_sibling("failure"));
  for (const char c : text_)
    EXPECT_TRUE(c == '\n' || static_cast<unsigned char>(c) >= 0x20) << static_cast<int>(c);
  EXPECT_EQ(text_.find("&#"), text_.npos) << "XML 1.0 has no reference to a control character";
}

}  // namespace
}  // namespace vmm
