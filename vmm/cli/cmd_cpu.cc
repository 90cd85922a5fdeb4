// vmm cpu: the CPU models that there are, what each consists of, and what this host makes of them.
#include "vmm/cli/cmd_cpu.h"

#include <fmt/format.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "vmm/base/text.h"
#include "vmm/cli/lab_paths.h"
#include "vmm/cpu/cpu_model.h"
#include "vmm/cpu/host_dump.h"
#include "vmm/cpu/selection.h"
#include "vmm/cpu/show.h"
#include "vmm/machine/host.h"

namespace vmm {
namespace {

using nlohmann::json;

// The bits of `name` that `host` cannot give.
Result<std::size_t> missing_count(const std::string& name, const HostGrant& host) {
  return VMM_TRY(resolve_cpu(name, CpuPolicy::Strict, Topology{}, host)).missing.size();
}

Result<int> run_list(const std::string& host_file, bool as_json) {
  const Result<ChosenHost> host = choose_host(host_file);
  if (!host && !host_file.empty()) return fail(host.error());
  std::vector<ModelRow> rows;
  json models = json::array();
  for (const std::string& name : model_names()) {
    ModelRow row{name, "", "", "what KVM supports on the host, so another on each", {}};
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
    if (host) row.missing = VMM_TRY(missing_count(row.name, host->grant));
    entry["missing_bits"] = row.missing ? json(*row.missing) : json(nullptr);
    rows.push_back(std::move(row));
    models.push_back(std::move(entry));
  }
  if (as_json) {
    json out = document("vmm-cpu-list");
    out["models"] = std::move(models);
    out["host"] = host ? to_json(*host) : json(nullptr);
    out["host_error"] = host ? json(nullptr) : json(host.error().text());
    print_json(out);
    return 0;
  }
  print_lines(list_lines(rows, host_file.empty() ? "THIS HOST" : "THE HOST"));
  if (host)
    fmt::print("\nThe last column is of {}; vmm cpu check says for each bit who refuses it.\n",
               host->text());
  else
    fmt::print("\nWhat this host can give is not known: {}\n", host.error().text());
  return 0;
}

struct ListOptions {
  std::string host;
  bool as_json = false;
};

}  // namespace

std::string ChosenHost::text() const {
  const std::string what = fmt::format("({}, Linux {})", backend_name(grant.backend), grant.kernel);
  return file.empty() ? "this host " + what
                      : fmt::format("the host of {} {}", printable(file), what);
}

Result<ChosenHost> choose_host(const std::string& file) {
  if (file.empty()) return ChosenHost{VMM_TRY(read_host_grant()), ""};
  return ChosenHost{VMM_TRY(read_host_dump(file)), file};
}

void add_host_option(CLI::App& command, std::string& file) {
  command.add_option("--host", file, "a file of vmm cpu dump-host, in place of this host")
      ->type_name("FILE")
      ->check([](const std::string& path) { return std::string(path.empty() ? "no file" : ""); });
}

Result<std::vector<PathUse>> host_paths(const std::string& file) {
  if (file.empty()) return std::vector<PathUse>();
  return input_path(file, ErrorKind::Usage);
}

Result<std::vector<PathUse>> host_and_model_paths(const std::string& file,
                                                  const std::vector<std::string>& selections) {
  std::vector<PathUse> paths = VMM_TRY(host_paths(file));
  for (const std::string& selection : selections) add_paths(paths, VMM_TRY(model_paths(selection)));
  return paths;
}

void print_lines(const std::vector<std::string>& lines) {
  for (const std::string& line : lines) fmt::print("{}\n", line);
}

json document(std::string_view schema) { return {{"schema", schema}, {"version", 1}}; }

json to_json(const MissingBit& bit) {
  return {{"name", bit.name},
          {"word", bit.word},
          {"refused_by", bit.refused_by},
          {"reason", bit.reason},
          {"remedy", bit.remedy}};
}

json to_json(const ChosenHost& host) {
  return {{"file", host.file.empty() ? json(nullptr) : json(host.file)},
          {"backend", backend_name(host.grant.backend)},
          {"kernel", host.grant.kernel}};
}

void print_json(const json& value) {
  fmt::print("{}\n", value.dump(2, ' ', false, json::error_handler_t::replace));
}

void add_cpu_command(CLI::App& app, Command& chosen, const std::vector<std::string>& command_line) {
  CLI::App* cpu =
      app.add_subcommand("cpu", "CPU models: what they are, and what a host makes of them");
  cpu->require_subcommand(1);
  auto options = std::make_shared<ListOptions>();

  CLI::App* list = cpu->add_subcommand("list", "the models there are, and which of them run here");
  add_host_option(*list, options->host);
  list->add_flag("--json", options->as_json, "print JSON");
  list->callback([options, &chosen] {
    chosen.run = [options] { return run_list(options->host, options->as_json); };
    chosen.paths = [options] { return host_paths(options->host); };
  });

  add_cpu_show(*cpu, chosen);
  add_cpu_diff(*cpu, chosen);
  add_cpu_lint(*cpu, chosen);
  add_cpu_check(*cpu, chosen);
  add_cpu_why(*cpu, chosen);
  add_cpu_probe(*cpu, chosen);
  add_cpu_dump_host(*cpu, chosen);
  add_cpu_export(*cpu, chosen);
  add_cpu_import(*cpu, chosen);
  add_cpu_baseline(*cpu, chosen);
  add_cpu_verify(*cpu, chosen);
  add_cpu_bisect(*cpu, chosen, command_line);
}

}  // namespace vmm
