// What becomes of an INIT that hits a processor under a hypervisor. SVM has two means against it:
// VM_CR.R_INIT makes an #SX of an INIT that nobody intercepts, and the INIT intercept makes an exit
// of it, which leaves the INIT pending; the two together consume it (APM Vol. 2, 15.21.8, 15.28).
//
// The first processor sends INITs to a second one, which starts anew after each that reset it, and
// tells what it sees of it. Ends with 0 when an INIT comes to the hypervisor as an exit and L2
// lives on after it, by whichever means.
#include "guest-tests/guests/idt.h"
#include "guest-tests/guests/processors.h"
#include "guest-tests/guests/svm.h"

namespace {

using namespace guest;

constexpr uint8_t kSecurityException = 30;
constexpr uint32_t kNobody = ~0u;
constexpr uint32_t kWindow = 5000;  // tries, after which what did not happen does not happen

Idt idt;
svm::Processor processor;
svm::Registers l2_registers;
uint32_t subject = kNobody;  // the APIC id of the second processor
uint32_t start;              // how often it started
uint32_t beats;              // it lives
uint32_t redirected;         // #SX that it took
uint32_t wanted_stop;        // L2 is to call L1
uint32_t exited, still_there, called;
uint64_t r_init, exit_code, kept_svme, sx_error = ~0ull;

uint32_t load(const uint32_t& counter) { return __atomic_load_n(&counter, __ATOMIC_SEQ_CST); }
void count(uint32_t& counter) { __atomic_add_fetch(&counter, 1, __ATOMIC_SEQ_CST); }

// A port access each time lets the other processor run where all share one host CPU.
bool wait_for(const uint32_t& counter, uint32_t wanted, uint32_t most = 300000) {
  for (uint32_t tries = 0; tries < most && load(counter) < wanted; ++tries) in8(0x80);
  return load(counter) >= wanted;
}

// --- the second processor

[[gnu::interrupt]] void on_security_exception(InterruptFrame*, uint64_t error) {
  sx_error = error;
  count(redirected);
}

void l2_main() {
  while (load(wanted_stop) == 0) count(beats);
  while (true) asm volatile("vmmcall");
}

bool prepare_l2() {
  const auto stack = reinterpret_cast<uint64_t>(processor.l2_stack) + sizeof processor.l2_stack - 8;
  return svm::prepare(processor, reinterpret_cast<uint64_t>(&l2_main), stack);
}

// Until L2 calls or an INIT ends it.
void run_l2() {
  while (true) {
    exit_code = svm::enter(processor, l2_registers, false);
    if (exit_code != svm::VMEXIT_INIT) break;
    count(exited);
    // L2 stands complete in its VMCB and in l2_registers. The INIT is pending, held by GIF. With
    // GIF comes the #SX, if R_INIT works, or the reset; then start 4 goes on with L2.
    const uint32_t before = load(redirected);
    asm volatile("stgi" : : : "memory");
    in8(0x80);
    // KVM with vgif=1 does not see STGI, and looks at the INIT for the next reason that it has.
    if (load(redirected) == before) {
      count(still_there);
      stop();
    }
  }
  if (exit_code == svm::VMEXIT_VMMCALL) count(called);
  asm volatile("stgi" : : : "memory");
}

}  // namespace

void ap_main() {
  const uint32_t id = lapic_read(spec::APIC_ID) >> 24;
  uint32_t nobody = kNobody;
  if (!__atomic_compare_exchange_n(&subject, &nobody, id, false, __ATOMIC_SEQ_CST,
                                   __ATOMIC_SEQ_CST) &&
      nobody != id)
    return processor_is_up();
  idt.load();
  ++start;
  if (start > 1) kept_svme = rdmsr(svm::kEfer) & svm::kEferSvme;
  if (!svm::turn_on(processor)) return;
  if (start < 4 && !prepare_l2()) return;
  wrmsr(svm::kVmCr, rdmsr(svm::kVmCr) | svm::kVmCrRInit);
  r_init = rdmsr(svm::kVmCr) & svm::kVmCrRInit;
  processor_is_up();
  if (start == 1)
    while (true) count(beats);
  if (start == 3) processor.vmcb.set(svm::INTERCEPT_3, svm::INIT_INTERCEPT);
  run_l2();
}

// --- the first processor

namespace {

// An INIT to the other one, and what came of it; it lives again after that.
void send_init(const char* where) {
  const uint32_t before = load(redirected), starts = load(start);
  const uint32_t alive = load(beats) + 1;
  require(wait_for(beats, alive), where, 7);
  send_ipi(load(subject), spec::ICR_INIT);
  const bool excepted = wait_for(redirected, before + 1, kWindow);
  const uint32_t then = load(beats);
  const bool goes_on = wait_for(beats, then + 1, kWindow);
  note(excepted, "  an INIT raises #SX there");
  if (excepted) print("          error code ", hex(sx_error), "\n");
  if (goes_on) return print("          the processor goes on\n");
  print("          the processor is reset, silently\n");
  require(restart_processor(load(subject)), "  a SIPI starts it again", 8);
  print("          it is start ", decimal(load(start)), ", EFER.SVME was ",
        kept_svme != 0 ? "kept" : "cleared", "\n");
  if (load(start) == starts) exit_with(9);
}

}  // namespace

uint32_t guest_main(uint32_t, uint32_t) {
  serial_init();
  const uint32_t processors = processor_count();
  if (processors < 2) {
    print("svm-init-redirect: needs two processors (--smp 2)\n");
    return 2;
  }
  if (!svm::turn_on(processor)) return 3;
  svm::turn_off();
  idt.set(kSecurityException, on_security_exception);
  idt.load();
  require(start_processors(processors), "the others come", 4);
  note(r_init != 0, "VM_CR.R_INIT reads back as it was written");

  send_init("R_INIT is set, the processor is in L1");
  if (load(start) == 1) {  // where INIT is redirected it is still in its first loop
    print("          INIT redirection works here: R_INIT is all that a hypervisor needs\n");
    return 0;
  }
  send_init("R_INIT is set, the processor is in L2");

  // The alternative: the INIT intercept.
  const uint32_t alive = load(beats) + 1, before = load(redirected);
  require(wait_for(beats, alive), "the INIT intercept is set, the processor is in L2", 10);
  send_ipi(load(subject), spec::ICR_INIT);
  require(wait_for(exited, 1), "  an INIT ends L2 with VMEXIT_INIT (63h)", 11);
  // Where #SX comes L2 runs on.
  if (wait_for(redirected, before + 1, kWindow)) {
    print("          #SX consumes the INIT\n");
  } else {
    print("          the INIT stays pending, and resets the processor ",
          load(still_there) == 0 ? "at STGI\n" : "not at STGI, but when it halts\n");
    require(restart_processor(load(subject)), "  a SIPI to the hypervisor starts it again", 12);
  }
  const uint32_t then = load(beats);
  require(wait_for(beats, then + 1), "  and L2 goes on where it was", 13);
  __atomic_store_n(&wanted_stop, 1, __ATOMIC_SEQ_CST);
  require(wait_for(called, 1), "  to its end", 14);
  return 0;
}
