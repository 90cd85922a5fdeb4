// The first story: a CPU that offers XSAVES to a hypervisor, and not the VMX control that lets its
// guest execute it. L2, which is the system that was there before, uses XSAVES as it always did:
// with the control it runs, without it #UD is what it gets.
#include "guest-tests/guests/idt.h"
#include "guest-tests/guests/vmx.h"

namespace {

using namespace guest;

constexpr uint32_t kCr4Osxsave = 1 << 18;

vmx::Processor processor;
Idt idt;
alignas(64) uint8_t area[4096];

// Past the XSAVES, which has 3 bytes, with the carry set.
[[gnu::interrupt]] void on_invalid_opcode(InterruptFrame* frame) {
  frame->rip += 3;
  frame->rflags |= 1;
}

// Whether XSAVES ran.
[[gnu::noinline]] bool xsaves() {
  bool faulted;
  asm volatile("clc\n\t.byte 0x0f, 0xc7, 0x2f"  // XSAVES [RDI]
               : "=@ccc"(faulted)
               : "D"(area), "a"(1), "d"(0)
               : "memory");
  return !faulted;
}

[[noreturn]] void l2_main() {
  const bool ran = xsaves();
  while (true) asm volatile("vmcall" : : "a"(ran ? 1 : 0));
}

// What L2 answers, with the control as given; nothing when there is no entry.
bool ask_l2(bool with_control, bool& ran) {
  const auto stack = reinterpret_cast<uint64_t>(processor.l2_stack) + sizeof processor.l2_stack - 8;
  if (!vmx::prepare(processor, reinterpret_cast<uint64_t>(&l2_main), stack)) exit_with(3);
  if (with_control)
    vmx::set_bits(vmx::SECONDARY, vmx::ENABLE_XSAVES);
  else
    vmx::clear_bits(vmx::SECONDARY, vmx::ENABLE_XSAVES);
  vmx::Registers l2{};
  if (vmx::vmx_enter(&l2, true) != vmx::Result::Succeeded) return false;
  ran = l2.rax == 1;
  return vmx::vmread(vmx::EXIT_REASON) == vmx::EXIT_VMCALL;
}

}  // namespace

uint32_t guest_main(uint32_t, uint32_t) {
  serial_init();
  if ((cpuid(0xd, 1).eax & 1 << 3) == 0) {
    print("this CPU model has no XSAVES\n");
    return 4;
  }
  idt.set(6, on_invalid_opcode);
  idt.load();
  write_cr4(read_cr4() | kCr4Osxsave);
  require(xsaves(), "CPUID Dh.1 offers XSAVES, and it runs in L1", 5);
  if (!vmx::turn_on(processor)) return 2;

  bool ran = true;
  require(ask_l2(false, ran) && !ran, "L2 without \"enable XSAVES/XRSTORS\": #UD", 6);
  const bool offered = (rdmsr(0x48b) >> (32 + 20) & 1) != 0;
  print(offered ? "the control is offered\n"
                : "the control is not offered: it is set all the same\n");
  if (!ask_l2(true, ran)) {
    print("FAILED  no entry, VM-instruction error ",
          decimal(static_cast<uint32_t>(vmx::vmread(vmx::INSTRUCTION_ERROR))), "\n");
    stop();
  }
  require(ran, "L2 with it: XSAVES runs", 7);
  vmx::turn_off();
  return 0;
}
