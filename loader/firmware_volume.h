// Firmware volumes (UEFI PI 1.7 volume 3): their headers, the files in them, the sections of these.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>

namespace vmm {

// As it stands in memory: the first three fields little-endian.
using Guid = std::array<std::uint8_t, 16>;

struct FirmwareVolume {
  Guid format{};                // of what is inside: a file system, variables
  std::uint64_t size = 0;       // as the header says: more than its header, a multiple of 8
  std::size_t header_size = 0;  // where what is inside begins; not beyond `size`
  bool checksum_is_right = false;
};

// The volume that starts with `bytes`, which may be shorter than it. Nothing without a "_FVH" or
// with a header that contradicts itself.
std::optional<FirmwareVolume> find_volume(std::span<const std::uint8_t> bytes);

bool has_files(const FirmwareVolume& volume);  // FFS version 2 or 3

struct FfsFile {
  Guid name{};
  std::uint8_t type = 0;
  std::span<const std::uint8_t> content;  // without its header; as much as is there
};

struct FfsSection {
  std::uint8_t type = 0;
  std::span<const std::uint8_t> content;  // without its header; as much as is there
  std::span<const std::uint8_t> whole;    // with it
};

// Each calls `visit` in their order until it says true, and says whether it did. They stop at what
// is damaged, and at the end of `bytes`.
bool visit_files(std::span<const std::uint8_t> bytes,
                 const std::function<bool(const FfsFile&)>& visit);
bool visit_sections(std::span<const std::uint8_t> bytes,
                    const std::function<bool(const FfsSection&)>& visit);

// Whether the firmware in `volume` switches to SMM: the PEI module that opens SMRAM is among its
// files, or in the volume that one of them packs with LZMA. Unpacks 1 MiB at most.
bool needs_smm(std::span<const std::uint8_t> volume);

}  // namespace vmm
