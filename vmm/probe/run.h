// Boots the probe's guest under a CPU, again after each question that it dies of, until every
// question has come to something.
#pragma once

#include <string>
#include <vector>

#include "vmm/core/cpuid_table.h"
#include "vmm/machine/irqchip_choice.h"
#include "vmm/probe/questions.h"

namespace vmm {

struct ProbeReading {
  std::vector<ProbeAnswer> answers;
  unsigned starts = 0;
  // Words that KVM's own read-back shows otherwise than they were set (kvm_pvm only).
  std::vector<CpuidDifference> overridden;

  CpuidTable cpuid() const;  // as the guest read it
  const ProbeAnswer* find(probe::Kind kind, std::uint32_t index, std::uint32_t detail = 0) const;
  std::optional<std::uint64_t> msr(std::uint32_t index) const;  // nothing where it faulted
};

// Each start is a process of its own: a machine that has run may open nothing any more. `cpu` has
// passed its policy. Errors as Machine::create's and Machine::run's; Internal when a guest ends
// without having tried anything.
Result<ProbeReading> run_probe(const ResolvedCpu& cpu, const Topology& topology,
                               const HostGrant& host, const IrqChipChoice& irqchip);

}  // namespace vmm
