// Random accesses to every port, MMIO page and MSR of the machine, from a seed: `fuzz SEED COUNT`.
// More words: `wait` for a byte on the serial port before the end; `vmx` on kvm_intel; `qemu` where
// kvm_amd itself is emulated by QEMU 7.2: that ends with a failed assertion (tcg_handle_interrupt)
// when a guest moves to CR8 while KVM waits for an interrupt window, and its VMRUN forgets the
// interrupt shadow, so that STI, HLT can sleep through the one interrupt that was to end it. Every
// two thousand or so it puts its own processor in order and checks that the LAPIC's timer still
// ends a HLT and that each of the other processors, which count in memory, is still counting; at
// times they are started anew. Ends with 0 and a line that says how much was done; with 1 and a
// FAILED line for a claim that does not hold.
#include "guest-tests/guests/fuzz_access.h"
#include "guest-tests/guests/fuzz_operations.h"
#include "guest-tests/guests/multiboot.h"
#include "guest-tests/guests/processors.h"

using namespace guest;
using namespace fuzz;

namespace {

constexpr uint32_t kChapter = 2000;        // operations between two checks
constexpr uint32_t kPatience = 4'000'000;  // port accesses before a processor counts as stalled
constexpr uint32_t kSmram = 0x30000, kSmiEntry = 0x8000;

uint32_t others;
uint32_t restarts;

// The numbers of the command line, in their order.
uint32_t numbers(const char* text, uint64_t* found, uint32_t most) {
  uint32_t count = 0;
  bool in_number = false;
  for (; *text != '\0'; ++text) {
    const bool digit = *text >= '0' && *text <= '9';
    if (digit && !in_number) {
      if (count == most) return count;
      found[count++] = 0;
    }
    if (digit) found[count - 1] = found[count - 1] * 10 + static_cast<uint64_t>(*text - '0');
    in_number = digit;
  }
  return count;
}

bool has_word(const char* text, const char* word) {
  for (; *text != '\0'; ++text) {
    uint32_t same = 0;
    while (word[same] != '\0' && text[same] == word[same]) ++same;
    if (word[same] == '\0') return true;
  }
  return false;
}

uint32_t memory_end() {
  uint64_t size = 0;
  out16(0x510, 3);
  for (int i = 0; i < 8; ++i) size |= uint64_t{in8(0x511)} << (8 * i);
  constexpr uint32_t kHole = 0xe0000000;  // more RAM than that is above 4 GiB
  return size < kHole ? static_cast<uint32_t>(size) : kHole;
}

// What a BIOS would have for an SMI.
void place_smi_handler() {
  constexpr uint16_t kRsm = 0xaa0f;
  mmio_write<uint16_t>(kSmram + kSmiEntry, kRsm);
}

void check_progress() {
  for (uint32_t i = 0; i < others; ++i) {
    const uint32_t before = progress[i];
    for (uint32_t tries = 0; progress[i] == before; ++tries) {
      if (tries == kPatience) give_up("the other processors make progress, stalled is", i);
      in8(0x80);
    }
  }
}

// One tick must do; QEMU gets further ones, too far apart to be a storm where all is emulated.
void check_timer() {
  const uint32_t before = interrupts.timer;
  lapic_write(spec::TIMER_DIVIDE, spec::DIVIDE_BY_1);
  lapic_write(spec::LVT_TIMER, kTimerVector | (fuzzer.in_qemu ? spec::LVT_PERIODIC : 0));
  lapic_write(spec::TIMER_INITIAL, fuzzer.in_qemu ? 10'000'000 : 20'000);
  while (interrupts.timer == before) {
    interrupts.in_a_row = 0;
    sleep();
  }
  lapic_write(spec::LVT_TIMER, spec::LVT_MASKED);
}

void start_others() {
  ap_next_stack = 0;
  up_count = 0;
  if (!start_processors(others + 1)) give_up("every processor starts, there came", processors_up());
}

void check() {
  calm();
  check_progress();
  check_timer();
  if (others != 0 && fuzzer.random.one_in(4)) {
    start_others();
    ++restarts;
  }
}

// Some of the devices more often than others, in each chapter other ones.
void run_chapter(uint32_t end) {
  constexpr uint32_t kSlots = 32;
  Operation slots[kSlots];
  for (Operation& slot : slots) slot = kOperations[fuzzer.random.below(kOperationCount)];
  fuzzer.interrupts_on = !fuzzer.random.one_in(4);
  interrupts_as_chosen();
  for (uint32_t turn = 1; fuzzer.operations < end; ++turn) {
    interrupts.in_a_row = 0;
    if (turn % 64 == 0) {
      fuzzer.interrupts_on = fuzzer.random.below(4) != 0;
      interrupts_off();
      interrupts_as_chosen();
    }
    slots[fuzzer.random.next32() % kSlots]();
  }
}

}  // namespace

// On each of the others: count, and let interrupts in.
extern "C" void ap_main() {
  load_idt();
  enable_lapic();
  const auto here = reinterpret_cast<uintptr_t>(__builtin_frame_address(0));
  volatile uint32_t& mine = progress[(here - reinterpret_cast<uintptr_t>(ap_stacks)) / 4096];
  asm volatile("sti" : : : "memory");
  processor_is_up();
  while (true) {
    mine = mine + 1;
    if (mine % 64 == 0) in8(0x80);
  }
}

uint32_t guest_main(uint32_t magic, uint32_t info) {
  serial_init();
  if (magic != kMultibootMagic) return 2;
  const char* arguments = arguments_of(*at_address<MultibootInfo>(info));
  uint64_t given[2] = {1, 10'000};
  numbers(arguments, given, 2);
  const auto wanted = static_cast<uint32_t>(given[1]);
  const bool wait = has_word(arguments, "wait");
  fuzzer.in_qemu = has_word(arguments, "qemu");
  fuzzer.on_vmx = has_word(arguments, "vmx");

  fuzzer.random = Random(given[0]);
  fuzzer.ram_end = memory_end();
  learn_hazards();
  place_smi_handler();
  set_up_idt();
  load_idt();
  calm();
  others = processor_count() - 1;
  fuzzer.alone = others == 0;
  start_others();

  const uint32_t tenth = wanted / 10;
  while (fuzzer.operations < wanted) {
    const bool early = fuzzer.operations < tenth;
    run_chapter(fuzzer.operations + kChapter < wanted ? fuzzer.operations + kChapter : wanted);
    check();
    if (!early || fuzzer.operations < tenth) continue;
    serial_init();
    print("\nfuzz: a tenth is done\n");
  }
  serial_init();
  print("\nfuzz: seed ", decimal(static_cast<uint32_t>(given[0])), ", ", decimal(fuzzer.operations),
        " operations, ", decimal(interrupts.taken), " interrupts, ", decimal(interrupts.storms),
        " storms, ", decimal(interrupts.faults), " faults, ", decimal(others),
        " other processors, started anew ", decimal(restarts), " times\n");
  print("ok      fuzz\n");
  if (wait) get();
  return 0;
}
