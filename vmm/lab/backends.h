// Which backends can be used here, and what is missing for the others.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "vmm/base/result.h"
#include "vmm/lab/spec.h"

namespace vmm {

std::string backend_name(LabBackend backend);  // "svm", "vmx"

// "svm" or "vmx", case ignored. A Usage error names both otherwise.
Result<LabBackend> parse_backend(std::string_view name);

struct BackendState {
  struct Missing {
    std::string what;     // "qemu-system-x86_64", "/usr/share/bochs/BIOS-bochs-latest"
    std::string package;  // Debian's name
  };
  LabBackend backend = LabBackend::Svm;
  std::string emulator;  // "QEMU (TCG)": for people
  std::vector<Missing> missing;
  bool usable() const { return missing.empty(); }
  // "apt-get install bochs vgabios"; empty when nothing is missing.
  std::string apt_command() const;
};

BackendState backend_state(LabBackend backend);
// An error of kind NoLab that names what is missing, with the apt command as its hint.
Result<void> require_backend(LabBackend backend);
// What `vmm lab list` prints: one line for each backend, then the kernel.
std::string backend_list();

}  // namespace vmm
