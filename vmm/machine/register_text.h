// Registers for people: their values with the names of their bits, the mode of a processor.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "vmm/core/cpu_state.h"
#include "vmm/core/page_walk.h"

namespace vmm {

// Telling: the bits that decide how code runs and memory is reached, for a card that has little
// room. All: each bit that has a name.
enum class BitNames { Telling, All };

// "CR0 80000011h (PE PG)".
std::string cr0_text(std::uint64_t value, BitNames names);
std::string cr4_text(std::uint64_t value, BitNames names);
std::string efer_text(std::uint64_t value, BitNames names);
// "RFLAGS 246h (PF ZF IF)", with "IOPL=3" where it is not 0.
std::string rflags_text(std::uint64_t value);

// "long mode, 64-bit".
std::string_view mode_text(CpuMode mode);
// "4-level paging", "paging off".
std::string_view paging_text(PagingMode mode);

}  // namespace vmm
