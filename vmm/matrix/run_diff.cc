#include "vmm/matrix/run_diff.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <unordered_map>

#include "vmm/matrix/clean_text.h"

namespace vmm {
namespace {

using nlohmann::json;

bool is_bad(CellVerdict verdict) { return is_failure(verdict) || verdict == CellVerdict::Infra; }

class Differ {
 public:
  void cell(const CellRecord& before, const CellRecord& after) {
    const RunDiff::Cell pair{before.id, before.verdict, after.verdict, before.reason, after.reason};
    if (before.verdict != after.verdict) {
      const bool was_bad = is_bad(before.verdict);
      const bool is_now = is_bad(after.verdict);
      (is_now && !was_bad   ? diff_.now_failing
       : was_bad && !is_now ? diff_.now_passing
                            : diff_.otherwise)
          .push_back(pair);
    } else if (before.reason != after.reason) {
      diff_.reasons.push_back(pair);
    } else {
      ++diff_.same;
    }
    value("CPU model", before.id, before.cpu.model, after.cpu.model);
    value("model digest", before.id, before.cpu.model_digest, after.cpu.model_digest);
    value("guest digest", before.id, before.cpu.guest_digest, after.cpu.guest_digest);
    value("host", before.id, before.host, after.host);
  }

  RunDiff& diff() { return diff_; }

 private:
  // What was never known is no change.
  void value(const char* what, const std::string& id, const std::string& before,
             const std::string& after) {
    if (before == after || before.empty() || after.empty()) return;
    const auto [place, is_new] =
        places_.try_emplace(fmt::format("{}\n{}\n{}", what, before, after), diff_.values.size());
    if (is_new) diff_.values.push_back({what, before, after, {}});
    diff_.values[place->second].ids.push_back(id);
  }

  RunDiff diff_;
  std::unordered_map<std::string, std::size_t> places_;  // of changes in diff_.values
};

std::string shown(std::string_view text) { return clean_line(text, 300); }

class DiffText {
 public:
  explicit DiffText(std::size_t max) : max_(max) {}

  void header(const char* what, const std::string& before, const std::string& after) {
    if (before != after)
      text_ += fmt::format("{}: {} -> {}\n", what, before.empty() ? "unknown" : shown(before),
                           after.empty() ? "unknown" : shown(after));
  }

  void cells(const char* title, const std::vector<RunDiff::Cell>& cells) {
    list(title, cells, [&](const RunDiff::Cell& cell) {
      const bool same = cell.before == cell.after;
      text_ += same ? fmt::format("  {:<8} {}\n", verdict_word(cell.after), shown(cell.id))
                    : fmt::format("  {} -> {}  {}\n", verdict_word(cell.before),
                                  verdict_word(cell.after), shown(cell.id));
      // What the new verdict is for; of one that passes, what is over.
      if (same) text_ += fmt::format("    was: {}\n", shown(cell.reason_before));
      if (!cell.reason_after.empty())
        text_ += fmt::format("    {}{}\n", same ? "now: " : "", shown(cell.reason_after));
      else if (!same && !cell.reason_before.empty())
        text_ += fmt::format("    was: {}\n", shown(cell.reason_before));
    });
  }

  void ids(const char* title, const std::vector<std::string>& ids) {
    list(title, ids, [&](const std::string& id) { text_ += fmt::format("  {}\n", shown(id)); });
  }

  void values(const std::vector<RunDiff::Value>& values) {
    list("otherwise different", values, [&](const RunDiff::Value& value) {
      const std::string who =
          value.ids.size() == 1
              ? shown(value.ids[0])
              : fmt::format("{} cells, such as {}", value.ids.size(), shown(value.ids[0]));
      text_ += fmt::format("  {}: {} -> {}\n    {}\n", value.what, shown(value.before),
                           shown(value.after), who);
    });
  }

  void line(const std::string& line) { text_ += line + "\n"; }
  const std::string& text() const { return text_; }

 private:
  template <typename T, typename Write>
  void list(const char* title, const std::vector<T>& items, Write write) {
    if (items.empty()) return;
    text_ += fmt::format("{} ({}):\n", title, items.size());
    for (std::size_t i = 0; i < items.size() && i < max_; ++i) write(items[i]);
    if (items.size() > max_) text_ += fmt::format("  and {} more\n", items.size() - max_);
  }

  const std::size_t max_;
  std::string text_;
};

json cells_json(const std::vector<RunDiff::Cell>& cells) {
  json result = json::array();
  for (const RunDiff::Cell& cell : cells)
    result.push_back({{"id", cell.id},
                      {"before", verdict_word(cell.before)},
                      {"after", verdict_word(cell.after)},
                      {"reason_before", cell.reason_before},
                      {"reason_after", cell.reason_after}});
  return result;
}

}  // namespace

RunDiff diff_runs(const RunRecord& before, const RunRecord& after) {
  std::unordered_map<std::string_view, const CellRecord*> later;
  for (const CellRecord& cell : after.cells) later.emplace(cell.id, &cell);
  Differ differ;
  RunDiff& diff = differ.diff();
  for (const CellRecord& cell : before.cells) {
    const auto other = later.find(cell.id);
    if (other == later.end()) {
      diff.only_before.push_back(cell.id);
      continue;
    }
    differ.cell(cell, *other->second);
    later.erase(other);
  }
  for (const CellRecord& cell : after.cells)
    if (later.contains(cell.id)) diff.only_after.push_back(cell.id);
  diff.matrix_before = before.header.digest;
  diff.matrix_after = after.header.digest;
  diff.host_before = before.header.host;
  diff.host_after = after.header.host;
  diff.vmm_before = before.header.vmm;
  diff.vmm_after = after.header.vmm;
  return std::move(diff);
}

std::string run_diff_text(const RunDiff& diff, std::size_t max_cells) {
  DiffText text(max_cells);
  text.header("matrix", diff.matrix_before.substr(0, 12), diff.matrix_after.substr(0, 12));
  text.header("host", diff.host_before, diff.host_after);
  text.header("vmm", diff.vmm_before, diff.vmm_after);
  text.cells("now failing", diff.now_failing);
  text.cells("now passing", diff.now_passing);
  text.cells("another verdict", diff.otherwise);
  text.cells("another reason", diff.reasons);
  text.ids("only in the first", diff.only_before);
  text.ids("only in the second", diff.only_after);
  text.values(diff.values);
  text.line(fmt::format("{} now failing, {} now passing, {} otherwise, {} the same",
                        diff.now_failing.size(), diff.now_passing.size(),
                        diff.otherwise.size() + diff.reasons.size() + diff.only_before.size() +
                            diff.only_after.size(),
                        diff.same));
  return text.text();
}

json run_diff_json(const RunDiff& diff) {
  json values = json::array();
  for (const RunDiff::Value& value : diff.values)
    values.push_back({{"what", value.what},
                      {"before", value.before},
                      {"after", value.after},
                      {"cells", value.ids}});
  const auto pair = [](const std::string& before, const std::string& after) {
    return json{{"before", before}, {"after", after}};
  };
  return {{"schema", "vmm-matrix-diff"},
          {"version", 1},
          {"matrix", pair(diff.matrix_before, diff.matrix_after)},
          {"host", pair(diff.host_before, diff.host_after)},
          {"vmm", pair(diff.vmm_before, diff.vmm_after)},
          {"now_failing", cells_json(diff.now_failing)},
          {"now_passing", cells_json(diff.now_passing)},
          {"otherwise", cells_json(diff.otherwise)},
          {"reasons", cells_json(diff.reasons)},
          {"values", std::move(values)},
          {"only_before", diff.only_before},
          {"only_after", diff.only_after},
          {"same", diff.same}};
}

}  // namespace vmm
