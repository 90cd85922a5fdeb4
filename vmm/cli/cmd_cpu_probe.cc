// vmm cpu probe: a kernel of our own boots under a model and says what of it is true.
#include <fmt/format.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "vmm/cli/cmd_cpu.h"
#include "vmm/cli/lab_paths.h"
#include "vmm/cpu/selection.h"
#include "vmm/machine/host.h"
#include "vmm/machine/irqchip_choice.h"
#include "vmm/machine/report.h"
#include "vmm/machine/spec.h"
#include "vmm/probe/classify.h"
#include "vmm/probe/report.h"
#include "vmm/probe/run.h"

namespace vmm {
namespace {

struct Options {
  std::string selection = "host";
  std::string policy = "strict";
  std::string smp = "1";
  std::string irqchip = "auto";
  bool all = false;
  bool as_json = false;
};

Result<int> run_command(const Options& options) {
  const CpuPolicy policy = VMM_TRY(parse_policy(options.policy));
  const Topology topology = VMM_TRY_CONTEXT(parse_topology(options.smp), "--smp");
  const auto asked = VMM_TRY(parse_irqchip(options.irqchip));
  VMM_TRY(parse_cpu_selection(options.selection));  // a misspelt name needs no /dev/kvm
  const HostGrant host = VMM_TRY(read_host_grant());
  ResolvedCpu cpu = VMM_TRY(resolve_cpu(options.selection, policy, topology, host));
  const auto irqchip = choose_irqchip(asked, cpu);
  if (!cpu.missing.empty() && (policy == CpuPolicy::Strict || !options.as_json))
    fmt::print(stderr, "{}", missing_text(cpu));
  if (policy == CpuPolicy::Strict && !cpu.missing.empty())
    return fail(Error::host(fmt::format("this host cannot give {} of the bits of {}",
                                        cpu.missing.size(), cpu.text))
                    .hint("--cpu-policy mask probes it without them, force with them set all the "
                          "same; vmm cpu check says who refuses each"));
  if (!irqchip) return fail(irqchip.error());
  const ProbeReading reading = VMM_TRY(run_probe(cpu, topology, host, *irqchip));
  const ProbeResult result = judge(cpu, reading);
  if (options.as_json) {
    fmt::print("{}\n", probe_json(cpu, host, reading, result).dump(2));
  } else {
    for (const std::string& note : cpu.notes) fmt::print(stderr, "vmm: {}\n", note);
    for (const std::string& line : probe_lines(cpu, host, result, options.all))
      fmt::print("{}\n", line);
  }
  return result.count(ProbeStatus::Contradicted) == 0 ? 0 : 1;
}

}  // namespace

void add_cpu_probe(CLI::App& cpu, Command& chosen) {
  auto options = std::make_shared<Options>();
  CLI::App* probe = cpu.add_subcommand(
      "probe", "boot a small kernel under a model and try what it says; 1 if something is untrue");
  probe->add_option("MODEL", options->selection,
                    "NAME[@VERSION][,+feat,-feat,phys-bits=N], or a model file (default host)");
  probe
      ->add_option("--cpu-policy", options->policy,
                   "bits the host cannot give: strict refuses, mask removes, force sets")
      ->capture_default_str();
  probe->add_option("--smp", options->smp, "N[,sockets=,cores=,threads=]; the first is probed")
      ->capture_default_str();
  probe->add_option("--irqchip", options->irqchip, "auto, user, split or kernel")
      ->capture_default_str();
  probe->add_flag("--all", options->all, "every feature, with the reasons");
  probe->add_flag("--json", options->as_json, "print JSON, which has everything");
  probe->callback([options, &chosen] {
    chosen.run = [options] { return run_command(*options); };
    chosen.paths = [options] { return model_paths(options->selection); };
  });
}

}  // namespace vmm
