// The probe: answers the monitor's questions in the mailbox, one after the other, and ends.
#include "vmm/probe/guest/guest.h"
#include "vmm/probe/guest/vmx.h"

extern "C" const std::uint8_t trap_stubs[];  // start.S: 32 stubs of 16 bytes
extern "C" std::uint32_t probe_main();

// What the compiler may call on its own.
extern "C" void* memset(void* target, int value, unsigned long count) {
  void* result = target;
  asm volatile("rep stosb" : "+D"(target), "+c"(count) : "a"(value) : "memory");
  return result;
}
extern "C" void* memcpy(void* target, const void* source, unsigned long count) {
  void* result = target;
  asm volatile("rep movsb" : "+D"(target), "+S"(source), "+c"(count) : : "memory");
  return result;
}

namespace probe {
namespace {

using vmm::probe::kExerciseCount;
using vmm::probe::kExercises;
using vmm::probe::Kind;
using vmm::probe::Mailbox;
using vmm::probe::Setup;

struct Gate {
  uint16_t offset_low, selector, type, offset_middle;
  uint32_t offset_high, reserved;
};
Gate idt[32];

void load_idt() {
  for (uint64_t i = 0; i < 32; ++i) {
    const uint64_t address = reinterpret_cast<uint64_t>(trap_stubs) + i * 16;
    idt[i] = {
        static_cast<uint16_t>(address),       0x08, 0x8e00, static_cast<uint16_t>(address >> 16),
        static_cast<uint32_t>(address >> 32), 0};
  }
  const struct [[gnu::packed]] {
    uint16_t limit;
    uint64_t base;
  } idtr{sizeof idt - 1, reinterpret_cast<uint64_t>(idt)};
  asm volatile("lidt %0" : : "m"(idtr));
}

using Function = uint64_t (*)();
constexpr Function kFunctions[] = {
#define PROBE_FUNCTION(name, feature, also) exercise_##name,
    VMM_PROBE_EXERCISES(PROBE_FUNCTION)
#undef PROBE_FUNCTION
};

void note_fault(const Ending& ending, Answer& answer) {
  answer.vector = ending.vector;
  answer.error = ending.error;
  answer.address = ending.address;
}

// An exercise's own verdict, or Refused for the fault that it ended in.
void note_verdict(const Ending& ending, Answer& answer) {
  note_fault(ending, answer);
  answer.verdict = ending.faulted() ? Verdict::Refused : static_cast<Verdict>(ending.result & 0xff);
  answer.value[1] = static_cast<uint32_t>(ending.result >> 32);
}

void read_cpuid(const Question& question, Answer& answer) {
  const CpuidRegs regs = cpuid(question.index, question.detail);
  answer.value[0] = regs.eax;
  answer.value[1] = regs.ebx;
  answer.value[2] = regs.ecx;
  answer.value[3] = regs.edx;
}

void read_msr(const Question& question, Answer& answer) {
  const Ending ending = guarded(
      [](uint64_t i) -> uint64_t { return rdmsr(static_cast<uint32_t>(i)); }, question.index);
  note_fault(ending, answer);
  if (ending.faulted()) return;
  answer.value[0] = static_cast<uint32_t>(ending.result);
  answer.value[1] = static_cast<uint32_t>(ending.result >> 32);
}

void set_up(const Question& question, Answer&) {
  switch (static_cast<Setup>(question.index)) {
    case Setup::Vectors:
      return setup_vectors();
    case Setup::Vmx:
      return setup_vmx();
  }
}

void exercise(const Question& question, Answer& answer) {
  if (question.index >= kExerciseCount) return;
  const Function function = kFunctions[question.index];
  if (kExercises[question.index].user) return note_verdict(guarded_user(function), answer);
  // An exercise that faults midway leaves switches on.
  const uint64_t cr4 = read_cr4();
  const uint64_t efer = rdmsr(spec::EFER);
  const Ending ending =
      guarded([](uint64_t f) -> uint64_t { return reinterpret_cast<Function>(f)(); },
              reinterpret_cast<uint64_t>(function));
  if (read_cr4() != cr4) write_cr4(cr4);
  if (rdmsr(spec::EFER) != efer) wrmsr(spec::EFER, efer);
  map_test_page(0);
  note_verdict(ending, answer);
}

void toggle_control(const Question& question, Answer& answer) {
  static Question asked;
  asked = question;
  const Ending ending =
      guarded([](uint64_t) -> uint64_t { return vmx::control(asked.index, asked.detail & 31); });
  note_verdict(ending, answer);
}

void answer_one(const Question& question, Answer& answer) {
  switch (question.kind) {
    case Kind::Cpuid:
      return read_cpuid(question, answer);
    case Kind::Msr:
      return read_msr(question, answer);
    case Kind::Setup:
      return set_up(question, answer);
    case Kind::Exercise:
      return exercise(question, answer);
    case Kind::VmxControl:
      return toggle_control(question, answer);
  }
}

}  // namespace
}  // namespace probe

std::uint32_t probe_main() {
  using namespace probe;
  start_paging();
  load_idt();
  auto* mailbox = reinterpret_cast<volatile Mailbox*>(vmm::probe::kMailboxAddress);
  if (mailbox->magic != vmm::probe::kMailboxMagic) return 1;
  const uint32_t count = mailbox->count;
  for (uint32_t i = 0; i < count && i < vmm::probe::kMaxQuestions; ++i) {
    // The compiler may order plain stores as it likes, and a guest that dies must have marked its
    // question.
    auto& slot = const_cast<vmm::probe::Slot&>(mailbox->slots[i]);
    if (slot.answer.state != State::Asked) continue;
    slot.answer.state = State::Started;
    asm volatile("" : : : "memory");
    slot.answer.vector = kNoVector;
    answer_one(slot.question, slot.answer);
    asm volatile("" : : : "memory");
    slot.answer.state = State::Answered;
  }
  return 0;
}
