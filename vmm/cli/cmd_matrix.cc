// vmm matrix: guests x CPU models x vCPUs x interrupt chips x hosts, one file, one report.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>
#include <thread>

#include "vmm/base/text.h"
#include "vmm/cli/commands.h"
#include "vmm/cli/matrix_progress.h"
#include "vmm/cpu/resolve.h"
#include "vmm/kvm/kvm.h"
#include "vmm/machine/host.h"
#include "vmm/machine/host_probe.h"
#include "vmm/machine/spec.h"
#include "vmm/matrix/expand.h"
#include "vmm/matrix/plan.h"
#include "vmm/matrix/report_json.h"
#include "vmm/matrix/reports.h"
#include "vmm/matrix/run_diff.h"
#include "vmm/matrix/run_directory.h"
#include "vmm/matrix/run_merge.h"
#include "vmm/matrix/runner.h"
#include "vmm/matrix/selection.h"
#include "vmm/matrix/slurm.h"
#include "vmm/matrix/summary.h"

namespace vmm {
namespace {

// Of a Slurm job.
constexpr unsigned kDefaultShards = 8;

struct Options {
  std::string file;
  std::vector<std::string> runs;  // report, diff, merge: folders
  std::string out;
  std::vector<std::string> only;
  std::vector<std::string> groups;
  std::string shard;
  std::string engine = "local";
  unsigned shards = kDefaultShards;
  std::vector<std::string> sbatch;
  unsigned jobs = 0;
  unsigned repeat = 1;
  bool resume = false;
  bool failed = false;
  bool fail_fast = false;
  bool fail_on_flaky = false;
  bool cells = false;
  bool quiet = false;
  bool as_json = false;
};

// Kibibytes of MemAvailable; 0 when unknown.
std::uint64_t memory_available() {
  std::ifstream file("/proc/meminfo");
  std::string name, unit;
  std::uint64_t value = 0;
  while (file >> name >> value) {
    if (name == "MemAvailable:") return value;
    std::getline(file, unit);
  }
  return 0;
}

// A cell a core, as far as their memory is there at the same time.
unsigned default_jobs(const MatrixSpec& spec, const Expansion& expansion,
                      const std::vector<std::size_t>& chosen) {
  std::uint64_t largest = 256u << 20;
  for (const std::size_t index : chosen)
    if (const std::string_view memory = cell_value(spec, expansion.cells[index], "mem");
        !memory.empty())
      largest = std::max(largest, parse_size(memory).value_or(0));
  const std::uint64_t available = memory_available();
  const std::uint64_t by_memory =
      available == 0 ? 1000 : (available << 10) / (largest + (64u << 20));
  const unsigned cores = std::max(std::thread::hardware_concurrency(), 1u);
  return static_cast<unsigned>(std::clamp<std::uint64_t>(by_memory, 1, cores));
}

struct Chosen {
  MatrixSpec spec;
  Expansion expansion;
  Selection selection;
  std::vector<std::size_t> cells;
};

Result<Chosen> choose(const Options& o, std::vector<std::string> ids = {}) {
  Chosen chosen;
  chosen.spec = VMM_TRY(read_matrix(o.file));
  chosen.expansion = VMM_TRY(expand(chosen.spec));
  for (const std::string& text : o.only) chosen.selection.only.push_back(VMM_TRY(parse_only(text)));
  chosen.selection.groups = o.groups;
  chosen.selection.ids = std::move(ids);
  if (!o.shard.empty()) VMM_TRY(parse_shard(o.shard, chosen.selection));
  chosen.cells = VMM_TRY(select(chosen.spec, chosen.expansion, chosen.selection));
  return chosen;
}

// What this host's KVM is, for the header of a run.
std::string host_text(const std::optional<HostGrant>& host) {
  return host ? fmt::format("{}, Linux {}", backend_name(host->backend), host->kernel) : "no KVM";
}

std::optional<HostGrant> local_host() {
  const auto kvm = Kvm::open();
  if (!kvm) return std::nullopt;
  auto grant = read_host_grant(*kvm);
  if (!grant) return std::nullopt;
  return std::move(*grant);
}

// Why this host would skip a CPU.
SkipReason skip_reason(const std::optional<HostGrant>& host) {
  return [&host](const std::string& model, const std::string& policy) -> std::string {
    if (!host) return "there is no usable /dev/kvm";
    const auto rule = parse_policy(policy.empty() ? "strict" : policy);
    if (!rule) return rule.error().text();
    const std::string name = model.empty() ? "host" : model;
    const auto cpu = resolve_cpu(name, *rule, Topology{}, *host);
    if (!cpu) return fmt::format("{}: {}", name, cpu.error().text());
    if (*rule != CpuPolicy::Strict || cpu->missing.empty()) return {};
    std::vector<std::string> names;
    for (const MissingBit& bit : cpu->missing) names.push_back(bit.name);
    return fmt::format("{}: this host cannot give {}", name, fmt::join(names, ", "));
  };
}

Result<int> plan(const Options& o) {
  const Chosen chosen = VMM_TRY(choose(o));
  if (o.cells) {
    for (const std::size_t index : chosen.cells)
      fmt::print("{}\n", cell_id(chosen.spec, chosen.expansion.cells[index]));
    return 0;
  }
  const std::optional<HostGrant> host = local_host();
  const unsigned jobs =
      o.jobs != 0 ? o.jobs : default_jobs(chosen.spec, chosen.expansion, chosen.cells);
  const MatrixPlan plan = make_plan(chosen.spec, chosen.expansion, chosen.cells,
                                    known_times(chosen.spec.name), jobs, skip_reason(host));
  if (o.as_json)
    fmt::print("{}\n", to_json(plan).dump(2));
  else
    fmt::print("{}", plan_text(plan));
  return plan.missing_files.empty() ? 0 : exit_code(ErrorKind::Usage);
}

// The run so far: its journal, open for more, and which cells are left.
struct OpenRun {
  std::string directory;
  Journal journal;
  RunHeader header;
  std::set<std::string> done;
};

Result<OpenRun> resume(const Options& o, const Chosen& chosen) {
  const std::string directory = !o.out.empty() ? o.out : VMM_TRY(latest_run(chosen.spec.name));
  const RunRecord run = VMM_TRY(read_journal(directory));
  if (run.header.digest != matrix_digest(chosen.spec, chosen.expansion))
    return fail(
        Error::usage(fmt::format("--resume: the journal in {} is of another matrix, or {} was "
                                 "changed since",
                                 directory, chosen.spec.file))
            .hint("run it anew, without --resume"));
  Journal journal = VMM_TRY(Journal::reopen(directory));
  OpenRun open{
      .directory = directory, .journal = std::move(journal), .header = run.header, .done = {}};
  for (const CellRecord& cell : run.cells) open.done.insert(cell.id);
  return open;
}

Result<OpenRun> begin(const Options& o, const Chosen& chosen, const std::string& what) {
  RunHeader header;
  header.matrix = chosen.spec.name;
  header.file = chosen.spec.file;
  header.digest = matrix_digest(chosen.spec, chosen.expansion);
  for (const std::size_t index : chosen.cells)
    header.cells.push_back(cell_id(chosen.spec, chosen.expansion.cells[index]));
  header.all_cells = chosen.expansion.cells.size();
  header.selection = what.empty() ? chosen.selection.text() : what;
  header.shard = chosen.selection.shard;
  header.shards = chosen.selection.shards;
  header.vmm = VMM_VERSION;
  header.host = host_text(local_host());
  header.started = unix_time();
  std::string directory = VMM_TRY(make_run_directory(chosen.spec.name, o.out));
  Journal journal = VMM_TRY(Journal::create(directory, header));
  return OpenRun{.directory = std::move(directory),
                 .journal = std::move(journal),
                 .header = std::move(header),
                 .done = {}};
}

Result<int> run_chosen(const Options& o, const Chosen& chosen, OpenRun open) {
  const CellTimes times = known_times(chosen.spec.name);
  std::map<std::string, std::size_t> by_id;
  for (std::size_t i = 0; i < chosen.expansion.cells.size(); ++i)
    by_id[cell_id(chosen.spec, chosen.expansion.cells[i])] = i;
  std::vector<std::size_t> cells, numbers;
  for (std::size_t i = 0; i < open.header.cells.size(); ++i) {
    const std::string& id = open.header.cells[i];
    const auto known = by_id.find(id);
    if (open.done.contains(id) || known == by_id.end()) continue;
    cells.push_back(known->second);
    numbers.push_back(i);
  }
  RunnerOptions options;
  options.directory = open.directory;
  options.jobs = o.jobs != 0 ? o.jobs : default_jobs(chosen.spec, chosen.expansion, cells);
  options.repeat = o.repeat;
  options.fail_fast = o.fail_fast;
  if (!o.quiet)
    fmt::print(stderr, "vmm: matrix {}: {} cells{}, -j {}, in {}\n", chosen.spec.name, cells.size(),
               open.done.empty() ? "" : fmt::format(" ({} are done)", open.done.size()),
               options.jobs, open.directory);
  RunnerReport report;
  {
    ProgressDisplay display(!o.quiet);
    report = VMM_TRY(run_cells(
        chosen.spec, chosen.expansion, cells, numbers, options, times, open.journal,
        [&](const CellRecord& cell) { display.cell(cell); },
        [&](const RunnerProgress& progress) { display.progress(progress); }));
  }
  const bool whole = !report.signal && !report.stopped_early;
  if (whole) VMM_TRY(open.journal.finish(unix_time()));
  const RunRecord run = VMM_TRY(read_journal(open.directory));
  VMM_TRY(write_reports(run, open.directory));
  fmt::print("{}", run_summary(run));
  if (!o.quiet) fmt::print("report: {}/report.html\n", open.directory);
  if (!whole)
    fmt::print(stderr, "hint: vmm matrix run {} --resume goes on{}\n", printable(o.file),
               o.out.empty() ? "" : " (with --out " + printable(o.out) + ")");
  if (report.signal) return 128 + *report.signal;
  return run_exit_code(run, o.fail_on_flaky);
}

Result<void> check_files(const Chosen& chosen) {
  const auto missing = missing_files(chosen.spec, chosen.expansion, chosen.cells);
  if (missing.empty()) return {};
  std::vector<std::string> names;
  for (std::size_t i = 0; i < std::min<std::size_t>(missing.size(), 5); ++i)
    names.push_back(printable(missing[i]));
  return fail(Error::usage(fmt::format("{}: {} of its images cannot be read: {}{}",
                                       chosen.spec.file, missing.size(), fmt::join(names, ", "),
                                       missing.size() > names.size() ? ", ..." : ""))
                  .hint("paths in a matrix start from its own folder"));
}

// The cells of an earlier run again, in a run of their own.
Result<int> rerun(const Options& o) {
  const MatrixSpec spec = VMM_TRY(read_matrix(o.file));
  const std::string before = !o.runs.empty() ? o.runs.front() : VMM_TRY(latest_run(spec.name));
  const RunRecord run = VMM_TRY(read_journal(before));
  std::vector<std::string> ids;
  for (const CellRecord& cell : run.cells)
    if (!o.failed || is_failure(cell.verdict) || cell.verdict == CellVerdict::Infra ||
        cell.verdict == CellVerdict::Flaky)
      ids.push_back(cell.id);
  if (ids.empty()) {
    fmt::print(stderr, "vmm: matrix {}: no cell of {} failed\n", spec.name, before);
    return 0;
  }
  const Chosen chosen = VMM_TRY(choose(o, std::move(ids)));
  VMM_TRY(check_files(chosen));
  OpenRun open = VMM_TRY(begin(
      o, chosen, fmt::format("{} of {}", o.failed ? "those that failed" : "the cells", before)));
  return run_chosen(o, chosen, std::move(open));
}

Result<int> report(const Options& o) {
  const std::string& directory = o.runs.front();
  const RunRecord run = VMM_TRY(read_journal(directory));
  VMM_TRY(write_reports(run, directory));
  fmt::print("{}", run_summary(run));
  fmt::print("report: {}/report.html\n", directory);
  return 0;
}

Result<int> diff(const Options& o) {
  const RunRecord before = VMM_TRY(read_journal(o.runs[0]));
  const RunRecord after = VMM_TRY(read_journal(o.runs[1]));
  const RunDiff diff = diff_runs(before, after);
  if (o.as_json)
    fmt::print("{}", json_text(run_diff_json(diff)));
  else
    fmt::print("{}", run_diff_text(diff));
  return diff.now_failing.empty() ? 0 : 1;
}

// The files of the cells of a shard, under the number of the shard.
Result<void> copy_cells(const std::string& from, const std::string& to) {
  namespace fs = std::filesystem;
  std::error_code error;
  if (!fs::exists(fs::path(from) / "cells", error)) return {};
  fs::create_directories(to, error);
  if (!error)
    fs::copy(fs::path(from) / "cells", fs::path(to) / "cells",
             fs::copy_options::recursive | fs::copy_options::skip_symlinks, error);
  if (error)
    return fail(Error::usage(
        fmt::format("the files of {} cannot be copied to {}: {}", from, to, error.message())));
  return {};
}

// Makes one run in `out` of shards whose cells' files are in there already, and says how it went.
Result<int> gather(const std::string& out, const MergedRun& merged, bool fail_on_flaky) {
  Journal journal = VMM_TRY(Journal::create(out, merged.run.header));
  for (const CellRecord& cell : merged.run.cells) VMM_TRY(journal.add(cell));
  if (merged.run.finished > 0) VMM_TRY(journal.finish(merged.run.finished));
  VMM_TRY(write_reports(merged.run, out));
  fmt::print("{}report: {}/report.html\n", run_summary(merged.run), out);
  const std::string missing = merged.text();
  if (!missing.empty()) fmt::print(stderr, "{}", missing);
  // Cells without a verdict are no pass.
  const int code = run_exit_code(merged.run, fail_on_flaky);
  return code == 0 && !missing.empty() ? exit_code(ErrorKind::Lab) : code;
}

Result<int> merge(const Options& o) {
  const std::vector<std::string> names(o.runs.begin() + 1, o.runs.end());
  std::vector<RunRecord> runs;
  for (const std::string& name : names) runs.push_back(VMM_TRY(read_journal(name)));
  // What cannot be merged leaves no folder behind.
  const MergedRun merged = VMM_TRY(merge_runs(runs, names));
  const std::string out = VMM_TRY(make_run_directory(merged.run.header.matrix, o.runs.front()));
  for (std::size_t i = 0; i < names.size(); ++i)
    VMM_TRY(copy_cells(names[i], fmt::format("{}/{}", out, i + 1)));
  return gather(out, merged, o.fail_on_flaky);
}

// The journals of the shards that began; the names of their folders.
Result<int> gather_shards(const Options& o, const std::string& out, unsigned shards) {
  std::vector<RunRecord> runs;
  std::vector<std::string> names;
  for (unsigned shard = 1; shard <= shards; ++shard) {
    std::string name = fmt::format("{}/{}", out, shard);
    auto run = read_journal(name);
    if (!run) {
      fmt::print(stderr, "vmm: shard {}/{} left no journal: {}/slurm-{}.log may say why\n", shard,
                 shards, out, shard);
      continue;
    }
    runs.push_back(std::move(*run));
    names.push_back(std::move(name));
  }
  if (runs.empty())
    return fail(Error::lab("no task of the Slurm job left a journal")
                    .hint(fmt::format(
                        "see {}/slurm-1.log; the folder has to be shared by the nodes", out)));
  // A merge of an earlier try gives way.
  std::error_code error;
  std::filesystem::remove(std::filesystem::path(out) / kJournalName, error);
  const MergedRun merged = VMM_TRY(merge_runs(runs, names));
  return gather(out, merged, o.fail_on_flaky);
}

Result<int> run_by_slurm(const Options& o, const Chosen& chosen) {
  if (!o.shard.empty())
    return fail(Error::usage("--engine slurm makes the shards itself: --shards N, not --shard"));
  if (o.resume && o.out.empty())
    return fail(Error::usage("--engine slurm --resume needs --out: the folder of that run"));
  SlurmSpec spec;
  spec.shards = static_cast<unsigned>(std::min<std::size_t>(o.shards, chosen.cells.size()));
  spec.jobs = o.jobs != 0 ? o.jobs : 1;
  spec.sbatch_options = o.sbatch;
  spec.words.push_back(o.file);
  const auto add = [&](const char* option, const std::vector<std::string>& values) {
    for (const std::string& value : values) spec.words.insert(spec.words.end(), {option, value});
  };
  add("--only", o.only);
  add("--group", o.groups);
  if (o.repeat > 1) add("--repeat", {std::to_string(o.repeat)});
  const std::string folder =
      o.resume ? o.out : VMM_TRY(make_run_directory(chosen.spec.name, o.out));
  spec.directory = std::filesystem::absolute(folder).string();
  if (!o.quiet)
    fmt::print(stderr, "vmm: matrix {}: {} cells in {} shards by Slurm, -j {} each, in {}\n",
               chosen.spec.name, chosen.cells.size(), spec.shards, spec.jobs, folder);
  const bool terminal = ::isatty(STDERR_FILENO) == 1;
  const auto result = run_on_slurm(spec, [&](std::size_t waiting) {
    if (terminal && !o.quiet)
      fmt::print(stderr, "\r{} of {} shards are not done\x1b[K", waiting, spec.shards);
  });
  if (terminal && !o.quiet) fmt::print(stderr, "\r\x1b[K");
  const SlurmResult job = VMM_TRY(result);
  const Result<int> code = gather_shards(o, folder, spec.shards);
  if (!job.signal) return code;
  fmt::print(stderr,
             "vmm: Slurm job {} was cancelled\nhint: the same command with --resume and --out {} "
             "goes on\n",
             job.job, printable(folder));
  return 128 + *job.signal;
}

Result<int> run(const Options& o) {
  const bool by_slurm = lower(o.engine) == "slurm";
  if (!by_slurm && lower(o.engine) != "local")
    return fail(Error::usage(fmt::format("--engine '{}' is unknown", printable(o.engine)))
                    .hint("write local or slurm"));
  if (!by_slurm && (o.shards != kDefaultShards || !o.sbatch.empty()))
    return fail(Error::usage("--shards and --sbatch are for --engine slurm")
                    .hint("--shard I/N runs one shard here"));
  if (!by_slurm && o.resume && (!o.only.empty() || !o.groups.empty() || !o.shard.empty()))
    return fail(
        Error::usage("--resume goes on with the cells that the run has; it takes no --only, "
                     "--group or --shard"));
  const Chosen chosen = VMM_TRY(choose(o));
  VMM_TRY(check_files(chosen));
  if (by_slurm) return run_by_slurm(o, chosen);
  OpenRun open = o.resume ? VMM_TRY(resume(o, chosen)) : VMM_TRY(begin(o, chosen, {}));
  return run_chosen(o, chosen, std::move(open));
}

void add_filters(CLI::App& app, Options& o) {
  const auto list = [&](const char* name, std::vector<std::string>& values, const char* help) {
    app.add_option(name, values, help)->type_size(1)->allow_extra_args(false);
  };
  list("--only", o.only,
       "AXIS=PATTERN: cells with a value that fits, such as smp=2 or 'guest=vmx-*'");
  list("--group", o.groups, "cells of guests in this group");
  app.add_option("--shard", o.shard, "I/N: every N-th of them, from the I-th on");
  app.add_option("-j,--jobs", o.jobs, "so many at a time (default by cores and memory)")
      ->check(CLI::Range(1u, 1024u));
}

void add_run_options(CLI::App& app, Options& o) {
  add_filters(app, o);
  app.add_option("--out", o.out, "folder of the run (default vmm-matrix/NAME/TIME)");
  app.add_option("--repeat", o.repeat, "run each cell so many times; FLAKY where they disagree")
      ->check(CLI::Range(1u, 1'000'000u));
  app.add_flag("--fail-fast", o.fail_fast, "begin nothing new after the first failure");
  app.add_flag("--fail-on-flaky", o.fail_on_flaky, "a FLAKY cell makes it exit with 1");
  app.add_flag("-q,--quiet", o.quiet, "no lines for cells that pass");
}

}  // namespace

void add_matrix_command(CLI::App& app, Command& chosen) {
  CLI::App* matrix = app.add_subcommand(
      "matrix", "run guests under every CPU model, shape and host of a file, with one report");
  matrix->require_subcommand(1);
  auto options = std::make_shared<Options>();
  const auto add = [&](const char* name, const char* help, Result<int> (*action)(const Options&)) {
    CLI::App* command = matrix->add_subcommand(name, help);
    command->callback([options, action, &chosen] {
      chosen.run = [options, action] { return action(*options); };
    });
    return command;
  };
  Options& o = *options;
  const auto takes_file = [&](CLI::App* command) {
    command->add_option("MATRIX", o.file, "the file, docs/matrix.md")->required();
  };

  CLI::App* plan_command =
      add("plan", "what would run here, what not and why, how long it takes", plan);
  takes_file(plan_command);
  add_filters(*plan_command, o);
  plan_command->add_flag("--cells", o.cells, "the names of the cells, one a line");
  plan_command->add_flag("--json", o.as_json, "for programs");

  CLI::App* run_command = add("run", "run it, and report", run);
  takes_file(run_command);
  add_run_options(*run_command, o);
  run_command->add_option("--engine", o.engine,
                          "local: cells run here; slurm: shards as an array job (default local)");
  run_command->add_option("--shards", o.shards, "of a Slurm job (default 8)")
      ->check(CLI::Range(1u, 100'000u));
  run_command
      ->add_option("--sbatch", o.sbatch,
                   "an option for sbatch, such as --sbatch=--partition=kvm; repeatable")
      ->type_size(1)
      ->allow_extra_args(false);
  run_command->add_flag("--resume", o.resume,
                        "go on where the last run, or the one in --out, stopped");

  CLI::App* rerun_command = add("rerun", "run the cells of the last run again", rerun);
  takes_file(rerun_command);
  rerun_command->add_option("RUN", o.runs, "folder of that run (default the latest)")
      ->expected(0, 1);
  rerun_command->add_flag("--failed", o.failed, "those that failed, were flaky or got no verdict");
  add_run_options(*rerun_command, o);

  CLI::App* report_command =
      add("report", "make the reports of a run anew, from its journal", report);
  report_command->add_option("RUN", o.runs, "its folder")->required()->expected(1);

  CLI::App* diff_command =
      add("diff", "what is different in a second run; exits with 1 if a cell fails now", diff);
  diff_command->add_option("RUNS", o.runs, "folders of both")->required()->expected(2);
  diff_command->add_flag("--json", o.as_json, "for programs");

  CLI::App* merge_command = add("merge", "one run out of the shards of one", merge);
  merge_command->add_option("OUT RUNS", o.runs, "folder to make, folders of the shards")
      ->required()
      ->expected(2, 100'000);
  merge_command->add_flag("--fail-on-flaky", o.fail_on_flaky, "a FLAKY cell makes it exit with 1");
}

}  // namespace vmm
