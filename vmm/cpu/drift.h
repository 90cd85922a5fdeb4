// What has changed since a lock was made: for the guest, by bit and by cause, and around it.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "vmm/base/result.h"
#include "vmm/cpu/cpu_lock.h"

namespace vmm {

// A bit that the guest has now and had not, or the other way round.
struct BitDrift {
  std::string name;  // "spec-ctrl"; its place where it has no name
  std::string word;  // "7.0.EDX[26]"
  bool came = false;
  std::string cause;   // who refuses it, or refused it then: "host kernel"; "vmm or the model file"
  std::string reason;  // in words; may be empty
};

// A register or MSR without named bits, or a VMX capability MSR as a whole, whose value is another.
struct ValueDrift {
  std::string word;  // "80000008.EAX"
  std::uint64_t then = 0;
  std::uint64_t now = 0;
  std::string cause;
};

// Something of the host that is not the guest's: kernel, module parameter, quirks, processor.
struct HostDrift {
  std::string what;  // "kernel", "kvm_intel.nested"
  std::string then;  // "none" for a parameter that was not there
  std::string now;
};

// A quirk of KVM that is off now and was on, or the other way round.
struct QuirkDrift {
  std::string name;
  bool off = false;          // now
  bool guest_tells = false;  // whether a guest can tell
  std::string cause;         // "host kernel", "vmm or the model file"
  std::string with_it;       // what a guest meets where it is on
};

struct Drift {
  std::vector<BitDrift> bits;
  std::vector<ValueDrift> values;
  std::vector<QuirkDrift> quirks;
  std::vector<HostDrift> host;
  // The lock's own host would get another CPU today: the model's file or vmm itself is another.
  bool model_changed = false;
  std::string words_digest;  // of today's

  // True when the guest is another than the lock says.
  bool guest_changed() const;
};

// Resolves the lock's selection on `host` and compares. Usage errors as resolve_cpu().
Result<Drift> find_drift(const CpuLock& lock, const HostGrant& host);

// For people: what changed on the host, and each bit with its cause. Empty without any drift.
std::vector<std::string> drift_lines(const Drift& drift, const CpuLock& lock);

}  // namespace vmm
