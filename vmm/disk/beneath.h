// openat2(2), for which glibc has no function: paths that do not lead out of a directory.
#pragma once

#include <cstdint>

#include "vmm/base/fd.h"

namespace vmm {

// Links in the path must lead to something beneath `directory`.
Fd open_beneath(const Fd& directory, const char* path, int flags);
// No component is a link, the last one included. `mode` is for O_CREAT.
Fd open_beneath_no_links(const Fd& directory, const char* path, int flags, unsigned mode = 0);

}  // namespace vmm
