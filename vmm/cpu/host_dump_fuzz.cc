// Host dumps and locks, as hostile as files can be, and what is made of those that read.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "vmm/cpu/baseline.h"
#include "vmm/cpu/cpu_lock.h"
#include "vmm/cpu/cpu_model.h"
#include "vmm/cpu/drift.h"
#include "vmm/cpu/host_dump.h"
#include "vmm/cpu/selection.h"

namespace {

void require(bool holds) {
  if (!holds) std::abort();
}

void try_host(const vmm::HostGrant& host) {
  const std::string text = vmm::host_dump_text(host);
  const auto again = vmm::parse_host_dump(text, "again.json");
  require(again && *again == host);
  for (const char* const model : {"host", "host,+vmx", "host,+svm", "icelake-server", "epyc"})
    for (const auto policy : {vmm::CpuPolicy::Mask, vmm::CpuPolicy::Force})
      require(vmm::resolve_cpu(model, policy, vmm::Topology{6, 1, 3, 2}, host).has_value());
  const vmm::BaselineHost named{"a.json", host};
  const auto baseline = vmm::find_baseline({&named, 1});
  require(baseline.has_value());
  require(vmm::parse_cpu_model(vmm::baseline_text(*baseline, {&named, 1}), "a.toml").has_value());
  const auto lock = vmm::make_cpu_lock("host", vmm::CpuPolicy::Mask, {}, host);
  require(lock.has_value());
  const auto same = vmm::parse_cpu_lock(vmm::cpu_lock_text(*lock), "a.lock");
  require(same.has_value());
  const auto drift = vmm::find_drift(*same, host);
  require(drift && !drift->guest_changed());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (const auto host = vmm::parse_host_dump(text, "fuzz.json")) try_host(*host);
  const auto lock = vmm::parse_cpu_lock(text, "fuzz.lock");
  if (!lock) return 0;
  require(vmm::parse_cpu_lock(vmm::cpu_lock_text(*lock), "again.lock").has_value());
  // Nothing on this machine's disk is to be read.
  const auto selection = vmm::parse_cpu_selection(lock->selection);
  if (selection && vmm::model_file_of(selection->model)) return 0;
  if (const auto drift = vmm::find_drift(*lock, lock->host)) (void)vmm::drift_lines(*drift, *lock);
  return 0;
}
