// Journals as hostile as files can be: what is read can be written and reads back the same, and
// every report of it is what it has to be.
#include <cstdint>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <pugixml.hpp>
#include <string>
#include <string_view>

#include "vmm/base/text.h"
#include "vmm/matrix/journal.h"
#include "vmm/matrix/page_data.h"
#include "vmm/matrix/report_json.h"
#include "vmm/matrix/report_junit.h"
#include "vmm/matrix/report_tap.h"
#include "vmm/matrix/run_diff.h"
#include "vmm/matrix/run_merge.h"
#include "vmm/matrix/sub_results.h"
#include "vmm/matrix/summary.h"

namespace {

void require(bool holds) {
  if (!holds) std::abort();
}

bool has_controls(std::string_view text) {
  for (const char c : text)
    if ((static_cast<unsigned char>(c) < 0x20 && c != '\n') || c == 0x7f) return true;
  return false;
}

void try_reports(const vmm::RunRecord& run) {
  pugi::xml_document xml;
  require(xml.load_string(vmm::junit_report(run).c_str()));
  require(xml.child("testsuites").attribute("tests").as_ullong() == run.header.cells.size());
  const std::string tap = vmm::tap_report(run);
  require(!has_controls(tap));
  vmm::SubResultReader reader(vmm::ResultFormat::Tap);
  for (const std::string_view line : vmm::split(tap, '\n')) reader.line(line);
  require(reader.finish().problem.empty());
  require(!has_controls(vmm::run_summary(run)));
  require(nlohmann::json::accept(vmm::json_text(vmm::json_report(run))));
  const std::string page = vmm::embedded_json(vmm::page_data(run, nullptr, 0, {}));
  require(page.find_first_of("<>&") == page.npos && nlohmann::json::accept(page));
  require(!vmm::diff_runs(run, run).any_verdict());
  const auto merged = vmm::merge_runs({run, run}, {});
  require(merged && merged->run.cells.size() == run.cells.size());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto run = vmm::parse_journal(text, "journal.jsonl");
  if (!run) return 0;
  const auto header = vmm::parse_run_header(vmm::to_json(run->header));
  require(header && *header == run->header);
  require(run->cells.size() <= run->header.cells.size());
  for (const vmm::CellRecord& cell : run->cells) {
    const auto again = vmm::parse_cell_record(nlohmann::json::parse(vmm::to_json(cell).dump()));
    require(again && *again == cell);
  }
  try_reports(*run);
  return 0;
}
