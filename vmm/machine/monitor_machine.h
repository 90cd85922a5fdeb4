// What the monitor's commands ask of a machine beside what every debugger does (DebugTarget): its
// chips, its past, what it was made of. Only while it is paused.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "devices/ioapic.h"
#include "devices/vga_screen.h"
#include "vmm/base/result.h"
#include "vmm/core/trace.h"
#include "vmm/machine/explain.h"

namespace vmm {

// The registers of a local APIC by their numbers (offset / 10h, SDM vol. 3A table 11-1), whoever
// has it.
struct LapicView {
  static constexpr std::size_t kRegisters = 64;

  bool kvms = false;
  std::uint32_t id = 0;    // as messages name it
  std::uint64_t base = 0;  // IA32_APIC_BASE
  std::array<std::uint32_t, kRegisters> registers{};
  std::uint64_t tsc_deadline = 0;  // IA32_TSC_DEADLINE while armed
};

struct IoapicView {
  bool kvms = false;
  std::uint8_t id = 0;
  std::uint8_t version = 0;
  std::array<std::uint64_t, Ioapic::kPins> entries{};
  std::uint32_t pins = 0;  // ours: the level of each. KVM's: its interrupt requests
};

struct MachineAbout {
  std::string model;                 // "haswell@4,-avx2"
  std::string policy;                // "strict"
  std::vector<std::string> missing;  // features that the host cannot give
  std::vector<std::string> notes;
  std::string backend;  // of the host's KVM: "vmx", "svm", "pvm"
  std::string kernel;
  bool host_has_pdpe1gb = true;
  bool nested_paging = false;
  std::string irqchip;         // "user", "split", "kernel"
  std::string irqchip_reason;  // why not "user"; empty where it is, or where the user chose
  std::uint32_t tsc_khz = 0;
  bool tsc_lost = false;
  std::uint64_t memory = 0;
};

struct TraceAbout {
  std::string path;
  std::uint64_t events = 0;
  std::uint64_t dropped = 0;
  std::string error;  // why the file ends early; empty: it does not
};

class MonitorMachine {
 public:
  virtual ~MonitorMachine() = default;

  virtual MachineAbout about() = 0;
  virtual Result<LapicView> lapic_view(unsigned vcpu) = 0;
  virtual Result<IoapicView> ioapic_view() = 0;
  // At most `count` of the newest exits of a vCPU that tell something, oldest first, as far as the
  // flight recorder still has them.
  virtual std::vector<TraceEvent> exits(unsigned vcpu, std::size_t count) = 0;
  virtual VgaSnapshot screen() = 0;
  virtual std::optional<TraceAbout> trace_about() = 0;  // nothing without --trace
  // An access of vCPU `vcpu` to a device: its name. An error, and nothing done, where RAM is, where
  // nothing claims the address, and where KVM keeps the device.
  virtual Result<std::string> mmio_read(unsigned vcpu, Gpa gpa, std::span<std::uint8_t> data) = 0;
  virtual Result<std::string> mmio_write(unsigned vcpu, Gpa gpa,
                                         std::span<const std::uint8_t> data) = 0;
  // What KVM holds of a guest hypervisor on the vCPU; empty where the model has neither VT-x nor
  // SVM.
  virtual HypervisorState hypervisor_state(unsigned vcpu) = 0;
  // What KVM has counted of a vCPU, by KVM's names ("nested_run"); empty where it cannot be had.
  virtual std::map<std::string, std::uint64_t> counters(unsigned /*vcpu*/) { return {}; }
  // Pages of RAM that look like a VMCB that VMRUN refused; a search of all memory. Empty where the
  // model has no SVM, or nobody uses it.
  virtual std::vector<Gpa> refused_vmcbs() = 0;
  // The machine is as after power-on, at the first instruction of its images; still paused. Its
  // debugger knows of it, and its breakpoints stay. An error where it has ended, or was lost by it.
  virtual Result<void> reset() = 0;
  // Ends the run because its user wants that.
  virtual void quit() = 0;
  // Ends it as SIGHUP does: the debugger on standard input has gone.
  virtual void hang_up() = 0;
  // Of a guest that has died and is kept for a look: the whole answer to why. Nothing while it
  // lives.
  virtual std::optional<std::string> crash_card() { return std::nullopt; }
};

}  // namespace vmm
