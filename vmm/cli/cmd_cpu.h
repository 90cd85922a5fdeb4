// What the commands of `vmm cpu` share.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/base/result.h"
#include "vmm/cli/commands.h"
#include "vmm/cpu/resolve.h"

namespace vmm {

// Each adds one command to `cpu`.
// What stands behind the first -- is a guest, and not for CLI11 to parse.
void add_cpu_bisect(CLI::App& cpu, Command& chosen, const std::vector<std::string>& command_line);
void add_cpu_diff(CLI::App& cpu, Command& chosen);
void add_cpu_lint(CLI::App& cpu, Command& chosen);
void add_cpu_probe(CLI::App& cpu, Command& chosen);
void add_cpu_show(CLI::App& cpu, Command& chosen);
void add_cpu_why(CLI::App& cpu, Command& chosen);
void add_cpu_check(CLI::App& cpu, Command& chosen);
void add_cpu_dump_host(CLI::App& cpu, Command& chosen);
void add_cpu_export(CLI::App& cpu, Command& chosen);
void add_cpu_import(CLI::App& cpu, Command& chosen);
void add_cpu_baseline(CLI::App& cpu, Command& chosen);
void add_cpu_verify(CLI::App& cpu, Command& chosen);

// The host that a command speaks of: this one, or one that was dumped to a file.
struct ChosenHost {
  HostGrant grant;
  std::string file;  // empty: this host

  // "this host (pvm, Linux 6.18)", "the host of icelake.json (vmx, Linux 6.1)"
  std::string text() const;
};

// Reads the dump in `file` or, when that is empty, asks /dev/kvm.
Result<ChosenHost> choose_host(const std::string& file);
// For --host, with the same words in each command.
void add_host_option(CLI::App& command, std::string& file);
// The file of --host, for a lab; nothing when there is none.
Result<std::vector<PathUse>> host_paths(const std::string& file);
// The same and the model files that the selections name.
Result<std::vector<PathUse>> host_and_model_paths(const std::string& file,
                                                  const std::vector<std::string>& selections);

void print_lines(const std::vector<std::string>& lines);
// {"schema": SCHEMA, "version": 1}
nlohmann::json document(std::string_view schema);
nlohmann::json to_json(const MissingBit& bit);
// {"file": null, "backend": "pvm", "kernel": "6.18"}
nlohmann::json to_json(const ChosenHost& host);
// On stdout. What a CPUID holds need not be UTF-8.
void print_json(const nlohmann::json& value);

}  // namespace vmm
