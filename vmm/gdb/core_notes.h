// The notes of a core file (vmm/gdb/core_file.h): PT_NOTE's content.
#pragma once

#include <cstdint>
#include <vector>

#include "vmm/gdb/core_file.h"

namespace vmm::gdb {

std::vector<std::uint8_t> core_notes(const CoreSpec& spec);

}  // namespace vmm::gdb
