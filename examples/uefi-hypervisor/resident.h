// What stays in memory under whatever runs then: one Processor for each, the tables and handlers of
// the hypervisor itself, and the vendors' halves. Nothing in it needs the firmware.
#pragma once

#include "examples/uefi-hypervisor/processor_state.h"
#include "guest-tests/guests/guest.h"
#include "guest-tests/guests/registers.h"
#include "guest-tests/guests/svm.h"
#include "guest-tests/guests/task_state.h"
#include "guest-tests/guests/vmx.h"

namespace efi_hypervisor {

// Verdicts, by the debug-exit port.
enum Verdict : uint32_t {
  kNotPossible = 2,     // no VT-x or SVM, no memory, no MP services
  kNotVirtualized = 3,  // a processor that would not go under
  kLost = 4,            // a processor that did not come back from INIT and SIPI
  kNextImage = 5,       // the next image did not start, or failed
  kUnexpectedExit = 6,  // the hypervisor had an exit that it cannot answer
  kHostException = 7,   // an exception in the hypervisor
};

enum class Vendor : uint8_t { None, Vmx, Svm };

// CPUID of the hypervisor, as its guests see it.
constexpr uint32_t kHypervisorLeaf = 0x40000000;  // EBX, ECX, EDX: the name
constexpr uint32_t kProcessorLeaf = 0x40000001;   // index, INITs and SIPIs that it saw, exits
constexpr guest::CpuidRegs kName{kProcessorLeaf, 0x48696645, 0x61537079,
                                 0x656c706d};  // EfiHypSample

// One processor's. Its stack comes first, so that an overflow hits the end of its neighbour, which
// is padding. Memory of the resident kind, all zeroes at first.
struct alignas(4096) Processor {
  uint8_t host_stack[16384];
  union {
    guest::vmx::Processor vmx;
    guest::svm::Processor svm;
  };
  guest::TaskState task_state;  // the hypervisor's own GDT and TSS
  guest::Registers l2;
  uint32_t index, apic_id;
  uint32_t inits, sipis, exits;
  bool resident;        // it has a guest
  uint8_t nmi;          // one came while the hypervisor ran; it is the guest's
  uint8_t sipi_vector;  // where its next SIPI was to lead (SVM)
  const char* refusal;  // why it is not
  uint64_t refusal_detail;
  uint32_t checked;  // how often it found itself under the hypervisor
};

constexpr uint32_t kMaxApicId = 255;
// Built before the first processor goes under.
extern "C" [[gnu::visibility("hidden")]] Processor* by_apic_id[kMaxApicId + 1];

// The hypervisor's own address space, descriptors and exceptions (resident_host.cc).
void build_host();
uint64_t host_cr3();
void enter_host(Processor& processor);
void leave_host(const ProcessorState& state);
// The one that executes this, in the hypervisor.
Processor& this_processor();

// Says what and where on the serial port, and ends the machine.
template <typename... Parts>
[[noreturn]] void give_up(const Processor& processor, Verdict verdict, Parts... parts) {
  guest::print("\nefi-hypervisor: processor ", guest::decimal(processor.index), " (APIC id ",
               guest::decimal(processor.apic_id), "): ", parts..., "\n");
  guest::exit_with(verdict);
}

// From its return on this processor runs as a guest; false, with a refusal, where it does not.
extern "C" bool go_under(Processor* processor, uint8_t* host_stack_end);
inline bool go_under(Processor& processor) {
  return go_under(&processor, processor.host_stack + sizeof processor.host_stack);
}

Vendor vendor();

// The processor's own CPUID, less what the guest is not to have, and the hypervisor's leaves.
void answer_cpuid(Processor& processor, uint64_t l2_cr4);

// The vendors' halves. serve() comes back only where there was no entry.
namespace vmx_half {
const char* prepare();  // once for all; what stands against it, or null
void serve(Processor& processor, uint64_t rip, uint64_t rsp);
}  // namespace vmx_half
namespace svm_half {
const char* prepare(uint8_t* page_below_1_mib);
void serve(Processor& processor, uint64_t rip, uint64_t rsp);
}  // namespace svm_half

}  // namespace efi_hypervisor
