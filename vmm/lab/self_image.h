// The files that the running program needs to run elsewhere: itself, its loader, its libraries.
#pragma once

#include <string>
#include <vector>

#include "vmm/base/result.h"

namespace vmm {

struct SelfImage {
  std::string program;  // absolute path of the running program
  // Absolute paths, each once: the program, the interpreter that its ELF header names, every
  // shared object under the path at which the loader found it (symbolic links not followed), and
  // the loader's cache when an object lies where the loader would not look by itself.
  std::vector<std::string> files;
};

// Mirrored at the same paths in another root, the files make the program run there. Errors (kind
// Lab): the program or one of its objects was replaced or deleted since it started, so that the
// file is not what is running.
Result<SelfImage> self_image();

}  // namespace vmm
