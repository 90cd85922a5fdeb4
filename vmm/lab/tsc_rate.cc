#include "vmm/lab/tsc_rate.h"

#include <time.h>
#include <x86intrin.h>

#include <algorithm>
#include <limits>

namespace vmm {
namespace {

struct Reading {
  std::uint64_t nanoseconds = 0;
  std::uint64_t ticks = 0;
};

// Both clocks at one moment: of several attempts the one that nothing came between.
Reading read_both() {
  Reading best;
  std::uint64_t least = std::numeric_limits<std::uint64_t>::max();
  for (int attempt = 0; attempt < 16; ++attempt) {
    const std::uint64_t before = __rdtsc();
    timespec now{};
    clock_gettime(CLOCK_MONOTONIC, &now);
    const std::uint64_t after = __rdtsc();
    if (after - before >= least) continue;
    least = after - before;
    best = {static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 +
                static_cast<std::uint64_t>(now.tv_nsec),
            before + least / 2};
  }
  return best;
}

}  // namespace

std::uint32_t measure_tsc_khz() {
  const Reading begin = read_both();
  constexpr timespec kLong{.tv_sec = 0, .tv_nsec = 20'000'000};
  nanosleep(&kLong, nullptr);
  const Reading end = read_both();
  const std::uint64_t nanoseconds = std::max<std::uint64_t>(end.nanoseconds - begin.nanoseconds, 1);
  const std::uint64_t khz = (end.ticks - begin.ticks) * 1'000'000 / nanoseconds;
  return static_cast<std::uint32_t>(
      std::clamp<std::uint64_t>(khz, 1, std::numeric_limits<std::uint32_t>::max()));
}

}  // namespace vmm
