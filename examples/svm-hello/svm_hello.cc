// The smallest hypervisor that does something on SVM: EFER.SVME on every processor, nested paging
// that maps each address to itself, and an L2 that prints through a port, asks CPUID and reads an
// MSR that are all intercepted. Then EFER.SVME off.
#include "guest-tests/guests/processors.h"
#include "guest-tests/guests/svm.h"

namespace {

using namespace guest;

constexpr uint16_t kConsolePort = 0x4e9;
constexpr uint32_t kOurLeaf = 0x40000000, kOurAnswer = 0x6c6c6568, kOurMsr = 0x1234;
constexpr uint32_t kMaxOfThese = 8;

svm::Processor processors[kMaxOfThese];
uint32_t console_lock, next_processor, done;

void lock() {
  while (__atomic_exchange_n(&console_lock, 1, __ATOMIC_ACQUIRE) != 0) asm volatile("pause");
}
void unlock() { __atomic_store_n(&console_lock, 0, __ATOMIC_RELEASE); }

// --- L2

void l2_print(const char* text) {
  for (; *text != '\0'; ++text) out8(kConsolePort, static_cast<uint8_t>(*text));
}

[[noreturn]] void l2_main() {
  l2_print("hello from L2, ");
  const bool leaf_is_l1s = cpuid(kOurLeaf).ebx == kOurAnswer;
  l2_print(leaf_is_l1s ? "CPUID answered by L1, " : "CPUID is not L1's, ");
  const bool msr_is_l1s = rdmsr(kOurMsr) == 0x5a5a;
  l2_print(msr_is_l1s ? "RDMSR answered by L1\n" : "RDMSR is not L1's\n");
  // The verdict goes to L1 with a VMMCALL, which does not come back.
  while (true) asm volatile("vmmcall" : : "a"(leaf_is_l1s && msr_is_l1s ? 0 : 1));
}

// --- L1

// Serves L2 until it calls; gives what it called with.
uint64_t serve(svm::Processor& processor) {
  svm::Registers l2{};
  while (true) {
    const uint64_t code = svm::enter(processor, l2);
    switch (code) {
      case svm::VMEXIT_IOIO:
        put(static_cast<char>(l2.rax));
        break;
      case svm::VMEXIT_CPUID: {
        const auto leaf = static_cast<uint32_t>(l2.rax);
        const CpuidRegs answer = leaf == kOurLeaf ? CpuidRegs{kOurLeaf, kOurAnswer, 0, 0}
                                                  : cpuid(leaf, static_cast<uint32_t>(l2.rcx));
        l2.rax = answer.eax;
        l2.rbx = answer.ebx;
        l2.rcx = answer.ecx;
        l2.rdx = answer.edx;
        break;
      }
      case svm::VMEXIT_MSR:  // EXITINFO1 is 0 for RDMSR, the only one that comes
        l2.rax = 0x5a5a;
        l2.rdx = 0;
        break;
      case svm::VMEXIT_VMMCALL:
        return l2.rax;
      default:
        print("FAILED  exit ", hex(code), ", EXITINFO1 ", hex(processor.vmcb.get(svm::EXITINFO1)),
              ", EXITINFO2 ", hex(processor.vmcb.get(svm::EXITINFO2)), "\n");
        return 3;
    }
    svm::skip_instruction(processor.vmcb);
  }
}

uint64_t run_one(uint32_t index) {
  svm::Processor& processor = processors[index];
  if (!svm::turn_on(processor)) return 4;
  svm::intercept_port(processor, kConsolePort);
  svm::intercept_msr(processor, kOurMsr);
  // As a CALL would leave the stack.
  const auto stack = reinterpret_cast<uint64_t>(processor.l2_stack) + sizeof processor.l2_stack - 8;
  if (!svm::prepare(processor, reinterpret_cast<uint64_t>(&l2_main), stack)) return 5;
  lock();
  print("svm-hello: processor ", decimal(index), ": ");
  const uint64_t verdict = serve(processor);
  unlock();
  svm::turn_off();
  return (rdmsr(svm::kEfer) & svm::kEferSvme) == 0 ? verdict : 9;
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
    print("svm-hello: at most ", decimal(kMaxOfThese), " processors\n");
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
