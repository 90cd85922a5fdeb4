// vmm cpu lint: what is wrong with a CPU by itself. vmm cpu why: why one bit is as it is.
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>

#include "vmm/base/text.h"
#include "vmm/cli/cmd_cpu.h"
#include "vmm/cli/lab_paths.h"
#include "vmm/cpu/cpu_model.h"
#include "vmm/cpu/lint.h"
#include "vmm/cpu/selection.h"
#include "vmm/cpu/why.h"
#include "vmm/cpu/words.h"
#include "vmm/machine/irqchip_choice.h"
#include "vmm/machine/spec.h"

namespace vmm {
namespace {

using nlohmann::json;
using Level = LintFinding::Level;

struct LintOptions {
  std::string selection;
  std::string irqchip;
  std::string host;
  bool as_json = false;
};

// What the model hides and the host's silicon executes all the same: only a host can say that.
void lint_holes(const CpuWords& words, const ChosenHost& host, std::vector<LintFinding>& findings) {
  std::vector<FeatureId> holes = hidden_not_removed(words, host.grant.silicon);
  if (holes.empty()) return;
  std::vector<std::string_view> names;
  for (const FeatureId id : holes) names.push_back(FeatureCatalog::get(id).name);
  findings.push_back({Level::Note, "hidden",
                      fmt::format("hidden, and no control takes it away on {}: {}", host.text(),
                                  fmt::join(names, ", ")),
                      "", std::move(holes)});
}

// The chip that the user wants, if it cannot carry the CPU.
Result<void> lint_irqchip(const LintOptions& options, const ResolvedCpu& cpu,
                          std::vector<LintFinding>& findings) {
  if (options.irqchip.empty()) return {};
  const auto wanted = VMM_TRY(parse_irqchip(options.irqchip));
  ResolvedCpu carried = cpu;
  const auto choice = choose_irqchip(wanted, carried);
  if (!choice)
    findings.insert(
        findings.begin(),
        {Level::Error, "irqchip", choice.error().text(), choice.error().hint_text(), {}});
  return {};
}

Result<int> run_lint(const LintOptions& options) {
  const CpuSelection selection = VMM_TRY(parse_cpu_selection(options.selection));
  // Only the rule `host` and a named dump need a host.
  Result<ChosenHost> known = choose_host(options.host);
  if (!known && (is_rule_host(selection) || !options.host.empty())) return fail(known.error());
  const ChosenHost host = known.value_or(ChosenHost{});
  const WholeCpu whole = VMM_TRY(resolve_whole(options.selection, host.grant));
  std::vector<LintFinding> findings = lint_cpu(words_of(whole.cpu));
  const auto sections = lint_sections(whole.cpu);
  findings.insert(findings.end(), sections.begin(), sections.end());
  std::ranges::stable_sort(findings, {}, &LintFinding::level);
  lint_holes(words_of(whole.cpu), host, findings);
  const ResolvedCpu bare = VMM_TRY(
      resolve_cpu(options.selection, CpuPolicy::Strict, Topology{}, host.grant, Unmet::Note));
  VMM_TRY(lint_irqchip(options, bare, findings));
  const bool bad =
      std::ranges::any_of(findings, [](const LintFinding& f) { return f.level != Level::Note; });
  if (options.as_json) {
    json list = json::array();
    for (const LintFinding& finding : findings) {
      json about = json::array();
      for (const FeatureId id : finding.about) about.push_back(FeatureCatalog::get(id).name);
      list.push_back({{"level", lint_level_name(finding.level)},
                      {"rule", finding.rule},
                      {"what", finding.what},
                      {"remedy", finding.remedy},
                      {"about", about}});
    }
    json out = document("vmm-cpu-lint");
    out.update({{"name", whole.cpu.name},
                {"selection", whole.cpu.text},
                {"with", std::string(whole.nesting)},
                {"findings", list}});
    print_json(out);
    return bad ? 1 : 0;
  }
  const std::string with = whole.nesting.empty() ? "" : fmt::format(" (with +{})", whole.nesting);
  if (findings.empty()) {
    fmt::print("{}{}: nothing contradicts itself\n", whole.cpu.text, with);
    return 0;
  }
  fmt::print("{}{}:\n", whole.cpu.text, with);
  for (const LintFinding& finding : findings)
    fmt::print("{}",
               wrap_text(fmt::format("  {:<8}", lint_level_name(finding.level)),
                         finding.remedy.empty() ? fmt::format("{} [{}]", finding.what, finding.rule)
                                                : fmt::format("{}; try {} [{}]", finding.what,
                                                              finding.remedy, finding.rule),
                         100));
  return bad ? 1 : 0;
}

struct WhyOptions {
  std::string bit;
  std::string selection = "host";
  std::string host;
  bool as_json = false;
};

Result<int> run_why(const WhyOptions& options) {
  const FeatureId id = VMM_TRY(find_feature(options.bit));
  const CpuSelection selection = VMM_TRY(parse_cpu_selection(options.selection));
  const bool own = is_rule_host(selection);
  std::optional<CpuModelFile> file;
  std::optional<CpuModel> model;
  if (!own) {
    file = VMM_TRY(find_cpu_model_file(selection.model));
    model = VMM_TRY(version_of(*file, selection.model));
  }
  // Only the rule `host` and a named dump need a host; else its word is left out where there is
  // none.
  Result<ChosenHost> host = choose_host(options.host);
  if (!host && (own || !options.host.empty())) return fail(host.error());
  const WholeCpu whole =
      VMM_TRY(resolve_whole(options.selection, host ? host->grant : HostGrant{}));
  WhyInput input;
  input.feature = id;
  input.whole = &whole;
  input.selection = &selection;
  input.file = file ? &*file : nullptr;
  input.model = model ? &*model : nullptr;
  if (host) {
    input.host = host->grant;
    input.where = host->text();
  }
  const std::vector<std::string> lines = VMM_TRY(why_lines(input));
  if (!options.as_json) {
    print_lines(lines);
    return 0;
  }
  const Feature& feature = FeatureCatalog::get(id);
  json text = json::array();
  for (const std::string& line : lines) text.push_back(trim(line));
  json out = document("vmm-cpu-why");
  out.update({{"name", feature.name},
              {"word", feature.place.text()},
              {"what", feature.what},
              {"kvm_since", feature.kvm_since.empty() ? json(nullptr) : json(feature.kvm_since)},
              {"selection", whole.cpu.text},
              {"with", std::string(whole.nesting)},
              {"on", words_of(whole.cpu).has(id) && feature.name != whole.nesting},
              {"host", host ? to_json(*host) : json(nullptr)},
              {"lines", text}});
  print_json(out);
  return 0;
}

}  // namespace

void add_cpu_lint(CLI::App& cpu, Command& chosen) {
  auto options = std::make_shared<LintOptions>();
  CLI::App* lint = cpu.add_subcommand(
      "lint",
      "what contradicts itself in a CPU, nested virtualization included; exits with 1 for "
      "errors and warnings");
  lint->add_option("MODEL", options->selection,
                   "NAME[@VERSION][,+feat,-feat,phys-bits=N], or a model file")
      ->required();
  lint->add_option("--irqchip", options->irqchip, "also whether this chip can carry it");
  add_host_option(*lint, options->host);
  lint->add_flag("--json", options->as_json, "print JSON");
  lint->callback([options, &chosen] {
    chosen.run = [options] { return run_lint(*options); };
    chosen.paths = [options] { return host_and_model_paths(options->host, {options->selection}); };
  });
}

void add_cpu_why(CLI::App& cpu, Command& chosen) {
  auto options = std::make_shared<WhyOptions>();
  CLI::App* why = cpu.add_subcommand("why", "why a bit of a CPU is on or off, and what follows");
  why->add_option("BIT", options->bit, "a feature's name: pdpe1gb, vmx.xsaves, svm.npt")
      ->required();
  why->add_option("--cpu-model", options->selection, "of which CPU")->capture_default_str();
  add_host_option(*why, options->host);
  why->add_flag("--json", options->as_json, "print JSON");
  why->callback([options, &chosen] {
    chosen.run = [options] { return run_why(*options); };
    chosen.paths = [options] { return host_and_model_paths(options->host, {options->selection}); };
  });
}

}  // namespace vmm
