// The kernel that a lab boots: the user's own, or Debian's cloud kernel out of the cache.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "vmm/base/result.h"
#include "vmm/lab/kernel_modules.h"
#include "vmm/lab/spec.h"

namespace vmm {

struct LabKernel {
  std::vector<std::uint8_t> image;  // a bzImage
  std::string release;              // as the image's own header has it
  ModuleTree modules;
};

// The release in the header of a bzImage ("6.1.0-56-cloud-amd64"; Documentation/x86/boot.rst,
// kernel_version). Errors of kind Usage: no bzImage, or one that does not say.
Result<std::string> bzimage_release(std::span<const std::uint8_t> bytes);

// The kernel for `spec`, checked: an image, and modules of the same release among which KVM is (or
// which is built in). spec.kernel alone goes with /lib/modules/RELEASE. Errors: Usage for what the
// user named; NoLab for the cached kernel; Lab when `cancel` becomes readable.
Result<LabKernel> find_lab_kernel(const LabSpec& spec, int cancel = -1);

}  // namespace vmm
