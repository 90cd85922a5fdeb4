// The probe's kernel, as it is carried in this program.
#pragma once

#include <cstdint>
#include <span>

namespace vmm {

// An ELF64 kernel for `Mailbox` (vmm/probe/protocol.h).
std::span<const std::uint8_t> probe_guest();

}  // namespace vmm
