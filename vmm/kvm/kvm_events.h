// KVM's own trace events (Linux arch/x86/kvm/trace.h), as far as they tell of exits and of guest
// hypervisors: found in a kernel by name, decoded by the places that its format files give.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/kvm/trace_ring.h"

namespace vmm {

enum class KvmEventKind : std::uint8_t {
  Entry,          // KVM enters the processor's guest mode, for L1 or L2
  AnyExit,        // it came back, from either level
  L2Exit,         // the exit before was L2's
  ExitToL1,       // the guest hypervisor gets an exit
  L2Entry,        // it has made a VM entry
  L2EntryFailed,  // KVM or the processor refused one
};
constexpr std::size_t kKvmEventKinds = 6;

struct KvmEvent {
  KvmEventKind kind = KvmEventKind::AnyExit;
  unsigned vcpu = 0;         // whoever reads the events puts it in
  std::int32_t thread = 0;   // by the host's number
  std::uint64_t time = 0;    // of the trace clock, in nanoseconds
  bool svm = false;          // what `code` is: an EXITCODE, else an exit reason of VMX
  std::uint32_t code = 0;    // of L2EntryFailed: the VM-instruction error, or 0
  std::uint64_t rip = 0;     // of the guest; of L2Entry: where L2 begins
  std::uint64_t block = 0;   // of L2Entry: the address of the VMCS or VMCB
  std::string message = {};  // of L2EntryFailed: KVM's words, printable and without quotes

  bool operator==(const KvmEvent&) const = default;
};

class KvmEventDecoder {
 public:
  static constexpr std::size_t kMaxMessage = 160;  // bytes; longer ones are cut

  // The names under which kernels have that event, newest first.
  static std::span<const std::string_view> names(KvmEventKind kind);

  // An error for a format that lacks what the kind is read for.
  Result<void> add(KvmEventKind kind, EventFormat format);
  bool has(KvmEventKind kind) const { return formats_[static_cast<std::size_t>(kind)].has_value(); }
  // Nothing for an event of another kind, or one that is too short.
  std::optional<KvmEvent> decode(std::uint64_t time, std::span<const std::uint8_t> event) const;

 private:
  std::array<std::optional<EventFormat>, kKvmEventKinds> formats_;
};

}  // namespace vmm
