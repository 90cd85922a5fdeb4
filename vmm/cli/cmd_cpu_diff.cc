// vmm cpu diff: two CPUs side by side, by name.
#include <fmt/format.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "vmm/cli/cmd_cpu.h"
#include "vmm/cli/lab_paths.h"
#include "vmm/cpu/diff.h"
#include "vmm/cpu/selection.h"

namespace vmm {
namespace {

using nlohmann::json;

struct DiffOptions {
  std::string left;
  std::string right;
  std::string host;
  bool guest = false;
  bool as_json = false;
};

// What a guest would get of the selection on that host.
Result<WholeCpu> as_granted(const std::string& selection, const HostGrant& host) {
  return WholeCpu{VMM_TRY(resolve_cpu(selection, CpuPolicy::Mask, Topology{}, host)), {}};
}

json bits(const std::vector<FeaturePlace>& places) {
  json result = json::array();
  for (const FeaturePlace& place : places)
    result.push_back({{"name", bit_name(place)}, {"word", place.text()}});
  return result;
}

Result<int> run_diff(const DiffOptions& options) {
  // Misspelt names need no /dev/kvm.
  const CpuSelection left_selection = VMM_TRY(parse_cpu_selection(options.left));
  const CpuSelection right_selection = VMM_TRY(parse_cpu_selection(options.right));
  const bool asks = options.guest || !options.host.empty() || is_rule_host(left_selection) ||
                    is_rule_host(right_selection);
  ChosenHost host;
  if (asks) host = VMM_TRY(choose_host(options.host));
  const auto side = [&](const std::string& selection) {
    return options.guest ? as_granted(selection, host.grant) : resolve_whole(selection, host.grant);
  };
  const WholeCpu left = VMM_TRY(side(options.left));
  const WholeCpu right = VMM_TRY(side(options.right));
  const CpuDiff diff = diff_cpus(left, right);
  const int code = diff.empty() ? 0 : 1;
  if (options.as_json) {
    json values = json::array();
    for (const CpuDiff::Value& value : diff.values)
      values.push_back({{"what", value.what}, {"left", value.left}, {"right", value.right}});
    json out = document("vmm-cpu-diff");
    out.update({{"left", {{"name", left.cpu.name}, {"selection", left.cpu.text}}},
                {"right", {{"name", right.cpu.name}, {"selection", right.cpu.text}}},
                {"as_granted_by", options.guest ? to_json(host) : json(nullptr)},
                {"values", values},
                {"left_only", bits(diff.left_only)},
                {"right_only", bits(diff.right_only)}});
    print_json(out);
    return code;
  }
  if (options.guest) fmt::print("as a guest gets them on {}, under mask:\n", host.text());
  if (diff.empty()) {
    fmt::print("{} and {} are the same CPU\n", left.cpu.text, right.cpu.text);
    return code;
  }
  fmt::print("- {}\n+ {}\n\n", left.cpu.text, right.cpu.text);
  print_lines(diff_lines(diff));
  return code;
}

}  // namespace

void add_cpu_diff(CLI::App& cpu, Command& chosen) {
  auto options = std::make_shared<DiffOptions>();
  CLI::App* diff = cpu.add_subcommand(
      "diff", "what one CPU has and another lacks; exits with 1 when they differ, as diff does");
  const char* const selection = "NAME[@VERSION][,+feat,-feat,phys-bits=N], or a model file";
  diff->add_option("A", options->left, selection)->required();
  diff->add_option("B", options->right, selection)->required();
  diff->add_flag("--guest", options->guest, "compare what the host makes of them, under mask");
  add_host_option(*diff, options->host);
  diff->add_flag("--json", options->as_json, "print JSON");
  diff->callback([options, &chosen] {
    chosen.run = [options] { return run_diff(*options); };
    chosen.paths = [options] {
      return host_and_model_paths(options->host, {options->left, options->right});
    };
  });
}

}  // namespace vmm
