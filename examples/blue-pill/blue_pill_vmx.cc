// The pill on VT-x. Each processor has a VMCS whose guest is the processor itself: same tables,
// same segments, EPT that maps each address to itself, no exit that is not forced upon it.
#include "examples/blue-pill/blue_pill.h"
#include "guest-tests/guests/vmx.h"

namespace {

using namespace guest;

constexpr uint32_t kCallSpitOut = 0x0ff;

vmx::Processor processors[blue_pill::kMaxProcessors];
alignas(16) uint8_t host_stacks[blue_pill::kMaxProcessors][8192];

void set_xcr(const vmx::Registers& l2) {
  asm volatile("xsetbv"
               :
               : "a"(static_cast<uint32_t>(l2.rax)), "d"(static_cast<uint32_t>(l2.rdx)),
                 "c"(static_cast<uint32_t>(l2.rcx)));
}

}  // namespace

extern "C" {

// Puts L2's registers back and goes on as it, on its stack (blue_pill.S).
[[noreturn]] void blue_pill_leave(const vmx::Registers* l2, uint64_t rip, uint64_t rsp,
                                  uint64_t rflags);
// Comes back twice: with false where serve() gave up, with true as L2.
bool blue_pill_enter(vmx::Processor* processor, uint8_t* host_stack_end);

// On the host's stack. Comes back only when there was no entry.
void blue_pill_serve(vmx::Processor* processor, uint64_t l2_rip, uint64_t l2_rsp) {
  if (!vmx::prepare(*processor, l2_rip, l2_rsp)) return;
  vmx::Registers l2{};
  bool launch = true;
  while (vmx::vmx_enter(&l2, launch) == vmx::Result::Succeeded) {
    launch = false;
    const auto reason = static_cast<uint32_t>(vmx::vmread(vmx::EXIT_REASON));
    switch (reason) {
      case vmx::EXIT_CPUID:
        blue_pill::answer_cpuid(l2);
        break;
      case vmx::EXIT_XSETBV:
        set_xcr(l2);
        break;
      case vmx::EXIT_VMCALL: {
        if (l2.rax != kCallSpitOut) break;
        vmx::skip_instruction();
        const uint64_t rip = vmx::vmread(vmx::GUEST_RIP);
        const uint64_t rsp = vmx::vmread(vmx::GUEST_RSP);
        const uint64_t rflags = vmx::vmread(vmx::GUEST_RFLAGS);
        vmx::turn_off();
        blue_pill_leave(&l2, rip, rsp, rflags);
      }
      default:
        print("FAILED  exit ", hex(reason), ", qualification ",
              hex(vmx::vmread(vmx::EXIT_QUALIFICATION)), ", RIP ", hex(vmx::vmread(vmx::GUEST_RIP)),
              "\n");
        stop();
    }
    vmx::skip_instruction();
  }
  print("FAILED  VM entry, VM-instruction error ",
        decimal(static_cast<uint32_t>(vmx::vmread(vmx::INSTRUCTION_ERROR))), "\n");
}
}

namespace blue_pill {

const char* vendor() { return "VT-x"; }

bool swallow(uint32_t index) {
  return index < kMaxProcessors && vmx::turn_on(processors[index]) &&
         blue_pill_enter(&processors[index], host_stacks[index] + sizeof host_stacks[index]);
}

void spit_out() {
  uint64_t call = kCallSpitOut;
  asm volatile("vmcall" : "+a"(call) : : "memory");
}

}  // namespace blue_pill
