// A machine up to its first instruction: the host's VM, vCPUs with their model, memory and board.
#include <fmt/format.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <ctime>

#include "loader/acpi_tables.h"
#include "loader/e820.h"
#include "loader/firmware_image.h"
#include "loader/firmware_tables.h"
#include "vmm/base/check.h"
#include "vmm/base/text.h"
#include "vmm/cpu/guest_text.h"
#include "vmm/kvm/xstate.h"
#include "vmm/machine/keyboard.h"
#include "vmm/machine/kvm_trace.h"
#include "vmm/machine/machine.h"
#include "vmm/machine/pci_layout.h"
#include "vmm/machine/processor_reset.h"
#include "vmm/machine/seccomp.h"
#include "vmm/machine/trace_file.h"

namespace vmm {
namespace {

constexpr std::uint32_t kIa32FeatureControl = 0x3a;
constexpr std::uint32_t kIa32TscDeadline = 0x6e0;
constexpr unsigned kTscDeadlineBit = 24;  // CPUID.1.ECX
constexpr std::uint8_t kKvmIoapicVersion = 0x11;

}  // namespace

Result<std::unique_ptr<Machine>> Machine::create(const Kvm& kvm, const MachineSpec& spec,
                                                 const ResolvedCpu& cpu, const HostGrant& host,
                                                 const IrqChipChoice& irqchip,
                                                 const LoadedImage& image) {
  std::unique_ptr<Machine> machine(
      new Machine(spec, VMM_TRY(GuestMemory::create(spec.memory, spec.vga.trap)),
                  {.kvm = kvm, .cpu = cpu, .host = host, .image = image}));
  machine->symbols_ = image.symbols;
  machine->forget_kernel();
  machine->irqchip_reason_ = irqchip.reason;
  machine->remember_model(cpu, host);
  VMM_TRY(machine->open_disks());
  machine->describe_board(irqchip.kind);
  if (machine->has_firmware()) {
    VMM_TRY(machine->add_firmware());
    VMM_TRY(machine->open_vars(image));
  }
  const std::optional<CpuState> start = VMM_TRY(machine->fill_memory());
  VMM_TRY(machine->permit_xstate());
  VMM_TRY(machine->create_vm(irqchip.kind));
  machine->tsc_deadline_ =
      irqchip.kind == IrqChipKind::User && cpu.cpuid.bit(1, 0, CpuidReg::Ecx, kTscDeadlineBit);
  if (machine->tsc_deadline_ && !VMM_TRY(machine->tsc_deadline_exits())) {
    constexpr std::string_view kReason =
        "this host's KVM keeps writes to IA32_TSC_DEADLINE to itself";
    if (!irqchip.may_change)
      return fail(Error::host(fmt::format("--irqchip user cannot carry tsc-deadline (1.ECX[24]) of "
                                          "{}: {}",
                                          cpu.text, kReason))
                      .hint("--irqchip split has KVM's LAPIC; --cpu-model ...,-tsc-deadline does "
                            "without"));
    machine->tsc_deadline_ = false;
    machine->irqchip_reason_ = kReason;
    VMM_TRY(machine->create_vm(IrqChipKind::Split));
  }
  VMM_TRY(machine->open_outside());
  *machine->board_.lock() = VMM_TRY(machine->make_board());
  if (spec.kvm_trace) machine->open_kvm_trace();
  VMM_TRY(machine->set_entry_state(start));
  VMM_TRY(machine->open_debugger(kvm, image));
  VMM_TRY(machine->open_catcher(image, cpu));
  VMM_TRY(machine->open_control());
  return machine;
}

// The image where it belongs in empty memory, and where vCPU 0 enters it; nothing: at the reset
// vector.
Result<std::optional<CpuState>> Machine::fill_memory() {
  if (has_firmware()) {
    // The end of the ROM is below 1 MiB too, as RAM: what PAM would make of it once the firmware
    // asks.
    const auto rom = std::span(source_.image.bytes);
    const auto shadow = rom.last(std::min<std::size_t>(rom.size(), kExtendedRam - kBiosArea));
    VMM_CHECK(memory_.write(kExtendedRam - shadow.size(), shadow), "the first MiB is RAM");
    return std::optional<CpuState>();
  }
  place_bios_stub(memory_);
  VMM_TRY(place_firmware_tables(memory_, description_));
  return std::optional(VMM_TRY(place_image(source_.image, spec_.boot, memory_)));
}

void Machine::describe_board(IrqChipKind kind) {
  const ResolvedCpu& cpu = source_.cpu;
  BoardDescription& board = description_;
  for (unsigned i = 0; i < spec_.topology.vcpus; ++i)
    board.apic_ids.push_back(apic_id_of_vcpu(spec_.topology, i));
  board.io_apic_version = kind == IrqChipKind::Kernel ? kKvmIoapicVersion : spec_.ioapic_version;
  for (unsigned i = 0; i < disks_.size(); ++i) {
    const unsigned device = pci_layout::device_of_disk(i);
    board.pci_interrupts.push_back({.device = device, .irq = pci_layout::irq_of_device(device)});
  }
  // Without someone to type a driver would only lose time with it.
  board.keyboard = spec_.vga.kind == VgaKind::Text && Keyboard::possible();
  board.cpu_signature = cpu.cpuid.get(1).eax;
  board.cpu_features = cpu.cpuid.get(1).edx;
  if (!has_firmware()) return;
  board.suspend = false;
  // OVMF hands out PCI's memory from there.
  board.pci_memory_base =
      static_cast<std::uint32_t>(std::max<std::uint64_t>(memory_.low_end(), 2_GiB));
}

// The ROM up to 4 GiB, and what its firmware asks fw_cfg for.
Result<void> Machine::add_firmware() {
  const LoadedImage& image = source_.image;
  VMM_TRY_CONTEXT(memory_.add_rom(kHoleEnd - image.bytes.size(), image.bytes), "--firmware");
  firmware_kind_ = image.firmware->kind;
  const Topology& topology = spec_.topology;
  const std::uint64_t below_4g = memory_.low_end();
  FirmwareFacts facts{.memory = &memory_,
                      .board = description_,
                      .smbios = {.sockets = topology.sockets,
                                 .cores_per_socket = topology.cores,
                                 .threads_per_socket = topology.cores * topology.threads,
                                 .cpu_signature = description_.cpu_signature,
                                 .cpu_features = description_.cpu_features,
                                 .memory_below_4g = below_4g,
                                 .memory_above_4g = memory_.size() - below_4g},
                      .kernel = {.image = spec_.boot.efi_kernel,
                                 .command_line = spec_.boot.command_line,
                                 .initrd = spec_.boot.initrd},
                      .disk_devices = {},
                      .feature_control = {}};
  for (unsigned i = 0; i < disks_.size(); ++i)
    facts.disk_devices.push_back(pci_layout::device_of_disk(i));
  for (const CpuMsr& msr : source_.cpu.msrs)
    if (msr.index == kIa32FeatureControl) facts.feature_control = msr.value;
  firmware_ = make_firmware_items(facts);
  return {};
}

// The VM with its vCPUs, memory mapped; a former one goes.
Result<void> Machine::create_vm(IrqChipKind kind) {
  const auto& [kvm, cpu, host, image] = source_;
  vcpus_.clear();
  power_on_.clear();
  kernel_chip_.reset();
  irqchip_ = kind;
  // kvm-unit-tests ask for KVM as it comes; on kvm_pvm a hypercall of the other vendor's kind would
  // never come back then.
  const bool as_it_comes = spec_.compat_kvm_unit_tests && host.backend != KvmBackend::Pvm;
  vm_ = VMM_TRY(Vm::create(kvm, kind, as_it_comes ? std::nullopt : std::optional(cpu.quirks_off)));
  VMM_TRY(vm_->map(memory_));
  // As the board does with chips of its own.
  if (kind == IrqChipKind::Kernel && spec_.testdev) VMM_TRY(vm_->set_bios_defaults());
  if (kind == IrqChipKind::Kernel && !disks_.empty())
    VMM_TRY(vm_->set_level_triggered(Board::pci_interrupt_levels(disks_.size())));
  vm_power_on_ = VMM_TRY(vm_->state());
  if (kind != IrqChipKind::User) kernel_chip_ = std::make_unique<KernelIrqChip>(*vm_, kind);
  if (spec_.tsc_khz && VMM_TRY(kvm.capability(capability::TSC_CONTROL)) != 0 &&
      VMM_TRY(kvm.capability(capability::VM_TSC_CONTROL)) != 0)
    VMM_TRY_CONTEXT(vm_->set_tsc_khz(*spec_.tsc_khz), "--tsc-khz");
  VMM_TRY(create_vcpus());
  debug_controls_.assign(vcpus_.size(), {});
  step_notes_.assign(vcpus_.size(), {});
  signature_ = cpu.cpuid.get(1).eax;
  return {};
}

// Once for the process, before its first vCPU.
Result<void> Machine::permit_xstate() const {
  if (!source_.cpu.cpuid.bit(0xd, 0, CpuidReg::Eax, kXtileData)) return {};
  auto permitted = permit_guest_xstate(kXtileData);
  if (permitted) return {};
  return fail(std::move(permitted)
                  .error()
                  .context(fmt::format("--cpu-model {} has AMX", source_.cpu.text))
                  .hint("-amx-tile is the same CPU without it"));
}

Result<void> Machine::create_vcpus() {
  std::vector<Vcpu*> pointers;
  for (unsigned i = 0; i < spec_.topology.vcpus; ++i) {
    vcpus_.push_back(VMM_TRY(vm_->create_vcpu(apic_id_of_vcpu(spec_.topology, i))));
    pointers.push_back(vcpus_.back().get());
    // There KVM resets a vCPU before it tells of its triple fault.
    if (source_.host.backend == KvmBackend::Svm) vcpus_.back()->keep_registers();
    if (spec_.gdb) vcpus_.back()->share_registers();
    VMM_TRY(set_tsc_rate(*vcpus_.back()));
    VMM_TRY(set_cpu(i));
    power_on_.push_back(VMM_TRY(vcpus_.back()->full_state()));
  }
  if (kernel_chip_ != nullptr) kernel_chip_->attach(std::move(pointers));
  return {};
}

// --tsc-khz, and the rate that the vCPU has in the end. KVM without TSC scaling takes other rates
// too, and then either does nothing or moves the TSC ahead at each entry.
Result<void> Machine::set_tsc_rate(Vcpu& vcpu) {
  tsc_khz_ = VMM_TRY(vcpu.tsc_khz());
  if (!spec_.tsc_khz) return {};
  const std::uint32_t wanted = *spec_.tsc_khz;
  const auto same = [&] { return same_tsc_rate(wanted, tsc_khz_); };
  if (same()) return {};
  if (VMM_TRY(source_.kvm.capability(capability::TSC_CONTROL)) == 0)
    return fail(Error::host(fmt::format("--tsc-khz {}: this host's TSC has {} kHz and cannot be "
                                        "scaled (KVM_CAP_TSC_CONTROL)",
                                        wanted, tsc_khz_))
                    .hint(fmt::format("leave --tsc-khz out, or write {}; --on vmx has a processor "
                                      "with TSC scaling",
                                      tsc_khz_)));
  VMM_TRY_CONTEXT(vcpu.set_tsc_khz(wanted), "--tsc-khz");
  tsc_khz_ = VMM_TRY(vcpu.tsc_khz());
  if (same()) return {};
  return fail(Error::host(
      fmt::format("--tsc-khz {}: KVM took it, and {} kHz reads back", wanted, tsc_khz_)));
}

// Whether a guest's write to IA32_TSC_DEADLINE comes to us, asked of vCPU 0 before its life begins:
// without a LAPIC of its own KVM drops the write, unless the MSR filter comes first. On VMX it may
// take a path that looks at no filter (platform of the host's kernel). What is written is the
// guest's TSC, which has to lie between two readings of KVM's: KVM 6.1 without TSC scaling loses it
// once the host has corrected its own TSC's rate.
Result<bool> Machine::tsc_deadline_exits() {
  constexpr Gpa kProbe = 0x1000;
  constexpr std::array<std::uint8_t, 5> kCode = {0x0f, 0x31, 0x0f, 0x30,
                                                 0xf4};  // rdtsc; wrmsr; hlt
  Vcpu& vcpu = *vcpus_[0];
  VMM_TRY(vm_->filter_msr(kIa32TscDeadline));
  std::array<std::uint8_t, kCode.size()> kept{};
  VMM_CHECK(memory_.read(kProbe, kept) && memory_.write(kProbe, kCode), "low memory is RAM");
  const CpuState before = VMM_TRY(vcpu.state());
  CpuState probe = before;
  probe.regs.rip = 0;
  probe.regs.rcx = kIa32TscDeadline;
  start_at(probe, kProbe >> 12);
  VMM_TRY_CONTEXT(vcpu.set_state(probe), "probe IA32_TSC_DEADLINE");
  bool exits = false;
  const std::uint64_t earliest = VMM_TRY_CONTEXT(vcpu.tsc(), "probe IA32_TSC_DEADLINE");
  // A signal may come first; nothing else leads anywhere but to one of two exits.
  for (int attempt = 0; attempt < 10; ++attempt) {
    const Exit exit = VMM_TRY_CONTEXT(vcpu.run(), "probe IA32_TSC_DEADLINE");
    if (std::holds_alternative<Interrupted>(exit)) continue;
    const auto* write = std::get_if<MsrWrite>(&exit);
    exits = write != nullptr && write->index == kIa32TscDeadline;
    if (!exits) break;
    const std::uint64_t latest = VMM_TRY_CONTEXT(vcpu.tsc(), "probe IA32_TSC_DEADLINE");
    tsc_lost_ = write->value < earliest || write->value > latest;
    break;
  }
  [[maybe_unused]] const Exit settled = VMM_TRY_CONTEXT(vcpu.settle(), "probe IA32_TSC_DEADLINE");
  VMM_TRY_CONTEXT(vcpu.set_state(before), "probe IA32_TSC_DEADLINE");
  VMM_CHECK(memory_.write(kProbe, kept), "low memory is RAM");
  return exits;
}

// vCPU 0 enters the image; the others wait for INIT and SIPI, as KVM's LAPIC leaves them or ours
// says.
Result<void> Machine::set_entry_state(const std::optional<CpuState>& start) {
  auto board = board_.lock();
  UserIrqChip* chip = (*board)->user_chip();
  for (unsigned i = 0; i < vcpu_count(); ++i) {
    if (i > 0 && chip == nullptr) break;
    CpuState state = VMM_TRY(vcpus_[i]->state());
    // The APIC base is the LAPIC's; the loader decides about segments, tables and control
    // registers.
    const std::uint64_t apic_base = chip != nullptr ? chip->lapic(i).base() : state.sregs.apic_base;
    if (i == 0 && start) {
      state.regs = start->regs;
      state.sregs = start->sregs;
    } else if (i == 0) {
      state.regs.rdx = signature_;
    }
    state.sregs.apic_base = apic_base;
    VMM_TRY_CONTEXT(vcpus_[i]->set_state(state), fmt::format("set the entry state of vCPU {}", i));
  }
  return {};
}

// Gives a vCPU its CPUID and MSRs and looks at what KVM made of them. The order matters: quirks
// (Vm::create) decide what either begins with; MSRs that depend on the CPUID read as 0 before it is
// there (Linux 6.13), and setting it rewrites some of them.
Result<void> Machine::set_cpu(unsigned index) {
  const auto& [kvm, cpu, host, image] = source_;
  Vcpu& vcpu = *vcpus_[index];
  const CpuidTable wanted = cpuid_of_vcpu(cpu, spec_.topology, index);
  VMM_TRY(vcpu.set_cpuid(wanted));
  std::vector<CpuMsr> msrs = msrs_of_vcpu(cpu);
  // Firmware sets and locks it itself (etc/msr_feature_control), and faults where it is locked.
  if (firmware_)
    std::erase_if(msrs, [](const CpuMsr& msr) { return msr.index == kIa32FeatureControl; });
  for (const CpuMsr& msr : msrs)
    VMM_TRY_CONTEXT(vcpu.set_msr(msr.index, msr.value), "--cpu-model " + cpu.text);

  CpuidTable read = VMM_TRY(vcpu.cpuid());
  auto differences = unexpected_differences(wanted, read);
  // kvm_pvm cannot intercept CPUID in the guest's ring 3 and puts the processor's own feature words
  // into what the guest sees; no choice of ours changes that.
  if (!differences.empty() && host.backend != KvmBackend::Pvm) {
    const CpuidDifference& first = differences.front();
    return fail(
        Error::host(fmt::format("KVM changed the CPUID of vCPU {} after it was set: {} was {:08x}h "
                                "and reads back {:08x}h ({} words differ)",
                                index, cpuid_word_name(first.key, first.reg), first.left,
                                first.right, differences.size()))
            .hint("this host cannot give the model exactly; --cpu-model host is what it can give"));
  }
  for (const CpuMsr& msr : msrs) {
    const std::uint64_t value = VMM_TRY(vcpu.msr(msr.index));
    if (value != msr.value)
      return fail(Error::host(
          fmt::format("KVM changed MSR {:x}h of vCPU {}: {:x}h was set, {:x}h reads back",
                      msr.index, index, msr.value, value)));
  }
  if (index == 0) {
    guest_msrs_.clear();
    // One that KVM does not know is #GP for the guest as well, and no part of its CPU.
    for (const std::uint32_t msr : telling_msrs(read))
      if (const auto value = vcpu.msr(msr)) guest_msrs_[msr] = *value;
    guest_cpuid_ = std::move(read);
    cpuid_differences_ = std::move(differences);
  }
  return {};
}

// The variables stand below the code that was built for them.
Result<void> Machine::open_vars(const LoadedImage& firmware) {
  if (!spec_.vars) return {};
  const std::string& path = spec_.vars->path;
  vars_ = VMM_TRY(FlashFile::open(*spec_.vars));
  const FirmwareImage store = VMM_TRY_CONTEXT(parse_variables(path, vars_->bytes()), "--vars");
  vars_base_ = VMM_TRY(variables_base(*firmware.firmware, store, path));
  return {};
}

Result<void> Machine::open_disks() {
  for (const DiskSpec& disk : spec_.disks)
    disks_.push_back(VMM_TRY_CONTEXT(open_disk(disk, fmt::format("vmm-disk{}", disks_.size())),
                                     disk_option(disk)));
  return {};
}

Result<void> Machine::start_disks() {
  if (disks_.empty()) return {};
  const bool share = std::ranges::any_of(
      spec_.disks, [](const DiskSpec& disk) { return disk.kind == DiskSpec::Kind::Share; });
  const SeccompThread filter = share ? SeccompThread::Share : SeccompThread::Disk;
  std::vector<BlockBackend*> backends;
  for (const auto& disk : disks_) backends.push_back(disk.get());
  disk_thread_ = std::make_unique<DiskThread>(
      std::move(backends), DiskThread::Hooks{.started = [filter] { return enter_seccomp(filter); },
                                             .with_disks =
                                                 [this](const auto& use) {
                                                   auto board = board_.lock();
                                                   use((*board)->disks());
                                                 }});
  return disk_thread_->start();
}

Result<void> Machine::open_outside() {
  wake_ = Fd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake_) return fail(Error::system(ErrorKind::Internal, "eventfd", errno));
  if (!spec_.trace.empty()) {
    trace_ = VMM_TRY(TraceFile::create(spec_.trace, spec_.trace_filter, &symbols_, vcpu_count(),
                                       [this] { wake(); }));
  }
  console_ = VMM_TRY(Console::open(spec_.serial, [this] { wake(); }));
  if (spec_.compat_kvm_unit_tests) verdicts_ = std::make_unique<VerdictCounter>(console_->output());
  if (firmware_) terminal_screen_ = std::make_unique<TerminalScreen>(console_->output());
  return {};
}

Result<std::unique_ptr<Board>> Machine::make_board() {
  Board::Wiring wiring;
  wiring.irqchip = irqchip_;
  wiring.kernel_irq = kernel_chip_.get();
  wiring.wake = [this](unsigned vcpu) {
    if (threads_ != nullptr) threads_->wake(vcpu);
  };
  wiring.send = [this](const ApicMessage& message) {
    const Result<bool> accepted = vm_->send(message);
    if (!accepted) ++irq_failures_;
    return accepted.value_or(true);
  };
  wiring.routes_changed = [this](std::span<const std::optional<ApicMessage>> pins) {
    count_failure(vm_->set_routes(pins));
  };
  for (unsigned i = 0; i < vcpu_count(); ++i)
    wiring.apic_ids.push_back(apic_id_of_vcpu(spec_.topology, i));
  wiring.tsc_deadline = tsc_deadline_;
  wiring.until_tsc = [this](unsigned vcpu, std::uint64_t tsc) { return until_tsc(vcpu, tsc); };
  wiring.ioapic_version = spec_.ioapic_version;
  wiring.vcpus = vcpu_count();
  wiring.memory = &memory_;
  for (const auto& disk : disks_) wiring.disks.push_back(disk->geometry());
  wiring.disk_work = [this] {
    if (disk_thread_ != nullptr) disk_thread_->wake();
  };
  wiring.start_seconds = std::time(nullptr);
  wiring.testdev = spec_.testdev;
  if (spec_.testdev) {
    wiring.ask_vcpu = [this](unsigned vcpu) -> std::optional<VmwarePort::Question> {
      const auto regs = vcpus_[vcpu]->general_registers();
      if (!regs) return std::nullopt;
      return VmwarePort::Question{static_cast<std::uint32_t>(regs->rax),
                                  static_cast<std::uint32_t>(regs->rcx)};
    };
    wiring.set_vcpu_ebx = [this](unsigned vcpu, std::uint32_t ebx) {
      auto regs = vcpus_[vcpu]->general_registers();
      if (!regs) return;
      regs->rbx = ebx;
      // KVM refuses no values of these registers.
      (void)vcpus_[vcpu]->set_general_registers(*regs);
    };
  }
  if (firmware_) {
    // SeaBIOS writes what it does there, into the middle of the lines of its console.
    wiring.debug_port = firmware_kind_ != FirmwareKind::SeaBios;
    // S3 would end in the firmware's hands, which is not told of it.
    wiring.firmware = &*firmware_;
    wiring.acpi_files = [this](std::uint16_t pm_base) {
      BoardDescription board = description_;
      board.pm_base = pm_base;
      return make_acpi_files(board);
    };
  } else {
    wiring.suspend = [this] { suspend(); };
  }
  if (vars_ != nullptr) {
    wiring.vars = vars_.get();
    wiring.vars_base = vars_base_;
    wiring.vars_memory = [this](bool memory) {
      const auto set =
          vm_->set_flash(vars_base_, memory ? vars_->pages() : std::span<std::uint8_t>());
      if (!set) ++vars_failures_;
    };
  }
  wiring.serial_out = &console_->output();
  if (verdicts_ != nullptr) wiring.serial_out = verdicts_.get();
  if (terminal_screen_ != nullptr) wiring.serial_out = terminal_screen_.get();
  wiring.serial_in = &console_->input();
  wiring.debugcon_out = &console_->output();
  wiring.vga_window = memory_.vga_window();
  wiring.vga_trap = spec_.vga.trap;
  std::unique_ptr<Board> board = VMM_TRY(Board::create(wiring));
  board->trace = trace_.get();
  VMM_TRY(check_trace_devices(*board));
  return board;
}

// A device that a filter names must be there, or the trace would be empty without a word.
Result<void> Machine::check_trace_devices(const Board& board) const {
  std::vector<std::string> names;
  for (const Device* device : board.devices()) names.emplace_back(device->name());
  for (unsigned i = 0; irqchip_ == IrqChipKind::User && i < vcpu_count(); ++i)
    names.push_back(fmt::format("lapic{}", i));
  for (const std::string& wanted : spec_.trace_filter.devices()) {
    if (std::ranges::any_of(names, [&](const std::string& name) {
          return TraceFilter::means_device(wanted, name);
        }))
      continue;
    const auto nearest = nearest_name(wanted, names);
    return fail(
        Error::usage(fmt::format("--trace-filter: device={}: this machine has no such device",
                                 printable(wanted)))
            .hint(nearest ? fmt::format("did you mean {}?", *nearest)
                          : fmt::format("it has {}", fmt::join(names, ", "))));
  }
  return {};
}

}  // namespace vmm
