// A matrix on a Slurm cluster: its shards as the tasks of one array job, each an ordinary `vmm
// matrix run` with a journal of its own in a folder that the nodes share. Talks to the cluster by
// sbatch, squeue and scancel.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "vmm/base/result.h"

namespace vmm {

struct SlurmSpec {
  std::string directory;  // of the run; a shard's is the number of it in there
  unsigned shards = 1;
  unsigned jobs = 1;                        // cells at a time in a shard, and cores it asks for
  std::vector<std::string> words;           // behind `vmm matrix run`: the matrix, filters
  std::vector<std::string> sbatch_options;  // "--partition=kvm"
};

// The script of the array job. A task that is started anew, by Slurm after a node's death or by
// --resume, goes on with its shard's journal.
std::string slurm_script(const SlurmSpec& spec, const std::string& vmm);

struct SlurmResult {
  std::string job;            // its number
  std::optional<int> signal;  // that ended the wait; the job is cancelled then
};
// Submits the job and waits until no task of it is in the queue any more. `on_look` is called after
// each look at the queue with the number of tasks that are in it. Errors: Host where there is no
// Slurm here or it refuses the job (its own words), Internal where the script cannot be written,
// Lab when the cluster does not answer for a minute (the job goes on).
Result<SlurmResult> run_on_slurm(const SlurmSpec& spec,
                                 const std::function<void(std::size_t waiting)>& on_look);

}  // namespace vmm
