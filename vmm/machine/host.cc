#include "vmm/machine/host.h"

#include <sys/utsname.h>

#include <array>

#include "vmm/base/fd.h"
#include "vmm/cpu/features.h"
#include "vmm/kvm/kvm.h"
#include "vmm/kvm/xstate.h"
#include "vmm/machine/host_probe.h"

namespace vmm {
namespace {

bool module_is_loaded(const std::string& name) {
  return read_first_line("/sys/module/" + name + "/initstate").has_value() ||
         read_first_line("/sys/module/" + name + "/refcnt").has_value() ||
         read_first_line("/sys/module/" + name + "/parameters/nested").has_value();
}

// kvm_pvm can be built in, without a folder of its own; what it cannot do then tells.
KvmBackend find_backend(const CpuidTable& silicon) {
  if (module_is_loaded("kvm_pvm")) return KvmBackend::Pvm;
  if (module_is_loaded("kvm_intel")) return KvmBackend::Vmx;
  if (module_is_loaded("kvm_amd")) return KvmBackend::Svm;
  const bool vmx = silicon.bit(1, 0, CpuidReg::Ecx, 5);
  const bool svm = silicon.bit(0x80000001, 0, CpuidReg::Ecx, 2);
  if (!vmx && !svm) return KvmBackend::Pvm;
  return vmx ? KvmBackend::Vmx : KvmBackend::Svm;
}

std::map<std::string, std::string> module_parameters() {
  std::map<std::string, std::string> values;
  // The parameters that decide what a guest can be given.
  constexpr std::array kNames = {"kvm/ignore_msrs",
                                 "kvm/tdp_mmu",
                                 "kvm/enable_pmu",
                                 "kvm_intel/nested",
                                 "kvm_intel/ept",
                                 "kvm_intel/unrestricted_guest",
                                 "kvm_intel/vpid",
                                 "kvm_intel/enable_apicv",
                                 "kvm_intel/pml",
                                 "kvm_intel/eptad",
                                 "kvm_intel/flexpriority",
                                 "kvm_intel/enable_shadow_vmcs",
                                 "kvm_intel/allow_smaller_maxphyaddr",
                                 "kvm_intel/sgx",
                                 "kvm_amd/nested",
                                 "kvm_amd/npt",
                                 "kvm_amd/avic",
                                 "kvm_amd/vgif",
                                 "kvm_amd/vls",
                                 "kvm_amd/nrips",
                                 "kvm_amd/vnmi",
                                 "kvm_amd/lbrv",
                                 "kvm_amd/tsc_scaling"};
  for (const std::string name : kNames) {
    const std::size_t slash = name.find('/');
    const std::string module = name.substr(0, slash);
    const std::string parameter = name.substr(slash + 1);
    if (auto value = read_first_line("/sys/module/" + module + "/parameters/" + parameter))
      values[module + "." + parameter] = *value;
  }
  return values;
}

}  // namespace

Result<HostGrant> read_host_grant() {
  const Kvm kvm = VMM_TRY(Kvm::open());
  return read_host_grant(kvm);
}

Result<HostGrant> read_host_grant(const Kvm& kvm) {
  HostGrant host;
  host.supported = VMM_TRY(kvm.supported_cpuid());
  host.silicon = native_cpuid(host.supported);
  // KVM leaves AMX's tiles out of leaf Dh for a process that has not asked for them. Without leave
  // they stay out, and Machine::create() says why.
  if (has_feature(host.silicon, "amx-tile") && permit_guest_xstate(kXtileData))
    host.supported = VMM_TRY(kvm.supported_cpuid());
  host.backend = find_backend(host.silicon);
  utsname name{};
  if (uname(&name) == 0) host.kernel = name.release;
  host.module_parameters = module_parameters();
  host.feature_msrs = VMM_TRY(kvm.feature_msrs());
  host.tsc_deadline_timer = VMM_TRY(kvm.capability(capability::TSC_DEADLINE_TIMER)) != 0;
  host.nested_state = VMM_TRY(kvm.capability(capability::NESTED_STATE)) != 0;
  host.max_vcpus = static_cast<unsigned>(VMM_TRY(kvm.capability(capability::MAX_VCPUS)));
  host.quirks = static_cast<std::uint32_t>(VMM_TRY(kvm.capability(capability::DISABLE_QUIRKS2)));
  return host;
}

}  // namespace vmm
