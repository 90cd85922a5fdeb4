#include "vmm/matrix/report_json.h"

#include <nlohmann/json.hpp>
#include <set>

namespace vmm {

using nlohmann::json;

json json_report(const RunRecord& run) {
  json header = to_json(run.header);
  header.erase("cells");
  header["finished"] = run.finished > 0 ? json(run.finished) : json();

  json counts = json::object();
  for (const CellVerdict verdict : kVerdicts)
    counts[std::string(verdict_word(verdict))] = run.count(verdict);
  json cells = json::array();
  std::set<std::string_view> known;
  for (const CellRecord& cell : run.cells) {
    cells.push_back(to_json(cell));
    known.insert(cell.id);
  }
  json not_run = json::array();
  for (const std::string& id : run.header.cells)
    if (!known.contains(id)) not_run.push_back(id);
  return {{"schema", "vmm-matrix"},    {"version", kMatrixReportVersion},
          {"run", std::move(header)},  {"counts", std::move(counts)},
          {"cells", std::move(cells)}, {"not_run", std::move(not_run)}};
}

std::string json_text(const json& document) {
  return document.dump(2, ' ', false, json::error_handler_t::replace) + "\n";
}

}  // namespace vmm
