#include "vmm/matrix/selection.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "vmm/base/text.h"

namespace vmm {
namespace {

// "guest" and what the guests have.
std::vector<std::string> axis_names(const MatrixSpec& spec) {
  std::vector<std::string> names = {"guest"};
  for (const MatrixGuest& guest : spec.guests)
    for (const Axis& axis : guest.axes)
      if (std::find(names.begin(), names.end(), axis.name) == names.end())
        names.push_back(axis.name);
  return names;
}

bool in_groups(const MatrixSpec& spec, const Cell& cell, const std::vector<std::string>& patterns) {
  if (patterns.empty()) return true;
  const std::vector<std::string>& groups = spec.guests[cell.guest].settings.groups;
  return std::any_of(patterns.begin(), patterns.end(), [&](const std::string& pattern) {
    return std::any_of(groups.begin(), groups.end(),
                       [&](const std::string& group) { return glob_matches(pattern, group); });
  });
}

}  // namespace

std::string Selection::text() const {
  std::vector<std::string> parts;
  for (const auto& [axis, pattern] : only) parts.push_back(fmt::format("{}={}", axis, pattern));
  for (const std::string& group : groups) parts.push_back("group " + group);
  if (!ids.empty()) parts.push_back(fmt::format("{} cells by name", ids.size()));
  if (shards != 0) parts.push_back(fmt::format("shard {} of {}", shard, shards));
  return fmt::format("{}", fmt::join(parts, ", "));
}

Result<std::pair<std::string, std::string>> parse_only(const std::string& text) {
  const std::size_t equals = text.find('=');
  if (equals == 0 || equals == text.npos)
    return fail(Error::usage(fmt::format("--only '{}' is no AXIS=PATTERN", printable(text, 60)))
                    .hint("such as --only smp=2 or --only 'guest=vmx-*'"));
  return std::pair(text.substr(0, equals), text.substr(equals + 1));
}

Result<void> parse_shard(const std::string& text, Selection& selection) {
  const std::size_t slash = std::min(text.find('/'), text.size());
  const auto shard = parse_number(text.substr(0, slash));
  const auto shards = parse_number(text.substr(std::min(slash + 1, text.size())));
  if (!shard || !shards || *shard == 0 || *shard > *shards || *shards > 100'000)
    return fail(Error::usage(fmt::format("--shard '{}' is no I/N", printable(text, 60)))
                    .hint("such as --shard 1/4, the first of four"));
  selection.shard = *shard;
  selection.shards = *shards;
  return {};
}

Result<std::vector<std::size_t>> select(const MatrixSpec& spec, const Expansion& expansion,
                                        const Selection& selection) {
  const std::vector<std::string> axes = axis_names(spec);
  CellMatch match;
  for (const auto& [axis, pattern] : selection.only) {
    if (std::find(axes.begin(), axes.end(), axis) == axes.end()) {
      Error error = Error::usage(
          fmt::format("--only: no guest of {} has an axis '{}'", spec.file, printable(axis, 60)));
      if (const auto near = nearest_name(axis, axes))
        error = std::move(error).hint(fmt::format("did you mean '{}'?", *near));
      return fail(std::move(error));
    }
    const std::string& name = axis;
    auto known = std::find_if(match.conditions.begin(), match.conditions.end(),
                              [&](const auto& condition) { return condition.axis == name; });
    if (known == match.conditions.end())
      known = match.conditions.insert(known, {.axis = name, .patterns = {}});
    known->patterns.push_back(pattern);
  }
  std::set<std::string> ids(selection.ids.begin(), selection.ids.end());
  std::vector<std::size_t> chosen;
  std::uint64_t turn = 0;
  for (std::size_t i = 0; i < expansion.cells.size(); ++i) {
    const Cell& cell = expansion.cells[i];
    if (!cell_matches(spec, cell, match) || !in_groups(spec, cell, selection.groups)) continue;
    if (!selection.ids.empty() && ids.erase(cell_id(spec, cell)) == 0) continue;
    if (selection.shards == 0 || turn++ % selection.shards + 1 == selection.shard)
      chosen.push_back(i);
  }
  if (!selection.ids.empty() && !ids.empty())
    return fail(Error::usage(fmt::format("{} has no cell '{}'", spec.file, printable(*ids.begin())))
                    .hint("vmm matrix plan --cells lists them"));
  if (chosen.empty())
    return fail(Error::usage(fmt::format("no cell of {} is left: {}", spec.file, selection.text()))
                    .hint("vmm matrix plan --cells lists them"));
  return chosen;
}

}  // namespace vmm
