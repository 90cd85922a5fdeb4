#include "vmm/kvm/vcpu.h"

#include <fmt/format.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

#include "vmm/kvm/decode.h"
#include "vmm/kvm/ioctls.h"
#include "vmm/kvm/varsized.h"

namespace vmm {

namespace {
constexpr std::uint32_t kIa32Tsc = 0x10;

// The thread id of a vCPU's thread, on that thread alone.
thread_local pid_t own_thread = 0;
}  // namespace

int kick_signal() { return SIGRTMIN; }

void install_kick_handler() {
  struct sigaction action {};
  action.sa_handler = [](int) {};
  sigaction(kick_signal(), &action, nullptr);  // no SA_RESTART: KVM_RUN must come back
}

Vcpu::Vcpu(Fd fd, Mapping mapping, VcpuOffer offer)
    : fd_(std::move(fd)), mapping_(std::move(mapping)), offer_(std::move(offer)) {
  if (offer_.sync_regs) shared()->kvm_valid_regs = KVM_SYNC_X86_REGS;
}

void Vcpu::share_registers() {
  if (offer_.sync_regs) shared()->kvm_valid_regs |= KVM_SYNC_X86_SREGS;
}

void Vcpu::keep_registers() {
  keep_registers_ = offer_.sync_regs;
  share_registers();
}

Result<std::unique_ptr<Vcpu>> Vcpu::create(Fd fd, std::size_t run_size, VcpuOffer offer) {
  Mapping mapping = VMM_TRY_CONTEXT(Mapping::shared(fd, run_size), "map kvm_run");
  return std::unique_ptr<Vcpu>(new Vcpu(std::move(fd), std::move(mapping), std::move(offer)));
}

Result<void> Vcpu::set_cpuid(const CpuidTable& cpuid) {
  const auto entries = cpuid.to_kvm();
  VarSized<kvm_cpuid2, kvm_cpuid_entry2> argument(entries.size());
  argument->nent = static_cast<std::uint32_t>(entries.size());
  std::copy(entries.begin(), entries.end(), argument->entries);
  VMM_TRY(fd_.ioctl(request::SET_CPUID2, argument.get(), fmt::format("nent={}", entries.size())));
  return {};
}

Result<CpuidTable> Vcpu::cpuid() {
  constexpr std::size_t kMost = 512;
  VarSized<kvm_cpuid2, kvm_cpuid_entry2> argument(kMost);
  argument->nent = kMost;
  VMM_TRY(fd_.ioctl(request::GET_CPUID2, argument.get(), fmt::format("nent={}", kMost)));
  return CpuidTable::from_kvm({argument->entries, argument->nent});
}

Result<void> Vcpu::set_msr(std::uint32_t index, std::uint64_t value) {
  shares_state_ = false;
  VarSized<kvm_msrs, kvm_msr_entry> argument(1);
  argument->nmsrs = 1;
  argument->entries[0].index = index;
  argument->entries[0].data = value;
  const std::string detail = fmt::format("msr={:x}h value={:x}h", index, value);
  const int done = VMM_TRY(fd_.ioctl(request::SET_MSRS, argument.get(), detail));
  if (done != 1)
    return fail(Error::host(fmt::format("KVM_SET_MSRS ({}): KVM refuses this value", detail)));
  return {};
}

Result<std::uint64_t> Vcpu::msr(std::uint32_t index) {
  VarSized<kvm_msrs, kvm_msr_entry> argument(1);
  argument->nmsrs = 1;
  argument->entries[0].index = index;
  const std::string detail = fmt::format("msr={:x}h", index);
  const int done = VMM_TRY(fd_.ioctl(request::GET_MSRS, argument.get(), detail));
  if (done != 1)
    return fail(Error::host(fmt::format("KVM_GET_MSRS ({}): KVM does not know it", detail)));
  return argument->entries[0].data;
}

Result<void> Vcpu::enable(const Capability& capability, std::uint64_t argument) {
  kvm_enable_cap cap{};
  cap.cap = capability.number;
  cap.args[0] = argument;
  VMM_TRY(fd_.ioctl(request::ENABLE_CAP, &cap, fmt::format("KVM_CAP_{}", capability.name)));
  return {};
}

Result<kvm_lapic_state> Vcpu::lapic() {
  kvm_lapic_state state{};
  VMM_TRY(fd_.ioctl(request::GET_LAPIC, &state));
  return state;
}

Result<void> Vcpu::set_lapic(const kvm_lapic_state& state) {
  VMM_TRY(fd_.ioctl(request::SET_LAPIC, &state));
  return {};
}

Result<std::optional<Gpa>> Vcpu::translate(Gva gva) {
  kvm_translation translation{};
  translation.linear_address = gva;
  VMM_TRY(fd_.ioctl(request::TRANSLATE, &translation));
  if (translation.valid == 0) return std::optional<Gpa>();
  return std::optional<Gpa>(translation.physical_address);
}

Result<Exit> Vcpu::enter() {
  if (keep_registers_) {
    previous_regs_ = shared()->s.regs.regs;
    previous_sregs_ = shared()->s.regs.sregs;
  }
  const int result = fd_.ioctl_raw(request::RUN, 0);
  shares_state_ = (shared()->kvm_valid_regs & KVM_SYNC_X86_SREGS) != 0;
  // Whoever kicks raises its request before the flag, so a request that this store wipes out is
  // seen by the caller, who looks at requests before every run.
  immediate_exit().store(0);
  if (result == -EINTR || result == -EAGAIN) return Exit{Interrupted{}};
  if (result < 0) return fail(Error::system(ErrorKind::Host, "KVM_RUN", -result));
  have_previous_ = keep_registers_;
  return decode_exit(*shared(), mapping_.bytes());
}

Result<Exit> Vcpu::run() { return enter(); }

Result<Exit> Vcpu::settle() {
  immediate_exit().store(1);
  return enter();
}

Result<CpuState> Vcpu::brief_state() {
  CpuState state;
  if (shares_state_) {
    state.regs = shared()->s.regs.regs;
    state.sregs = shared()->s.regs.sregs;
    return state;
  }
  VMM_TRY(fd_.ioctl(request::GET_REGS, &state.regs));
  VMM_TRY(fd_.ioctl(request::GET_SREGS, &state.sregs));
  return state;
}

Result<CpuState> Vcpu::state() {
  CpuState state = VMM_TRY(brief_state());
  VMM_TRY(fd_.ioctl(request::GET_DEBUGREGS, &state.debugregs));
  VMM_TRY(fd_.ioctl(request::GET_VCPU_EVENTS, &state.events));
  state.mp_state = VMM_TRY(mp_state());
  return state;
}

Result<void> Vcpu::set_state(const CpuState& state) {
  shares_state_ = false;
  VMM_TRY(fd_.ioctl(request::SET_SREGS, &state.sregs));
  VMM_TRY(fd_.ioctl(request::SET_REGS, &state.regs));
  VMM_TRY(fd_.ioctl(request::SET_DEBUGREGS, &state.debugregs));
  VMM_TRY(fd_.ioctl(request::SET_VCPU_EVENTS, &state.events));
  kvm_mp_state mp{state.mp_state};
  VMM_TRY(fd_.ioctl(request::SET_MP_STATE, &mp, fmt::format("mp_state={}", state.mp_state)));
  expect_entry(state);
  return {};
}

Result<kvm_regs> Vcpu::general_registers() {
  kvm_regs regs{};
  VMM_TRY(fd_.ioctl(request::GET_REGS, &regs));
  return regs;
}

Result<void> Vcpu::set_general_registers(const kvm_regs& regs) {
  shares_state_ = false;
  VMM_TRY(fd_.ioctl(request::SET_REGS, &regs));
  return {};
}

// What the next exit would say: entry_state() is asked before the first one too.
void Vcpu::expect_entry(const CpuState& state) {
  kvm_run& run = *shared();
  run.apic_base = state.sregs.apic_base;
  run.cr8 = state.sregs.cr8;
  run.if_flag = (state.regs.rflags & spec::RFLAGS_IF) != 0 ? 1 : 0;
  run.ready_for_interrupt_injection = 0;
}

Result<std::uint32_t> Vcpu::mp_state() {
  kvm_mp_state mp{};
  VMM_TRY(fd_.ioctl(request::GET_MP_STATE, &mp));
  return mp.mp_state;
}

std::uint64_t Vcpu::last_rip() const { return offer_.sync_regs ? shared()->s.regs.regs.rip : 0; }

EntryState Vcpu::entry_state() const {
  const kvm_run& run = *shared();
  return {.ready = run.ready_for_interrupt_injection != 0,
          .interrupts_on = run.if_flag != 0,
          .cr8 = static_cast<std::uint8_t>(run.cr8),
          .apic_base = run.apic_base};
}

Result<void> Vcpu::prepare(const EntryPlan& plan) {
  kvm_run& run = *shared();
  if (plan.nmi) VMM_TRY(fd_.ioctl(request::NMI));
  if (plan.interrupt) {
    kvm_interrupt interrupt{*plan.interrupt};
    VMM_TRY(fd_.ioctl(request::INTERRUPT, &interrupt, fmt::format("irq={}", interrupt.irq)));
  }
  run.request_interrupt_window = plan.window ? 1 : 0;
  if (plan.cr8) run.cr8 = *plan.cr8;
  return {};
}

Result<std::uint64_t> Vcpu::tsc() { return msr(kIa32Tsc); }

Result<std::uint32_t> Vcpu::tsc_khz() {
  return static_cast<std::uint32_t>(VMM_TRY(fd_.ioctl(request::GET_TSC_KHZ)));
}

Result<void> Vcpu::set_tsc_khz(std::uint32_t khz) {
  VMM_TRY(fd_.ioctl(request::SET_TSC_KHZ, khz, fmt::format("tsc_khz={}", khz)));
  return {};
}

void Vcpu::bind_to_this_thread() {
  process_ = getpid();
  // Once, for behind the filter that would be one system call more to allow.
  if (own_thread == 0) own_thread = gettid();
  thread_ = own_thread;
}

void Vcpu::kick() {
  immediate_exit().store(1);
  const pid_t thread = thread_;
  // The vCPU's own thread is not in the guest while it kicks itself. pthread_kill() would block all
  // signals around the call: three system calls more.
  if (thread != 0 && thread != own_thread) syscall(SYS_tgkill, process_, thread, kick_signal());
}

bool Vcpu::registers_before_last_exit(kvm_regs& regs, kvm_sregs& sregs) const {
  if (!have_previous_ || previous_sregs_.cs.limit == 0) return false;
  regs = previous_regs_;
  sregs = previous_sregs_;
  return true;
}

}  // namespace vmm
