// vmm cpu export: a model with its overrides as a model file.
#include <fmt/format.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "vmm/cli/cmd_cpu.h"
#include "vmm/cli/lab_paths.h"
#include "vmm/cpu/flatten.h"
#include "vmm/cpu/model_text.h"

namespace vmm {
namespace {

struct ExportOptions {
  std::string selection;
  std::string name = "exported";
  bool as_json = false;
};

Result<int> run_export(const ExportOptions& options) {
  const CpuSelection selection = VMM_TRY(parse_cpu_selection(options.selection));
  const WholeCpu whole = VMM_TRY(resolve_whole(options.selection, HostGrant{}));
  const CpuModel model = VMM_TRY(flatten(selection, whole, options.name));
  const std::string text = cpu_model_text(
      model, fmt::format("Made of {} by vmm cpu export; the same CPU, digest sha256\n{}.",
                         whole.cpu.text, whole.cpu.model_digest));
  // A name that no model may have is found by the reader, with its reason.
  VMM_TRY_CONTEXT(parse_cpu_model(text, "the exported model"), "vmm cpu export");
  if (!options.as_json) {
    fmt::print("{}", text);
    return 0;
  }
  nlohmann::json out = document("vmm-cpu-export");
  out.update({{"name", options.name},
              {"selection", whole.cpu.text},
              {"model_digest", whole.cpu.model_digest},
              {"toml", text}});
  print_json(out);
  return 0;
}

}  // namespace

void add_cpu_export(CLI::App& cpu, Command& chosen) {
  auto options = std::make_shared<ExportOptions>();
  CLI::App* command = cpu.add_subcommand("export", "a model with its overrides as a model file");
  command
      ->add_option("MODEL", options->selection,
                   "NAME[@VERSION][,+feat,-feat,phys-bits=N], or a model file")
      ->required();
  command->add_option("--name", options->name, "what the model is called")->capture_default_str();
  command->add_flag("--json", options->as_json, "print JSON, with the file's text in it");
  command->callback([options, &chosen] {
    chosen.run = [options] { return run_export(*options); };
    chosen.paths = [options] { return model_paths(options->selection); };
  });
}

}  // namespace vmm
