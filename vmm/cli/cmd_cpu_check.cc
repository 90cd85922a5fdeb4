// vmm cpu check: what a host makes of one model, bit by bit, or of all of them in a line each.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>

#include "vmm/cli/cmd_cpu.h"
#include "vmm/cli/lab_paths.h"
#include "vmm/cpu/cpu_model.h"
#include "vmm/cpu/selection.h"
#include "vmm/machine/spec.h"

namespace vmm {
namespace {

using nlohmann::json;

struct CheckOptions {
  std::string selection;
  std::string policy = "strict";
  std::string host;
  bool all = false;
  bool as_json = false;
};

Result<int> check_one(const CheckOptions& options) {
  const CpuPolicy policy = VMM_TRY(parse_policy(options.policy));
  VMM_TRY(parse_cpu_selection(options.selection));  // a misspelt name needs no /dev/kvm
  const ChosenHost host = VMM_TRY(choose_host(options.host));
  const ResolvedCpu cpu = VMM_TRY(resolve_cpu(options.selection, policy, Topology{}, host.grant));
  const bool refused = policy == CpuPolicy::Strict && !cpu.missing.empty();
  if (options.as_json) {
    json out = document("vmm-cpu-check");
    json missing = json::array();
    for (const MissingBit& bit : cpu.missing) missing.push_back(to_json(bit));
    out.update({{"name", cpu.name},
                {"selection", cpu.text},
                {"model_digest", cpu.model_digest},
                {"policy", policy_name(policy)},
                {"verdict", refused ? "refused" : "given"},
                {"host", to_json(host)},
                {"missing", missing},
                {"notes", cpu.notes}});
    print_json(out);
    return refused ? exit_code(ErrorKind::Host) : 0;
  }
  const std::size_t count = cpu.missing.size();
  if (count == 0)
    fmt::print("{}: {} gives every bit\n", cpu.text, host.text());
  else
    fmt::print(
        "{}: {} cannot give {} bit{}{}\n", cpu.text, host.text(), count, count == 1 ? "" : "s",
        policy == CpuPolicy::Mask    ? ", which --cpu-policy mask leaves out"
        : policy == CpuPolicy::Force ? ", which --cpu-policy force sets all the same (UNBACKED)"
                                     : "");
  for (const std::string& line : describe(cpu.missing)) fmt::print("  {}\n", line);
  for (const std::string& note : cpu.notes) fmt::print("note: {}\n", note);
  for (const std::string& line : quirk_lines(cpu, host.grant)) fmt::print("note: {}\n", line);
  return refused ? exit_code(ErrorKind::Host) : 0;
}

// How many bits each of them refuses, those who refuse most first.
std::vector<std::pair<std::string, std::size_t>> refusers(const std::vector<MissingBit>& missing) {
  std::map<std::string, std::size_t> counts;
  for (const MissingBit& bit : missing) ++counts[bit.refused_by];
  std::vector<std::pair<std::string, std::size_t>> result(counts.begin(), counts.end());
  std::stable_sort(result.begin(), result.end(),
                   [](const auto& a, const auto& b) { return a.second > b.second; });
  return result;
}

Result<int> check_all(const CheckOptions& options) {
  const ChosenHost host = VMM_TRY(choose_host(options.host));
  std::vector<ResolvedCpu> cpus;
  for (const std::string& name : model_names())
    cpus.push_back(VMM_TRY(resolve_cpu(name, CpuPolicy::Strict, Topology{}, host.grant)));
  if (options.as_json) {
    json models = json::array();
    for (const ResolvedCpu& cpu : cpus) {
      json bits = json::array();
      for (const MissingBit& bit : cpu.missing) bits.push_back(bit.name);
      json by = json::object();
      for (const auto& [who, count] : refusers(cpu.missing)) by[who] = count;
      models.push_back({{"name", cpu.name},
                        {"model_digest", cpu.model_digest},
                        {"refused", cpu.missing.size()},
                        {"refused_by", by},
                        {"bits", bits}});
    }
    json out = document("vmm-cpu-check-all");
    out.update({{"host", to_json(host)}, {"models", models}});
    print_json(out);
    return 0;
  }
  fmt::print("{}: how many bits of each model it refuses\n\n", host.text());
  std::size_t width = 0;
  for (const ResolvedCpu& cpu : cpus) width = std::max(width, cpu.name.size());
  for (const ResolvedCpu& cpu : cpus) {
    std::string who;
    for (const auto& [name, count] : refusers(cpu.missing))
      who += fmt::format("{}{} {}", who.empty() ? "" : ", ", name, count);
    fmt::print("{:<{}}  {:>3}{}{}\n", cpu.name, width, cpu.missing.size(), who.empty() ? "" : "  ",
               who);
  }
  return 0;
}

Result<int> run_check(const CheckOptions& options) {
  if (options.all) return check_all(options);
  if (options.selection.empty())
    return fail(Error::usage("vmm cpu check: which model?")
                    .hint("name one, as vmm cpu list shows them, or write --all"));
  return check_one(options);
}

}  // namespace

void add_cpu_check(CLI::App& cpu, Command& chosen) {
  auto options = std::make_shared<CheckOptions>();
  CLI::App* check = cpu.add_subcommand("check", "which bits of a model a host refuses, and why");
  CLI::Option* model = check->add_option(
      "MODEL", options->selection, "NAME[@VERSION][,+feat,-feat,phys-bits=N], or a model file");
  CLI::Option* policy = check->add_option("--cpu-policy", options->policy, "strict, mask or force")
                            ->capture_default_str();
  check->add_flag("--all", options->all, "every model: how many bits, and who refuses them")
      ->excludes(model)
      ->excludes(policy);
  add_host_option(*check, options->host);
  check->add_flag("--json", options->as_json, "print JSON");
  check->callback([options, &chosen] {
    chosen.run = [options] { return run_check(*options); };
    chosen.paths = [options] {
      std::vector<std::string> selections;
      if (!options->selection.empty()) selections.push_back(options->selection);
      return host_and_model_paths(options->host, selections);
    };
  });
}

}  // namespace vmm
