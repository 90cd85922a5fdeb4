#include "vmm/kvm/vm.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>

#include "vmm/kvm/ioctls.h"
#include "vmm/kvm/varsized.h"

namespace vmm {
namespace {

// Where Intel hosts without unrestricted guest keep their real-mode TSS and identity map; the
// memory map reserves FEFFC000h-FEFFFFFFh.
constexpr std::uint64_t kIdentityMap = 0xfeffc000;
constexpr std::uint64_t kTss = 0xfeffd000;

// Of our own IOAPIC, twice: what each pin sends, and what it sent before it was led elsewhere.
constexpr unsigned kIoapicRoutes = 48;

// SDM vol. 3A 11.11: an interrupt message as a memory write.
struct Msi {
  std::uint32_t address = 0;
  std::uint32_t data = 0;
};
Msi encode(const ApicMessage& message) {
  Msi msi{.address = 0xfee00000, .data = message.vector};
  msi.address |= (message.destination & 0xff) << 12;
  msi.address |= message.logical ? 1u << 2 : 0;
  msi.data |= static_cast<std::uint32_t>(message.mode) << 8;
  // Level asserted; the trigger mode.
  if (message.level_triggered) msi.data |= 1u << 14 | 1u << 15;
  return msi;
}

}  // namespace

Result<std::unique_ptr<Vm>> Vm::create(const Kvm& kvm, IrqChipKind kind,
                                       std::optional<std::uint32_t> quirks_off) {
  std::unique_ptr<Vm> vm(new Vm(kvm));
  vm->as_it_comes_ = !quirks_off;
  // The kernel may be interrupted while it sets the VM up; that is not a refusal.
  for (int attempt = 0;; ++attempt) {
    auto fd = kvm.fd().ioctl(request::CREATE_VM);
    if (fd) {
      vm->fd_ = Fd(*fd);
      break;
    }
    if (fd.error().errno_value() != EINTR || attempt == 10) return fail(std::move(fd).error());
  }
  std::uint64_t identity_map = kIdentityMap;
  VMM_TRY(vm->fd_.ioctl(request::SET_IDENTITY_MAP_ADDR, &identity_map));
  VMM_TRY(vm->fd_.ioctl(request::SET_TSS_ADDR, kTss));
  // Without this an emulation failure in ring 3 becomes a #UD inside the guest that nobody can tell
  // from a real one.
  if (VMM_TRY(kvm.capability(capability::EXIT_ON_EMULATION_FAILURE)) != 0)
    VMM_TRY(vm->enable(capability::EXIT_ON_EMULATION_FAILURE, 1));
  if (VMM_TRY(kvm.capability(capability::X86_USER_SPACE_MSR)) != 0)
    VMM_TRY(vm->enable(capability::X86_USER_SPACE_MSR, KVM_MSR_EXIT_REASON_UNKNOWN |
                                                           KVM_MSR_EXIT_REASON_INVAL |
                                                           KVM_MSR_EXIT_REASON_FILTER));
  if (quirks_off) VMM_TRY(vm->disable_quirks(*quirks_off));
  if (kind == IrqChipKind::Kernel) VMM_TRY(vm->create_irqchip());
  if (kind == IrqChipKind::Split) VMM_TRY(vm->enable(capability::SPLIT_IRQCHIP, kIoapicRoutes));
  VMM_TRY(vm->ask_for_offer(kind));
  return vm;
}

// Before any vCPU: quirks decide what CPUID and MSRs begin with.
Result<void> Vm::disable_quirks(std::uint32_t wanted) {
  const auto offered =
      static_cast<std::uint32_t>(VMM_TRY(kvm_.capability(capability::DISABLE_QUIRKS2)));
  if ((wanted & offered) == 0) return {};
  VMM_TRY(enable(capability::DISABLE_QUIRKS2, wanted & offered));
  disabled_quirks_ = wanted & offered;
  return {};
}

Result<void> Vm::enable(const Capability& capability, std::uint64_t argument) {
  kvm_enable_cap cap{};
  cap.cap = capability.number;
  cap.args[0] = argument;
  VMM_TRY(fd_.ioctl(request::ENABLE_CAP, &cap, fmt::format("KVM_CAP_{}", capability.name)));
  enabled_.emplace_back(capability.name);
  return {};
}

// A processor in system management mode sees the second address space, where KVM has one. An SMI
// through KVM's LAPIC would otherwise fetch from nothing.
Result<void> Vm::map(const GuestMemory& memory) {
  const int spaces = std::max(1, VMM_TRY(kvm_.capability(capability::MULTI_ADDRESS_SPACE)));
  for (std::uint32_t space = 0; space < static_cast<std::uint32_t>(spaces); ++space)
    VMM_TRY(map_in(space, memory));
  return {};
}

Result<void> Vm::map_in(std::uint32_t address_space, const GuestMemory& memory) {
  std::uint32_t slot = address_space << 16;
  const auto add = [&](const GuestMemory::Region& region, std::uint32_t flags) {
    kvm_userspace_memory_region slot_info{};
    slot_info.slot = slot++;
    slot_info.flags = flags;
    slot_info.guest_phys_addr = region.base;
    slot_info.memory_size = region.host.size();
    slot_info.userspace_addr = reinterpret_cast<std::uint64_t>(region.host.data());
    return fd_.ioctl(request::SET_USER_MEMORY_REGION, &slot_info,
                     fmt::format("slot={} gpa={:x}h size={:x}h{}", slot_info.slot, region.base,
                                 region.host.size(), flags != 0 ? " read-only" : ""));
  };
  for (const GuestMemory::Region& region : memory.regions()) VMM_TRY(add(region, 0));
  if (memory.roms().empty()) return {};
  if (VMM_TRY(kvm_.capability(capability::READONLY_MEM)) == 0)
    return fail(
        Error::host("this KVM has no read-only memory (KVM_CAP_READONLY_MEM), which "
                    "firmware needs"));
  for (const GuestMemory::Region& rom : memory.roms()) VMM_TRY(add(rom, KVM_MEM_READONLY));
  return {};
}

Result<void> Vm::set_flash(Gpa base, std::span<std::uint8_t> bytes) {
  constexpr std::uint32_t kSlot = 0x100;  // beyond those of memory, which are few
  const int spaces = std::max(1, VMM_TRY(kvm_.capability(capability::MULTI_ADDRESS_SPACE)));
  for (std::uint32_t space = 0; space < static_cast<std::uint32_t>(spaces); ++space) {
    kvm_userspace_memory_region slot{};
    slot.slot = space << 16 | kSlot;
    slot.flags = KVM_MEM_READONLY;
    slot.guest_phys_addr = base;
    slot.memory_size = bytes.size();
    slot.userspace_addr = reinterpret_cast<std::uint64_t>(bytes.data());
    VMM_TRY(fd_.ioctl(
        request::SET_USER_MEMORY_REGION, &slot,
        fmt::format("slot={:x}h gpa={:x}h size={:x}h flash", slot.slot, base, bytes.size())));
  }
  return {};
}

Result<void> Vm::create_irqchip() {
  VMM_TRY(fd_.ioctl(request::CREATE_IRQCHIP));
  kvm_pit_config pit{};
  pit.flags = KVM_PIT_SPEAKER_DUMMY;
  VMM_TRY(fd_.ioctl(request::CREATE_PIT2, &pit));
  return {};
}

Result<void> Vm::set_bios_defaults() {
  struct Pic {
    std::uint32_t chip;
    std::uint8_t base;
    std::uint8_t imr;
  };
  for (const Pic& pic :
       {Pic{KVM_IRQCHIP_PIC_MASTER, 0x08, 0xb8}, Pic{KVM_IRQCHIP_PIC_SLAVE, 0x70, 0x8e}}) {
    kvm_irqchip state{};
    state.chip_id = pic.chip;
    VMM_TRY(fd_.ioctl(request::GET_IRQCHIP, &state));
    state.chip.pic.irq_base = pic.base;
    state.chip.pic.imr = pic.imr;
    VMM_TRY(fd_.ioctl(request::SET_IRQCHIP, &state));
  }
  kvm_pit_state2 pit{};
  VMM_TRY(fd_.ioctl(request::GET_PIT2, &pit));
  pit.channels[0].count = 0x10000;
  pit.channels[0].mode = 3;
  pit.channels[0].gate = 1;
  VMM_TRY(fd_.ioctl(request::SET_PIT2, &pit));
  return {};
}

Result<void> Vm::set_irq_line(unsigned gsi, bool level) {
  kvm_irq_level line{};
  line.irq = gsi;
  line.level = level ? 1 : 0;
  VMM_TRY(fd_.ioctl(request::IRQ_LINE, &line, fmt::format("gsi={} level={}", gsi, line.level)));
  return {};
}

Result<void> Vm::set_level_triggered(std::uint16_t irqs) {
  for (const std::uint32_t chip :
       {std::uint32_t{KVM_IRQCHIP_PIC_MASTER}, std::uint32_t{KVM_IRQCHIP_PIC_SLAVE}}) {
    kvm_irqchip state{};
    state.chip_id = chip;
    VMM_TRY(fd_.ioctl(request::GET_IRQCHIP, &state));
    state.chip.pic.elcr =
        static_cast<std::uint8_t>(chip == KVM_IRQCHIP_PIC_MASTER ? irqs : irqs >> 8);
    VMM_TRY(fd_.ioctl(request::SET_IRQCHIP, &state));
  }
  return {};
}

Result<bool> Vm::send(const ApicMessage& message) {
  const Msi encoded = encode(message);
  kvm_msi msi{};
  msi.address_lo = encoded.address;
  msi.data = encoded.data;
  // 0: the LAPIC is disabled or the destination does not exist, as on hardware.
  const int taken =
      VMM_TRY(fd_.ioctl(request::SIGNAL_MSI, &msi,
                        fmt::format("address={:x}h data={:x}h", msi.address_lo, msi.data)));
  return taken > 0;
}

Result<void> Vm::set_routes(std::span<const std::optional<ApicMessage>> messages) {
  VarSized<kvm_irq_routing, kvm_irq_routing_entry> table(messages.size());
  for (std::uint32_t gsi = 0; gsi < messages.size(); ++gsi) {
    if (!messages[gsi]) continue;
    const Msi encoded = encode(*messages[gsi]);
    kvm_irq_routing_entry& entry = table->entries[table->nr++];
    entry.gsi = gsi;
    entry.type = KVM_IRQ_ROUTING_MSI;
    entry.u.msi.address_lo = encoded.address;
    entry.u.msi.data = encoded.data;
  }
  VMM_TRY(fd_.ioctl(request::SET_GSI_ROUTING, table.get(), fmt::format("nr={}", table->nr)));
  return {};
}

Result<void> Vm::filter_msr(std::uint32_t index) {
  std::uint8_t denied = 0;  // one bit an MSR: 0 exits
  kvm_msr_filter filter{};
  filter.flags = KVM_MSR_FILTER_DEFAULT_ALLOW;
  filter.ranges[0].flags = KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE;
  filter.ranges[0].base = index;
  filter.ranges[0].nmsrs = 1;
  filter.ranges[0].bitmap = &denied;
  VMM_TRY(fd_.ioctl(request::X86_SET_MSR_FILTER, &filter, fmt::format("msr={:x}h", index)));
  return {};
}

Result<std::unique_ptr<Vcpu>> Vm::create_vcpu(unsigned id) {
  Fd fd(VMM_TRY(fd_.ioctl(request::CREATE_VCPU, id, fmt::format("id={}", id))));
  auto vcpu = VMM_TRY(Vcpu::create(std::move(fd), kvm_.run_size(), offer_));
  // KVM's paravirtual MSRs and hypercalls are there for a guest whose CPUID announces them, and for
  // no other. Whoever takes KVM as it comes does so in this, too.
  constexpr Capability kEnforce = capability::ENFORCE_PV_FEATURE_CPUID;
  if (!as_it_comes_ && VMM_TRY(kvm_.capability(kEnforce)) != 0) {
    VMM_TRY(vcpu->enable(kEnforce, 1));
    if (std::find(enabled_.begin(), enabled_.end(), kEnforce.name) == enabled_.end())
      enabled_.emplace_back(kEnforce.name);
  }
  return vcpu;
}

}  // namespace vmm
