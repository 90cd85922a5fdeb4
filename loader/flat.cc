#include "loader/flat.h"

#include <fmt/format.h>

namespace vmm {

Result<void> parse_flat(LoadedImage& image, Gpa address) {
  constexpr Gpa kRealModeEnd = 1_MiB;
  if (address >= kRealModeEnd)
    return fail(Error::usage(fmt::format("--flat {:x}h: a flat image starts in real mode, which "
                                         "reaches addresses below {:x}h",
                                         address, kRealModeEnd))
                    .hint("--flat 0x7c00 is where a PC loads a boot sector"));
  image.protocol = BootProtocol::Flat;
  image.entry = address;
  image.segments = {{.gpa = address,
                     .file_offset = 0,
                     .file_size = image.bytes.size(),
                     .memory_size = image.bytes.size(),
                     .vaddr = address}};
  return {};
}

}  // namespace vmm
