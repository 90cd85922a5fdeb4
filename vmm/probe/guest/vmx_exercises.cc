// Exercises of what VMX offers beside its controls.
#include "vmm/probe/guest/vmx.h"

namespace probe {
namespace {

using namespace vmx;

// An entry that comes back by VMCALL; refused controls and EPT entries are a refusal.
uint64_t verdict_of(const Outcome& outcome, uint32_t wanted = kExitVmcall) {
  if (outcome.failure != 0)
    return with_detail(outcome.error == kInvalidControls ? kRefused : kWrong, outcome.error);
  if (outcome.reason == kExitEptMisconfiguration || (outcome.reason & kEntryFailed) != 0)
    return with_detail(kRefused, outcome.reason & 0xffff);
  return with_detail(works_if(outcome.reason == wanted), outcome.reason);
}

uint64_t with_pages(EptPages pages) {
  Setting s = least();
  use_ept(s, pages);
  return verdict_of(run(s));
}

// EPTP's memory type, bits 2:0.
uint64_t with_memory_type(uint64_t type) {
  Setting s = least();
  use_ept(s);
  s.eptp = (s.eptp & ~uint64_t{7}) | type;
  return verdict_of(run(s));
}

struct alignas(16) Descriptor {
  uint64_t low, high;
};

uint64_t invalidated(bool ok) {
  if (ok) return kWorks;
  const auto error = static_cast<uint32_t>(read(0x4400));
  return with_detail(error == kInvalidInvalidation ? kRefused : kWrong, error);
}

// Either needs a current VMCS, for its VM-instruction error.
uint64_t invept(uint64_t type) {
  Setting s = least();
  use_ept(s);
  run(s);
  const Descriptor descriptor{s.eptp, 0};
  bool ok;
  asm volatile("invept %1, %2" : "=@cca"(ok) : "m"(descriptor), "r"(type) : "memory");
  return invalidated(ok);
}
uint64_t invvpid(uint64_t type) {
  run(least());
  const Descriptor descriptor{1, 0x100000};
  bool ok;
  asm volatile("invvpid %1, %2" : "=@cca"(ok) : "m"(descriptor), "r"(type) : "memory");
  return invalidated(ok);
}

// The preemption timer, at 0, ends what would wait for ever.
uint64_t in_activity_state(uint32_t state) {
  if ((rdmsr(kPin) >> (32 + 6) & 1) == 0) return with_detail(kWrong, kExitPreemptionTimer);
  Setting s = least();
  s.pin |= bit(6);
  s.activity = state;
  return verdict_of(run(s), kExitPreemptionTimer);
}

uint64_t injected(uint32_t event) {
  Setting s = least();
  s.event = event;
  const Outcome outcome = run(s);
  if (outcome.failure == 0 && (outcome.reason & kEntryFailed) == 0) return kWorks;
  return verdict_of(outcome);
}

}  // namespace

// Setup::Vmx did it, if it could.
uint64_t exercise_vmx() {
  if (is_on()) return kWorks;
  write_cr4(read_cr4() | spec::CR4_VMXE);
  return kWrong;
}

uint64_t exercise_vmx_ept_execonly() { return with_pages(EptPages::ExecuteOnly); }
uint64_t exercise_vmx_page_walk_4() { return with_pages(EptPages::Small); }
uint64_t exercise_vmx_ept_2mb() { return with_pages(EptPages::Big2M); }
uint64_t exercise_vmx_ept_1gb() { return with_pages(EptPages::Big1G); }
uint64_t exercise_vmx_ept_uc() { return with_memory_type(0); }
uint64_t exercise_vmx_ept_wb() { return with_memory_type(6); }

uint64_t exercise_vmx_eptad() {
  Setting s = least();
  use_ept(s);
  s.eptp |= bit(6);
  return verdict_of(run(s));
}

uint64_t exercise_vmx_invept() { return invept(2); }
uint64_t exercise_vmx_invept_single() { return invept(1); }
uint64_t exercise_vmx_invept_all_context() { return invept(2); }
uint64_t exercise_vmx_invvpid() { return invvpid(2); }
uint64_t exercise_vmx_invvpid_single_addr() { return invvpid(0); }
uint64_t exercise_vmx_invept_single_context() { return invvpid(1); }
uint64_t exercise_vmx_invvpid_all_context() { return invvpid(2); }
uint64_t exercise_vmx_invept_single_context_noglobals() { return invvpid(3); }

uint64_t exercise_vmx_activity_hlt() { return in_activity_state(1); }
uint64_t exercise_vmx_activity_shutdown() { return in_activity_state(2); }
uint64_t exercise_vmx_activity_wait_sipi() { return in_activity_state(3); }

// The exit reason is a read-only field.
uint64_t exercise_vmx_vmwrite_vmexit_fields() {
  run(least());
  if (write(0x4402, 0)) return kWorks;
  return with_detail(kRefused, static_cast<uint32_t>(read(0x4400)));
}

// INT3 (type 6) of length 0; #UD (type 3) with an error code, which it does not have.
uint64_t exercise_vmx_zero_len_inject() { return injected(0x80000603); }
uint64_t exercise_vmx_any_errcode() { return injected(0x80000b06); }

uint64_t exercise_vmx_eptp_switching() {
  Setting s = least();
  use_ept(s);
  s.proc2 |= bit(13);
  s.functions = 1;
  return verdict_of(run(s));
}

}  // namespace probe
