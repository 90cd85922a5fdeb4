// What a lab is to be: the part of the command line that is about the lab, understood.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "vmm/base/units.h"

namespace vmm {

// Which vendor's extension the emulator implements: svm is QEMU's TCG, vmx is Bochs.
enum class LabBackend { Svm, Vmx };

struct LabSpec {
  LabBackend backend = LabBackend::Svm;
  unsigned cpus = 1;
  std::uint64_t memory = 2_GiB;  // bytes, of the emulated machine
  std::string cpu;               // a QEMU -cpu or a Bochs cpu model; empty is the recipe's own
  bool icount = false;           // svm only: the clock counts instructions
  std::string kernel;            // a bzImage; empty is Debian's cloud kernel
  std::string modules;           // the /lib/modules/RELEASE that goes with it; empty likewise
  std::vector<std::string> kvm_params;  // "npt=0": of kvm_amd or kvm_intel; "kvm.NAME=V": of kvm
  bool fresh = false;                   // svm: booted, though a saved state may be there
  std::string log_dir;                  // console, emulator log and configuration are kept here
};

}  // namespace vmm
