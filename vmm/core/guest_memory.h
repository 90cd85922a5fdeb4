// The guest's RAM: regions of host memory by guest physical address, and ROM, which the guest can
// only read. Nothing hands out an unchecked pointer, and nothing is touched before the guest
// touches it.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "vmm/base/bytes.h"
#include "vmm/base/fd.h"
#include "vmm/base/units.h"

namespace vmm {

// RAM stops here and goes on at 4 GiB: the 32-bit hole for devices.
constexpr Gpa kHoleStart = 3_GiB;
constexpr Gpa kHoleEnd = 4_GiB;
// The VGA window inside low memory.
constexpr Gpa kVgaWindow = 0xa0000;
constexpr std::uint64_t kVgaWindowSize = 0x20000;

// Reads guest physical memory for whoever only looks: walker, explanations, debugger. Returns false
// when any byte is not RAM; `data` is then undefined.
class MemoryReader {
 public:
  virtual ~MemoryReader() = default;
  virtual bool read(Gpa gpa, std::span<std::uint8_t> data) const = 0;

  template <typename T>
  std::optional<T> read_value(Gpa gpa) const {
    std::uint8_t raw[sizeof(T)];
    if (!read(gpa, raw)) return std::nullopt;
    return load<T>(raw);
  }
};

class GuestMemory final : public MemoryReader {
 public:
  struct Region {
    Gpa base;
    std::span<std::uint8_t> host;
  };

  // A Usage error for a size that create() would refuse whatever the host is.
  static Result<void> check_size(std::uint64_t size);
  // `size` bytes of RAM (a multiple of 4 KiB, at least 1 MiB): from 0 up to 3 GiB, the rest from
  // 4 GiB. With `vga_trap` A0000h-BFFFFh is left out of the regions, so that each access exits; its
  // bytes are then the device's (vga_window()). A Usage error for a bad size, a Host error when the
  // host cannot map it.
  static Result<GuestMemory> create(std::uint64_t size, bool vga_trap = false);

  // Puts read-only memory with these bytes (a multiple of 4 KiB, at least one page) at `base`, a
  // multiple of 4 KiB in the 32-bit hole, before the machine starts. Only read() sees it: to
  // everything else it is no RAM. A Host error when the host cannot map it.
  Result<void> add_rom(Gpa base, std::span<const std::uint8_t> bytes);

  std::uint64_t size() const { return mapping_.bytes().size(); }
  std::span<const Region> regions() const { return regions_; }
  std::span<const Region> roms() const { return roms_; }
  // The 128 KiB behind A0000h, whether the guest reaches them as RAM or through exits.
  std::span<std::uint8_t> vga_window() const;

  // True if [gpa, gpa+size) is RAM.
  bool is_ram(Gpa gpa, std::uint64_t size = 1) const;
  // The host bytes of [gpa, gpa+size), or nothing when a part of it is no RAM.
  std::optional<std::span<std::uint8_t>> span(Gpa gpa, std::uint64_t size) const;
  bool read(Gpa gpa, std::span<std::uint8_t> data) const override;
  bool write(Gpa gpa, std::span<const std::uint8_t> data);
  // Zeroes [gpa, gpa+size); whole pages go back to the host, so that pages nothing ever touched
  // stay that way. False, and nothing done, when a part of it is no RAM; `size` 0 is always fine.
  bool zero(Gpa gpa, std::uint64_t size);
  // All RAM, and what is behind a trapped VGA window, as create() gave it; pages go back to the
  // host.
  void clear();
  // Highest RAM address below the hole, plus one.
  Gpa low_end() const;
  // Highest RAM address, plus one.
  Gpa end() const { return regions_.back().base + regions_.back().host.size(); }

 private:
  Mapping mapping_;
  std::vector<Region> regions_;
  std::vector<Mapping> rom_mappings_;
  std::vector<Region> roms_;
};

}  // namespace vmm
