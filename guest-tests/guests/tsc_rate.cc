// The rate of the TSC against the PIT: prints it in kHz and ends with 0.
#include "guest-tests/guests/pit.h"

using namespace guest;

namespace {

uint64_t tsc() {
  uint32_t low, high;
  asm volatile("rdtsc" : "=a"(low), "=d"(high));
  return static_cast<uint64_t>(high) << 32 | low;
}

}  // namespace

uint32_t guest_main(uint32_t, uint32_t) {
  serial_init();
  // 50 ms. A vCPU that was not scheduled makes the count too large, never too small: the least
  // counts.
  uint64_t least = ~uint64_t{0};
  for (int i = 0; i < 8; ++i) {
    pit_start(59659);
    const uint64_t from = tsc();
    while (!pit_done()) {
    }
    const uint64_t elapsed = tsc() - from;
    if (elapsed < least) least = elapsed;
  }
  print("TSC ", decimal(static_cast<uint32_t>(least / 50)), " kHz\n");
  return 0;
}
