// PVH, the entry that Xen, QEMU and others share (Xen's public headers elfnote.h and
// arch-x86/hvm/start_info.h, docs/misc/pvh.pandoc).
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "loader/boot_info.h"
#include "loader/image.h"

namespace vmm {

// The physical entry point that an ELF file names in its note XEN_ELFNOTE_PHYS32_ENTRY (18), of 4
// or 8 bytes; nothing without such a note.
std::optional<std::uint64_t> find_pvh_entry(std::span<const std::uint8_t> bytes);

// Reads image.bytes, an ELF file with that note, and sets everything but the path and the
// detection. Image errors as parse_elf() has them, or for an entry that is not loaded or lies above
// 4 GiB.
Result<void> parse_pvh(LoadedImage& image);

// hvm_start_info, version 1, with everything it points to, made to stand at `base`.
std::vector<std::uint8_t> make_pvh_info(const BootFacts& facts, Gpa base);

}  // namespace vmm
