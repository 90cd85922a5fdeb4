#include "loader/e820.h"

namespace vmm {
namespace {

constexpr std::uint32_t kRam = 1;
constexpr std::uint32_t kReserved = 2;

}  // namespace

std::vector<E820Entry> make_e820(const GuestMemory& memory) {
  std::vector<E820Entry> map;
  map.push_back({0, kLowRamEnd, kRam});
  map.push_back({kLowRamEnd, kVgaWindow - kLowRamEnd, kReserved});
  map.push_back({kBiosArea, kExtendedRam - kBiosArea, kReserved});
  if (memory.low_end() > kExtendedRam)
    map.push_back({kExtendedRam, memory.low_end() - kExtendedRam, kRam});
  map.push_back({kKvmPages, kKvmPagesSize, kReserved});
  if (memory.end() > kHoleEnd) map.push_back({kHoleEnd, memory.end() - kHoleEnd, kRam});
  return map;
}

}  // namespace vmm
