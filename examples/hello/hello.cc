// Says hello on the serial port and on the VGA text screen, and tells which CPU it sees: the one of
// the model, whatever the host has.
#include "guest-tests/guests/guest.h"

namespace {

constexpr uintptr_t kScreen = 0xb8000;
constexpr uintptr_t kColumns = 80;
constexpr uint8_t kBright = 0x1f, kGreen = 0x1a, kGrey = 0x17;  // on blue

uintptr_t screen_row = 0, screen_column = 0;

void clear_screen() {
  for (uintptr_t cell = 0; cell < kColumns * 25; ++cell)
    guest::mmio_write<uint16_t>(kScreen + cell * 2, kGrey << 8 | ' ');
}

// To both consoles at once.
void say(const char* text, uint8_t colour = kGrey) {
  guest::print(text);
  for (; *text != '\0'; ++text) {
    if (*text == '\n') {
      ++screen_row;
      screen_column = 0;
      continue;
    }
    const uintptr_t cell = screen_row * kColumns + screen_column++;
    if (cell < kColumns * 25)
      guest::mmio_write<uint16_t>(kScreen + cell * 2,
                                  static_cast<uint16_t>(colour << 8 | static_cast<uint8_t>(*text)));
  }
}

void say_number(uint32_t value) {
  char digits[11];
  char* at = digits + 10;
  *at = '\0';
  do {
    *--at = static_cast<char>('0' + value % 10);
    value /= 10;
  } while (value != 0);
  say(at, kBright);
}

void say_feature(const char* name, bool seen) {
  say("  ");
  say(name);
  say(seen ? "yes\n" : "no\n", seen ? kGreen : kGrey);
}

// Four characters of a register.
char* append(char* to, uint32_t word) {
  for (unsigned i = 0; i < 4; ++i) *to++ = static_cast<char>(word >> (i * 8));
  return to;
}

void say_vendor() {
  const guest::CpuidRegs r = guest::cpuid(0);
  char text[13];
  *append(append(append(text, r.ebx), r.edx), r.ecx) = '\0';
  say(text, kBright);
}

void say_brand() {
  char text[49];
  char* end = text;
  for (uint32_t leaf = 0x80000002; leaf <= 0x80000004; ++leaf) {
    const guest::CpuidRegs r = guest::cpuid(leaf);
    end = append(append(append(append(end, r.eax), r.ebx), r.ecx), r.edx);
  }
  *end = '\0';
  const char* start = text;
  while (*start == ' ') ++start;
  say(*start != '\0' ? start : "(none)", kBright);
}

// Family, model and stepping as the SDM composes them (CPUID, leaf 1, EAX).
void say_signature() {
  const uint32_t eax = guest::cpuid(1).eax;
  uint32_t family = (eax >> 8) & 0xf;
  uint32_t model = (eax >> 4) & 0xf;
  if (family == 0x6 || family == 0xf) model |= (eax >> 12) & 0xf0;
  if (family == 0xf) family += (eax >> 20) & 0xff;
  say("family ");
  say_number(family);
  say(", model ");
  say_number(model);
  say(", stepping ");
  say_number(eax & 0xf);
}

}  // namespace

extern "C" uint32_t kernel_main() {
  guest::serial_init();
  clear_screen();
  const uint32_t last_extended = guest::cpuid(0x80000000).eax;
  const guest::CpuidRegs basic = guest::cpuid(1);
  const guest::CpuidRegs extended =
      last_extended >= 0x80000001 ? guest::cpuid(0x80000001) : guest::CpuidRegs{};

  say("Hello from ", kBright);
  say_vendor();
  say("!\n\n", kBright);
  say("  CPU      ");
  if (last_extended >= 0x80000004) say_brand();
  say("\n  that is  ");
  say_signature();
  say("\n");
  say_feature("pdpe1gb  ", (extended.edx & (1u << 26)) != 0);
  say_feature("xsave    ", (basic.ecx & (1u << 26)) != 0);
  say_feature("vmx      ", (basic.ecx & (1u << 5)) != 0);
  say("\n");
  return 0;
}
