// vmm cpu: the CPU models that there are, what each consists of, and what this host makes of them.
#include <fmt/format.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "vmm/base/text.h"
#include "vmm/cli/commands.h"
#include "vmm/cli/lab_paths.h"
#include "vmm/cpu/cpu_model.h"
#include "vmm/cpu/selection.h"
#include "vmm/cpu/show.h"
#include "vmm/machine/host.h"
#include "vmm/machine/spec.h"

namespace vmm {
namespace {

using nlohmann::json;

void print_lines(const std::vector<std::string>& lines) {
  for (const std::string& line : lines) fmt::print("{}\n", line);
}

std::string hex(std::uint64_t value) { return fmt::format("0x{:x}", value); }

json to_json(const MissingBit& bit) {
  return {{"name", bit.name},
          {"word", bit.word},
          {"refused_by", bit.refused_by},
          {"reason", bit.reason},
          {"remedy", bit.remedy}};
}

json to_json(const ResolvedCpu& cpu) {
  json features;
  for (const WordFeatures& word : features_by_word(cpu)) features[word.word] = word.names;
  json leaves;
  for (const auto& [key, r] : cpu.cpuid.entries())
    leaves[fmt::format("{:X}.{:X}", key.leaf, key.subleaf)] = {
        {"eax", hex(r.eax)}, {"ebx", hex(r.ebx)}, {"ecx", hex(r.ecx)}, {"edx", hex(r.edx)}};
  json msrs = json::object();
  for (const CpuMsr& msr : cpu.msrs) msrs[hex(msr.index)] = hex(msr.value);
  const std::uint32_t widths = cpu.cpuid.get(0x80000008).eax;
  return {{"name", cpu.name},
          {"selection", cpu.text},
          {"model_digest", cpu.model_digest},
          {"vendor", cpu.cpuid.vendor()},
          {"brand", cpu.cpuid.brand()},
          {"signature", hex(cpu.cpuid.get(1).eax)},
          {"phys_bits", widths & 0xff},
          {"virt_bits", widths >> 8 & 0xff},
          {"features", features},
          {"cpuid", leaves},
          {"msrs", msrs},
          {"notes", cpu.notes}};
}

json document(const char* schema) { return {{"schema", schema}, {"version", 1}}; }

// The bits of `name` that `host` cannot give.
Result<std::size_t> missing_count(const std::string& name, const HostGrant& host) {
  return VMM_TRY(resolve_cpu(name, CpuPolicy::Strict, Topology{}, host)).missing.size();
}

Result<int> run_list(bool as_json) {
  const Result<HostGrant> host = read_host_grant();
  std::vector<ModelRow> rows;
  json models = json::array();
  for (const std::string& name : model_names()) {
    ModelRow row{name, "", "", "what KVM supports on this host, so another on each", {}};
    json entry = {{"model", name}};
    if (name != "host") {
      const CpuModelFile file = VMM_TRY(builtin_cpu_model(name));
      const CpuModel& model = *file.find(file.default_version);
      row = {model.full_name(), version_range(file), vendor_name(model.vendor), file.title, {}};
      json versions = json::array();
      for (const CpuModel& version : file.versions)
        versions.push_back(
            {{"version", version.version}, {"alias", version.alias}, {"brand", version.brand}});
      entry.update({{"default", model.full_name()},
                    {"vendor", model.vendor},
                    {"title", file.title},
                    {"versions", versions}});
    }
    if (host) row.missing = VMM_TRY(missing_count(row.name, *host));
    entry["missing_bits"] = row.missing ? json(*row.missing) : json(nullptr);
    rows.push_back(std::move(row));
    models.push_back(std::move(entry));
  }
  if (as_json) {
    json out = document("vmm-cpu-list");
    out["models"] = std::move(models);
    out["host_error"] = host ? json(nullptr) : json(host.error().text());
    fmt::print("{}\n", out.dump(2));
    return 0;
  }
  print_lines(list_lines(rows));
  fmt::print("\n{}\n", host ? "vmm cpu check MODEL says for each bit who refuses it."
                            : "What this host can give is not known: " + host.error().text());
  return 0;
}

struct ShowOptions {
  std::string selection;
  std::string policy = "strict";
  bool as_json = false;
  bool words = false;
};

Result<int> run_show(const ShowOptions& options) {
  const CpuSelection selection = VMM_TRY(parse_cpu_selection(options.selection));
  // A model is the same everywhere, so that no host is asked; only `host` is what the host says.
  const bool own = lower(selection.model) == "host";
  const HostGrant host = own ? VMM_TRY(read_host_grant()) : HostGrant{};
  const ResolvedCpu cpu =
      VMM_TRY(resolve_cpu(options.selection, CpuPolicy::Force, Topology{}, host));
  if (options.as_json) {
    json out = document("vmm-cpu-show");
    out.update(to_json(cpu));
    fmt::print("{}\n", out.dump(2));
    return 0;
  }
  std::optional<CpuModelFile> file;
  if (!own) file = VMM_TRY(find_cpu_model_file(selection.model));
  print_lines(show_lines(cpu, file ? &*file : nullptr, options.words));
  if (!cpu.notes.empty()) fmt::print("\n");
  for (const std::string& note : cpu.notes) fmt::print("  note: {}\n", note);
  return 0;
}

Result<int> run_check(const ShowOptions& options) {
  const CpuPolicy policy = VMM_TRY(parse_policy(options.policy));
  VMM_TRY(parse_cpu_selection(options.selection));  // a misspelt name needs no /dev/kvm
  const HostGrant host = VMM_TRY(read_host_grant());
  const ResolvedCpu cpu = VMM_TRY(resolve_cpu(options.selection, policy, Topology{}, host));
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
                {"host", {{"backend", backend_name(host.backend)}, {"kernel", host.kernel}}},
                {"missing", missing},
                {"notes", cpu.notes}});
    fmt::print("{}\n", out.dump(2));
    return refused ? exit_code(ErrorKind::Host) : 0;
  }
  const std::string where =
      fmt::format("this host ({}, Linux {})", backend_name(host.backend), host.kernel);
  const std::size_t count = cpu.missing.size();
  if (count == 0)
    fmt::print("{}: {} gives every bit\n", cpu.text, where);
  else
    fmt::print("{}: {} cannot give {} bit{}{}\n", cpu.text, where, count, count == 1 ? "" : "s",
               policy == CpuPolicy::Mask ? ", which --cpu-policy mask leaves out"
               : policy == CpuPolicy::Force
                   ? ", which --cpu-policy force sets all the same (UNBACKED)"
                   : "");
  for (const std::string& line : describe(cpu.missing)) fmt::print("  {}\n", line);
  for (const std::string& note : cpu.notes) fmt::print("note: {}\n", note);
  return refused ? exit_code(ErrorKind::Host) : 0;
}

}  // namespace

void add_cpu_command(CLI::App& app, Command& chosen) {
  CLI::App* cpu = app.add_subcommand("cpu", "CPU models: list, show, check against this host");
  cpu->require_subcommand(1);
  auto options = std::make_shared<ShowOptions>();

  CLI::App* list = cpu->add_subcommand("list", "the models there are, and which of them run here");
  list->add_flag("--json", options->as_json, "print JSON");
  list->callback([options, &chosen] {
    chosen.run = [options] { return run_list(options->as_json); };
    chosen.paths = []() -> Result<std::vector<PathUse>> { return {}; };
  });

  const char* const selection = "NAME[@VERSION][,+feat,-feat,phys-bits=N], or a model file";
  CLI::App* show = cpu->add_subcommand("show", "what a model consists of");
  show->add_option("MODEL", options->selection, selection)->required();
  show->add_flag("--words", options->words, "also the CPUID registers in hex");
  show->add_flag("--json", options->as_json, "print JSON");
  show->callback([options, &chosen] {
    chosen.run = [options] { return run_show(*options); };
    chosen.paths = [options] { return model_paths(options->selection); };
  });

  CLI::App* check =
      cpu->add_subcommand("check", "which bits of a model this host refuses, and why");
  check->add_option("MODEL", options->selection, selection)->required();
  check->add_option("--cpu-policy", options->policy, "strict, mask or force")
      ->capture_default_str();
  check->add_flag("--json", options->as_json, "print JSON");
  check->callback([options, &chosen] {
    chosen.run = [options] { return run_check(*options); };
    chosen.paths = [options] { return model_paths(options->selection); };
  });
}

}  // namespace vmm
