// A random sequence of accesses to the interrupt chips and timers, the same for the same command
// line "SUBJECT SEED COUNT READS", one line for each operation on the debug console: what was done,
// what came back, which interrupts were taken. Two chips that say the same give the same text.
//
// A sequence consists of short episodes that begin with everything brought to a known state, so
// that a difference does not spoil all that comes after it. Nothing in a line depends on time.
#include "guest-tests/guests/chip_sequence.h"

#include "guest-tests/guests/idt.h"
#include "guest-tests/guests/multiboot.h"

using namespace guest;
using namespace guest::chips;

extern "C" {
extern const uint8_t interrupt_stubs[];
void on_interrupt(uint64_t vector, InterruptFrame* frame, uint64_t has_error_code);
}

namespace {

constexpr uint32_t kEpisode = 24;  // operations
constexpr unsigned kMostTaken = 40;
constexpr unsigned kMostNested = 20;
constexpr uint16_t kDebugConsole = 0xe9;

Idt idt;
uint8_t taken[kMostTaken];
volatile unsigned taken_count;
volatile unsigned nested;
volatile bool fault_expected, fault_seen;

class Line {
 public:
  void add(const char* text) {
    while (*text != '\0') add(*text++);
  }
  void add(char c) {
    if (length_ < sizeof text_) text_[length_++] = c;
  }
  void add_hex(uint64_t value) {
    unsigned digits = 1;
    while (digits < 16 && value >> 4 * digits != 0) ++digits;
    while (digits-- > 0) add("0123456789abcdef"[value >> 4 * digits & 15]);
  }
  void add(Field field) {
    if (field.present)
      add_hex(field.value);
    else
      add('-');
  }
  // One exit for the whole line.
  void send() {
    add('\n');
    const char* from = text_;
    uint64_t count = length_;
    asm volatile("rep outsb" : "+S"(from), "+c"(count) : "d"(kDebugConsole) : "memory");
  }

 private:
  char text_[320];
  unsigned length_ = 0;
};

// Ends what would go on for ever: the same everywhere, since it is the count that says so.
void calm() {
  lower_all_lines();
  for (unsigned pin = 0; pin < 24; ++pin) {
    mmio_write<uint32_t>(0xfec00000, 0x10 + 2 * pin);
    mmio_write<uint32_t>(0xfec00010, 0x10000);
  }
  out8(0x21, 0xff);
  out8(0xa1, 0xff);
}

void load_gates() {
  constexpr uint32_t kStubSize = 16;
  for (uint32_t vector = 0; vector < 256; ++vector)
    idt.set(static_cast<uint8_t>(vector),
            reinterpret_cast<void (*)()>(reinterpret_cast<uintptr_t>(interrupt_stubs) +
                                         vector * kStubSize));
  idt.load();
}

void lower_lines_of(uint8_t vector) {
  const unsigned isa = world.subject == Subject::Pic ? pic_line(vector) : 16;
  for (unsigned n = 0; n < 24; ++n) {
    if ((world.raised >> n & 1) == 0) continue;
    if (world.subject == Subject::Pic ? n == isa : world.line_vector[n] == vector)
      set_line(n, false);
  }
}

void end_of(uint8_t vector) {
  if (world.subject == Subject::Pic)
    end_pic_interrupt(vector);
  else
    end_of_interrupt();
}

void serve(uint8_t vector) {
  if (taken_count < kMostTaken) taken[taken_count] = vector;
  taken_count = taken_count + 1;
  if (taken_count == kMostTaken) calm();
  if (vector == 2) return;  // an NMI has no EOI
  // What the sequence decides later is not to change what this handler does.
  const Ending ending = world.ending;
  const bool lower_first = world.lower_first;
  if (lower_first) lower_lines_of(vector);
  if (ending == Ending::EoiFirst || ending == Ending::Eoi) end_of(vector);
  if ((ending == Ending::Nest || ending == Ending::EoiFirst) && nested < kMostNested) {
    nested = nested + 1;
    let_in();
    nested = nested - 1;
  }
  if (ending == Ending::Nest) end_of(vector);
  if (!lower_first) lower_lines_of(vector);
}

struct Words {
  const char* at;
  bool is(const char* word) {
    while (*at == ' ') ++at;
    const char* c = at;
    while (*word != '\0' && *c == *word) ++c, ++word;
    if (*word != '\0' || (*c != ' ' && *c != '\0')) return false;
    at = c;
    return true;
  }
  uint32_t number() {
    while (*at == ' ') ++at;
    uint32_t value = 0;
    for (; *at >= '0' && *at <= '9'; ++at) value = value * 10 + static_cast<uint32_t>(*at - '0');
    return value;
  }
};

struct Part {
  const char* name;
  void (*begin)();
  void (*operation)();
};
void nothing() {}
constexpr Part kParts[] = {{"lapic", nothing, lapic_operation},
                           {"x2apic", begin_x2apic, x2apic_operation},
                           {"ioapic", nothing, ioapic_operation},
                           {"pic", begin_pic, pic_operation},
                           {"pit", begin_pit, pit_operation}};

void begin_episode(Subject subject, uint32_t number) {
  // Of the chips that only one subject touches, those that were.
  const Subject before = number == 0 ? Subject::kSubjects : world.subject;
  world.subject = Subject::Lapic;
  world.open = false;
  world.ending = Ending::Eoi;
  world.lower_first = true;
  lower_all_lines();
  if (before == Subject::Pit || number == 0) stop_pit();
  if (before == Subject::Pic || number == 0) reset_pics();
  if (before == Subject::Ioapic || number == 0) reset_ioapic();
  reset_lapic();
  world.subject = subject;
  const Part& part = kParts[static_cast<unsigned>(subject)];
  part.begin();
  forget_taken();
  world.ending = static_cast<Ending>(below(static_cast<uint32_t>(Ending::kEndings)));
  world.lower_first = !one_in(3);
  record_episode(part.name, number);
}

}  // namespace

void on_interrupt(uint64_t vector, InterruptFrame* frame, uint64_t) {
  if (vector == 13 && fault_expected) {
    fault_seen = true;
    frame->rip += 2;  // RDMSR and WRMSR
    return;
  }
  if (vector < 32 && vector != 2) {
    print("exception ", decimal(static_cast<uint32_t>(vector)), " at ", hex(frame->rip), "\n");
    exit_with(62);
  }
  serve(static_cast<uint8_t>(vector));
}

namespace guest::chips {

void forget_taken() { taken_count = 0; }

void let_in() {
  asm volatile("sti" : : : "memory");
  for (unsigned i = 0; i < world.reads; ++i) in8(0x80);
  asm volatile("cli" : : : "memory");
}

void set_line(unsigned n, bool level) {
  const uint32_t bit = 1u << n;
  world.raised = level ? world.raised | bit : world.raised & ~bit;
  out8(static_cast<uint16_t>(0x2000 + n), level ? 1 : 0);
}

void lower_all_lines() {
  for (unsigned n = 0; n < 24; ++n)
    if ((world.raised >> n & 1) != 0) set_line(n, false);
}

bool try_rdmsr(uint32_t index, uint64_t& value) {
  fault_seen = false;
  fault_expected = true;
  value = rdmsr(index);
  fault_expected = false;
  return !fault_seen;
}

bool try_wrmsr(uint32_t index, uint64_t value) {
  fault_seen = false;
  fault_expected = true;
  wrmsr(index, value);
  fault_expected = false;
  return !fault_seen;
}

void record(const char* operation, uint64_t address, Field written, Field read) {
  if (world.open) let_in();
  Line line;
  line.add(operation);
  line.add(' ');
  line.add_hex(address);
  line.add(' ');
  line.add(written);
  line.add(' ');
  line.add(read);
  line.add(" :");
  for (unsigned i = 0; i < taken_count && i < kMostTaken; ++i) {
    line.add(' ');
    line.add_hex(taken[i]);
  }
  taken_count = 0;
  line.send();
}

void record_episode(const char* subject, uint32_t number) {
  Line line;
  line.add("# ");
  line.add(subject);
  line.add(' ');
  line.add_hex(number);
  if (world.subject == Subject::Pic && is_loose()) line.add(" loose");
  line.send();
}

}  // namespace guest::chips

uint32_t guest_main(uint32_t magic, uint32_t info_address) {
  serial_init();
  const auto& info = *at_address<MultibootInfo>(info_address);
  if (magic != kMultibootMagic || (info.flags & 4) == 0) {
    print("wants the command line SUBJECT SEED COUNT READS\n");
    return 63;
  }
  Words words{arguments_of(info)};
  unsigned subject = 0;
  while (subject < static_cast<unsigned>(Subject::kSubjects) && !words.is(kParts[subject].name))
    ++subject;
  const bool all = subject == static_cast<unsigned>(Subject::kSubjects) && words.is("all");
  if (subject == static_cast<unsigned>(Subject::kSubjects) && !all) {
    print("wants a subject: lapic, x2apic, ioapic, pic, pit or all\n");
    return 63;
  }
  const uint64_t seed = words.number();
  const uint32_t count = words.number();
  if (const uint32_t reads = words.number(); reads != 0) world.reads = reads;
  load_gates();
  for (uint32_t done = 0; done < count; ++done) {
    if (done % kEpisode == 0) {
      // Numbers of its own, whatever the operations before came to.
      world.random = Random(seed << 32 | done / kEpisode);
      auto next =
          static_cast<Subject>(all ? below(static_cast<unsigned>(Subject::kSubjects)) : subject);
      if (next == Subject::X2apic && !has_x2apic()) {
        if (!all) {
          print("no x2apic\n");
          return 0;
        }
        next = Subject::Lapic;
      }
      begin_episode(next, done / kEpisode);
    }
    kParts[static_cast<unsigned>(world.subject)].operation();
  }
  return 0;
}
