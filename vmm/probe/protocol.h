// What the probe's guest and its monitor say to each other: a page of questions in guest memory,
// each with room for its answer. Both sides include this; it knows no library.
//
// The monitor writes the mailbox before the guest starts. The guest answers one question after the
// other and marks each before it tries, so that a guest that dies says which question killed it.
#pragma once

#include <cstdint>

namespace vmm::probe {

constexpr std::uint64_t kMailboxAddress = 0x400000;  // guest-physical, above the image
constexpr std::uint32_t kMailboxMagic = 0x42504d56;  // "VMPB"
constexpr std::uint32_t kMaxQuestions = 2048;

enum class Kind : std::uint32_t {
  Cpuid = 1,       // index: leaf, detail: subleaf; the answer's value holds the registers
  Msr = 2,         // index: MSR; value[0], or the vector of its fault
  Setup = 3,       // index: a Setup; asked at every start, since its effect ends with the guest
  Exercise = 4,    // index: an Exercise (exercises.h)
  VmxControl = 5,  // index: MSR of the controls' word, detail: the bit
};

// What later questions stand on.
enum class Setup : std::uint32_t { Vectors, Vmx };

enum class State : std::uint32_t {
  Asked = 0,
  Started = 1,
  Answered = 2,
};

enum class Verdict : std::uint32_t {
  None = 0,     // the question asks for values
  Works = 1,    // as the manual has it
  Wrong = 2,    // it ran and did something else
  Refused = 3,  // it faulted, as without the feature
};

constexpr std::uint32_t kNoVector = 0xffffffff;
constexpr std::uint32_t kSyscallVector = 0x100;  // no fault: SYSCALL arrived

struct Question {
  Kind kind;
  std::uint32_t index;
  std::uint32_t detail;
};

struct Answer {
  State state;
  Verdict verdict;
  std::uint32_t vector;   // of the fault, or kNoVector
  std::uint32_t error;    // its error code
  std::uint64_t address;  // CR2 of a page fault
  std::uint32_t value[4];
};

struct Slot {
  Question question;
  std::uint32_t reserved;
  Answer answer;
};
static_assert(sizeof(Slot) == 56);

struct Mailbox {
  std::uint32_t magic;
  std::uint32_t count;  // at most kMaxQuestions
  Slot slots[kMaxQuestions];
};

}  // namespace vmm::probe
