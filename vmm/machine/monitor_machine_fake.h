// For tests: a machine whose chips hold what the test puts there.
#pragma once

#include <utility>
#include <vector>

#include "vmm/machine/monitor_machine.h"

namespace vmm {

class FakeMonitorMachine final : public MonitorMachine {
 public:
  MachineAbout about() override { return about_machine; }
  Result<LapicView> lapic_view(unsigned vcpu) override { return lapics.at(vcpu); }
  Result<IoapicView> ioapic_view() override { return ioapic; }
  std::vector<TraceEvent> exits(unsigned vcpu, std::size_t count) override {
    std::vector<TraceEvent> found;
    for (const TraceEvent& event : events)
      if (event.vcpu == vcpu && found.size() < count) found.push_back(event);
    return found;
  }
  VgaSnapshot screen() override { return picture; }
  std::optional<TraceAbout> trace_about() override { return trace; }
  Result<std::string> mmio_read(unsigned, Gpa gpa, std::span<std::uint8_t> data) override {
    if (gpa != device_at) return fail(Error::usage("nothing is there"));
    for (std::uint8_t& byte : data) byte = 0x5a;
    return std::string("device0");
  }
  Result<std::string> mmio_write(unsigned vcpu, Gpa gpa,
                                 std::span<const std::uint8_t> data) override {
    if (gpa != device_at) return fail(Error::usage("nothing is there"));
    writes.emplace_back(vcpu, std::vector<std::uint8_t>(data.begin(), data.end()));
    return std::string("device0");
  }
  HypervisorState hypervisor_state(unsigned vcpu) override {
    return vcpu < hypervisors.size() ? hypervisors[vcpu] : HypervisorState{};
  }
  std::vector<Gpa> refused_vmcbs() override {
    ++searches;
    return refused;
  }
  Result<void> reset() override {
    if (ended) return fail(Error::usage("the guest has ended"));
    ++resets;
    return {};
  }
  void quit() override { ended = true; }
  void hang_up() override { ended = true; }
  std::optional<std::string> crash_card() override { return card; }

  MachineAbout about_machine;
  std::vector<LapicView> lapics = std::vector<LapicView>(2);
  IoapicView ioapic;
  std::vector<TraceEvent> events;
  std::vector<HypervisorState> hypervisors;
  std::vector<Gpa> refused;
  unsigned searches = 0;  // for them
  VgaSnapshot picture;
  std::optional<TraceAbout> trace;
  Gpa device_at = 0xfebf0000;
  std::vector<std::pair<unsigned, std::vector<std::uint8_t>>> writes;
  bool ended = false;
  unsigned resets = 0;
  std::optional<std::string> card;
};

}  // namespace vmm
