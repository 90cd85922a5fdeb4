// The pill on SVM. Each processor has a VMCB whose guest is the processor itself: same tables, same
// segments, nested paging that maps each address to itself, no intercept but CPUID, VMMCALL and
// shutdown. Interrupts go to L2 as they come.
#include "examples/blue-pill/blue_pill.h"
#include "guest-tests/guests/svm.h"

namespace {

using namespace guest;

constexpr uint32_t kCallSpitOut = 0x0ff;

svm::Processor processors[blue_pill::kMaxProcessors];
alignas(16) uint8_t host_stacks[blue_pill::kMaxProcessors][8192];

}  // namespace

extern "C" {

// Puts L2's registers back and goes on as it, on its stack (blue_pill.S).
[[noreturn]] void blue_pill_leave(const svm::Registers* l2, uint64_t rip, uint64_t rsp,
                                  uint64_t rflags);
// Comes back twice: with false where serve() gave up, with true as L2.
bool blue_pill_enter(svm::Processor* processor, uint8_t* host_stack_end);

// On the host's stack. Comes back only when there was no entry.
void blue_pill_serve(svm::Processor* processor, uint64_t l2_rip, uint64_t l2_rsp) {
  if (!svm::prepare(*processor, l2_rip, l2_rsp)) return;
  svm::Vmcb& vmcb = processor->vmcb;
  svm::Registers l2{};
  uint64_t code = svm::enter(*processor, l2);
  for (; code != svm::VMEXIT_INVALID; code = svm::enter(*processor, l2)) {
    switch (code) {
      case svm::VMEXIT_CPUID:
        blue_pill::answer_cpuid(l2);
        break;
      case svm::VMEXIT_VMMCALL: {
        if (l2.rax != kCallSpitOut) break;
        svm::skip_instruction(vmcb);
        const uint64_t rip = vmcb.get(svm::RIP), rsp = vmcb.get(svm::RSP),
                       rflags = vmcb.get(svm::RFLAGS);
        svm::turn_off();
        blue_pill_leave(&l2, rip, rsp, rflags);
      }
      default:
        print("FAILED  exit ", hex(code), ", EXITINFO1 ", hex(vmcb.get(svm::EXITINFO1)),
              ", EXITINFO2 ", hex(vmcb.get(svm::EXITINFO2)), ", RIP ", hex(vmcb.get(svm::RIP)),
              "\n");
        stop();
    }
    svm::skip_instruction(vmcb);
  }
  print("FAILED  VMRUN: VMEXIT_INVALID\n");
}
}

namespace blue_pill {

const char* vendor() { return "SVM"; }

bool swallow(uint32_t index) {
  return index < kMaxProcessors && svm::turn_on(processors[index]) &&
         blue_pill_enter(&processors[index], host_stacks[index] + sizeof host_stacks[index]);
}

void spit_out() {
  uint64_t call = kCallSpitOut;
  asm volatile("vmmcall" : "+a"(call) : : "memory");
}

}  // namespace blue_pill
