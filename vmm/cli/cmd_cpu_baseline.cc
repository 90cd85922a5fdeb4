// vmm cpu baseline: what several hosts, each of them a file, can all give.
#include <fmt/format.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "vmm/cli/cmd_cpu.h"
#include "vmm/cli/lab_paths.h"
#include "vmm/cpu/baseline.h"
#include "vmm/cpu/host_dump.h"

namespace vmm {
namespace {

using nlohmann::json;

struct BaselineOptions {
  std::vector<std::string> files;
  bool as_json = false;
};

json to_json(const Baseline& baseline, const std::vector<BaselineHost>& hosts) {
  json out = document("vmm-cpu-baseline");
  json host_list = json::array();
  for (const BaselineHost& host : hosts) {
    json entry = to_json(ChosenHost{host.grant, host.name});
    entry.update({{"signature", fmt::format("0x{:x}", host.grant.supported.get(1).eax)},
                  {"phys_bits", host.grant.supported.phys_bits()}});
    host_list.push_back(std::move(entry));
  }
  const CpuModel& model = baseline.model;
  const auto names = [](const std::vector<FeatureId>& ids) {
    json list = json::array();
    for (const FeatureId id : ids) list.push_back(FeatureCatalog::get(id).name);
    return list;
  };
  json left_out = json::array();
  for (const BaselineGap& gap : baseline.gaps) {
    const Feature& feature = FeatureCatalog::get(gap.feature);
    left_out.push_back(
        {{"name", feature.name}, {"word", feature.place.text()}, {"lacking", gap.lacking}});
  }
  out.update({{"hosts", host_list},
              {"vendor", model.vendor},
              {"family", model.family},
              {"model", model.model},
              {"stepping", model.stepping},
              {"phys_bits", model.phys_bits},
              {"virt_bits", model.virt_bits},
              {"features", names(model.features)},
              {"svm", names(model.svm)},
              {"vmx", names(model.vmx)},
              {"left_out", left_out},
              {"models", baseline.given},
              {"toml", baseline_text(baseline, hosts)}});
  return out;
}

Result<int> run_baseline(const BaselineOptions& options) {
  std::vector<BaselineHost> hosts;
  for (const std::string& file : options.files)
    hosts.push_back({file, VMM_TRY(read_host_dump(file))});
  const Baseline baseline = VMM_TRY(find_baseline(hosts));
  if (options.as_json)
    print_json(to_json(baseline, hosts));
  else
    fmt::print("{}", baseline_text(baseline, hosts));
  return 0;
}

}  // namespace

void add_cpu_baseline(CLI::App& cpu, Command& chosen) {
  auto options = std::make_shared<BaselineOptions>();
  CLI::App* command = cpu.add_subcommand(
      "baseline", "print the CPU that all dumped hosts can give, as a model file");
  command->add_option("DUMP", options->files, "files of vmm cpu dump-host")
      ->required()
      ->type_name("");
  command->add_flag("--json", options->as_json, "print JSON");
  command->callback([options, &chosen] {
    chosen.run = [options] { return run_baseline(*options); };
    chosen.paths = [options]() -> Result<std::vector<PathUse>> {
      std::vector<PathUse> paths;
      for (const std::string& file : options->files)
        add_paths(paths, VMM_TRY(input_path(file, ErrorKind::Usage)));
      return paths;
    };
  });
}

}  // namespace vmm
