// SMIs that the processor sends to itself, with a handler where a BIOS would have one. Our own
// LAPIC ignores them, and so does a KVM without system management mode.
#include "guest-tests/guests/lapic.h"

using namespace guest;

namespace {

constexpr uintptr_t kSmbase = 0x30000;
constexpr uintptr_t kEntry = kSmbase + 0x8000;
constexpr uintptr_t kCount = kSmbase + 0x9000;
constexpr uint8_t kHandler[] = {0x2e, 0xff, 0x06, 0x00, 0x90,  // inc word cs:[9000h]
                                0x0f, 0xaa};                   // rsm
constexpr uint32_t kSmi = 0x200;

}  // namespace

uint32_t guest_main(uint32_t, uint32_t) {
  serial_init();
  enable_lapic();
  for (uint32_t i = 0; i < sizeof kHandler; ++i) mmio_write<uint8_t>(kEntry + i, kHandler[i]);
  mmio_write<uint16_t>(kCount, 0);
  for (uint32_t i = 0; i < 3; ++i)
    lapic_write(spec::ICR_LOW, spec::ICR_SELF | spec::ICR_ASSERT | kSmi);
  in8(0x80);
  require(true, "the processor came back from SMIs", 1);
  print("served  ", decimal(mmio_read<uint16_t>(kCount)), " of 3\n");
  return 0;
}
