// Which UEFI images are in memory, found from outside: the firmware keeps a table of them for
// debuggers. Source: UEFI 2.10 sections 18.4.2 (system table pointer), 18.4.3 (debug image info
// table), 4.3 and 9.1; Microsoft's PE format for the names.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/core/guest_memory.h"
#include "vmm/core/symbols.h"

namespace vmm {

struct UefiImage {
  std::string name;  // of its file with the symbols, else of the file it came from, else its GUID
  Gva base = 0;      // UEFI maps memory to itself
  std::uint64_t size = 0;
};

// At most this many are told; the rest is left out.
constexpr std::size_t kMaxUefiImages = 512;

// All that the table lists, sorted by address; nothing before the firmware has made it. Everything
// read is the guest's and may be anything. `ram_end`: of RAM below 4 GiB.
std::vector<UefiImage> find_uefi_images(const MemoryReader& memory, Gpa ram_end);

// Names for addresses: each image by its name, and `symbols` (of the file `symbols_path`, linked to
// 0) moved to the image of that name; as they are where there is none.
SymbolTable uefi_symbols(const std::vector<UefiImage>& images, const SymbolTable& symbols,
                         std::string_view symbols_path);

}  // namespace vmm
