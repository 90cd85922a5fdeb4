// Ends with the last number among the arguments of its Multiboot command line (0 without one).
#include "guest-tests/guests/guest.h"
#include "guest-tests/guests/multiboot.h"

uint32_t guest_main(uint32_t magic, uint32_t info_address) {
  if (magic != guest::kMultibootMagic) return 63;
  const auto& info = *guest::at_address<guest::MultibootInfo>(info_address);
  uint32_t value = 0;
  bool in_number = false;
  for (const char* c = guest::arguments_of(info); *c != '\0'; ++c) {
    const bool digit = *c >= '0' && *c <= '9';
    if (digit) value = (in_number ? value * 10 : 0) + static_cast<uint32_t>(*c - '0');
    in_number = digit;
  }
  return value;
}
