// /dev/kvm: what the host's KVM is and offers.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "vmm/base/fd.h"
#include "vmm/core/cpuid_table.h"
#include "vmm/kvm/capabilities.h"

namespace vmm {

class Kvm {
 public:
  // Opens /dev/kvm and checks API version 12. Host errors (77) with a hint for: no such device, no
  // permission, another version.
  static Result<Kvm> open();

  // KVM_CHECK_EXTENSION: 0 when absent. A call that fails is an error that names the capability,
  // never an absent one: a machine set up without it would behave in another way, and silently.
  Result<int> capability(const Capability& capability) const;
  // The CPUID that KVM can give to a guest on this host.
  Result<CpuidTable> supported_cpuid() const;
  // Every feature MSR and KVM's value (its maximum) for it.
  Result<std::map<std::uint32_t, std::uint64_t>> feature_msrs() const;
  // The MSRs that KVM_GET_MSRS may give of a vCPU, and that make up its state.
  Result<std::vector<std::uint32_t>> state_msrs() const;
  // Bytes of the kvm_run mapping.
  std::size_t run_size() const { return run_size_; }
  const Fd& fd() const { return fd_; }

 private:
  Fd fd_;
  std::size_t run_size_ = 0;
};

// CPUID as the processor below us answers this process, for the leaves of `like` (and the range
// leaves): what the silicon, or the hypervisor we are in, has.
CpuidTable native_cpuid(const CpuidTable& like);

}  // namespace vmm
