// The PC: which chip sits where. One object under one lock (Machine holds it in Guarded).
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <type_traits>
#include <vector>

#include "devices/acpi_pm.h"
#include "devices/bochs_shutdown.h"
#include "devices/debug_exit.h"
#include "devices/debugcon.h"
#include "devices/fw_cfg.h"
#include "devices/i8042.h"
#include "devices/ioapic.h"
#include "devices/irqchip_user.h"
#include "devices/pc_testdev.h"
#include "devices/pci_host.h"
#include "devices/pic8259.h"
#include "devices/pit8254.h"
#include "devices/port92.h"
#include "devices/post_port.h"
#include "devices/reset_port.h"
#include "devices/rtc_cmos.h"
#include "devices/serial16550.h"
#include "devices/vga_text.h"
#include "devices/virtio_blk.h"
#include "devices/vmware_port.h"
#include "loader/firmware_items.h"
#include "vmm/core/bus.h"
#include "vmm/core/clock.h"
#include "vmm/core/guest_memory.h"
#include "vmm/core/irq.h"
#include "vmm/core/irqchip.h"
#include "vmm/core/outcome.h"
#include "vmm/core/trace.h"
#include "vmm/machine/flash_window.h"
#include "vmm/machine/isa_router.h"
#include "vmm/machine/pirq_router.h"

namespace vmm {

struct MsrCounts {
  std::uint64_t reads = 0;
  std::uint64_t writes = 0;
};

class Board {
 public:
  struct Wiring {
    IrqChipKind irqchip = IrqChipKind::Kernel;
    IrqSink* kernel_irq = nullptr;  // Kernel: KVM's lines
    // Split and User: vCPU `vcpu` must leave the guest, or its wait, and look at before_entry().
    std::function<void(unsigned vcpu)> wake = {};
    // Split and Kernel: a message to KVM's LAPICs, and whether one accepted it. Split: what the
    // IOAPIC's pins send, and sent before, when that changed.
    std::function<bool(const ApicMessage&)> send = {};
    std::function<void(std::span<const std::optional<ApicMessage>>)> routes_changed = {};
    // User: the id of each vCPU's LAPIC, whether the CPU model has a TSC-deadline timer, and how
    // long until the TSC of `vcpu` is at `tsc` (0 when it is past).
    std::vector<std::uint32_t> apic_ids = {};
    bool tsc_deadline = false;
    std::function<VmTime(unsigned vcpu, std::uint64_t tsc)> until_tsc = {};
    std::uint8_t ioapic_version = 0x20;

    unsigned vcpus = 1;
    GuestMemory* memory = nullptr;  // for DMA of fw_cfg and disks; its size for CMOS and fw_cfg
    std::vector<BlockGeometry> disks = {};  // at most pci_layout::kMaxDisks
    std::function<void()> disk_work = {};   // some disk may have a job; under the board's lock
    std::int64_t start_seconds = 0;         // the real-time clock at power-on, since 1970
    bool testdev = false;                   // --testdev
    // EAX and ECX of a vCPU that is at an exit, and a new EBX for it; for the test devices.
    std::function<std::optional<VmwarePort::Question>(unsigned vcpu)> ask_vcpu = {};
    std::function<void(unsigned vcpu, std::uint32_t ebx)> set_vcpu_ebx = {};
    std::function<void()> suspend = {};  // S3: no vCPU goes on until wake_up(); empty: no S3
    // With firmware: what it finds in fw_cfg, and its ACPI files once it has said where the ACPI
    // registers are. The board is not set up then: the firmware does that.
    const FirmwareItems* firmware = nullptr;
    std::function<std::vector<FirmwareFile>(std::uint16_t pm_base)> acpi_files = {};
    // Its variables, where they are, and whether the guest has them as memory to read.
    FlashStore* vars = nullptr;
    Gpa vars_base = 0;
    std::function<void(bool)> vars_memory = {};

    bool debug_port = true;  // the debug console at 402h, where a firmware would write as well
    ByteSink* serial_out = nullptr;
    ByteSource* serial_in = nullptr;
    ByteSink* debugcon_out = nullptr;
    std::span<std::uint8_t> vga_window = {};  // 128 KiB behind A0000h
    bool vga_trap = false;
  };
  static Result<std::unique_ptr<Board>> create(const Wiring& wiring);

  Bus ports{"port", 0x10000};
  Bus mmio{"mmio", std::uint64_t{1} << 52};
  HostClock clock;
  FlightRecorder recorder;
  Tracer* trace = nullptr;  // a second listener, --trace

  // How a device ended the run, once one did.
  std::optional<RunOutcome> ending;
  // MSRs that the guest touched and KVM does not know; at most kMaxMsrs different ones.
  static constexpr std::size_t kMaxMsrs = 256;
  std::map<std::uint32_t, MsrCounts> unknown_msrs;

  // Every chip but the LAPICs, which are user_chip()'s.
  const std::vector<Device*>& devices() const { return devices_; }
  Serial16550& serial() { return *serial_; }
  VgaText& vga() { return *vga_; }
  I8042& keyboard_controller() { return *i8042_; }

  // Our LAPICs; nullptr where they are KVM's.
  UserIrqChip* user_chip() { return user_chip_.get(); }
  Ioapic* ioapic() { return ioapic_.get(); }
  const std::vector<std::unique_ptr<VirtioBlk>>& disks() const { return disks_; }
  // A bit for each ISA interrupt that so many disks share as a level.
  static std::uint16_t pci_interrupt_levels(std::size_t disks);
  // Whether vCPU `vcpu` has to ask before_entry() before it runs.
  bool plans_entries(unsigned vcpu) const {
    return user_chip_ != nullptr || (pic_ != nullptr && vcpu == 0);
  }
  EntryPlan before_entry(unsigned vcpu, const EntryState& state);
  // IA32_TSC_DEADLINE of `vcpu`, where the LAPIC is ours and the CPU model has it.
  bool has_tsc_deadline() const { return user_chip_ != nullptr && wiring_.tsc_deadline; }
  bool set_tsc_deadline(unsigned vcpu, std::uint64_t tsc);
  // IA32_TSC_DEADLINE of every armed LAPIC of ours against the TSC as it is now.
  void rearm_tsc_deadlines();
  // Tells KVM what changed in the IOAPIC (Split); after each access.
  void sync_routes();

  // What the board itself remembers beside its chips.
  void visit(Archive& archive);
  // All chips were loaded: what follows from several of them.
  void restored();
  // The pins that lead to KVM's own controllers (Kernel) or to ours, and their levels.
  const IrqPins& pins() const { return *pins_; }

  // The firmware's part of a wake-up from S3: everything but memory and the real-time clock is as
  // after power-on, and ACPI says that it woke. The vCPUs are the machine's matter.
  void wake_up();
  bool wake_requested() const { return acpi_pm_->wake_requested(); }

  // Brings every device to now: input arrived, output was taken, time passed.
  void advance();
  // When advance() must be called next, over all devices.
  std::optional<VmTime> next_deadline() const;
  void event(const TraceEvent& event);
  // An event of a chip, at this moment. What the vCPU that is being served caused gets its RIP.
  void note(TraceEvent event);
  // The same, for the trace alone: what comes with each exit and would push out the rest.
  void note_for_trace(TraceEvent event);
  // From now on vCPU `vcpu` is served, which is at `rip`; kNoVcpu: nobody is.
  void serve(unsigned vcpu, Gva rip) {
    served_vcpu_ = vcpu;
    served_rip_ = rip;
  }

 private:
  // Writes down what lines do on their way.
  class LineTap final : public IrqSink {
   public:
    LineTap(Board& board, IrqSink& sink) : board_(board), sink_(sink) {}
    void set_pin(unsigned gsi, bool level) override;

   private:
    Board& board_;
    IrqSink& sink_;
  };

  Board() = default;
  Result<void> wire(const Wiring& wiring);
  Result<void> wire_interrupts(const Wiring& wiring);
  Result<void> wire_testdev(const Wiring& wiring);
  Result<void> wire_disks(const Wiring& wiring);
  void assign_pci_resources();
  void map_pci_windows();
  void map_power_management();
  void tell_acpi_files();
  void send_msi(const MsiMessage& message, std::string_view device);
  template <typename D, typename... Arguments>
  std::unique_ptr<D> make(Arguments&&... arguments) {
    auto device = std::make_unique<D>(std::forward<Arguments>(arguments)...);
    devices_.push_back(device.get());
    // Most chips wait for no time, which is known before any exit has to ask.
    if constexpr (!std::is_same_v<decltype(&D::next_deadline), decltype(&Device::next_deadline)>)
      timed_.push_back(device.get());
    return device;
  }

  Wiring wiring_;
  std::optional<std::uint16_t> pm_base_;  // where the ACPI registers are mapped
  unsigned served_vcpu_ = kNoVcpu;
  Gva served_rip_ = 0;
  std::vector<Device*> devices_;
  std::vector<Device*> timed_;  // those of them with deadlines
  std::unique_ptr<UserIrqChip> user_chip_;
  std::unique_ptr<Pic8259> pic_;
  std::unique_ptr<Ioapic> ioapic_;
  std::unique_ptr<IsaRouter> router_;
  std::unique_ptr<LineTap> tap_;
  std::unique_ptr<IrqPins> pins_;
  std::unique_ptr<Pit8254> pit_;
  std::uint64_t seen_routes_ = 0;
  std::vector<std::optional<ApicMessage>> routes_;  // Split: of each pin now, then before that
  std::unique_ptr<Serial16550> serial_;
  std::unique_ptr<VgaText> vga_;
  std::unique_ptr<VgaWindow> vga_window_;
  std::unique_ptr<DebugExit> debug_exit_;
  std::unique_ptr<Debugcon> debugcon_;
  std::unique_ptr<I8042> i8042_;
  std::unique_ptr<PostPort> post_;
  std::unique_ptr<Port92> port92_;
  std::unique_ptr<ResetPort> reset_port_;
  std::unique_ptr<AcpiPm> acpi_pm_;
  std::unique_ptr<RtcCmos> rtc_;
  std::unique_ptr<FwCfg> fw_cfg_;
  std::unique_ptr<PciHost> pci_host_;
  std::unique_ptr<PirqRouter> pirqs_;
  std::vector<std::unique_ptr<VirtioBlk>> disks_;
  std::vector<PciWindow> pci_windows_;  // those that are on a bus
  std::unique_ptr<PcTestdev> testdev_;
  std::unique_ptr<VmwarePort> vmware_port_;
  std::unique_ptr<FlashWindow> vars_;
  std::unique_ptr<BochsShutdownPort> bochs_shutdown_;
};

}  // namespace vmm
