// Exits by reason and level, counted from KVM's trace events: whose exit it was, and what became of
// those of L2.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "vmm/kvm/kvm_events.h"

namespace vmm {

// A reason in words, and empty where the manuals have none: "EPT violation", "VMEXIT_NPF".
std::string exit_reason_name(bool svm, std::uint32_t code);
// The same, or "reason 4711"; "VM-entry failure: invalid guest state" where bit 31 says so.
std::string exit_reason_text(bool svm, std::uint32_t code);

class ExitStatistics {
 public:
  static constexpr std::size_t kMaxReasons = 256;
  static constexpr std::size_t kMaxFailures = 32;

  struct Reason {
    std::uint64_t l1 = 0;     // exits from L1, or from a guest without a hypervisor
    std::uint64_t l2 = 0;     // exits from L2
    std::uint64_t kept = 0;   // of those: L1 did not get them
    std::uint64_t to_l1 = 0;  // exits that L1 got, also for what it was that made KVM exit
    std::uint64_t total() const { return l1 + l2; }
  };
  using Key = std::pair<bool, std::uint32_t>;  // SVM, code

  explicit ExitStatistics(unsigned vcpus) : vcpus_(vcpus) {}
  // Events of one vCPU in the order of their times.
  void add(const KvmEvent& event);
  // No more events come.
  void finish();

  const std::map<Key, Reason>& reasons() const { return reasons_; }
  // KVM's words and its VM-instruction error, with how often.
  const std::map<std::pair<std::string, std::uint32_t>, std::uint64_t>& failures() const {
    return failures_;
  }
  std::uint64_t events() const { return events_; }
  std::uint64_t entries() const { return entries_; }  // into L2
  // Of more kinds than are kept apart.
  std::uint64_t other_exits() const { return other_exits_; }
  std::uint64_t other_failures() const { return other_failures_; }

 private:
  struct Vcpu {
    std::optional<Key> exit;  // whose level is not known yet
    std::optional<Key> l2;    // one of L2's that L1 may get
  };
  Reason& reason(const Key& key);
  void settle(Vcpu& vcpu);

  std::vector<Vcpu> vcpus_;
  std::map<Key, Reason> reasons_;
  std::map<std::pair<std::string, std::uint32_t>, std::uint64_t> failures_;
  Reason beyond_;
  std::uint64_t events_ = 0;
  std::uint64_t entries_ = 0;
  std::uint64_t other_exits_ = 0;
  std::uint64_t other_failures_ = 0;
};

// What --kvm-trace has to tell at the end.
struct KvmExits {
  std::string problem;  // why KVM's events were not read; empty: they were
  ExitStatistics statistics{0};
  bool entries_traced = false;  // whether this kernel has an event for entries into L2
  std::uint64_t lost = 0;       // events that found the buffer full
  bool emulated = false;        // kvm_pvm: what its emulator runs makes no exits
  std::map<std::string, std::uint64_t> counters;  // of KVM, over all vCPUs; zeroes left out

  // Entries into L2, by KVM's counter where it has one.
  std::optional<std::uint64_t> entries() const;
};

// Lines for stderr, and the member `kvm_trace` of the outcome.
std::string kvm_exits_text(const KvmExits& exits);
nlohmann::json kvm_exits_json(const KvmExits& exits);

}  // namespace vmm
