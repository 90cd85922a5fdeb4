// Reads and writes ports and memory where nothing is: each read gives all ones. Ends with 0, or the
// number of the claim that does not hold.
#include "guest-tests/guests/guest.h"

uint32_t guest_main(uint32_t, uint32_t) {
  guest::serial_init();
  constexpr uint16_t kPort = 0x2e9;
  constexpr uintptr_t kAddress = 0xd0000000;
  guest::out8(kPort, 0x12);
  guest::out16(kPort, 0x1234);
  guest::out32(kPort, 0x12345678);
  guest::require(guest::in8(kPort) == 0xff, "a byte from port 2e9h", 1);
  guest::require(guest::in16(kPort) == 0xffff, "a word from port 2e9h", 2);
  guest::require(guest::in32(kPort) == 0xffffffff, "a doubleword from port 2e9h", 3);
  guest::mmio_write<uint64_t>(kAddress, 0);
  guest::require(guest::mmio_read<uint8_t>(kAddress) == 0xff, "a byte at d0000000h", 4);
  guest::require(guest::mmio_read<uint16_t>(kAddress) == 0xffff, "a word", 5);
  guest::require(guest::mmio_read<uint32_t>(kAddress) == 0xffffffff, "a doubleword", 6);
  guest::require(guest::mmio_read<uint64_t>(kAddress) == ~uint64_t{0}, "a quadword", 7);
  guest::require(guest::mmio_read<uint32_t>(kAddress + 0xffe) == 0xffffffff, "across a page", 8);
#ifdef MANY
  // More different ones than are told apart.
  bool ones = true;
  for (uint16_t i = 0; i < 400; ++i)
    ones = ones && guest::in8(static_cast<uint16_t>(0xa000 + i)) == 0xff &&
           guest::mmio_read<uint8_t>(kAddress + i * 0x1000u) == 0xff;
  guest::require(ones, "400 ports and 400 pages", 9);
#endif
  return 0;
}
