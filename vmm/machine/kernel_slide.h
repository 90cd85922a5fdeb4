// A Linux that moved itself (KASLR): by how much, so that its symbols name what is there.
#pragma once

#include <cstdint>

#include "vmm/machine/explain.h"

namespace vmm {

// What to add to scene.symbols' kernel addresses, modulo 2^64; 0 where they fit, or where nothing
// tells. Linux's handler of #DE has a known name, and gate 0 of the IDT says where it is; the
// kernel moves by multiples of 2 MiB, less than 1 GiB (CONFIG_PHYSICAL_ALIGN, KERNEL_IMAGE_SIZE).
std::uint64_t kernel_slide(const CrashScene& scene);

// The symbols with those of the kernel (from ffffffff80000000h up) moved by `slide`.
SymbolTable moved_symbols(const SymbolTable& symbols, std::uint64_t slide);

}  // namespace vmm
