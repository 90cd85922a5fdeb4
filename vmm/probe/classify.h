// What the probe's reading says about a CPU model: every feature by its claim and its behaviour,
// and every word that the guest read otherwise.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "vmm/cpu/features.h"
#include "vmm/cpu/resolve.h"
#include "vmm/probe/run.h"

namespace vmm {

enum class ProbeStatus {
  Works,           // the model has it, and it does what it is for
  Refused,         // the model lacks it, and so does the guest
  NotExercisable,  // nothing was tried, for the reason given
  Hole,            // the model lacks it, and it works all the same
  Contradicted,    // the model has it and the guest does not, or the guest's CPUID shows a bit that
                   // the model lacks
};
std::string_view status_name(ProbeStatus status);  // "works", "not exercisable", ...

struct ProbeRow {
  FeatureId feature = 0;
  std::optional<bool> claimed;  // of the model; nothing where it leaves the bit to KVM
  std::optional<bool> shown;    // by what the guest read; nothing where it could read nothing
  ProbeStatus status = ProbeStatus::NotExercisable;
  std::string reason;  // a clause; empty when there is nothing to add
};

// A word that the guest read otherwise than the model has it.
struct WordDifference {
  std::string word;  // "7.0.EBX", "MSR 10A"
  std::uint64_t model = 0;
  std::optional<std::uint64_t> guest;  // nothing: reading it faulted
  bool overridden = false;             // KVM says so itself when it is asked
};

struct ProbeResult {
  std::vector<ProbeRow> rows;  // in the order of the catalog
  std::vector<WordDifference> words;
  std::map<std::uint32_t, std::uint64_t> msrs;  // that the guest could read
  std::size_t words_read = 0;
  std::string guest_digest;     // SHA-256 over what the guest read, run-time bits left out
  std::string expected_digest;  // the same over the resolved model
  unsigned starts = 0;

  std::size_t count(ProbeStatus status) const;
};

ProbeResult judge(const ResolvedCpu& cpu, const ProbeReading& reading);

// Bit `place` of an MSR's value. A place in a word of VMX controls is the control's number, and the
// feature is that both 0 and 1 are allowed: the upper half tells what may be 1, the lower what
// must.
bool msr_feature(std::uint64_t value, const FeaturePlace& place);

}  // namespace vmm
