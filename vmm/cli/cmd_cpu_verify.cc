// vmm cpu verify: a CPU as it was when a lock was written, against what it would be today.
#include <fmt/format.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "vmm/base/fd.h"
#include "vmm/base/text.h"
#include "vmm/cli/cmd_cpu.h"
#include "vmm/cli/lab_paths.h"
#include "vmm/cpu/cpu_lock.h"
#include "vmm/cpu/drift.h"
#include "vmm/machine/spec.h"

namespace vmm {
namespace {

using nlohmann::json;

struct VerifyOptions {
  std::string lock;
  std::string model;  // of --write; empty: compare
  std::string policy = "strict";
  std::string smp = "1";
  std::string host;
  bool as_json = false;
};

Result<int> write_lock(const VerifyOptions& options) {
  const CpuPolicy policy = VMM_TRY(parse_policy(options.policy));
  const Topology topology = VMM_TRY(parse_topology(options.smp));
  const ChosenHost host = VMM_TRY(choose_host(options.host));
  const CpuLock lock = VMM_TRY(make_cpu_lock(options.model, policy, topology, host.grant));
  const std::string text = cpu_lock_text(lock);
  VMM_TRY(
      write_file(options.lock, {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()}));
  if (options.as_json) {
    json out = document("vmm-cpu-verify");
    out.update({{"lock", options.lock},
                {"selection", lock.selection},
                {"policy", policy_name(policy)},
                {"verdict", "written"},
                {"host", to_json(host)},
                {"model_digest", lock.model_digest},
                {"words_digest", words_digest(lock.words)}});
    print_json(out);
    return 0;
  }
  fmt::print("{}: {} as {} gives it under {}\n", printable(options.lock), lock.selection,
             host.text(), policy_name(policy));
  return 0;
}

json to_json(const Drift& drift) {
  json bits = json::array();
  for (const BitDrift& bit : drift.bits)
    bits.push_back({{"name", bit.name},
                    {"word", bit.word},
                    {"change", bit.came ? "came" : "went"},
                    {"cause", bit.cause},
                    {"reason", bit.reason}});
  json values = json::array();
  for (const ValueDrift& value : drift.values)
    values.push_back({{"word", value.word},
                      {"then", fmt::format("0x{:x}", value.then)},
                      {"now", fmt::format("0x{:x}", value.now)},
                      {"cause", value.cause}});
  json quirks = json::array();
  for (const QuirkDrift& quirk : drift.quirks)
    quirks.push_back({{"name", quirk.name},
                      {"now", quirk.off ? "off" : "on"},
                      {"guest_tells", quirk.guest_tells},
                      {"cause", quirk.cause},
                      {"with_it", quirk.with_it}});
  json host = json::array();
  for (const HostDrift& change : drift.host)
    host.push_back({{"what", change.what}, {"then", change.then}, {"now", change.now}});
  return {{"bits", bits},
          {"values", values},
          {"quirks", quirks},
          {"host_changes", host},
          {"model_changed", drift.model_changed},
          {"words_digest_now", drift.words_digest}};
}

// A lock that no longer describes its model is a matter of configuration; a host that gives another
// CPU is a host without what was asked.
int verdict_code(const Drift& drift) {
  if (drift.model_changed) return exit_code(ErrorKind::Usage);
  return drift.guest_changed() ? exit_code(ErrorKind::Host) : 0;
}

Result<int> compare(const VerifyOptions& options) {
  const CpuLock lock = VMM_TRY(read_cpu_lock(options.lock));
  const ChosenHost host = VMM_TRY(choose_host(options.host));
  const Drift drift = VMM_TRY_CONTEXT(find_drift(lock, host.grant), printable(options.lock));
  if (options.as_json) {
    json out = document("vmm-cpu-verify");
    out.update({{"lock", options.lock},
                {"selection", lock.selection},
                {"policy", policy_name(lock.policy)},
                {"verdict", drift.guest_changed() ? "drift" : "equal"},
                {"host", to_json(host)},
                {"words_digest", words_digest(lock.words)}});
    out.update(to_json(drift));
    print_json(out);
    return verdict_code(drift);
  }
  fmt::print("{} ({}): on {} the guest is {}\n", lock.selection, policy_name(lock.policy),
             host.text(),
             drift.guest_changed() ? "not the one that the lock says" : "as the lock says");
  print_lines(drift_lines(drift, lock));
  if (!drift.guest_changed() && !drift.host.empty()) fmt::print("None of it reaches the guest.\n");
  return verdict_code(drift);
}

Result<std::vector<PathUse>> paths_of(const VerifyOptions& options) {
  std::vector<PathUse> paths = VMM_TRY(host_paths(options.host));
  std::string selection = options.model;
  if (selection.empty()) {
    selection = VMM_TRY(read_cpu_lock(options.lock)).selection;
    paths.push_back({.kind = PathUse::Kind::Input, .path = options.lock});
  } else {
    paths.push_back({.kind = PathUse::Kind::Output, .path = options.lock});
  }
  add_paths(paths, VMM_TRY(model_paths(selection)));
  return paths;
}

}  // namespace

void add_cpu_verify(CLI::App& cpu, Command& chosen) {
  auto options = std::make_shared<VerifyOptions>();
  CLI::App* verify = cpu.add_subcommand(
      "verify", "compare a lock file with today: which bits came or went, and through whom");
  verify->add_option("LOCK", options->lock, "the lock file")->required()->type_name("");
  CLI::Option* write =
      verify
          ->add_option("--write", options->model,
                       "write LOCK anew, for NAME[@VERSION][,+feat,-feat,phys-bits=N] or a model "
                       "file")
          ->type_name("MODEL");
  verify->add_option("--cpu-policy", options->policy, "with --write: strict, mask or force")
      ->capture_default_str()
      ->needs(write);
  verify->add_option("--smp", options->smp, "with --write: N[,sockets=,cores=,threads=]")
      ->capture_default_str()
      ->needs(write);
  add_host_option(*verify, options->host);
  verify->add_flag("--json", options->as_json, "print JSON");
  verify->callback([options, write, &chosen] {
    const bool writes = write->count() != 0;
    chosen.run = [options, writes] { return writes ? write_lock(*options) : compare(*options); };
    chosen.paths = [options] { return paths_of(*options); };
  });
}

}  // namespace vmm
