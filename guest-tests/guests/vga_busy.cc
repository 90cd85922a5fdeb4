// Draws another picture without end; ends by --timeout or a signal only.
#include "guest-tests/guests/guest.h"

uint32_t guest_main(uint32_t, uint32_t) {
  constexpr uintptr_t kScreen = 0xb8000, kCells = 80 * 25;
  for (uint16_t picture = 0;; ++picture)
    for (uintptr_t i = 0; i < kCells; ++i)
      guest::mmio_write<uint16_t>(kScreen + i * 2,
                                  static_cast<uint16_t>(0x0700 | ('0' + (picture + i) % 10)));
}
