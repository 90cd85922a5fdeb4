// The files that vmm run starts a guest from: kernel, modules, initrd, symbols.
#pragma once

#include <string>
#include <vector>

#include "loader/image.h"
#include "vmm/base/result.h"
#include "vmm/lab/session.h"
#include "vmm/machine/spec.h"

namespace vmm {

// Reads everything that spec.images names into spec.boot, and parses the kernel. `notes` gets lines
// for the user about what was decided for him (such as a console for Linux).
Result<LoadedImage> load_images(MachineSpec& spec, std::vector<std::string>& notes);

// Where Debian's package ovmf has the firmware that UEFI images are started by, when none is named.
inline constexpr const char* kDefaultFirmware = "/usr/share/OVMF/OVMF_CODE_4M.fd";

// The same files, for a lab that brings them in.
Result<std::vector<PathUse>> image_paths(const ImageFiles& images);

}  // namespace vmm
