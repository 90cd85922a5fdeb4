// Where a guest hypervisor enters L2: VMLAUNCH, VMRESUME and VMRUN in an image, found by their
// bytes.
#pragma once

#include <string>
#include <vector>

#include "loader/image.h"

namespace vmm {

// In the executable segments as they are linked, by rising address. What a disassembly of the code
// around does not come upon is left out: three bytes may as well be a part of something else.
std::vector<Gva> find_vm_entries(const LoadedImage& image);

}  // namespace vmm
