// The machine's guest hypervisors: what KVM holds of them, and --catch.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "vmm/base/bytes.h"
#include "vmm/base/text.h"
#include "vmm/cpu/why.h"
#include "vmm/machine/catch_sites.h"
#include "vmm/machine/catcher.h"
#include "vmm/machine/debug_session.h"
#include "vmm/machine/explain_nested.h"
#include "vmm/machine/machine.h"
#include "vmm/machine/terminal.h"
#include "vmm/nested/nested_state.h"

namespace vmm {
namespace {

constexpr std::uint32_t kVmxBasic = 0x480, kVmxVmFunc = 0x491;
constexpr std::uint32_t kVmCr = 0xc0010114, kVmHsavePa = 0xc0010117;

bool has_vmx(const CpuidTable& cpuid) { return cpuid.bit(1, 0, CpuidReg::Ecx, 5); }
bool has_svm(const CpuidTable& cpuid) { return cpuid.bit(0x80000001, 0, CpuidReg::Ecx, 2); }

// Pages whose EXITCODE is -1 and whose reserved bytes before it are 0 (APM vol. 2 appendix B). KVM
// keeps nothing of a VMRUN that failed, so that memory is all there is to look at.
std::vector<Gpa> find_refused_vmcbs(const GuestMemory& memory) {
  constexpr std::size_t kPage = 4096, kReserved = 0x18, kReservedEnd = 0x38, kExitCode = 0x70;
  constexpr std::size_t kMost = 4;
  // To look at more would take seconds.
  constexpr std::uint64_t kLookedAt = 8_GiB;
  std::vector<Gpa> found;
  for (const GuestMemory::Region& region : memory.regions()) {
    const std::uint64_t size = std::min<std::uint64_t>(region.host.size(), kLookedAt);
    for (std::uint64_t at = 0; at + kPage <= size && found.size() < kMost; at += kPage) {
      const auto page = region.host.subspan(at, kPage);
      // Older KVM writes the low half alone.
      const auto code = load<std::uint64_t>(page, kExitCode);
      if (code != ~std::uint64_t{0} && code != 0xffffffff) continue;
      const auto reserved = page.subspan(kReserved, kReservedEnd - kReserved);
      if (std::ranges::all_of(reserved, [](std::uint8_t byte) { return byte == 0; }))
        found.push_back(region.base + at);
    }
  }
  return found;
}

}  // namespace

HypervisorState Machine::hypervisor_state(unsigned vcpu) {
  HypervisorState state;
  const bool vmx = has_vmx(guest_cpuid_), svm = has_svm(guest_cpuid_);
  if (!vmx && !svm) return state;
  if (auto nested = vcpus_[vcpu]->nested_state()) state.nested = std::move(*nested);
  const auto read = [&](std::uint32_t index) {
    // Not all of them are there in every model.
    if (const auto value = vcpus_[vcpu]->msr(index)) state.msrs[index] = *value;
  };
  for (std::uint32_t index = kVmxBasic; vmx && index <= kVmxVmFunc; ++index) read(index);
  if (svm) read(kVmCr), read(kVmHsavePa);
  return state;
}

std::map<std::string, std::uint64_t> Machine::counters(unsigned vcpu) {
  if (!has_vmx(guest_cpuid_) && !has_svm(guest_cpuid_)) return {};
  auto counters = vcpus_[vcpu]->counters();
  return counters ? std::move(*counters) : std::map<std::string, std::uint64_t>();
}

std::vector<Gpa> Machine::refused_vmcbs() {
  if (!has_svm(guest_cpuid_)) return {};
  for (const auto& vcpu : vcpus_)
    if (const auto hsave = vcpu->msr(kVmHsavePa); hsave && *hsave != 0)
      return find_refused_vmcbs(memory_);
  return {};
}

NestedPosition Machine::nested_position(unsigned vcpu) {
  if (!has_vmx(guest_cpuid_) && !has_svm(guest_cpuid_)) return {};
  CrashScene scene;
  scene.cpuid = guest_cpuid_;
  scene.memory = &memory_;
  scene.vcpus.resize(vcpu + 1);
  scene.hypervisors.resize(vcpu + 1);
  const auto state = cpu_state(vcpu);
  if (!state) return {};
  scene.vcpus[vcpu] = *state;
  scene.hypervisors[vcpu] = hypervisor_state(vcpu);
  return vmm::nested_position(scene, vcpu);
}

// Whether the vCPU is halted in L2, and its hypervisor may end that.
bool Machine::hypervisor_can_wake(unsigned vcpu) {
  const auto bytes = vcpus_[vcpu]->nested_state();
  if (!bytes || bytes->empty()) return false;
  const auto state = nested::parse_nested_state(*bytes);
  return state && nested::may_leave_halt(*state);
}

Result<void> Machine::open_catcher(const LoadedImage& image, const ResolvedCpu& cpu) {
  if (spec_.catches.empty()) return {};
  const bool svm = has_svm(guest_cpuid_);
  if (!svm && !has_vmx(guest_cpuid_))
    return fail(Error::usage(fmt::format("--catch {}: {} has neither VT-x nor SVM",
                                         printable(catch_text(spec_.catches[0])), cpu.text))
                    .hint("--cpu-model ...,+vmx or ...,+svm offers them to the guest"));
  catcher_ = std::make_unique<Catcher>(
      *this, *this, debugger_->debugger(),
      Catcher::Setup{
          .specs = spec_.catches,
          .sites = find_vm_entries(image),
          .svm = svm,
          .capability_origin = [cpu](std::uint32_t msr,
                                     unsigned bit) { return why_capability_is_off(cpu, msr, bit); },
          .caught = [this](const CaughtEvent& event) { return hear_catch(event); }});
  return catcher_->start();
}

// An entry that will fail ends the run, and the card says why; a debugger is given the guest
// instead. Everything else is a line, and a stop where a debugger is connected.
bool Machine::hear_catch(const CaughtEvent& event) {
  const bool fatal = event.what == CatchSpec::What::VmEntryFail;
  if (fatal && !spec_.gdb) {
    threads_->end(ending::Caught{event.vcpu, event.place});
    return true;
  }
  if (takes_output(STDERR_FILENO, 0)) {
    if (const auto untold = std::exchange(untold_catches_, 0); untold != 0)
      fmt::print(stderr, "vmm: catch: {} lines are missing here: nobody took them\n", untold);
    fmt::print(stderr, "vmm: catch: {}\n", event.text);
  } else {
    ++untold_catches_;
  }
  if (fatal && !debugger_->has_client())
    fmt::print(stderr,
               "vmm: catch: the guest waits there for a debugger: gdb -ex 'target remote {}'\n",
               printable(debugger_->name()));
  return fatal || debugger_->has_client();
}

}  // namespace vmm
