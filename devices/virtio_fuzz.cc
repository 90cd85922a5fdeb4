// The input is what a guest has in its memory, then a script of what it does to a virtio disk:
// registers of all three windows, configuration space, more bytes of memory, and the disk's bytes
// coming and going, whenever they like.
#include <algorithm>
#include <array>
#include <vector>

#include "devices/virtio_blk.h"
#include "vmm/base/bytes.h"
#include "vmm/base/check.h"
#include "vmm/core/irq_fake.h"

namespace vmm {
namespace {

constexpr std::size_t kMaxSteps = 2048;
constexpr std::uint64_t kSectors = 24;
constexpr std::size_t kImage = 8 * 1024;

struct Rig {
  RecordingIrq irq;
  IrqPins pins{irq, 1};
  GuestMemory memory = std::move(GuestMemory::create(1_MiB)).value();
  unsigned messages = 0;
  VirtioBlk disk{"disk0",
                 BlockGeometry{.sectors = kSectors, .read_only = false, .id = "fuzz"},
                 memory,
                 {.line = pins.line(0),
                  .msi = [this](const MsiMessage&) { ++messages; },
                  .remap = [] {},
                  .work = [] {}}};
};

// Offsets where something is: 0-7fh legacy, 80h-bfh modern, c0h-dfh MSI-X, e0h-ffh others.
std::uint64_t offset_of(std::uint8_t byte) {
  if (byte < 0x80) return byte;
  if (byte < 0xc0) return VirtioPci::kModernOffset + (byte - 0x80u);
  if (byte < 0xe0) return VirtioPci::kMsixOffset + (byte - 0xc0u) * 2;
  constexpr std::array<std::uint64_t, 4> kOthers = {0x1000, 0x2000, 0x3000, 0x3ffc};
  return VirtioPci::kModernOffset + kOthers[byte % 4];
}

// Sets the disk up as drivers do, so that the fuzzer need not find out how.
void start(VirtioBlk& disk, bool legacy) {
  const auto config = [&](std::uint8_t at, std::uint8_t value) {
    disk.write_config(at, {&value, 1});
  };
  const auto write = [&](std::uint64_t at, std::uint64_t value, std::size_t width) {
    std::array<std::uint8_t, 8> data;
    store(data, 0, value);
    (void)disk.write(at, std::span<const std::uint8_t>(data).first(width));
  };
  config(4, 7);
  if (legacy) {
    write(0x12, 3, 1);
    write(0x04, 0x3000'0200, 4);
    write(0x08, 1, 4);
    write(0x12, 7, 1);
    return;
  }
  const std::uint64_t common = VirtioPci::kModernOffset;
  write(common + 0x14, 3, 1);
  for (const unsigned half : {0u, 1u}) {
    write(common + 0x08, half, 4);
    write(common + 0x0c, half != 0 ? 1 : 0x1000'0200, 4);
  }
  write(common + 0x14, 0x0b, 1);
  write(common + 0x18, 16, 2);
  write(common + 0x20, 0x1000, 8);
  write(common + 0x28, 0x1100, 8);
  write(common + 0x30, 0x1200, 8);
  write(common + 0x1c, 1, 2);
  write(common + 0x14, 0x0f, 1);
}

void run(std::span<const std::uint8_t> input) {
  if (input.size() < 2) return;
  const std::uint8_t first = input[0];
  const std::size_t image = std::min<std::size_t>({input.size() - 1, kImage, input[1] * 64u});
  Rig rig;
  VMM_CHECK(rig.memory.write(0x1000, input.subspan(1, image)), "low memory is RAM");
  std::span<const std::uint8_t> script = input.subspan(1 + image);
  std::vector<std::uint8_t> buffer((1u + first % 4) * kSectorSize);
  std::optional<BlockJob> job;
  if ((first & 0x10) != 0) start(rig.disk, (first & 0x20) != 0);
  for (std::size_t step = 0; script.size() >= 4 && step < kMaxSteps; ++step) {
    const std::uint8_t action = script[0];
    const std::size_t width = std::size_t{1} << ((action >> 3) & 3);
    std::array<std::uint8_t, 8> data{};
    data[0] = script[2];
    data[1] = script[3];
    data[4] = action >> 5;
    const std::span<std::uint8_t> part = std::span(data).first(width);
    const auto config_offset = static_cast<std::uint8_t>(script[1] & ~(width - 1));
    switch (action & 7) {
      case 0:
        if (!job) {
          job = rig.disk.next_job(buffer);
          VMM_CHECK(!job || (job->size <= buffer.size() && job->size % kSectorSize == 0 &&
                             job->offset <= kSectors * kSectorSize &&
                             job->size <= kSectors * kSectorSize - job->offset),
                    "a part of a request is outside of the disk or of the buffer");
        }
        break;
      case 1:
        if (job) rig.disk.finish_job(*std::exchange(job, {}), (script[1] & 7) != 0, buffer);
        break;
      case 2:
        if (width < 8) rig.disk.write_config(config_offset, part);
        break;
      case 3:
        if (width < 8) rig.disk.read_config(config_offset, part);
        break;
      case 4:
        (void)rig.disk.read(offset_of(script[1]), part);
        break;
      case 5:
        VMM_CHECK(rig.memory.write(0x1000 + (script[1] * 8u + (action >> 5)),
                                   std::span<const std::uint8_t>(data).first(2)),
                  "low memory is RAM");
        break;
      default:
        (void)rig.disk.write(offset_of(script[1]), part);
        break;
    }
    script = script.subspan(4);
  }
  if (job) rig.disk.finish_job(*job, true, buffer);
  Rig other;
  const StateBlock saved = save_state(rig.disk);
  VMM_CHECK(load_state(other.disk, saved).has_value(), "a saved state was refused");
  VMM_CHECK(save_state(other.disk) == saved, "a loaded state differs");
}

}  // namespace
}  // namespace vmm

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  vmm::run({data, size});
  return 0;
}
