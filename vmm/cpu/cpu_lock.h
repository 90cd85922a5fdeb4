// A lock file: the CPU that a selection became on one host, with that host, so that a later look
// can say what has changed and why. The form is in docs/cpu-lock.md.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/base/result.h"
#include "vmm/cpu/resolve.h"
#include "vmm/cpu/words.h"

namespace vmm {

struct CpuLock {
  std::string vmm;        // the version that wrote it
  std::string selection;  // as for --cpu-model, the version of a built-in model spelt out
  CpuPolicy policy = CpuPolicy::Strict;
  Topology topology;
  std::string model_digest;
  CpuWords words;                   // what vCPU 0 sees, run-time bits left out
  std::vector<MissingBit> refused;  // never any under Strict
  // KVM's quirks that the guest was without (vmm/core/quirks.h); absent in locks of a vmm that did
  // not say.
  std::optional<std::uint32_t> quirks_off;
  HostGrant host;
};

// SHA-256 of the words, hex: equal for equal guests.
std::string words_digest(const CpuWords& words);
// The words of a CPU as a lock has them.
CpuWords locked_words(const ResolvedCpu& cpu);

// Resolves `selection` on `host`. Usage errors as resolve_cpu(); under Strict a Host error when the
// host refuses a bit, because no such guest would start.
Result<CpuLock> make_cpu_lock(std::string_view selection, CpuPolicy policy,
                              const Topology& topology, const HostGrant& host);

// A JSON document of schema "vmm-cpu-lock", version 1.
std::string cpu_lock_text(const CpuLock& lock);
// Reads one; equal to what was written. Usage errors name the file and the path of the value in it;
// words that do not match their digest are one too. `file` is only used in messages.
Result<CpuLock> parse_cpu_lock(std::string_view text, std::string_view file);
// From disk.
Result<CpuLock> read_cpu_lock(const std::string& path);

}  // namespace vmm
