#include "vmm/matrix/page_data.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <unordered_map>

#include "vmm/base/text.h"
#include "vmm/matrix/clean_text.h"
#include "vmm/matrix/page_files.h"

namespace vmm {
namespace {

using nlohmann::json;

constexpr std::size_t kMaxText = 1000;
constexpr std::size_t kMaxCommand = 8000;
// However large the rest of the page is, this much of files is shown.
constexpr std::size_t kMinFiles = 256 << 10;

// A matrix says the same few things of thousands of cells.
class StringTable {
 public:
  StringTable() { (void)index(""); }

  std::size_t index(std::string_view text) {
    std::string clean = clean_line(text, kMaxText);
    const auto [place, is_new] = places_.try_emplace(std::move(clean), strings_.size());
    if (is_new) strings_.push_back(place->first);
    return place->second;
  }
  json indices(const std::vector<std::string>& texts) {
    json result = json::array();
    for (const std::string& text : texts) result.push_back(index(text));
    return result;
  }
  json take() { return std::move(strings_); }

 private:
  json strings_ = json::array();
  std::unordered_map<std::string, std::size_t> places_;
};

double rounded(double seconds) { return std::round(seconds * 1000) / 1000; }

json verdict_index(CellVerdict verdict) {
  const auto place = std::find(kVerdicts.begin(), kVerdicts.end(), verdict);
  return static_cast<std::size_t>(place - kVerdicts.begin());
}

class PageWriter {
 public:
  explicit PageWriter(const RunRecord& run) : run_(run) {
    for (const CellRecord& cell : run.cells)
      for (const AxisValue& value : cell.axes)
        if (axes_.try_emplace(value.axis, axes_.size()).second)
          axis_names_.push_back(clean_line(value.axis, kMaxText));
  }

  json write() {
    json cells = json::array();
    for (const CellRecord& cell : run_.cells) cells.push_back(cell_json(cell));
    json words = json::array();
    for (const CellVerdict verdict : kVerdicts) words.push_back(verdict_word(verdict));
    json page = {{"run", run_json()},
                 {"verdicts", std::move(words)},
                 {"axes", axis_names_},
                 {"cells", std::move(cells)},
                 {"not_run", not_run()}};
    page["strings"] = strings_.take();
    return page;
  }

 private:
  json run_json() const {
    const RunHeader& header = run_.header;
    const auto clean = [](const std::string& text) { return clean_line(text, kMaxText); };
    return {{"matrix", clean(header.matrix)}, {"file", clean(header.file)},
            {"digest", clean(header.digest)}, {"selection", clean(header.selection)},
            {"vmm", clean(header.vmm)},       {"host", clean(header.host)},
            {"started", header.started},      {"finished", run_.finished},
            {"all_cells", header.all_cells}};
  }

  // v verdict, r reason, x values of the axes (-1: it has none), e expectation, l link, m model and
  // its two digests, b missing bits, h host, c words of the command, t start, s seconds, g groups,
  // a attempts. Indices into "strings", but for id, v, t and s.
  json cell_json(const CellRecord& cell) {
    std::vector<long> values(axes_.size(), -1);
    for (const AxisValue& value : cell.axes)
      values[axes_.at(value.axis)] = static_cast<long>(strings_.index(value.value));
    json words = json::array();
    for (const std::string_view word : split(cut_text(cell.command, kMaxCommand), ' '))
      words.push_back(strings_.index(word));
    json attempts = json::array();
    for (const AttemptRecord& attempt : cell.attempts) attempts.push_back(attempt_json(attempt));
    json result = {{"id", clean_line(cell.id, kMaxText)},
                   {"v", verdict_index(cell.verdict)},
                   {"x", values},
                   {"c", std::move(words)},
                   {"t", std::round(cell.started)},
                   {"s", rounded(cell.seconds)},
                   {"a", std::move(attempts)},
                   {"h", strings_.index(cell.host)},
                   {"m",
                    {strings_.index(cell.cpu.model), strings_.index(cell.cpu.model_digest),
                     strings_.index(cell.cpu.guest_digest)}}};
    const auto add = [&](const char* key, const std::string& text) {
      if (!text.empty()) result[key] = strings_.index(text);
    };
    add("r", cell.reason);
    add("e", cell.expected);
    add("l", cell.link);
    if (!cell.cpu.missing.empty()) result["b"] = strings_.indices(cell.cpu.missing);
    if (!cell.groups.empty()) result["g"] = strings_.indices(cell.groups);
    return result;
  }

  // Verdict, reason, kind of the ending, exit code, rule, phase, seconds, directory; the guest's
  // own results where it told of some.
  json attempt_json(const AttemptRecord& attempt) {
    json result = {verdict_index(attempt.verdict), strings_.index(attempt.reason),
                   strings_.index(attempt.kind),   attempt.exit_code,
                   strings_.index(attempt.rule),   strings_.index(attempt.phase),
                   rounded(attempt.seconds),       clean_line(attempt.directory, kMaxText)};
    const SubResults& own = attempt.results;
    if (own.any())
      result.push_back({own.passed, own.failed, own.skipped, own.expected_failures,
                        strings_.index(own.problem), strings_.indices(own.failures)});
    return result;
  }

  json not_run() const {
    std::unordered_map<std::string_view, bool> known;
    for (const CellRecord& cell : run_.cells) known.emplace(cell.id, true);
    json ids = json::array();
    for (const std::string& id : run_.header.cells)
      if (!known.contains(id)) ids.push_back(clean_line(id, kMaxText));
    return ids;
  }

  const RunRecord& run_;
  StringTable strings_;
  std::unordered_map<std::string, std::size_t> axes_;
  std::vector<std::string> axis_names_;
};

}  // namespace

json page_data(const RunRecord& run, const RunFiles* files, std::size_t frame,
               const PageLimits& limits) {
  json page = PageWriter(run).write();
  page["files"] = json::array();
  if (files == nullptr) return page;
  const std::size_t used = frame + embedded_json(page).size();
  const std::size_t room = limits.page - std::min(limits.page, used);
  const std::size_t budget = std::clamp(room, std::min(kMinFiles, limits.files), limits.files);
  for (PageFiles& shown : page_files(run, *files, budget, limits)) {
    page["cells"][shown.cell]["f"] = page["files"].size();
    page["files"].push_back(std::move(shown.json));
  }
  return page;
}

std::string embedded_json(const json& document) {
  const std::string text = document.dump(-1, ' ', false, json::error_handler_t::replace);
  std::string result;
  result.reserve(text.size() + text.size() / 16);
  for (const char c : text) {
    // These three are in strings only, where an escape means the same.
    if (c == '<')
      result += "\\u003c";
    else if (c == '>')
      result += "\\u003e";
    else if (c == '&')
      result += "\\u0026";
    else
      result += c;
  }
  return result;
}

}  // namespace vmm
