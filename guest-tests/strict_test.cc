// docs/strict.md is true of this host: what runs under strict, and under which interrupt chip.
#include <gmock/gmock.h>

#include <algorithm>
#include <sstream>

#include "guest-tests/run_vmm.h"
#include "vmm/base/text.h"

namespace vmm {
namespace {

using Strict = KvmTest;

struct Row {
  std::string model;
  std::vector<std::string> cells;  // pvm, svm, vmx
};

std::vector<Row> read_table() {
  std::vector<Row> rows;
  std::istringstream text(read_text_file("docs/strict.md"));
  for (std::string line; std::getline(text, line);) {
    if (!line.starts_with("| `")) continue;
    Row row;
    for (const std::string_view cell : split(line, '|')) row.cells.emplace_back(trim(cell));
    // What is before the first bar and behind the last one is empty.
    row.cells.erase(row.cells.begin());
    row.cells.pop_back();
    row.model = row.cells.front().substr(1, row.cells.front().size() - 2);
    row.cells.erase(row.cells.begin());
    rows.push_back(std::move(row));
  }
  return rows;
}

TEST_F(Strict, succeeds_exactly_where_the_table_says) {
  const std::vector<std::string> hosts = {"pvm", "svm", "vmx"};
  const auto host = std::ranges::find(hosts, host_backend());
  if (host == hosts.end() || (*host != "pvm" && test_lab().empty()))
    GTEST_SKIP() << "the table does not speak of this host";
  const auto rows = read_table();
  ASSERT_GE(rows.size(), 4u);
  for (const Row& row : rows) {
    ASSERT_EQ(row.cells.size(), hosts.size()) << row.model;
    std::string given;
    for (const std::string chip : {"user", "split", "kernel"}) {
      const RunResult r = run_guest("minimal.elf", {"--cpu-model", row.model, "--irqchip", chip});
      if (r.code == 0)
        given += (given.empty() ? "" : " ") + chip;
      else
        EXPECT_EQ(r.code, 77) << r.text();
    }
    EXPECT_EQ(given.empty() ? "-" : given,
              row.cells[static_cast<std::size_t>(host - hosts.begin())])
        << row.model;
  }
}

}  // namespace
}  // namespace vmm
