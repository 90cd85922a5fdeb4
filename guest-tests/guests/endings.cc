// Ends, or does not, in the way that do=NAME of its Multiboot command line asks for: what a runner
// of tests has to tell apart (guest-tests/endings.toml).
#include "guest-tests/guests/guest.h"
#include "guest-tests/guests/idt.h"
#include "guest-tests/guests/multiboot.h"

namespace {

using guest::exit_with;
using guest::print;

guest::Idt idt;
__attribute__((interrupt)) void on_interrupt(guest::InterruptFrame*) { guest::out8(0x20, 0x20); }

[[noreturn]] void wait_for_ever() {
  while (true) asm volatile("pause");
}

// Some time without output, whatever the clock: port 80h is an exit each.
void wait_a_little() {
  for (int i = 0; i < 2000; ++i) guest::out8(0x80, 0);
}

void put_on_screen(unsigned row, const char* text) {
  for (unsigned column = 0; *text != '\0'; ++text, ++column)
    guest::mmio_write<uint16_t>(0xb8000 + (row * 80 + column) * 2,
                                static_cast<uint16_t>(0x0f00 | static_cast<uint8_t>(*text)));
}

[[gnu::noinline]] void jump_to(uintptr_t address) { reinterpret_cast<void (*)()>(address)(); }

// --- good ends ---

void power_off() {
  print("switching off\n");
  guest::out16(0x604, 0x2000);
}
void no_output() {}
void says_ready() { print("starting\nready\ndone\n"); }
void tap() {
  print(
      "TAP version 14\n1..3\nok 1 - one\nok 2 - two # SKIP no such device\nnot ok 3 - three # TODO "
      "known\n");
}
void ktap() {
  print("KTAP version 1\n1..1\n    KTAP version 1\n    1..2\n    ok 1 a\n    ok 2 b\nok 1 suite\n");
}
void unit_tests() { print("PASS: one\nPASS: two\nSKIP: three\nSUMMARY: 3 tests, 1 skipped\n"); }
void escape_sequences() {
  print(
      "\x1b[2J\x1b[31mred\x1b[0m\x1b]0;title\x07</script><script>alert(1)</script><b>bold</"
      "b>&amp;\n");
}
void every_byte() {
  for (int byte = 0; byte < 256; ++byte) guest::put(static_cast<char>(byte));
}
void long_line() {
  for (int i = 0; i < 10000; ++i) guest::put('x');
}
void on_the_screen() { put_on_screen(3, "all good on the screen"); }
void prompt_without_end() { print("login: "); }
void bad_words_as_a_part() { print("no BUGs here, and no panicking\n"); }

// --- failures ---

void code_1() { exit_with(1); }
void code_7() { exit_with(7); }
void code_63() { exit_with(63); }
void code_80() { exit_with(80); }    // the code of a triple fault, were it not cut to 63
void code_124() { exit_with(124); }  // of a time-out
void stops_half_way() { print("starting\nrea"); }
void says_bug() { print("ready\nBUG: something is wrong\n"); }
void bug_on_the_screen() { put_on_screen(24, "BUG: only here"); }
void tap_failure() { print("TAP version 14\n1..2\nok 1 - one\nnot ok 2 - two\n"); }
void tap_too_few() { print("TAP version 14\n1..5\nok 1 - one\n"); }
void tap_bails_out() { print("TAP version 14\n1..2\nok 1 - one\nBail out! no memory\n"); }
void tap_says_nothing() {}
void ktap_failure() {
  print(
      "KTAP version 1\n1..1\n    KTAP version 1\n    1..2\n    ok 1 a\n    not ok 2 b\nnot ok 1 "
      "suite\n");
}
void unit_test_failure() {
  print("PASS: one\nFAIL: two\nSUMMARY: 2 tests, 1 unexpected failures\n");
}
void resets() { guest::out8(0x64, 0xfe); }
void reboots_for_ever() {
  print("booting\n");
  guest::out8(0xcf9, 0x06);
}

// --- deaths ---

void undefined_instruction() { asm volatile("ud2"); }
void divides_by_zero() {
  asm volatile("xor %%ecx, %%ecx\n\tmov $1, %%eax\n\txor %%edx, %%edx\n\tdiv %%ecx"
               :
               :
               : "eax", "ecx", "edx");
}
void jumps_into_the_hole() { jump_to(0xd0000000); }
void jumps_out_of_its_tables() { jump_to(uintptr_t{1} << 40); }
void loses_its_stack() {
  asm volatile("movabs $0x7f0000000000, %%rsp\n\tpush %%rax" : : : "memory");
}
void halts_with_interrupts_off() { asm volatile("cli\n\thlt"); }
void dies_after_success() {
  print("ready\ndone\n");
  undefined_instruction();
}

// --- never an end ---

void loops() { wait_for_ever(); }
void sleeps() {
  for (uint8_t vector = 0x20; vector < 0x30; ++vector) idt.set(vector, on_interrupt);
  idt.load();
  guest::init_pics(0);
  while (true) asm volatile("sti\n\thlt");
}
void falls_silent() {
  print("starting\n");
  wait_for_ever();
}
void repeats_itself() {
  for (uint32_t i = 0;; ++i) {
    print("retry ", guest::decimal(i), "\n");
    wait_a_little();
  }
}
void writes_without_an_end_of_line() {
  while (true) guest::put('.');
}
void floods() {
  while (true) print("all work and no play makes a dull guest all work and no play\n");
}
void never_boots() {
  print("loading\n");
  wait_for_ever();
}
void boots_and_hangs() {
  print("loading\nlogin: ");
  wait_for_ever();
}
void hangs_after_success() {
  print("ready\ndone\n");
  wait_for_ever();
}

// --- now so, now so ---

// The time-stamp counter is a coin that no two runs throw alike.
void passes_by_chance() {
  uint32_t low, high;
  asm volatile("rdtsc" : "=a"(low), "=d"(high));
  exit_with(((low >> 5) ^ (low >> 9) ^ (low >> 13)) & 1);
}

struct Ending {
  const char* name;
  void (*act)();  // what returns ends with 0
};
constexpr Ending kEndings[] = {
    {"passes-by-chance", passes_by_chance},
    {"power-off", power_off},
    {"no-output", no_output},
    {"says-ready", says_ready},
    {"tap", tap},
    {"ktap", ktap},
    {"unit-tests", unit_tests},
    {"escape-sequences", escape_sequences},
    {"every-byte", every_byte},
    {"long-line", long_line},
    {"on-the-screen", on_the_screen},
    {"prompt-without-end", prompt_without_end},
    {"bad-words-as-a-part", bad_words_as_a_part},
    {"code-1", code_1},
    {"code-7", code_7},
    {"code-63", code_63},
    {"code-80", code_80},
    {"code-124", code_124},
    {"stops-half-way", stops_half_way},
    {"says-bug", says_bug},
    {"bug-on-the-screen", bug_on_the_screen},
    {"tap-failure", tap_failure},
    {"tap-too-few", tap_too_few},
    {"tap-bails-out", tap_bails_out},
    {"tap-says-nothing", tap_says_nothing},
    {"ktap-failure", ktap_failure},
    {"unit-test-failure", unit_test_failure},
    {"resets", resets},
    {"reboots-for-ever", reboots_for_ever},
    {"undefined-instruction", undefined_instruction},
    {"divides-by-zero", divides_by_zero},
    {"jumps-into-the-hole", jumps_into_the_hole},
    {"jumps-out-of-its-tables", jumps_out_of_its_tables},
    {"loses-its-stack", loses_its_stack},
    {"halts-with-interrupts-off", halts_with_interrupts_off},
    {"dies-after-success", dies_after_success},
    {"loops", loops},
    {"sleeps", sleeps},
    {"falls-silent", falls_silent},
    {"repeats-itself", repeats_itself},
    {"writes-without-an-end-of-line", writes_without_an_end_of_line},
    {"floods", floods},
    {"never-boots", never_boots},
    {"boots-and-hangs", boots_and_hangs},
    {"hangs-after-success", hangs_after_success},
};

// Whether the word after "do=" is `name`.
bool asked_for(const char* line, const char* name) {
  for (; *line != '\0'; ++line) {
    if (line[0] != 'd' || line[1] != 'o' || line[2] != '=') continue;
    const char* word = line + 3;
    while (*name != '\0' && *name == *word) ++name, ++word;
    return *name == '\0' && (*word == '\0' || *word == ' ');
  }
  return false;
}

}  // namespace

uint32_t guest_main(uint32_t magic, uint32_t info_address) {
  guest::serial_init();
  if (magic != guest::kMultibootMagic) return 60;
  const auto& info = *guest::at_address<guest::MultibootInfo>(info_address);
  if ((info.flags & 4) == 0) return 61;
  for (const Ending& ending : kEndings)
    if (asked_for(guest::arguments_of(info), ending.name)) {
      ending.act();
      return 0;
    }
  print("endings: nothing is called so: ", guest::at_address<char>(info.cmdline), "\n");
  return 62;
}
