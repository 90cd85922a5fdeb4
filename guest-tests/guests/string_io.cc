// String instructions on ports: one exit carries many bytes. Ends with 0, or the number of the
// claim that does not hold.
#include "guest-tests/guests/guest.h"

namespace {

constexpr uint16_t kDebugCon = 0xe9;
constexpr char kText[] = "string-io: this line is one rep outsb\n";

uint8_t buffer[5000];  // more than the page that KVM hands over at once

void rep_outsb(uint16_t port, const void* source, uintptr_t count) {
  asm volatile("cld\n\trep outsb" : "+S"(source), "+c"(count) : "d"(port) : "memory");
}

void rep_insb(uint16_t port, void* target, uintptr_t count) {
  asm volatile("cld\n\trep insb" : "+D"(target), "+c"(count) : "d"(port) : "memory");
}

// From the last byte to the first.
void rep_insb_down(uint16_t port, void* last, uintptr_t count) {
  asm volatile("std\n\trep insb\n\tcld" : "+D"(last), "+c"(count) : "d"(port) : "memory");
}

bool all_are(const uint8_t* bytes, uintptr_t count, uint8_t value) {
  for (uintptr_t i = 0; i < count; ++i)
    if (bytes[i] != value) return false;
  return true;
}

}  // namespace

uint32_t guest_main(uint32_t, uint32_t) {
  guest::serial_init();
  rep_outsb(guest::kCom1, kText, sizeof kText - 1);
  rep_outsb(kDebugCon, kText, sizeof kText - 1);
  constexpr uint16_t kScratch = guest::kCom1 + guest::spec::SCR;
  guest::out8(kScratch, 0x5a);
  rep_insb(kScratch, buffer, sizeof buffer);
  guest::require(all_are(buffer, sizeof buffer, 0x5a), "5000 bytes in", 1);
  guest::out8(kScratch, 0xc3);
  rep_insb_down(kScratch, buffer + 99, 100);
  guest::require(all_are(buffer, 100, 0xc3) && buffer[100] == 0x5a, "100 bytes in, downwards", 2);
  rep_insb(kScratch, buffer, 0);
  guest::require(buffer[0] == 0xc3, "a count of 0 moves nothing", 3);
  return 0;
}
