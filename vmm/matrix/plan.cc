#include "vmm/matrix/plan.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "vmm/base/text.h"
#include "vmm/matrix/cell_command.h"

namespace vmm {
namespace {

std::string place_text(const MatrixSpec& spec, const Cell& cell) {
  const std::string_view on = cell_value(spec, cell, "on");
  const std::string_view parameters = cell_value(spec, cell, "kvm-param");
  if (on.empty()) return "host";
  return parameters.empty() ? std::string(on) : fmt::format("{}, {}", on, parameters);
}

template <typename T>
T& entry(std::vector<T>& list, const std::string& text) {
  for (T& one : list)
    if (one.text == text) return one;
  list.emplace_back().text = text;
  return list.back();
}

std::string cells_text(std::size_t count) {
  return fmt::format("{} cell{}", count, count == 1 ? "" : "s");
}

std::string seconds_text(double seconds) {
  if (seconds < 100) return fmt::format("{:.0f} s", seconds);
  if (seconds < 6000) return fmt::format("{:.0f} min", seconds / 60);
  return fmt::format("{:.1f} h", seconds / 3600);
}

}  // namespace

std::optional<double> MatrixPlan::estimate() const {
  if (known_cells == 0) return std::nullopt;
  return known_seconds / static_cast<double>(known_cells) * static_cast<double>(cells) / jobs;
}

std::vector<std::string> missing_files(const MatrixSpec& spec, const Expansion& expansion,
                                       const std::vector<std::size_t>& chosen) {
  std::vector<std::string> missing;
  std::set<std::uint32_t> seen;
  for (const std::size_t index : chosen) {
    const Cell& cell = expansion.cells[index];
    if (!seen.insert(cell.guest).second) continue;
    for (const std::string& path : cell_images(spec, spec.guests[cell.guest].settings))
      if (::access(path.c_str(), R_OK) != 0 &&
          std::find(missing.begin(), missing.end(), path) == missing.end())
        missing.push_back(path);
  }
  return missing;
}

MatrixPlan make_plan(const MatrixSpec& spec, const Expansion& expansion,
                     const std::vector<std::size_t>& chosen, const CellTimes& times, unsigned jobs,
                     const SkipReason& skip) {
  MatrixPlan plan;
  plan.matrix = spec.name;
  plan.cells = chosen.size();
  plan.all_cells = expansion.cells.size();
  plan.left_out = expansion.left_out;
  plan.pairs_left_out = expansion.pairs_left_out;
  plan.notes = expansion.notes;
  plan.jobs = std::max(jobs, 1u);
  plan.missing_files = missing_files(spec, expansion, chosen);
  std::vector<std::size_t> of_guest(spec.guests.size());
  std::map<std::pair<std::string, std::string>, std::string> reasons;
  for (const std::size_t index : chosen) {
    const Cell& cell = expansion.cells[index];
    ++of_guest[cell.guest];
    MatrixPlan::Place& place = entry(plan.places, place_text(spec, cell));
    ++place.cells;
    if (!times.empty())
      if (const auto known = times.find(cell_id(spec, cell)); known != times.end()) {
        plan.known_seconds += known->second;
        ++plan.known_cells;
      }
    if (place.text != "host" || !skip) continue;
    place.asked = true;
    const std::pair cpu(std::string(cell_value(spec, cell, "cpu-model")),
                        std::string(cell_value(spec, cell, "cpu-policy")));
    auto known = reasons.find(cpu);
    if (known == reasons.end()) known = reasons.emplace(cpu, skip(cpu.first, cpu.second)).first;
    if (!known->second.empty()) ++place.skipped[known->second];
  }
  for (std::size_t i = 0; i < of_guest.size(); ++i)
    if (of_guest[i] > 0) plan.guests.emplace_back(spec.guests[i].name, of_guest[i]);
  return plan;
}

std::string plan_text(const MatrixPlan& plan) {
  std::string text = fmt::format("{}: {}", plan.matrix, cells_text(plan.cells));
  if (plan.cells != plan.all_cells) text += fmt::format(" of {}", plan.all_cells);
  text += '\n';
  std::size_t width = 0;
  for (const auto& [name, count] : plan.guests) width = std::max(width, name.size());
  for (const auto& [name, count] : plan.guests)
    text += fmt::format("  {:<{}}  {:>6}\n", name, width, count);
  for (const MatrixPlan::Place& place : plan.places) {
    text += fmt::format("on {}: {}", place.text, cells_text(place.cells));
    std::size_t skipped = 0;
    for (const auto& [reason, count] : place.skipped) skipped += count;
    text += !place.asked   ? ", what it lacks is asked when it is up\n"
            : skipped == 0 ? ", none would be skipped here\n"
                           : fmt::format(", {} would be skipped here:\n", skipped);
    for (const auto& [reason, count] : place.skipped)
      text += wrap_text(fmt::format("  {:>6}  ", count), printable(reason, 400), 100);
  }
  for (const Expansion::LeftOut& out : plan.left_out)
    if (out.cells > 0)
      text += fmt::format("left out: {} ({}{}{})\n", cells_text(out.cells), printable(out.reason),
                          out.reason.empty() ? "" : ", ", out.place);
  if (plan.pairs_left_out > 0)
    text += fmt::format("left out: {}, whose pairs of values others meet\n",
                        cells_text(plan.pairs_left_out));
  for (const std::string& path : plan.missing_files)
    text += fmt::format("missing: {}\n", printable(path));
  for (const std::string& note : plan.notes) text += fmt::format("note: {}\n", printable(note));
  if (const auto seconds = plan.estimate())
    text += fmt::format("takes about {} with -j {} (by {} that ran before)\n",
                        seconds_text(*seconds), plan.jobs, cells_text(plan.known_cells));
  else
    text += "how long it takes is not known yet: no run of it is here\n";
  return text;
}

nlohmann::json to_json(const MatrixPlan& plan) {
  using nlohmann::json;
  json guests = json::array();
  for (const auto& [name, count] : plan.guests)
    guests.push_back({{"guest", name}, {"cells", count}});
  json places = json::array();
  for (const MatrixPlan::Place& place : plan.places) {
    json skipped = json::array();
    for (const auto& [reason, count] : place.skipped)
      skipped.push_back({{"reason", reason}, {"cells", count}});
    places.push_back(
        {{"on", place.text}, {"cells", place.cells}, {"skipped", place.asked ? skipped : json()}});
  }
  json left_out = json::array();
  for (const Expansion::LeftOut& out : plan.left_out)
    left_out.push_back({{"cells", out.cells}, {"reason", out.reason}, {"place", out.place}});
  const auto seconds = plan.estimate();
  return {{"schema", "vmm-matrix-plan"},
          {"version", 1},
          {"matrix", plan.matrix},
          {"cells", plan.cells},
          {"all_cells", plan.all_cells},
          {"guests", guests},
          {"places", places},
          {"left_out", left_out},
          {"pairs_left_out", plan.pairs_left_out},
          {"missing_files", plan.missing_files},
          {"notes", plan.notes},
          {"jobs", plan.jobs},
          {"estimated_seconds", seconds ? json(*seconds) : json()}};
}

}  // namespace vmm
