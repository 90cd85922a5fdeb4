#include "vmm/matrix/record.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "vmm/matrix/record_fake.h"

namespace vmm {
namespace {

using nlohmann::json;
using testing::HasSubstr;

CellRecord full_cell() {
  CellRecord cell = fake_cell("hello", "epyc", "svm", CellVerdict::Flaky, "line \"ok\" is missing");
  cell.link = "https://example.org/1";
  cell.cpu.missing = {"avx2", "pdpe1gb"};
  AttemptRecord& first = cell.attempts[0];
  first.verdict = CellVerdict::Timeout;
  first.rule = "pdpte-ps-without-pdpe1gb";
  first.phase = "boot";
  first.directory = "cells/0001/1";
  first.results.passed = 3;
  first.results.failed = 1;
  first.results.skipped = 2;
  first.results.expected_failures = 4;
  first.results.failures = {"paging \xe2\x9c\x93"};
  first.results.problem = "plan 1..5, 3 results";
  return cell;
}

TEST(Record, cells_read_back_as_they_were) {
  const CellRecord cell = full_cell();
  const auto again = parse_cell_record(json::parse(to_json(cell).dump()));
  ASSERT_TRUE(again) << again.error().text();
  EXPECT_EQ(*again, cell);
}

TEST(Record, headers_read_back_as_they_were) {
  RunHeader header = fake_run({full_cell()}).header;
  header.selection = "--shard 1/2";
  header.shard = 1;
  header.shards = 2;
  const auto again = parse_run_header(json::parse(to_json(header).dump()));
  ASSERT_TRUE(again) << again.error().text();
  EXPECT_EQ(*again, header);
}

TEST(Record, axes_are_found_by_name) {
  EXPECT_EQ(full_cell().axis("on"), "svm");
  EXPECT_EQ(full_cell().axis("smp"), "");
}

TEST(Record, verdicts_are_counted) {
  const RunRecord run = fake_run({fake_cell("a", "x", "host"), fake_cell("b", "x", "host"),
                                  fake_cell("c", "x", "host", CellVerdict::Crash)});
  EXPECT_EQ(run.count(CellVerdict::Pass), 2u);
  EXPECT_EQ(run.count(CellVerdict::Crash), 1u);
  EXPECT_EQ(run.count(CellVerdict::Fail), 0u);
}

// Each way to spoil a document, and what is said of it.
struct Spoiled {
  const char* pointer;
  json value;
  const char* message;
};

TEST(Record, what_is_no_cell_is_refused_with_its_place) {
  const Spoiled cases[] = {
      {"/id", "", "id is empty"},
      {"/id", 5, "id is no string"},
      {"/verdict", "OK", "verdict is 'OK', which is no verdict"},
      {"/attempts", json::array(), "attempts is empty"},
      {"/attempts", json::object(), "attempts is no array"},
      {"/attempts/0", "x", "attempts[0] is no object"},
      {"/attempts/1/verdict", "FLAKY", "attempts[1].verdict is FLAKY"},
      {"/attempts/0/exit_code", 256, "attempts[0].exit_code is no exit code"},
      {"/attempts/0/exit_code", -1, "attempts[0].exit_code is no whole number"},
      {"/attempts/0/seconds", -1, "attempts[0].seconds is no number of seconds"},
      {"/attempts/0/directory", "../../etc", "attempts[0].directory does not stay inside"},
      {"/attempts/0/directory", "/etc", "attempts[0].directory does not stay inside"},
      {"/attempts/0/directory", "a//b", "attempts[0].directory does not stay inside"},
      {"/attempts/0/results/failures", json::array({1}),
       "attempts[0].results.failures has an item that is no string"},
      {"/attempts/0/results/failures", std::vector<std::string>(21, "x"),
       "attempts[0].results.failures is no array of at most 20 strings"},
      {"/axes/0", json::object(), "axes[0].axis is missing"},
      {"/cpu", 1, "cpu is no object"},
      {"/started", 1e300, "started is no number of seconds"},
      {"", json::array(), "it is no object"},
  };
  for (const Spoiled& spoiled : cases) {
    json document = to_json(full_cell());
    document[json::json_pointer(spoiled.pointer)] = spoiled.value;
    const auto cell = parse_cell_record(document);
    ASSERT_FALSE(cell) << spoiled.pointer;
    EXPECT_EQ(cell.error().kind(), ErrorKind::Usage);
    EXPECT_THAT(cell.error().text(), HasSubstr(spoiled.message));
  }
}

TEST(Record, every_member_is_needed) {
  const json whole = to_json(full_cell());
  for (const auto& [key, value] : whole.items()) {
    json document = whole;
    document.erase(key);
    const auto cell = parse_cell_record(document);
    ASSERT_FALSE(cell) << key;
    EXPECT_EQ(cell.error().text(), key + " is missing");
  }
}

TEST(Record, later_members_are_let_pass) {
  json document = to_json(full_cell());
  document["invented_later"] = 1;
  EXPECT_TRUE(parse_cell_record(document));
}

TEST(Record, long_strings_are_cut_between_characters) {
  json document = to_json(full_cell());
  document["reason"] = std::string(65535, 'x') + "\xc3\xa4";
  const auto cell = parse_cell_record(document);
  ASSERT_TRUE(cell);
  EXPECT_EQ(cell->reason, std::string(65535, 'x'));
}

TEST(Record, a_header_names_each_cell_once) {
  json document = to_json(fake_run({full_cell()}).header);
  document["cells"] = {"a", "b", "a"};
  const auto header = parse_run_header(document);
  ASSERT_FALSE(header);
  EXPECT_EQ(header.error().text(), "cells has 'a' twice, or an empty name");
}

TEST(Record, a_shard_is_one_of_how_many) {
  for (const auto& [shard, shards] : {std::pair{3, 2}, {0, 2}, {1, 0}, {1, 1 << 20}}) {
    json document = to_json(fake_run({full_cell()}).header);
    document["shard"] = shard;
    document["shards"] = shards;
    const auto header = parse_run_header(document);
    EXPECT_TRUE(!header && header.error().text() == "shard is none of 'shards'") << shard;
  }
}

}  // namespace
}  // namespace vmm
