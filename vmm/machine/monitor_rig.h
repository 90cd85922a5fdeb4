// For tests: two stopped processors in long mode with their tables, and a monitor to ask.
#pragma once

#include <string>
#include <string_view>

#include "vmm/base/text.h"
#include "vmm/core/debug_target_fake.h"
#include "vmm/core/debugger.h"
#include "vmm/machine/debug_monitor.h"
#include "vmm/machine/monitor_machine_fake.h"

namespace vmm {

class MonitorRig {
 public:
  static constexpr Gpa kRamSize = 2_MiB;
  static constexpr Gpa kIdt = 0x3000, kGdt = 0x4000, kTss = 0x4100, kTables = 0x8000;
  static constexpr Gva kCode = 0x10000, kHandler = 0x11000, kStack = 0x20000;

  MonitorRig() {
    target.ram.bytes().resize(kRamSize);
    for (CpuState& cpu : target.states) {
      kvm_sregs& s = cpu.sregs;
      s.cr0 = spec::CR0_PE | spec::CR0_PG | spec::CR0_NE | spec::CR0_ET;
      s.cr3 = kTables;
      s.cr4 = spec::CR4_PAE;
      s.efer = spec::EFER_LME | spec::EFER_LMA;
      s.cs = segment(8, 0, 0xffffffff, 0xb);
      s.cs.s = 1;
      s.cs.l = 1;
      s.tr = segment(0x10, kTss, 0x67, 0xb);
      s.idt = table(kIdt, 0x1ff);
      s.gdt = table(kGdt, 0x1f);
      cpu.regs.rip = kCode;
      cpu.regs.rsp = kStack;
      cpu.regs.rflags = 2;
    }
    // The first 2 MiB are mapped to themselves by one large page.
    target.ram.put64(kTables, 0x9003);
    target.ram.put64(0x9000, 0xa003);
    target.ram.put64(0xa000, 0x83);
    target.ram.put64(kGdt + 0x08, 0x00af9b000000ffff);  // 64-bit code
    target.ram.put64(kGdt + 0x10, 0x00008b0000000067 | kTss << 16);
    target.ram.put64(kTss + 0x24, 0x30000);  // IST1
    target.ram.put(kCode, {0x90, 0x90});
    target.names.add("start", kCode, 0x100);
    target.names.add("on_page_fault", kHandler, 0x100);
  }

  static kvm_segment segment(std::uint16_t selector, Gva base, std::uint32_t limit,
                             std::uint8_t type) {
    kvm_segment s{};
    s.selector = selector;
    s.base = base;
    s.limit = limit;
    s.type = type;
    s.present = 1;
    return s;
  }
  static kvm_dtable table(Gva base, std::uint16_t limit) {
    kvm_dtable t{};
    t.base = base;
    t.limit = limit;
    return t;
  }
  // An interrupt gate.
  void set_gate(unsigned vector, Gva handler, unsigned ist = 0) {
    target.ram.put64(kIdt + vector * 16, (handler & 0xffff) | 8ull << 16 |
                                             static_cast<std::uint64_t>(ist) << 32 | 0x8eull << 40 |
                                             (handler >> 16 & 0xffff) << 48);
    target.ram.put64(kIdt + vector * 16 + 8, handler >> 32);
  }
  MonitorAnswer ask(std::string_view line, unsigned vcpu = 0) {
    const MonitorScene scene{.target = target,
                             .machine = machine,
                             .debugger = &debugger,
                             .paging = paging,
                             .vcpu = vcpu,
                             .stop = stop};
    return run_monitor(scene, line);
  }
  std::string say(std::string_view line, unsigned vcpu = 0) { return ask(line, vcpu).text; }

  FakeDebugTarget target{2};
  FakeMonitorMachine machine;
  PagingFeatures paging;
  Debugger debugger{target, paging};
  StopReason stop;
};

// The longest line, in bytes.
inline std::size_t widest(const std::string& text) {
  std::size_t most = 0;
  for (const std::string_view line : split(text, '\n')) most = std::max(most, line.size());
  return most;
}

}  // namespace vmm
