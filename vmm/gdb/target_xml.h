// The target description that gdb reads before all else (the GDB manual, appendix "Target
// Descriptions").
#pragma once

#include <string>

#include "vmm/gdb/registers.h"

namespace vmm::gdb {

// All of it in one document: nothing is included.
std::string target_xml(const RegisterSet& registers);

}  // namespace vmm::gdb
