// What a lab boots: a kernel, and a first root file system made here.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "vmm/base/result.h"
#include "vmm/lab/emulator.h"
#include "vmm/lab/kernel_modules.h"
#include "vmm/lab/lab_kernel.h"
#include "vmm/lab/spec.h"

namespace vmm {

// Where the agent finds the channel: a virtio console port under QEMU, a disk that is a mailbox
// under Bochs.
struct LabChannelDevice {
  std::string kind;    // "tty" or "mailbox"
  std::string device;  // its path inside
};
LabChannelDevice lab_channel_device(LabBackend backend);

// The user's --kvm-param, sorted by module.
struct ModuleParameters {
  std::string kvm;     // "ignore_msrs=1 ..."
  std::string vendor;  // "nested=1 npt=0": what is written later wins
};
// "NAME=VALUE" goes to the backend's kvm_amd or kvm_intel, "kvm.NAME=VALUE" to kvm. Errors (Usage):
// another shape, another module's name, a character that would end a parameter.
Result<ModuleParameters> module_parameters(const LabSpec& spec);

// The modules that the agent loads, in order, and what it is told about them.
struct LabModules {
  struct Entry {
    KernelModule module;
    std::string parameters;
  };
  std::vector<Entry> entries;
  std::string append;  // parameters of built-in modules, as words for the kernel's command line
};
Result<LabModules> lab_modules(const LabSpec& spec, const ModuleTree& tree);

// The archive: /init (the agent), /lib/modules/NAME.ko, /etc/lab.json (agent_config.h), the
// directories that the agent mounts on, /dev/console.
std::vector<std::uint8_t> lab_initramfs(const LabSpec& spec, const LabModules& modules,
                                        std::span<const std::uint8_t> agent);

// All together. `agent` is a static program. Errors: those of find_lab_kernel(), lab_modules().
Result<LabImage> build_lab_image(const LabSpec& spec, std::span<const std::uint8_t> agent,
                                 int cancel = -1);

}  // namespace vmm
