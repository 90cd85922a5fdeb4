#include "loader/image.h"

#include <fmt/format.h>

#include <algorithm>

namespace vmm {

std::string_view protocol_name(BootProtocol protocol) {
  switch (protocol) {
    case BootProtocol::Elf64:
      return "elf64";
    case BootProtocol::Elf32:
      return "elf32";
    case BootProtocol::Multiboot1:
      return "multiboot1";
    case BootProtocol::Multiboot2:
      return "multiboot2";
    case BootProtocol::Pvh:
      return "pvh";
    case BootProtocol::Linux64:
      return "linux64";
    case BootProtocol::Linux32:
      return "linux32";
    case BootProtocol::Flat:
      return "flat";
    case BootProtocol::Efi:
      return "efi";
    case BootProtocol::Firmware:
      return "firmware";
  }
  return "unknown";
}

Gpa LoadedImage::lowest() const { return segments.empty() ? 0 : segments.front().gpa; }

Gpa LoadedImage::highest() const { return segments.empty() ? 0 : segments.back().end(); }

bool LoadedImage::loads(Gpa gpa) const {
  return std::ranges::any_of(segments,
                             [gpa](const Segment& s) { return gpa >= s.gpa && gpa < s.end(); });
}

std::string range_text(std::uint64_t base, std::uint64_t size) {
  if (size == 0) return fmt::format("at {:x}h, empty", base);
  return fmt::format("{:x}h-{:x}h", base, base + (size - 1));
}

}  // namespace vmm
