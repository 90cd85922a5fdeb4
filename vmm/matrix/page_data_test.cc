#include "vmm/matrix/page_data.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "vmm/matrix/base64.h"
#include "vmm/matrix/record_fake.h"

namespace vmm {
namespace {

using nlohmann::json;
using testing::HasSubstr;

TEST(Base64, is_that_of_rfc_4648) {
  EXPECT_EQ(base64(""), "");
  EXPECT_EQ(base64("f"), "Zg==");
  EXPECT_EQ(base64("fo"), "Zm8=");
  EXPECT_EQ(base64("foo"), "Zm9v");
  EXPECT_EQ(base64("foobar"), "Zm9vYmFy");
  EXPECT_EQ(base64("\xff\xfe\xfd"), "//79");
}

TEST(EmbeddedJson, cannot_end_its_element) {
  const json document = {{"</script>", "<!--<script> & \xff"}};
  const std::string text = embedded_json(document);
  EXPECT_EQ(text.find_first_of("<>&"), text.npos);
  EXPECT_EQ(json::parse(text), (json{{"</script>", "<!--<script> & \xef\xbf\xbd"}}));
}

class PageDataTest : public testing::Test {
 protected:
  PageDataTest() {
    std::string name = testing::TempDir() + "vmm-page-XXXXXX";
    directory_ = ::mkdtemp(name.data());
  }
  ~PageDataTest() override { std::filesystem::remove_all(directory_); }

  CellRecord cell_with_files(const std::string& guest, CellVerdict verdict, std::size_t log) const {
    CellRecord cell = fake_cell(guest, "epyc", "svm", verdict, "why");
    cell.attempts.back().directory = "cells/" + guest;
    const std::string path = directory_ + "/cells/" + guest;
    std::filesystem::create_directories(path);
    std::ofstream serial(path + "/serial.log", std::ios::binary);
    for (std::size_t i = 0; i < log; i += 10) serial << "a line ...\n";
    std::ofstream(path + "/outcome.json")
        << R"({"cause":{"card":["TRIPLE FAULT"]},"screen":["hello"]})";
    std::ofstream(path + "/report.txt") << "vmm: so it ended\n";
    std::ofstream(path + "/screen.png", std::ios::binary) << "\x89PNG\r\n\x1a\n";
    return cell;
  }
  json data(const RunRecord& run, const PageLimits& limits = {}) const {
    const RunFiles files = *RunFiles::open(directory_);
    return page_data(run, &files, 0, limits);
  }
  static std::string text(const json& page, const json& index) {
    return page["strings"][index.get<std::size_t>()];
  }

  std::string directory_;
};

TEST_F(PageDataTest, has_what_is_known_of_a_cell) {
  CellRecord cell =
      fake_cell("hello", "epyc", "svm", CellVerdict::Flaky, "a line \x1b[1m is missing");
  cell.cpu.missing = {"avx2"};
  cell.link = "https://example.org";
  const json page = data(fake_run({cell}));
  const json& shown = page["cells"][0];
  EXPECT_EQ(shown["id"], cell.id);
  EXPECT_EQ(page["verdicts"][shown["v"].get<std::size_t>()], "FLAKY");
  EXPECT_EQ(text(page, shown["r"]), "a line ^[[1m is missing");
  EXPECT_EQ(text(page, shown["x"][1]), "epyc");
  EXPECT_EQ(text(page, shown["l"]), "https://example.org");
  EXPECT_EQ(text(page, shown["b"][0]), "avx2");
  std::string command;
  for (const json& word : shown["c"]) command += (command.empty() ? "" : " ") + text(page, word);
  EXPECT_EQ(command, cell.command);
  EXPECT_EQ(shown["a"].size(), 2u);
  EXPECT_EQ(page["verdicts"][shown["a"][0][0].get<std::size_t>()], "FAIL");
  EXPECT_EQ(page["axes"], json::array({"guest", "cpu-model", "on"}));
  EXPECT_EQ(page["strings"][0], "");
}

TEST_F(PageDataTest, an_axis_that_a_cell_lacks_is_minus_one) {
  CellRecord cell = fake_cell("hello", "epyc", "svm");
  cell.axes.pop_back();
  cell.axes.push_back({"kvm-param", ""});
  const json page = data(fake_run({fake_cell("other", "epyc", "svm"), cell}));
  EXPECT_EQ(page["axes"], json::array({"guest", "cpu-model", "on", "kvm-param"}));
  EXPECT_EQ(page["cells"][0]["x"][3], -1);
  EXPECT_EQ(page["cells"][1]["x"][2], -1);
  EXPECT_EQ(page["cells"][1]["x"][3], 0) << "the empty string is a value";
}

TEST_F(PageDataTest, files_are_shown_of_cells_that_did_not_plainly_pass) {
  const json page = data(fake_run({cell_with_files("good", CellVerdict::Pass, 100),
                                   cell_with_files("bad", CellVerdict::Crash, 100)}));
  ASSERT_EQ(page["files"].size(), 2u);
  const json& bad = page["files"][page["cells"][1]["f"].get<std::size_t>()];
  EXPECT_EQ(bad["directory"], "cells/bad");
  EXPECT_EQ(bad["card"], json::array({"TRIPLE FAULT"}));
  EXPECT_THAT(bad["serial"]["text"].get<std::string>(), HasSubstr("a line ...\na line ..."));
  EXPECT_EQ(bad["report"]["text"], "vmm: so it ended");
  EXPECT_EQ(bad["screen"], base64("\x89PNG\r\n\x1a\n"));
  EXPECT_FALSE(bad.contains("screen_text")) << "the picture has it";
  // The screen of one that passed is there only when it was asked to be kept.
  const json& good = page["files"][page["cells"][0]["f"].get<std::size_t>()];
  EXPECT_TRUE(good.contains("screen"));
  EXPECT_FALSE(good.contains("serial"));
}

TEST_F(PageDataTest, without_a_picture_the_screen_is_text) {
  const RunRecord run = fake_run({cell_with_files("bad", CellVerdict::Fail, 100)});
  std::filesystem::remove(directory_ + "/cells/bad/screen.png");
  EXPECT_EQ(data(run)["files"].at(0).at("screen_text"), json::array({"hello"}));
}

TEST_F(PageDataTest, a_flaky_cell_shows_the_attempt_that_failed) {
  CellRecord cell = cell_with_files("a", CellVerdict::Flaky, 100);
  std::swap(cell.attempts[0].directory, cell.attempts[1].directory);
  const json page = data(fake_run({cell}));
  EXPECT_EQ(page["files"][0]["directory"], "cells/a");
}

TEST_F(PageDataTest, what_has_no_room_is_named) {
  PageLimits limits;
  limits.files = 3000;
  limits.log = 2000;
  std::vector<CellRecord> cells;
  for (int i = 0; i < 4; ++i)
    cells.push_back(cell_with_files("slow" + std::to_string(i), CellVerdict::Timeout, 5000));
  cells.push_back(cell_with_files("crash", CellVerdict::Crash, 5000));
  const json page = data(fake_run(cells), limits);
  // The gravest first, however late it comes in the matrix.
  const json& crash = page["files"][page["cells"][4]["f"].get<std::size_t>()];
  EXPECT_TRUE(crash.contains("serial"));
  EXPECT_TRUE(crash["serial"]["cut"]);
  EXPECT_FALSE(crash.contains("left_out"));
  const json& last = page["files"][page["cells"][3]["f"].get<std::size_t>()];
  EXPECT_FALSE(last.contains("serial"));
  ASSERT_TRUE(last.contains("left_out"));
  EXPECT_EQ(last["left_out"].at(0).at("file"), "serial.log");
  EXPECT_GT(last["left_out"].at(0).at("size"), 5000);
  EXPECT_LE(embedded_json(page["files"]).size(), 3000u + 5 * 400u);
}

TEST_F(PageDataTest, files_yield_when_the_page_is_large) {
  PageLimits limits;
  limits.page = 1000;
  std::vector<CellRecord> cells;
  for (int i = 0; i < 200; ++i)
    cells.push_back(cell_with_files(std::to_string(i), CellVerdict::Fail, 20000));
  const std::size_t large = embedded_json(data(fake_run(cells))["files"]).size();
  const std::size_t small = embedded_json(data(fake_run(cells), limits)["files"]).size();
  EXPECT_GT(large, 1u << 20);
  EXPECT_LT(small, 350u << 10);
}

}  // namespace
}  // namespace vmm
