// All that KVM keeps for one vCPU, read and written in the order that KVM wants.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>

#include "vmm/base/bytes.h"
#include "vmm/kvm/counters.h"
#include "vmm/kvm/ioctls.h"
#include "vmm/kvm/varsized.h"
#include "vmm/kvm/vcpu.h"

namespace vmm {
namespace {

constexpr std::uint32_t kIa32Tsc = 0x10;
constexpr std::uint32_t kIa32FeatureControl = 0x3a;
constexpr std::uint32_t kIa32TscDeadline = 0x6e0;
// In other places of the state: the TSC, IA32_APIC_BASE, EFER, and the deadline. And two counters
// of Hyper-V's interface that run by themselves, the partition's time (kvmclock's) and the host's
// CPU time; KVM lists them although no CPU model has that interface.
constexpr std::array<std::uint32_t, 6> kElsewhere = {kIa32Tsc,         0x1b,       0xc0000080,
                                                     kIa32TscDeadline, 0x40000020, 0x40000010};

kvm_sregs2 to_sregs2(const VcpuState& state) {
  const kvm_sregs& s = state.cpu.sregs;
  kvm_sregs2 two{};
  two.cs = s.cs;
  two.ds = s.ds;
  two.es = s.es;
  two.fs = s.fs;
  two.gs = s.gs;
  two.ss = s.ss;
  two.tr = s.tr;
  two.ldt = s.ldt;
  two.gdt = s.gdt;
  two.idt = s.idt;
  two.cr0 = s.cr0;
  two.cr2 = s.cr2;
  two.cr3 = s.cr3;
  two.cr4 = s.cr4;
  two.cr8 = s.cr8;
  two.efer = s.efer;
  two.apic_base = s.apic_base;
  two.flags = state.sregs_flags;
  std::ranges::copy(state.pdptrs, two.pdptrs);
  return two;
}

kvm_device_attr tsc_offset_attribute(std::uint64_t* value) {
  kvm_device_attr attribute{};
  attribute.group = KVM_VCPU_TSC_CTRL;
  attribute.attr = KVM_VCPU_TSC_OFFSET;
  attribute.addr = reinterpret_cast<std::uint64_t>(value);
  return attribute;
}

}  // namespace

// KVM lists what the host could have; which of it this vCPU has depends on its CPUID.
Result<void> Vcpu::find_msrs() {
  if (msrs_found_) return {};
  std::vector<std::uint32_t> wanted;
  for (const std::uint32_t index : offer_.msrs)
    if (std::ranges::find(kElsewhere, index) == kElsewhere.end()) wanted.push_back(index);
  std::vector<std::uint32_t> found;
  // The call stops at the first one that it cannot read, and says how many it read before.
  for (std::size_t at = 0; at < wanted.size();) {
    const std::size_t count = wanted.size() - at;
    VarSized<kvm_msrs, kvm_msr_entry> argument(count);
    argument->nmsrs = static_cast<std::uint32_t>(count);
    for (std::size_t i = 0; i < count; ++i) argument->entries[i].index = wanted[at + i];
    const auto read = static_cast<std::size_t>(
        VMM_TRY(fd_.ioctl(request::GET_MSRS, argument.get(), fmt::format("nmsrs={}", count))));
    found.insert(found.end(), wanted.begin() + static_cast<std::ptrdiff_t>(at),
                 wanted.begin() + static_cast<std::ptrdiff_t>(at + read));
    at += read + 1;
  }
  offer_.msrs = std::move(found);
  msrs_found_ = true;
  return {};
}

Result<std::vector<std::uint64_t>> Vcpu::read_msrs(std::span<const std::uint32_t> indices) {
  VarSized<kvm_msrs, kvm_msr_entry> argument(indices.size());
  argument->nmsrs = static_cast<std::uint32_t>(indices.size());
  for (std::size_t i = 0; i < indices.size(); ++i) argument->entries[i].index = indices[i];
  const auto read = static_cast<std::size_t>(VMM_TRY(
      fd_.ioctl(request::GET_MSRS, argument.get(), fmt::format("nmsrs={}", indices.size()))));
  if (read != indices.size())
    return fail(
        Error::host(fmt::format("KVM_GET_MSRS (msr={:x}h): KVM gave it at power-on and "
                                "does not now",
                                indices[read])));
  std::vector<std::uint64_t> values;
  for (std::size_t i = 0; i < indices.size(); ++i) values.push_back(argument->entries[i].data);
  return values;
}

Result<void> Vcpu::read_xsave(std::vector<std::uint8_t>& xsave, std::uint64_t& xcr0) {
  if (offer_.xsave != 0) {
    xsave.resize(offer_.xsave);
    VMM_TRY(fd_.ioctl(offer_.xsave2 ? request::GET_XSAVE2 : request::GET_XSAVE, xsave.data()));
  }
  if (offer_.xcrs) {
    kvm_xcrs xcrs{};
    VMM_TRY(fd_.ioctl(request::GET_XCRS, &xcrs));
    for (std::uint32_t i = 0; i < std::min<std::uint32_t>(xcrs.nr_xcrs, KVM_MAX_XCRS); ++i)
      if (xcrs.xcrs[i].xcr == 0) xcr0 = xcrs.xcrs[i].value;
  }
  return {};
}

Result<void> Vcpu::write_xsave(const std::vector<std::uint8_t>& xsave, std::uint64_t xcr0) {
  if (offer_.xsave != 0) VMM_TRY(fd_.ioctl(request::SET_XSAVE, xsave.data()));
  if (offer_.xcrs) {
    kvm_xcrs xcrs{};
    xcrs.nr_xcrs = 1;
    xcrs.xcrs[0].value = xcr0;
    VMM_TRY(fd_.ioctl(request::SET_XCRS, &xcrs, fmt::format("xcr0={:x}h", xcr0)));
  }
  return {};
}

Result<DebugRegisters> Vcpu::debug_registers() {
  DebugRegisters registers;
  registers.cpu = VMM_TRY(state());
  VMM_TRY(read_xsave(registers.xsave, registers.xcr0));
  return registers;
}

Result<void> Vcpu::set_debug_registers(const DebugRegisters& wanted) {
  shares_state_ = false;
  const DebugRegisters now = VMM_TRY(debug_registers());
  const auto differs = [](const auto& a, const auto& b) {
    return std::memcmp(&a, &b, sizeof a) != 0;
  };
  if (differs(now.cpu.sregs, wanted.cpu.sregs))
    VMM_TRY(fd_.ioctl(request::SET_SREGS, &wanted.cpu.sregs));
  if (differs(now.cpu.regs, wanted.cpu.regs))
    VMM_TRY(fd_.ioctl(request::SET_REGS, &wanted.cpu.regs));
  if (differs(now.cpu.debugregs, wanted.cpu.debugregs))
    VMM_TRY(fd_.ioctl(request::SET_DEBUGREGS, &wanted.cpu.debugregs));
  if (now.xsave != wanted.xsave || now.xcr0 != wanted.xcr0) {
    if (wanted.xsave.size() != now.xsave.size())
      return fail(Error::internal("an XSAVE area of another size"));
    VMM_TRY(write_xsave(wanted.xsave, wanted.xcr0));
  }
  expect_entry(wanted.cpu);
  return {};
}

Result<void> Vcpu::set_debug_control(const DebugControl& control) {
  kvm_guest_debug debug{};
  const auto add = [&](bool wanted, unsigned flag) {
    if (wanted) debug.control |= KVM_GUESTDBG_ENABLE | flag;
  };
  add(control.step, KVM_GUESTDBG_SINGLESTEP);
  add(control.block_interrupts, KVM_GUESTDBG_BLOCKIRQ);
  add(control.int3, KVM_GUESTDBG_USE_SW_BP);
  add(control.inject_int3, KVM_GUESTDBG_INJECT_BP);
  add(control.inject_debug, KVM_GUESTDBG_INJECT_DB);
  for (std::size_t i = 0; i < control.slots.size(); ++i) {
    if (!control.slots[i]) continue;
    add(true, KVM_GUESTDBG_USE_HW_BP);
    debug.arch.debugreg[i] = control.slots[i]->address;
  }
  debug.arch.debugreg[7] = dr7_of(control.slots);
  VMM_TRY(fd_.ioctl(request::SET_GUEST_DEBUG, &debug, fmt::format("control={:x}h", debug.control)));
  if (!control.resume) return {};
  kvm_regs regs = VMM_TRY(general_registers());
  regs.rflags |= spec::RFLAGS_RF;
  return set_general_registers(regs);
}

Result<std::vector<std::uint8_t>> Vcpu::nested_state() {
  std::vector<std::uint8_t> bytes;
  if (offer_.nested == 0) return bytes;
  bytes.resize(std::max(offer_.nested, sizeof(kvm_nested_state)));
  auto* nested = reinterpret_cast<kvm_nested_state*>(bytes.data());
  nested->size = static_cast<std::uint32_t>(bytes.size());
  VMM_TRY(fd_.ioctl(request::GET_NESTED_STATE, nested));
  bytes.resize(std::min<std::size_t>(nested->size, bytes.size()));
  return bytes;
}

Result<std::map<std::string, std::uint64_t>> Vcpu::counters() {
  const Fd file(VMM_TRY(fd_.ioctl(request::GET_STATS_FD)));
  std::vector<std::uint8_t> bytes(kMaxCounterBytes);
  std::size_t size = 0;
  // A file that goes on from read to read, and cannot be positioned.
  while (size < bytes.size()) {
    const ssize_t n = ::read(file.get(), bytes.data() + size, bytes.size() - size);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail(Error::system(ErrorKind::Host, "read KVM's statistics", errno));
    if (n == 0) break;
    size += static_cast<std::size_t>(n);
  }
  return parse_counters(std::span(bytes).first(size));
}

Result<void> Vcpu::read_areas(VcpuState& state) {
  VMM_TRY(read_xsave(state.xsave, state.xcr0));
  state.nested = VMM_TRY(nested_state());
  if (offer_.lapic) {
    const kvm_lapic_state page = VMM_TRY(lapic());
    state.lapic.assign(std::begin(page.regs), std::end(page.regs));
    state.tsc_deadline = VMM_TRY(tsc_deadline());
  }
  return {};
}

Result<VcpuState> Vcpu::full_state() {
  VcpuState state;
  // Before the events: KVM settles INIT and SIPI here.
  state.cpu = VMM_TRY(this->state());
  VMM_TRY(find_msrs());
  if (offer_.sregs2) {
    kvm_sregs2 sregs{};
    VMM_TRY(fd_.ioctl(request::GET_SREGS2, &sregs));
    state.sregs_flags = sregs.flags;
    std::ranges::copy(sregs.pdptrs, state.pdptrs.begin());
  }
  const auto values = VMM_TRY(read_msrs(offer_.msrs));
  for (std::size_t i = 0; i < values.size(); ++i)
    state.msrs.emplace_back(offer_.msrs[i], values[i]);
  VMM_TRY(read_areas(state));
  state.tsc = VMM_TRY(tsc());
  return state;
}

Result<void> Vcpu::write_sregs(const VcpuState& state) {
  if (offer_.sregs2) {
    kvm_sregs2 sregs = to_sregs2(state);
    VMM_TRY(fd_.ioctl(request::SET_SREGS2, &sregs));
    return {};
  }
  VMM_TRY(fd_.ioctl(request::SET_SREGS, &state.cpu.sregs));
  return {};
}

Result<void> Vcpu::write_areas(const VcpuState& state) {
  VMM_TRY(write_xsave(state.xsave, state.xcr0));
  if (offer_.lapic) {
    kvm_lapic_state page{};
    std::memcpy(page.regs, state.lapic.data(), sizeof page.regs);
    VMM_TRY(set_lapic(page));
  }
  return {};
}

// Some MSRs cannot be written, even with what they hold (capabilities, once the vCPU has run), and
// writing others has effects (a wall clock goes to guest memory): only what differs is written.
Result<void> Vcpu::write_changed_msrs(const VcpuState& state) {
  const auto now = VMM_TRY(read_msrs(offer_.msrs));
  for (std::size_t i = 0; i < now.size(); ++i)
    if (now[i] != state.msrs[i].second) VMM_TRY(set_msr(state.msrs[i].first, state.msrs[i].second));
  return {};
}

Result<void> Vcpu::set_full_state(const VcpuState& state) {
  shares_state_ = false;
  VMM_TRY(find_msrs());
  const bool same_msrs =
      std::ranges::equal(state.msrs, offer_.msrs, {}, [](const auto& msr) { return msr.first; });
  const bool nested_fits =
      offer_.nested == 0
          ? state.nested.empty()
          : state.nested.size() >= sizeof(kvm_nested_state) &&
                load<std::uint32_t>(state.nested, offsetof(kvm_nested_state, size)) ==
                    state.nested.size();
  if (!same_msrs || state.xsave.size() != offer_.xsave || !nested_fits ||
      state.lapic.size() != (offer_.lapic ? VcpuState::kLapicPage : 0))
    return fail(
        Error::host("the saved vCPU is of another shape than this one (MSRs, XSAVE area, nested "
                    "state, LAPIC page)")
            .hint("load it where it was saved, with the same CPU model and --irqchip"));
  // Leaving VMX operation is IA32_FEATURE_CONTROL's, and needs no CR4.VMXE; what is nested comes
  // when CR0, CR4 and EFER are there, before registers that it would replace.
  for (const auto& [index, value] : state.msrs)
    if (index == kIa32FeatureControl && VMM_TRY(msr(index)) != value)
      VMM_TRY(set_msr(index, value));
  VMM_TRY(write_sregs(state));
  if (offer_.nested != 0)
    VMM_TRY(fd_.ioctl(request::SET_NESTED_STATE, state.nested.data(),
                      fmt::format("size={}", state.nested.size())));
  VMM_TRY(fd_.ioctl(request::SET_REGS, &state.cpu.regs));
  // The LAPIC after the APIC base that says its mode; then the MSRs, some of which it guards.
  VMM_TRY(write_areas(state));
  VMM_TRY(write_changed_msrs(state));
  // Only the LVT's mode gives it a meaning.
  if (offer_.lapic && (state.tsc_deadline != 0 || VMM_TRY(tsc_deadline()) != 0))
    VMM_TRY(set_msr(kIa32TscDeadline, state.tsc_deadline));
  VMM_TRY(fd_.ioctl(request::SET_VCPU_EVENTS, &state.cpu.events));
  kvm_mp_state mp{state.cpu.mp_state};
  VMM_TRY(fd_.ioctl(request::SET_MP_STATE, &mp, fmt::format("mp_state={}", mp.mp_state)));
  VMM_TRY(fd_.ioctl(request::SET_DEBUGREGS, &state.cpu.debugregs));
  expect_entry(state.cpu);
  have_previous_ = false;
  return {};
}

Result<std::uint64_t> Vcpu::tsc_deadline() {
  VarSized<kvm_msrs, kvm_msr_entry> argument(1);
  argument->nmsrs = 1;
  argument->entries[0].index = kIa32TscDeadline;
  const int read =
      VMM_TRY(fd_.ioctl(request::GET_MSRS, argument.get(), fmt::format("msr={:x}h", 0x6e0)));
  return read == 1 ? argument->entries[0].data : 0;
}

Result<std::optional<std::uint64_t>> Vcpu::tsc_offset() {
  std::uint64_t value = 0;
  kvm_device_attr attribute = tsc_offset_attribute(&value);
  // Asked once: each stop of a debugger asks for the offset.
  if (!has_tsc_offset_)
    has_tsc_offset_ =
        fd_.ioctl_raw(request::HAS_DEVICE_ATTR, reinterpret_cast<unsigned long>(&attribute)) == 0;
  if (!*has_tsc_offset_) return std::optional<std::uint64_t>();
  VMM_TRY(fd_.ioctl(request::GET_DEVICE_ATTR, &attribute, "KVM_VCPU_TSC_OFFSET"));
  return std::optional<std::uint64_t>(value);
}

Result<bool> Vcpu::set_tsc_offset(std::uint64_t offset) {
  std::uint64_t value = offset;
  kvm_device_attr attribute = tsc_offset_attribute(&value);
  VMM_TRY(fd_.ioctl(request::SET_DEVICE_ATTR, &attribute, "KVM_VCPU_TSC_OFFSET"));
  return VMM_TRY(tsc_offset()) == offset;
}

void Vcpu::tell_paused() {
  // EINVAL from a guest that uses no kvmclock, and nothing is lost with it.
  (void)fd_.ioctl_raw(request::KVMCLOCK_CTRL, 0);
}

}  // namespace vmm
