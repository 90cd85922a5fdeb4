#include "vmm/matrix/record.h"

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>
#include <set>

#include "vmm/base/text.h"
#include "vmm/matrix/record_reader.h"

namespace vmm {
namespace {

using nlohmann::json;

constexpr std::size_t kMaxCells = 1 << 20;
constexpr std::uint64_t kMaxShards = 1 << 16;
constexpr std::size_t kMaxAxes = 64;
constexpr std::size_t kMaxGroups = 256;
constexpr std::size_t kMaxAttempts = 1024;
constexpr std::size_t kMaxBits = 8192;  // more than features.toml has

json results_json(const SubResults& results) {
  if (!results.any()) return nullptr;
  return {{"passed", results.passed},     {"failed", results.failed},
          {"skipped", results.skipped},   {"expected_failures", results.expected_failures},
          {"failures", results.failures}, {"problem", results.problem}};
}

json attempt_json(const AttemptRecord& attempt) {
  return {{"verdict", verdict_word(attempt.verdict)},
          {"reason", attempt.reason},
          {"kind", attempt.kind},
          {"exit_code", attempt.exit_code},
          {"rule", attempt.rule},
          {"phase", attempt.phase},
          {"seconds", attempt.seconds},
          {"directory", attempt.directory},
          {"results", results_json(attempt.results)}};
}

SubResults read_results(RecordReader& reader) {
  SubResults results;
  results.passed = reader.count("passed");
  results.failed = reader.count("failed");
  results.skipped = reader.count("skipped");
  results.expected_failures = reader.count("expected_failures");
  results.failures = reader.strings("failures", SubResults::kMaxNames);
  results.problem = reader.string("problem");
  return results;
}

// The files of an attempt are below the run's directory, whatever a journal says.
bool stays_inside(const std::string& directory) {
  if (directory.empty()) return true;
  if (directory.front() == '/' || directory.find('\0') != directory.npos) return false;
  const auto parts = split(directory, '/');
  return std::none_of(parts.begin(), parts.end(), [](std::string_view part) {
    return part == ".." || part == "." || part.empty();
  });
}

AttemptRecord read_attempt(RecordReader& reader) {
  AttemptRecord attempt;
  attempt.verdict = reader.verdict("verdict");
  if (attempt.verdict == CellVerdict::Flaky)
    reader.refuse("verdict", "is FLAKY, which no attempt is");
  attempt.reason = reader.string("reason");
  attempt.kind = reader.string("kind");
  attempt.exit_code = reader.exit_code("exit_code");
  attempt.rule = reader.string("rule");
  attempt.phase = reader.string("phase");
  attempt.seconds = reader.seconds("seconds");
  attempt.directory = reader.string("directory");
  if (!stays_inside(attempt.directory))
    reader.refuse("directory", "does not stay inside of the run's directory");
  reader.object_or_null("results",
                        [&](RecordReader& inner) { attempt.results = read_results(inner); });
  return attempt;
}

CellCpu read_cpu(RecordReader& reader) {
  CellCpu cpu;
  cpu.model = reader.string("model");
  cpu.model_digest = reader.string("model_digest");
  cpu.guest_digest = reader.string("guest_digest");
  cpu.missing = reader.strings("missing", kMaxBits);
  return cpu;
}

}  // namespace

double unix_time() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

std::string CellRecord::axis(std::string_view name) const {
  for (const AxisValue& value : axes)
    if (value.axis == name) return value.value;
  return {};
}

std::size_t RunRecord::count(CellVerdict verdict) const {
  return static_cast<std::size_t>(
      std::count_if(cells.begin(), cells.end(),
                    [verdict](const CellRecord& cell) { return cell.verdict == verdict; }));
}

json to_json(const CellRecord& record) {
  json axes = json::array();
  for (const AxisValue& value : record.axes)
    axes.push_back({{"axis", value.axis}, {"value", value.value}});
  json attempts = json::array();
  for (const AttemptRecord& attempt : record.attempts) attempts.push_back(attempt_json(attempt));
  return {{"id", record.id},
          {"axes", std::move(axes)},
          {"groups", record.groups},
          {"verdict", verdict_word(record.verdict)},
          {"reason", record.reason},
          {"expected", record.expected},
          {"link", record.link},
          {"attempts", std::move(attempts)},
          {"cpu",
           {{"model", record.cpu.model},
            {"model_digest", record.cpu.model_digest},
            {"guest_digest", record.cpu.guest_digest},
            {"missing", record.cpu.missing}}},
          {"host", record.host},
          {"command", record.command},
          {"started", record.started},
          {"seconds", record.seconds}};
}

json to_json(const RunHeader& header) {
  return {
      {"matrix", header.matrix}, {"file", header.file},           {"digest", header.digest},
      {"cells", header.cells},   {"all_cells", header.all_cells}, {"selection", header.selection},
      {"shard", header.shard},   {"shards", header.shards},       {"vmm", header.vmm},
      {"host", header.host},     {"started", header.started}};
}

Result<CellRecord> parse_cell_record(const json& document) {
  RecordReader reader(document, "");
  if (reader.error()) return fail(*reader.error());
  CellRecord record;
  record.id = reader.string("id");
  reader.items("axes", kMaxAxes, [&](RecordReader& item) {
    record.axes.push_back({item.string("axis"), item.string("value")});
  });
  record.groups = reader.strings("groups", kMaxGroups);
  record.verdict = reader.verdict("verdict");
  record.reason = reader.string("reason");
  record.expected = reader.string("expected");
  record.link = reader.string("link");
  reader.items("attempts", kMaxAttempts,
               [&](RecordReader& item) { record.attempts.push_back(read_attempt(item)); });
  reader.object_or_null("cpu", [&](RecordReader& inner) { record.cpu = read_cpu(inner); });
  record.host = reader.string("host");
  record.command = reader.string("command");
  record.started = reader.seconds("started");
  record.seconds = reader.seconds("seconds");
  if (record.id.empty()) reader.refuse("id", "is empty");
  if (record.attempts.empty()) reader.refuse("attempts", "is empty");
  if (reader.error()) return fail(*reader.error());
  return record;
}

Result<RunHeader> parse_run_header(const json& document) {
  RecordReader reader(document, "");
  if (reader.error()) return fail(*reader.error());
  RunHeader header;
  header.matrix = reader.string("matrix");
  header.file = reader.string("file");
  header.digest = reader.string("digest");
  header.cells = reader.strings("cells", kMaxCells);
  header.all_cells = reader.count("all_cells");
  header.selection = reader.string("selection");
  header.shard = reader.count("shard");
  header.shards = reader.count("shards");
  if (header.shard > header.shards || (header.shard == 0) != (header.shards == 0) ||
      header.shards > kMaxShards)
    reader.refuse("shard", "is none of 'shards'");
  header.vmm = reader.string("vmm");
  header.host = reader.string("host");
  header.started = reader.seconds("started");
  std::set<std::string_view> seen;
  for (const std::string& id : header.cells)
    if (id.empty() || !seen.insert(id).second)
      reader.refuse("cells", "has '" + printable(id, 80) + "' twice, or an empty name");
  if (reader.error()) return fail(*reader.error());
  return header;
}

}  // namespace vmm
