// A hostile guest's mailbox: reading it and judging by it must hold whatever lies in it.
#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "vmm/probe/classify.h"
#include "vmm/probe/reading_fake.h"

// The input is the guest's answers, one after the other; those it does not reach stay unanswered.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace vmm;
  static const ResolvedCpu cpu = probe_model("haswell,+vmx");
  static const std::vector<ProbeAnswer> questions = probe_questions(cpu);
  ProbeReading reading{.answers = questions, .starts = 1, .overridden = {}};
  std::vector<std::size_t> asked;
  std::vector<std::uint8_t> mailbox = make_mailbox(reading.answers, asked);
  for (std::size_t slot = 0; slot < asked.size() && size != 0; ++slot) {
    const std::size_t count = std::min(size, sizeof(probe::Answer));
    std::copy_n(data, count,
                mailbox.begin() + static_cast<std::ptrdiff_t>(offsetof(probe::Mailbox, slots) +
                                                              slot * sizeof(probe::Slot) +
                                                              offsetof(probe::Slot, answer)));
    data += count;
    size -= count;
  }
  if (take_answers(mailbox, asked, reading.answers)) judge(cpu, reading);
  return 0;
}
