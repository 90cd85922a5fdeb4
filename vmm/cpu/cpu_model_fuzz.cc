// Model files and --cpu-model arguments, both as hostile as files and arguments can be.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "vmm/cpu/cpu_model.h"
#include "vmm/cpu/resolve.h"
#include "vmm/cpu/selection.h"
#include "vmm/cpu/words.h"

namespace {

// A resolved CPU that a host could choke on is a finding.
void check(const vmm::ResolvedCpu& cpu) {
  const std::uint32_t widths = cpu.cpuid.get(0x80000008).eax;
  const std::uint32_t virt = widths >> 8 & 0xff;
  if (virt != 48 && virt != 57) std::abort();
  if ((widths & 0xff) < 32 || (widths & 0xff) > 52) std::abort();
  if (cpu.cpuid.entries().size() > 200) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const vmm::Topology topology{6, 1, 3, 2};
  vmm::HostGrant host;
  host.backend = vmm::KvmBackend::Pvm;
  // The first line picks overrides, the rest is a file.
  const std::size_t end = text.find('\n');
  if (end == std::string_view::npos || end < 2) {
    if (const auto file = vmm::parse_cpu_model(text, "fuzz.toml"))
      for (const vmm::CpuModel& model : file->versions) {
        vmm::CpuWords words = vmm::model_words(model);
        vmm::derive(words, {});
        (void)vmm::canonical_text(words, model.caches, model.vmx);
        (void)vmm::shape_leaves(topology, model.caches, {0x1f, 0x8000001e, true, true});
        (void)vmm::shape_leaves(topology, model.caches, {0x1f, 0x8000001e, false, false});
      }
    return 0;
  }
  const std::string_view selection = text.substr(0, end);
  (void)vmm::parse_topology(selection);
  // Nothing on this machine's disk is to be read.
  const auto parsed = vmm::parse_cpu_selection(selection);
  if (!parsed || parsed->model.find('/') != std::string::npos ||
      parsed->model.find(".toml") != std::string::npos)
    return 0;
  for (const vmm::CpuPolicy policy :
       {vmm::CpuPolicy::Strict, vmm::CpuPolicy::Mask, vmm::CpuPolicy::Force})
    if (const auto cpu = vmm::resolve_cpu(selection, policy, topology, host)) check(*cpu);
  return 0;
}
