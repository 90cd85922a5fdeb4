#include "vmm/probe/report.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "vmm/machine/spec.h"

namespace vmm {
namespace {

using nlohmann::json;

std::string place_text(const ProbeRow& row) {
  return FeatureCatalog::get(row.feature).place.text();
}

std::string_view yes_no(const std::optional<bool>& value) {
  if (!value) return "-";
  return *value ? "yes" : "no";
}

std::string row_line(const ProbeRow& row) {
  std::string line =
      fmt::format("  {:<36}{:<18}", FeatureCatalog::get(row.feature).name, place_text(row));
  return line + row.reason;
}

void list_rows(const ProbeResult& result, ProbeStatus status, std::string_view heading,
               std::vector<std::string>& lines) {
  if (result.count(status) == 0) return;
  lines.push_back(fmt::format("{}:", heading));
  for (const ProbeRow& row : result.rows)
    if (row.status == status) lines.push_back(row_line(row));
}

// What a start ended in: the questions that cost a start each.
void list_deaths(const ProbeResult& result, std::vector<std::string>& lines) {
  if (result.starts > 1)
    lines.push_back(fmt::format("{} of what was tried ended the guest, which was started anew",
                                result.starts - 1));
}

std::string value_text(const WordDifference& difference, std::uint64_t value) {
  return difference.word.starts_with("MSR") ? fmt::format("{:016x}h", value)
                                            : fmt::format("{:08x}h", value);
}

json optional_json(const std::optional<bool>& value) {
  return value ? json(*value) : json(nullptr);
}

}  // namespace

std::vector<std::string> probe_lines(const ResolvedCpu& cpu, const HostGrant& host,
                                     const ProbeResult& result, bool all) {
  std::vector<std::string> lines;
  lines.push_back(fmt::format("{} ({}) on {}, Linux {}: of {} features", cpu.text,
                              policy_name(cpu.policy), backend_name(host.backend), host.kernel,
                              result.rows.size()));
  for (const ProbeStatus status :
       {ProbeStatus::Works, ProbeStatus::Refused, ProbeStatus::NotExercisable, ProbeStatus::Hole,
        ProbeStatus::Contradicted}) {
    constexpr std::string_view kMeaning[] = {
        "the model has it, and it does what it is for", "the model lacks it, and so does the guest",
        "--all gives the reasons", "the model lacks it, and it works all the same",
        "the guest has it otherwise than the model says"};
    lines.push_back(fmt::format("{:>6} {:<17}{}", result.count(status), status_name(status),
                                kMeaning[static_cast<std::size_t>(status)]));
  }
  list_deaths(result, lines);
  list_rows(result, ProbeStatus::Contradicted, "contradicted", lines);
  list_rows(result, ProbeStatus::Hole, "holes", lines);
  lines.push_back(fmt::format("{} words read, {} differ from the model's{}", result.words_read,
                              result.words.size(), result.words.empty() ? "" : ":"));
  for (const WordDifference& d : result.words)
    lines.push_back(fmt::format(
        "  {:<14}{} in the model, {}{}", d.word, value_text(d, d.model),
        d.guest ? value_text(d, *d.guest) + " in the guest" : std::string("#GP in the guest"),
        d.overridden ? ", as KVM itself says" : ""));
  if (all) {
    lines.push_back(fmt::format("  {:<36}{:<18}{:<7}{:<7}{}", "feature", "", "model", "guest", ""));
    for (const ProbeRow& row : result.rows)
      lines.push_back(fmt::format("  {:<36}{:<18}{:<7}{:<7}{}{}{}",
                                  FeatureCatalog::get(row.feature).name, place_text(row),
                                  yes_no(row.claimed), yes_no(row.shown), status_name(row.status),
                                  row.reason.empty() ? "" : ": ", row.reason));
  }
  lines.push_back(fmt::format(
      "guest digest {} ({})", result.guest_digest,
      result.guest_digest == result.expected_digest ? "the model's" : "not the model's"));
  return lines;
}

nlohmann::json probe_json(const ResolvedCpu& cpu, const HostGrant& host,
                          const ProbeReading& reading, const ProbeResult& result) {
  json features = json::array();
  for (const ProbeRow& row : result.rows)
    features.push_back({{"name", FeatureCatalog::get(row.feature).name},
                        {"place", place_text(row)},
                        {"model", optional_json(row.claimed)},
                        {"guest", optional_json(row.shown)},
                        {"status", status_name(row.status)},
                        {"reason", row.reason}});
  json counts;
  for (const ProbeStatus status :
       {ProbeStatus::Works, ProbeStatus::Refused, ProbeStatus::NotExercisable, ProbeStatus::Hole,
        ProbeStatus::Contradicted})
    counts[std::string(status_name(status))] = result.count(status);
  json words = json::array();
  for (const WordDifference& d : result.words)
    words.push_back({{"word", d.word},
                     {"model", fmt::format("0x{:x}", d.model)},
                     {"guest", d.guest ? json(fmt::format("0x{:x}", *d.guest)) : json(nullptr)},
                     {"overridden_by_kvm", d.overridden}});
  json leaves = json::object();
  const CpuidTable table = reading.cpuid();
  for (const auto& [key, regs] : table.entries())
    leaves[fmt::format("{:X}.{:X}", key.leaf, key.subleaf)] = {
        {"eax", fmt::format("0x{:x}", regs.eax)},
        {"ebx", fmt::format("0x{:x}", regs.ebx)},
        {"ecx", fmt::format("0x{:x}", regs.ecx)},
        {"edx", fmt::format("0x{:x}", regs.edx)}};
  json msrs = json::object();
  for (const auto& [index, value] : result.msrs)
    msrs[fmt::format("0x{:x}", index)] = fmt::format("0x{:x}", value);
  json missing = json::array();
  for (const MissingBit& bit : cpu.missing) missing.push_back(bit.name);
  return {{"schema", "vmm-cpu-probe"},
          {"version", 1},
          {"name", cpu.name},
          {"selection", cpu.text},
          {"policy", policy_name(cpu.policy)},
          {"model_digest", cpu.model_digest},
          {"guest_digest", result.guest_digest},
          {"expected_guest_digest", result.expected_digest},
          {"host", {{"backend", backend_name(host.backend)}, {"kernel", host.kernel}}},
          {"starts", result.starts},
          {"missing", missing},
          {"counts", counts},
          {"features", features},
          {"words_read", result.words_read},
          {"differing_words", words},
          {"cpuid", leaves},
          {"msrs", msrs},
          {"verdict", result.count(ProbeStatus::Contradicted) == 0 ? "kept" : "contradicted"}};
}

}  // namespace vmm
