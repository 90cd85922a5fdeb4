#include "vmm/matrix/report_html.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <regex>

#include "vmm/matrix/page_source.h"
#include "vmm/matrix/record_fake.h"

namespace vmm {
namespace {

using testing::HasSubstr;
using testing::Not;

class HtmlReport : public testing::Test {
 protected:
  HtmlReport() {
    std::string name = testing::TempDir() + "vmm-html-XXXXXX";
    directory_ = ::mkdtemp(name.data());
  }
  ~HtmlReport() override { std::filesystem::remove_all(directory_); }

  std::string page(const RunRecord& run) const {
    const auto page = html_report(run, directory_);
    if (!page) ADD_FAILURE() << page.error().text();
    return page.value_or("");
  }
  static std::size_t count(const std::string& text, std::string_view part) {
    std::size_t found = 0;
    for (std::size_t at = text.find(part); at != text.npos; at = text.find(part, at + 1)) ++found;
    return found;
  }

  std::string directory_;
};

TEST_F(HtmlReport, has_a_table_without_javascript) {
  RunRecord run = fake_run({fake_cell("a", "epyc", "host"),
                            fake_cell("b", "epyc", "host", CellVerdict::Fail, "x < y & z"),
                            fake_cell("c", "epyc", "host")});
  run.cells.pop_back();
  run.finished = 0;
  const std::string text = page(run);
  EXPECT_THAT(text, HasSubstr("<h1>all</h1>"));
  EXPECT_THAT(text, HasSubstr("3 cells: 1 PASS, 1 FAIL, 1 not run"));
  EXPECT_THAT(text, HasSubstr("interrupted"));
  const std::size_t begin = text.find("<noscript>");
  const std::string table = text.substr(begin, text.find("</noscript>") - begin);
  EXPECT_THAT(table, HasSubstr("<tr><td>a cpu-model=epyc on=host<td>PASS<td>\n"));
  EXPECT_THAT(table, HasSubstr("<tr><td>b cpu-model=epyc on=host<td>FAIL<td>x &lt; y &amp; z\n"));
  EXPECT_THAT(table, HasSubstr("<tr><td>c cpu-model=epyc on=host<td>not run<td>\n"));
}

TEST_F(HtmlReport, says_of_how_many_cells_these_are) {
  RunRecord run = fake_run({fake_cell("a", "epyc", "host")});
  EXPECT_THAT(page(run), Not(HasSubstr("of the matrix's")));
  run.header.all_cells = 12;
  EXPECT_THAT(page(run), HasSubstr("<span>1 of the matrix's 12 cells</span>"));
}

TEST_F(HtmlReport, nothing_in_a_run_becomes_an_element) {
  const std::string evil =
      "</script></style></noscript><script>alert(1)</script><img src=x onerror=a>"
      "{{data}}\"'&\x1b[31m";
  CellRecord cell = fake_cell(evil, evil, evil, CellVerdict::Crash, evil);
  cell.groups = {evil};
  cell.expected = cell.link = cell.host = cell.command = evil;
  cell.cpu = {evil, evil, evil, {evil}};
  AttemptRecord& attempt = cell.attempts[0];
  attempt.reason = attempt.kind = attempt.rule = attempt.phase = evil;
  attempt.results.failures = {evil};
  attempt.results.problem = evil;
  attempt.directory = "cells/1";
  std::filesystem::create_directories(directory_ + "/cells/1");
  std::ofstream(directory_ + "/cells/1/serial.log") << evil << "\n";
  std::ofstream(directory_ + "/cells/1/report.txt") << evil << "\n";
  std::ofstream(directory_ + "/cells/1/outcome.json")
      << R"({"cause":{"card":["</script><script>alert(2)</script>"]}})";
  RunRecord run = fake_run({cell});
  run.header.matrix = run.header.file = run.header.host = run.header.vmm = run.header.digest =
      run.header.selection = evil;
  run.header.cells.push_back(evil);
  const std::string text = page(run);
  EXPECT_EQ(count(text, "<script"), 2u);
  EXPECT_EQ(count(text, "</script"), 2u);
  EXPECT_EQ(count(text, "<style"), 1u);
  EXPECT_EQ(count(text, "</style"), 1u);
  EXPECT_EQ(count(text, "</noscript"), 1u);
  EXPECT_EQ(count(text, "<img"), 0u);
  EXPECT_EQ(count(text, "\x1b"), 0u);
}

TEST_F(HtmlReport, fetches_nothing) {
  const std::string text = page(fake_run({fake_cell("a", "epyc", "host")}));
  EXPECT_THAT(text, HasSubstr("default-src 'none'; script-src 'sha256-"));
  EXPECT_THAT(text, Not(HasSubstr("unsafe-inline")));
  EXPECT_FALSE(std::regex_search(text, std::regex("(src|href)=\"?https?:")));
  EXPECT_THAT(std::string(page_style()), Not(HasSubstr("url(")));
  EXPECT_THAT(std::string(page_style()), Not(HasSubstr("@import")));
}

// Every way to make markup out of text; the page's own scripts have none of them.
TEST_F(HtmlReport, its_script_makes_text_of_text) {
  for (const char* way : {"innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(",
                          "Function(", "createContextualFragment", "DOMParser", "srcdoc"})
    EXPECT_THAT(page_script(), Not(HasSubstr(way)));
  EXPECT_THAT(page_script(), Not(HasSubstr("</script")));
}

TEST_F(HtmlReport, of_5000_cells_is_below_5_megabytes) {
  std::vector<CellRecord> cells;
  for (int guest = 0; guest < 50; ++guest)
    for (int model = 0; model < 50; ++model)
      for (const char* on : {"host", "svm"}) {
        const bool fails = cells.size() % 4 == 0;
        CellRecord cell = fake_cell("some-longer-guest-name-" + std::to_string(guest),
                                    "icelake-server,-avx512f,-feature-" + std::to_string(model), on,
                                    fails ? CellVerdict::Fail : CellVerdict::Pass,
                                    fails ? "the line \"hello, world\" is missing" : "");
        cell.attempts[0].directory = "cells/" + std::to_string(cells.size()) + "/1";
        if (fails) {
          const std::string path = directory_ + "/" + cell.attempts[0].directory;
          std::filesystem::create_directories(path);
          std::ofstream serial(path + "/serial.log");
          for (int i = 0; i < 400; ++i)
            serial << "[    0." << i << "] " << cell.id << " <tag> & so on\n";
        }
        cells.push_back(std::move(cell));
      }
  ASSERT_EQ(cells.size(), 5000u);
  const std::string text = page(fake_run(std::move(cells)));
  EXPECT_LT(text.size(), 5'000'000u);
  EXPECT_GT(text.size(), 3'500'000u) << "the logs have the room that there is";
  RecordProperty("bytes", static_cast<int>(text.size()));
}

TEST_F(HtmlReport, needs_the_directory) {
  const auto none = html_report(fake_run({}), directory_ + "/none");
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().kind(), ErrorKind::Usage);
}

}  // namespace
}  // namespace vmm
