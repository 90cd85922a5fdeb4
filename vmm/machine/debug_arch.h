// What gdb is told that the guest is.
#pragma once

#include "loader/image.h"
#include "vmm/machine/spec.h"

namespace vmm {

// --gdb-arch, or what the image is made for.
inline gdb::Arch debug_arch(const MachineSpec& spec, const LoadedImage& image) {
  const gdb::Arch made_for =
      image.protocol == BootProtocol::Elf32 ? gdb::Arch::I386 : gdb::Arch::X86_64;
  return spec.gdb_arch.value_or(made_for);
}

}  // namespace vmm
