#include "vmm/matrix/slurm.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <filesystem>

#include "vmm/base/fd.h"
#include "vmm/base/process.h"
#include "vmm/base/text.h"
#include "vmm/machine/spec.h"
#include "vmm/matrix/stop_signals.h"

namespace vmm {
namespace {

using namespace std::chrono_literals;

constexpr auto kToolLimit = 60s;
constexpr auto kBetweenLooks = 1000ms;
// How long a cluster may not answer.
constexpr auto kPatience = 60s;

Error no_slurm() {
  return Error::host("--engine slurm: there is no sbatch here")
      .hint(
          "apt-get install slurm-client, and a cluster's slurm.conf; or share by --shard and "
          "merge");
}

// "sbatch: error: ..." of a tool that failed.
Error refusal(const char* tool, const ToolRun& run) {
  return Error::host(fmt::format("{} failed: {}", tool, printable(run.death, 400)));
}

Result<std::string> submit(const SlurmSpec& spec, const std::string& script, int cancel) {
  std::vector<std::string> words = {"sbatch",
                                    "--parsable",
                                    fmt::format("--array=1-{}", spec.shards),
                                    fmt::format("--cpus-per-task={}", spec.jobs),
                                    "--requeue",
                                    "--job-name=vmm-matrix",
                                    "--chdir=" + std::filesystem::current_path().string(),
                                    "--output=" + spec.directory + "/slurm-%a.log",
                                    "--open-mode=append"};
  words.insert(words.end(), spec.sbatch_options.begin(), spec.sbatch_options.end());
  words.push_back(script);
  const ToolRun run = VMM_TRY(run_tool(words, {}, kToolLimit, cancel));
  if (!run.ok) return fail(refusal("sbatch", run));
  // "4711" or "4711;cluster".
  const std::string_view job = trim(split(run.output, ';').front());
  if (job.empty() ||
      !std::all_of(job.begin(), job.end(), [](char c) { return c >= '0' && c <= '9'; }))
    return fail(Error::host(
        fmt::format("sbatch said '{}', which is no number of a job", printable(run.output))));
  return std::string(job);
}

// How many tasks are in the queue; nothing when the cluster did not answer.
std::optional<std::size_t> look(const std::string& job) {
  const auto run =
      run_tool({"squeue", "--noheader", "--array", "--jobs=" + job, "--format=%T"}, {}, kToolLimit);
  if (!run) return std::nullopt;
  // A job that has left the queue long enough is no longer known.
  if (!run->ok)
    return run->death.find("Invalid job id") != std::string::npos ? std::optional<std::size_t>(0)
                                                                  : std::nullopt;
  return static_cast<std::size_t>(std::count(run->output.begin(), run->output.end(), '\n'));
}

}  // namespace

std::string slurm_script(const SlurmSpec& spec, const std::string& vmm) {
  std::vector<std::string> words = {vmm, "matrix", "run"};
  words.insert(words.end(), spec.words.begin(), spec.words.end());
  words.insert(words.end(), {"-q", "-j", std::to_string(spec.jobs)});
  const std::string directory = shell_line({spec.directory});
  return fmt::format(
      "#!/bin/sh\n"
      "# A shard of a matrix, as a task of a Slurm array job.\n"
      "out={0}/$SLURM_ARRAY_TASK_ID\n"
      "if [ -e \"$out/journal.jsonl\" ]; then\n"
      "  exec {1} --out \"$out\" --resume\n"
      "fi\n"
      "exec {2} --out \"$out\" --shard \"$SLURM_ARRAY_TASK_ID/{3}\"\n",
      directory,
      // What a shard has to do stands in its journal: the matrix alone.
      shell_line({vmm, "matrix", "run", spec.words.front(), "-q", "-j", std::to_string(spec.jobs)}),
      shell_line(words), spec.shards);
}

Result<SlurmResult> run_on_slurm(const SlurmSpec& spec,
                                 const std::function<void(std::size_t)>& on_look) {
  if (!find_program("sbatch")) return fail(no_slurm());
  const StopSignals signals = VMM_TRY(StopSignals::take());
  const std::string script = spec.directory + "/slurm.sh";
  const std::string text =
      slurm_script(spec, std::filesystem::read_symlink("/proc/self/exe").string());
  if (const auto written =
          write_file(script, {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()});
      !written)
    return fail(Error::internal(written.error().text()));
  SlurmResult result;
  result.job = VMM_TRY(submit(spec, script, signals.fd()));
  auto answered = std::chrono::steady_clock::now();
  for (;;) {
    const auto waiting = look(result.job);
    const auto now = std::chrono::steady_clock::now();
    if (waiting) {
      answered = now;
      on_look(*waiting);
      if (*waiting == 0) return result;
    } else if (now - answered > kPatience) {
      return fail(Error::lab(fmt::format("squeue has not answered for {} s; job {} goes on",
                                         kPatience.count(), result.job))
                      .hint("the same command with --resume gathers what it did"));
    }
    if (VMM_TRY(wait_for_cancel(signals.fd(), kBetweenLooks))) {
      result.signal = signals.taken().value_or(SIGTERM);
      (void)run_tool({"scancel", result.job}, {}, kToolLimit);
      return result;
    }
  }
}

}  // namespace vmm
