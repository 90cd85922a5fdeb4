#include "vmm/core/vcpu_state.h"

#include <fmt/format.h>

#include <algorithm>
#include <span>
#include <string>

namespace vmm {
namespace {

void visit_segment(Archive& a, const std::string& name, kvm_segment& s) {
  a(name + ".selector", s.selector)(name + ".base", s.base)(name + ".limit", s.limit);
  a(name + ".type", s.type)(name + ".s", s.s)(name + ".dpl", s.dpl)(name + ".present", s.present);
  a(name + ".avl", s.avl)(name + ".l", s.l)(name + ".db", s.db)(name + ".g", s.g);
  a(name + ".unusable", s.unusable);
}

void visit_registers(Archive& a, kvm_regs& r) {
  a("rax", r.rax)("rbx", r.rbx)("rcx", r.rcx)("rdx", r.rdx)("rsi", r.rsi)("rdi", r.rdi);
  a("rsp", r.rsp)("rbp", r.rbp)("r8", r.r8)("r9", r.r9)("r10", r.r10)("r11", r.r11);
  a("r12", r.r12)("r13", r.r13)("r14", r.r14)("r15", r.r15)("rip", r.rip)("rflags", r.rflags);
}

void visit_system_registers(Archive& a, kvm_sregs& s) {
  visit_segment(a, "cs", s.cs);
  visit_segment(a, "ds", s.ds);
  visit_segment(a, "es", s.es);
  visit_segment(a, "fs", s.fs);
  visit_segment(a, "gs", s.gs);
  visit_segment(a, "ss", s.ss);
  visit_segment(a, "tr", s.tr);
  visit_segment(a, "ldt", s.ldt);
  a("gdt.base", s.gdt.base)("gdt.limit", s.gdt.limit);
  a("idt.base", s.idt.base)("idt.limit", s.idt.limit);
  a("cr0", s.cr0)("cr2", s.cr2)("cr3", s.cr3)("cr4", s.cr4)("cr8", s.cr8)("efer", s.efer);
  a("apic_base", s.apic_base);
}

void visit_debug_registers(Archive& a, kvm_debugregs& d) {
  a("dr0", d.db[0])("dr1", d.db[1])("dr2", d.db[2])("dr3", d.db[3])("dr6", d.dr6)("dr7", d.dr7);
}

void visit_events(Archive& a, kvm_vcpu_events& e) {
  a("exception.injected", e.exception.injected)("exception.nr", e.exception.nr);
  a("exception.has_error_code", e.exception.has_error_code);
  a("exception.pending", e.exception.pending)("exception.error_code", e.exception.error_code);
  a("exception.has_payload", e.exception_has_payload);
  a("exception.payload", e.exception_payload);
  a("interrupt.injected", e.interrupt.injected)("interrupt.nr", e.interrupt.nr);
  a("interrupt.soft", e.interrupt.soft)("interrupt.shadow", e.interrupt.shadow);
  a("nmi.injected", e.nmi.injected)("nmi.pending", e.nmi.pending)("nmi.masked", e.nmi.masked);
  a("sipi_vector", e.sipi_vector)("events_flags", e.flags);
  a("smi.smm", e.smi.smm)("smi.pending", e.smi.pending);
  a("smi.smm_inside_nmi", e.smi.smm_inside_nmi)("smi.latched_init", e.smi.latched_init);
  a("triple_fault.pending", e.triple_fault.pending);
}

// A struct of KVM's whose bytes only KVM explains.
template <typename T>
void visit_bytes(Archive& a, std::string_view name, T& value) {
  const std::span<std::uint8_t> raw(reinterpret_cast<std::uint8_t*>(&value), sizeof value);
  std::array<std::uint8_t, sizeof(T)> copy{};
  std::copy(raw.begin(), raw.end(), copy.begin());
  a(name, copy);
  std::copy(copy.begin(), copy.end(), raw.begin());
}

void visit_pic(Archive& a, const std::string& name, kvm_pic_state& p) {
  a(name + ".last_irr", p.last_irr)(name + ".irr", p.irr)(name + ".imr", p.imr);
  a(name + ".isr", p.isr)(name + ".priority_add", p.priority_add);
  a(name + ".irq_base", p.irq_base)(name + ".read_reg_select", p.read_reg_select);
  a(name + ".poll", p.poll)(name + ".special_mask", p.special_mask);
  a(name + ".init_state", p.init_state)(name + ".auto_eoi", p.auto_eoi);
  a(name + ".rotate_on_auto_eoi", p.rotate_on_auto_eoi);
  a(name + ".special_fully_nested_mode", p.special_fully_nested_mode);
  a(name + ".init4", p.init4)(name + ".elcr", p.elcr)(name + ".elcr_mask", p.elcr_mask);
}

void visit_ioapic(Archive& a, kvm_ioapic_state& s) {
  a("ioapic.base", s.base_address)("ioapic.index", s.ioregsel)("ioapic.id", s.id);
  a("ioapic.irr", s.irr);
  for (unsigned pin = 0; pin < KVM_IOAPIC_NUM_PINS; ++pin)
    visit_bytes(a, fmt::format("ioapic.entry{}", pin), s.redirtbl[pin]);
}

void visit_pit(Archive& a, kvm_pit_state2& s) {
  for (unsigned i = 0; i < 3; ++i) {
    const std::string name = fmt::format("pit.counter{}", i);
    kvm_pit_channel_state& c = s.channels[i];
    a(name + ".count", c.count)(name + ".latched_count", c.latched_count);
    a(name + ".count_latched", c.count_latched)(name + ".status_latched", c.status_latched);
    a(name + ".status", c.status)(name + ".read_state", c.read_state);
    a(name + ".write_state", c.write_state)(name + ".write_latch", c.write_latch);
    a(name + ".rw_mode", c.rw_mode)(name + ".mode", c.mode)(name + ".bcd", c.bcd);
    a(name + ".gate", c.gate);
  }
  a("pit.flags", s.flags);
}

}  // namespace

void VcpuState::visit(Archive& a) {
  a.block("vcpu", 1);
  visit_registers(a, cpu.regs);
  visit_system_registers(a, cpu.sregs);
  for (unsigned i = 0; i < 4; ++i) {
    const std::string name = fmt::format("interrupt_bitmap{}", i);
    std::uint64_t word = cpu.sregs.interrupt_bitmap[i];
    a(name, word);
    cpu.sregs.interrupt_bitmap[i] = word;
  }
  a("sregs_flags", sregs_flags);
  for (unsigned i = 0; i < 4; ++i) a(fmt::format("pdptr{}", i), pdptrs[i]);
  visit_debug_registers(a, cpu.debugregs);
  visit_events(a, cpu.events);
  a("mp_state", cpu.mp_state)("xcr0", xcr0)("xsave", xsave, kMaxXsave);
  for (auto& [index, value] : msrs) a(fmt::format("msr.{:x}", index), value);
  a("nested", nested, kMaxNested)("lapic", lapic, kLapicPage);
  a("tsc", tsc)("tsc_deadline", tsc_deadline);
}

void VmState::visit(Archive& a) {
  a.block("kvm-vm", 1);
  a("clock", clock);
  if (!chips) return;
  visit_pic(a, "pic_master", chips->pic_master.chip.pic);
  visit_pic(a, "pic_slave", chips->pic_slave.chip.pic);
  visit_ioapic(a, chips->ioapic.chip.ioapic);
  visit_pit(a, chips->pit);
}

}  // namespace vmm
