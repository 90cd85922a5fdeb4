// Model files and --cpu-model arguments, both as hostile as files and arguments can be.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "vmm/cpu/cpu_model.h"
#include "vmm/cpu/diff.h"
#include "vmm/cpu/lint.h"
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

constexpr vmm::Topology kTopology{6, 1, 3, 2};

void try_model_file(std::string_view text) {
  const auto file = vmm::parse_cpu_model(text, "fuzz.toml");
  if (!file) return;
  for (const vmm::CpuModel& model : file->versions) {
    vmm::CpuWords words = vmm::model_words(model);
    vmm::derive(words, {});
    (void)vmm::canonical_text(words, model.caches);
    (void)vmm::shape_leaves(kTopology, model.caches, {0x1f, 0x8000001e, true, true});
    (void)vmm::shape_leaves(kTopology, model.caches, {0x1f, 0x8000001e, false, false});
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  // One line that can be a selection is taken for one, anything else for a file.
  const auto parsed = vmm::parse_cpu_selection(text);
  if (!parsed || text.find('\n') != std::string_view::npos) {
    (void)vmm::parse_topology(text);
    try_model_file(text);
    return 0;
  }
  // Nothing on this machine's disk is to be read.
  if (parsed->model.find('/') != std::string::npos ||
      parsed->model.find(".toml") != std::string::npos)
    return 0;
  vmm::HostGrant host;
  host.backend = vmm::KvmBackend::Pvm;
  // Strict makes the same CPU of it as force; mask makes another one.
  const auto policy = size % 2 == 0 ? vmm::CpuPolicy::Mask : vmm::CpuPolicy::Force;
  if (const auto cpu = vmm::resolve_cpu(text, policy, kTopology, host)) {
    check(*cpu);
    (void)vmm::lint_cpu(vmm::words_of(*cpu));
    const vmm::WholeCpu whole{*cpu, {}};
    if (!vmm::diff_cpus(whole, whole).empty()) std::abort();
  }
  return 0;
}
