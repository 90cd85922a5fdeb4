// The smallest hypervisor that does something on VT-x: VMXON on every processor, an EPT that maps
// each address to itself, and an L2 that prints through a port, asks CPUID and reads an MSR that
// are all intercepted. Then VMXOFF.
#include "guest-tests/guests/processors.h"
#include "guest-tests/guests/vmx.h"

namespace {

using namespace guest;

constexpr uint16_t kConsolePort = 0x4e9;
constexpr uint32_t kOurLeaf = 0x40000000, kOurMsr = 0x1234;
constexpr uint32_t kMaxOfThese = 8;

vmx::Processor processors[kMaxOfThese];
uint32_t console_lock, next_processor, done;

void lock() {
  while (__atomic_exchange_n(&console_lock, 1, __ATOMIC_ACQUIRE) != 0) asm volatile("pause");
}
void unlock() { __atomic_store_n(&console_lock, 0, __ATOMIC_RELEASE); }

// --- L2
// ---------------------------------------------------------------------------------------------

void l2_print(const char* text) {
  for (; *text != '\0'; ++text) out8(kConsolePort, static_cast<uint8_t>(*text));
}

[[noreturn]] void l2_main() {
  l2_print("hello from L2, ");
  const CpuidRegs leaf = cpuid(kOurLeaf);
  l2_print(leaf.ebx == 0x6c6c6568 ? "CPUID answered by L1, " : "CPUID is not L1's, ");
  l2_print(rdmsr(kOurMsr) == 0x5a5a ? "RDMSR answered by L1\n" : "RDMSR is not L1's\n");
  const bool right = leaf.ebx == 0x6c6c6568 && rdmsr(kOurMsr) == 0x5a5a;
  // The verdict goes to L1 with a VMCALL, which does not come back.
  while (true) asm volatile("vmcall" : : "a"(right ? 0 : 1));
}

// --- L1
// ---------------------------------------------------------------------------------------------

// Serves L2 until it calls; gives what it called with.
uint64_t serve() {
  vmx::Registers l2{};
  bool launch = true;
  while (true) {
    const vmx::Result entered = vmx::vmx_enter(&l2, launch);
    if (entered != vmx::Result::Succeeded) {
      print("FAILED  VM entry, VM-instruction error ",
            decimal(static_cast<uint32_t>(vmx::vmread(vmx::INSTRUCTION_ERROR))), "\n");
      return 2;
    }
    launch = false;
    const auto reason = static_cast<uint32_t>(vmx::vmread(vmx::EXIT_REASON));
    switch (reason) {
      case vmx::EXIT_IO:
        put(static_cast<char>(l2.rax));
        break;
      case vmx::EXIT_CPUID: {
        const auto leaf = static_cast<uint32_t>(l2.rax);
        const CpuidRegs answer = leaf == kOurLeaf ? CpuidRegs{kOurLeaf, 0x6c6c6568, 0, 0}
                                                  : cpuid(leaf, static_cast<uint32_t>(l2.rcx));
        l2.rax = answer.eax;
        l2.rbx = answer.ebx;
        l2.rcx = answer.ecx;
        l2.rdx = answer.edx;
        break;
      }
      case vmx::EXIT_RDMSR:
        l2.rax = 0x5a5a;
        l2.rdx = 0;
        break;
      case vmx::EXIT_VMCALL:
        return l2.rax;
      default:
        print("FAILED  exit ", hex(reason), ", qualification ",
              hex(vmx::vmread(vmx::EXIT_QUALIFICATION)), "\n");
        return 3;
    }
    vmx::skip_instruction();
  }
}

uint64_t run_one(uint32_t index) {
  vmx::Processor& processor = processors[index];
  if (!vmx::turn_on(processor)) return 4;
  vmx::intercept_port(processor, kConsolePort);
  vmx::intercept_msr(processor, kOurMsr);
  // As a CALL would leave the stack.
  const auto stack = reinterpret_cast<uint64_t>(processor.l2_stack) + sizeof processor.l2_stack - 8;
  if (!vmx::prepare(processor, reinterpret_cast<uint64_t>(&l2_main), stack)) return 5;
  lock();
  print("vmx-hello: processor ", decimal(index), ": ");
  const uint64_t verdict = serve();
  unlock();
  vmx::turn_off();
  return verdict;
}

}  // namespace

void ap_main() {
  processor_is_up();
  const uint32_t index = __atomic_add_fetch(&next_processor, 1, __ATOMIC_SEQ_CST);
  if (index < kMaxOfThese && run_one(index) == 0) __atomic_add_fetch(&done, 1, __ATOMIC_SEQ_CST);
}

uint32_t guest_main(uint32_t, uint32_t) {
  serial_init();
  const uint32_t count = processor_count();
  if (count > kMaxOfThese) {
    print("vmx-hello: at most ", decimal(kMaxOfThese), " processors\n");
    return 6;
  }
  const uint64_t verdict = run_one(0);
  if (verdict != 0) return static_cast<uint32_t>(verdict);
  const bool all_came = start_processors(count);
  for (uint32_t tries = 0; tries < 3000000 && __atomic_load_n(&done, __ATOMIC_SEQ_CST) < count - 1;
       ++tries)
    in8(0x80);
  require(all_came, "every processor came", 7);
  require(__atomic_load_n(&done, __ATOMIC_SEQ_CST) == count - 1, "and each ran its L2", 8);
  return 0;
}
