// The vmx backend: Debian's Bochs, whose software VT-x an ordinary kvm_intel runs on.
#pragma once

#include <string>

#include "vmm/lab/emulator.h"
#include "vmm/lab/spec.h"

namespace vmm {

constexpr const char* kBochsProgram = "bochs-bin";

// Descriptors of the emulator process that its configuration names.
struct BochsDescriptors {
  int disk = -1;
  int console = -1;
  int log = -1;
};

// What Bochs reads as its configuration ("bochsrc"). Every line of it was found to be needed.
std::string bochs_configuration(const LabSpec& spec, const BochsDescriptors& descriptors);

// The kernel's command line: that of every lab, and what Bochs in particular wants.
std::string bochs_command_line(const std::string& append);

}  // namespace vmm
