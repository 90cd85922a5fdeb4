// The svm backend: QEMU, whose software CPU (TCG) implements AMD's SVM with nested paging.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "vmm/lab/emulator.h"
#include "vmm/lab/saved_states.h"
#include "vmm/lab/spec.h"

namespace vmm {

inline constexpr const char* kQemuProgram = "qemu-system-x86_64";

// Descriptors that QEMU inherits.
struct QemuDescriptors {
  int kernel = -1;
  int initramfs = -1;
  int channel = -1;  // a connected stream socket
  int console = -1;  // a pipe for what the kernel writes to ttyS0
  int monitor = -1;  // a connected stream socket; none: no monitor
  int state = -1;    // a saved machine to begin with; none: a boot
};

// The command line that boots `spec`; `tsc_khz` is the rate of this machine's TSC. `append` are
// further words for the kernel. No port, no file by name: labs do not see each other.
std::vector<std::string> qemu_arguments(const LabSpec& spec, const QemuDescriptors& descriptors,
                                        std::uint32_t tsc_khz, const std::string& append);

// What a machine of this spec and image can be saved for and loaded from: the same QEMU, the same
// machine, the same bytes booted. Errors: the image cannot be read.
Result<StateKey> qemu_state_key(const LabSpec& spec, const LabImage& image, std::uint32_t tsc_khz);

}  // namespace vmm
