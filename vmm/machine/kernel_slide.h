// A Linux that moved itself (KASLR): by how much, so that its symbols name what is there.
#pragma once

#include <cstdint>
#include <optional>

#include "vmm/machine/explain.h"

namespace vmm {

// Whether the symbols are those of a Linux, by whose IDT one can tell.
bool has_linux_handlers(const SymbolTable& symbols);
// How far scene.vcpu's kernel is from where its symbols were linked, for
// SymbolTable::move_kernel(): 0 where they fit; nothing where nothing tells. Linux' handlers of #DE
// have known names, and gate 0 of the IDT says where the present one is; the kernel moves by
// multiples of 2 MiB, less than 1 GiB (CONFIG_PHYSICAL_ALIGN, KERNEL_IMAGE_SIZE).
std::optional<std::uint64_t> kernel_slide(const CrashScene& scene);

}  // namespace vmm
