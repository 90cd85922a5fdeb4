#include "vmm/matrix/run_merge.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>
#include <unordered_map>

#include "vmm/base/text.h"

namespace vmm {
namespace {

struct Found {
  CellRecord cell;
  std::size_t run;
};

// Shards take turns, so one cell of each in turn is the matrix's order. Other runs of parts of a
// matrix come one after the other.
std::vector<std::string> cells_in_order(const std::vector<const RunRecord*>& runs) {
  std::vector<std::string> ids;
  std::set<std::string_view> seen;
  const auto add = [&](const std::string& id) {
    if (seen.insert(id).second) ids.push_back(id);
  };
  const bool shards = std::all_of(runs.begin(), runs.end(),
                                  [](const RunRecord* run) { return run->header.shards != 0; });
  std::size_t longest = 0;
  for (const RunRecord* run : runs) longest = std::max(longest, run->header.cells.size());
  for (std::size_t i = 0; shards && i < longest; ++i)
    for (const RunRecord* run : runs)
      if (i < run->header.cells.size()) add(run->header.cells[i]);
  for (const RunRecord* run : runs)
    for (const std::string& id : run->header.cells) add(id);
  return ids;
}

std::vector<std::string> missing_shards(const std::vector<RunRecord>& runs) {
  std::map<std::uint64_t, std::set<std::uint64_t>> there;  // by how many there are
  for (const RunRecord& run : runs)
    if (run.header.shards != 0) there[run.header.shards].insert(run.header.shard);
  std::vector<std::string> missing;
  for (const auto& [shards, present] : there)
    for (std::uint64_t shard = 1; shard <= shards; ++shard)
      if (!present.contains(shard)) missing.push_back(fmt::format("{}/{}", shard, shards));
  return missing;
}

// Each different text once, in the runs' order.
template <typename Get>
std::string joined(const std::vector<RunRecord>& runs, std::string_view separator, Get get) {
  std::vector<std::string> texts;
  for (const RunRecord& run : runs) {
    const std::string& text = get(run.header);
    if (!text.empty() && std::find(texts.begin(), texts.end(), text) == texts.end())
      texts.push_back(text);
  }
  return fmt::format("{}", fmt::join(texts, separator));
}

RunHeader merged_header(const std::vector<RunRecord>& runs) {
  RunHeader header = runs.front().header;
  std::vector<const RunRecord*> ordered;
  for (const RunRecord& run : runs) ordered.push_back(&run);
  std::stable_sort(ordered.begin(), ordered.end(), [](const RunRecord* a, const RunRecord* b) {
    return a->header.shard < b->header.shard;
  });
  header.cells = cells_in_order(ordered);
  header.shard = header.shards = 0;
  header.selection = joined(
      runs, "; ", [](const RunHeader& one) -> auto& { return one.selection; });
  header.host = joined(
      runs, "; ", [](const RunHeader& one) -> auto& { return one.host; });
  header.vmm = joined(
      runs, "; ", [](const RunHeader& one) -> auto& { return one.vmm; });
  for (const RunRecord& run : runs) header.started = std::min(header.started, run.header.started);
  return header;
}

CellRecord with_directories(CellRecord cell, std::size_t run) {
  for (AttemptRecord& attempt : cell.attempts)
    if (!attempt.directory.empty())
      attempt.directory = fmt::format("{}/{}", run + 1, attempt.directory);
  return cell;
}

}  // namespace

std::string MergedRun::text() const {
  std::string text;
  if (!missing_shards.empty())
    text += fmt::format("missing: shard{} {}\n", missing_shards.size() == 1 ? "" : "s",
                        fmt::join(missing_shards, ", "));
  if (cells_in_no_shard != 0)
    text += fmt::format("{} of the matrix's cells were chosen by no run\n", cells_in_no_shard);
  for (const std::string& id : not_run) text += fmt::format("not run: {}\n", printable(id));
  return text;
}

Result<MergedRun> merge_runs(const std::vector<RunRecord>& runs,
                             const std::vector<std::string>& names) {
  if (runs.empty()) return fail(Error::usage("no run to merge"));
  const auto name = [&](std::size_t run) {
    return run < names.size() ? printable(names[run]) : fmt::format("run {}", run + 1);
  };
  std::unordered_map<std::string, Found> found;
  for (std::size_t i = 0; i < runs.size(); ++i) {
    const RunHeader& header = runs[i].header;
    if (header.digest != runs[0].header.digest)
      return fail(Error::usage(fmt::format("{} and {} are runs of other matrices ({} and {})",
                                           name(0), name(i), runs[0].header.digest.substr(0, 12),
                                           header.digest.substr(0, 12)))
                      .hint("`vmm matrix diff` compares runs; shards are of one matrix file"));
    for (const CellRecord& cell : runs[i].cells) {
      const auto [place, is_new] = found.try_emplace(cell.id, Found{with_directories(cell, i), i});
      const Found& other = place->second;
      if (!is_new && other.cell.verdict != cell.verdict)
        return fail(Error::usage(fmt::format("'{}' is {} in {} and {} in {}", printable(cell.id),
                                             verdict_word(other.cell.verdict), name(other.run),
                                             verdict_word(cell.verdict), name(i)))
                        .hint("shards have no cell in common; `vmm matrix diff` compares runs"));
    }
  }
  MergedRun merged;
  merged.run.header = merged_header(runs);
  for (const std::string& id : merged.run.header.cells) {
    const auto place = found.find(id);
    if (place == found.end())
      merged.not_run.push_back(id);
    else
      merged.run.cells.push_back(std::move(place->second.cell));
  }
  const std::uint64_t all = merged.run.header.all_cells;
  merged.cells_in_no_shard = all - std::min<std::uint64_t>(all, merged.run.header.cells.size());
  // A run of everything stands in for every shard.
  if (merged.cells_in_no_shard != 0) merged.missing_shards = missing_shards(runs);
  const bool ended =
      std::all_of(runs.begin(), runs.end(), [](const RunRecord& run) { return run.finished > 0; });
  if (ended && merged.not_run.empty())
    for (const RunRecord& run : runs)
      merged.run.finished = std::max(merged.run.finished, run.finished);
  return merged;
}

}  // namespace vmm
