#include "vmm/matrix/report_json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "vmm/machine/outcome_schema.h"
#include "vmm/matrix/record_fake.h"
#include "vmm/matrix/run_diff.h"

namespace vmm {
namespace {

using nlohmann::json;

std::string problems(const json& document) {
  return schema_problems(document, "docs/matrix.schema.json");
}

RunRecord all_verdicts() {
  std::vector<CellRecord> cells;
  for (const CellVerdict verdict : kVerdicts)
    cells.push_back(
        fake_cell("g" + std::string(verdict_word(verdict)), "epyc", "svm", verdict, "why"));
  cells[1].attempts[0].results.failed = 1;
  cells[1].attempts[0].results.failures = {"paging"};
  cells[4].cpu.missing = {"svm"};
  cells[5].attempts[0].phase = "boot";
  return fake_run(std::move(cells));
}

TEST(JsonReport, keeps_the_schema) {
  EXPECT_EQ(problems(json_report(all_verdicts())), "");
  RunRecord interrupted = all_verdicts();
  interrupted.cells.resize(2);
  interrupted.finished = 0;
  interrupted.header.shard = 1;
  interrupted.header.shards = 3;
  EXPECT_EQ(problems(json_report(interrupted)), "");
  EXPECT_EQ(problems(json_report(RunRecord{})), "");
}

TEST(JsonReport, the_schema_is_not_blind) {
  const json whole = json_report(all_verdicts());
  for (const auto& [pointer, value] :
       std::vector<std::pair<const char*, json>>{{"/schema", "vmm-outcome"},
                                                 {"/version", 2},
                                                 {"/surprise", 1},
                                                 {"/counts/PASS", -1},
                                                 {"/cells/0/verdict", "OK"},
                                                 {"/cells/0/attempts", json::array()},
                                                 {"/cells/0/attempts/0/verdict", "FLAKY"},
                                                 {"/cells/0/attempts/0/exit_code", 256},
                                                 {"/cells/1/attempts/0/results/failed", "1"},
                                                 {"/run/started", "now"}}) {
    json document = whole;
    document[json::json_pointer(pointer)] = value;
    EXPECT_NE(problems(document), "") << pointer;
  }
  for (const auto& [key, value] : whole.items()) {
    json document = whole;
    document.erase(key);
    EXPECT_NE(problems(document), "") << key;
  }
}

TEST(JsonReport, has_the_counts_and_what_did_not_run) {
  RunRecord run = all_verdicts();
  run.cells.pop_back();
  const json document = json_report(run);
  EXPECT_EQ(document["counts"]["CRASH"], 1);
  EXPECT_EQ(document["counts"]["INFRA"], 0);
  EXPECT_EQ(document["not_run"], json::array({"gINFRA cpu-model=epyc on=svm"}));
  EXPECT_EQ(document["cells"].size(), 8u);
  EXPECT_EQ(document["run"]["matrix"], "all");
}

TEST(JsonText, holds_any_bytes) {
  const std::string text = json_text({{"reason", "\xff\x1b"}});
  EXPECT_EQ(text, "{\n  \"reason\": \"\xef\xbf\xbd\\u001b\"\n}\n");
}

}  // namespace
}  // namespace vmm
