// From files to a machine that can start: detect, parse, place, registers.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "loader/e820.h"
#include "loader/image.h"
#include "vmm/core/cpu_state.h"
#include "vmm/core/guest_memory.h"

namespace vmm {

// A kernel larger than this is refused.
constexpr std::uint64_t kMaxImageSize = 1_GiB;

struct BootModule {
  std::string path;
  std::string arguments;            // what follows the file name in --module 'FILE args'
  std::vector<std::uint8_t> bytes;  // the file
};

struct BootOptions {
  std::optional<std::string> protocol;   // --boot, boot_protocol_words(); by content otherwise
  std::optional<Gpa> flat_address;       // --flat
  std::string command_line;              // --append
  std::vector<BootModule> modules;       // of Multiboot and PVH kernels
  std::vector<std::uint8_t> initrd;      // of Linux, or the first module of a PVH kernel
  bool screen = false;                   // Linux is told of a VGA text screen
  std::vector<std::uint8_t> efi_kernel;  // what a firmware starts first; empty: it looks at disks
};

// The words that --boot takes.
std::span<const std::string_view> boot_protocol_words();

// A firmware's image: ROM that ends at 4 GiB, started at the reset vector. Image errors (exit 65)
// as parse_firmware() has them.
Result<LoadedImage> load_firmware(const std::string& path);

// Reads and parses `path`. A packed file is unpacked first. Detection is by content, in the order
// efi, multiboot2, multiboot1, pvh, bzImage, elf; flat is never guessed. Image errors (exit 65)
// name the file, the place in it and what was looked for.
Result<LoadedImage> load_image(const std::string& path, const BootOptions& options);
// The same for bytes that are already there; `path` only names them. Pure, for tests and fuzzing.
Result<LoadedImage> parse_image(std::string path, std::vector<std::uint8_t> bytes,
                                const BootOptions& options);

// Copies the image, its modules, tables and page tables into `memory` and returns the state in
// which vCPU 0 starts (loader/README.md). Image errors for what does not fit, naming the segment,
// the address and the RAM there is; Usage errors for modules or a command line that are too long or
// that the protocol cannot carry. Nothing is written when it fails.
Result<CpuState> place_image(const LoadedImage& image, const BootOptions& options,
                             GuestMemory& memory);

}  // namespace vmm
