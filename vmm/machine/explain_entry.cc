// The rules of VM entry on guest state (SDM vol. 3C 26.3.1), as far as KVM_GET_SREGS shows it.
#include <fmt/format.h>

#include "vmm/base/bytes.h"
#include "vmm/machine/explain_rules.h"

namespace vmm {
namespace {

bool canonical(Gva address) {
  const std::uint64_t top = address >> 47;
  return top == 0 || top == low_mask(17);
}

class Checks {
 public:
  explicit Checks(const Facts& facts)
      : f_(facts), s_(facts.cpu->sregs), long_mode_((s_.efer & spec::EFER_LMA) != 0) {}

  std::vector<EntryViolation> run() {
    control_registers();
    flags_and_events();
    segments();
    return std::move(list_);
  }

 private:
  void add(std::string_view id, std::string text) { list_.emplace_back(id, std::move(text)); }

  void control_registers() {
    const bool paging = (s_.cr0 & spec::CR0_PG) != 0;
    if (paging && (s_.cr0 & spec::CR0_PE) == 0) add("cr0", "CR0.PG is 1 and CR0.PE is 0");
    if ((s_.cr0 & spec::CR0_NW) != 0 && (s_.cr0 & spec::CR0_CD) == 0)
      add("cr0", "CR0.NW is 1 and CR0.CD is 0");
    if (s_.cr0 >> 32 != 0) add("cr0", fmt::format("CR0 = {:x}h has bits above 31", s_.cr0));
    if (long_mode_ && (s_.cr4 & spec::CR4_PAE) == 0) add("efer", "EFER.LMA is 1 and CR4.PAE is 0");
    if (long_mode_ != (paging && (s_.efer & spec::EFER_LME) != 0))
      add("efer",
          fmt::format("EFER = {:x}h: LMA must be LME and CR0.PG (CR0 {:x}h)", s_.efer, s_.cr0));
    const unsigned width = f_.paging.features.phys_bits;
    if ((s_.cr3 & ~low_mask(width)) != 0)
      add("cr3-width", fmt::format("CR3 = {:x}h has bits beyond MAXPHYADDR {}", s_.cr3, width));
    if (f_.cpuid_known && (s_.cr4 & spec::CR4_VMXE) != 0 &&
        !f_.scene.cpuid.bit(1, 0, CpuidReg::Ecx, 5))
      add("cr4", "CR4.VMXE is 1 and CPUID 1.ECX[5] (vmx) is 0");
  }

  void flags_and_events() {
    const std::uint64_t flags = f_.cpu->regs.rflags;
    if (!bit(flags, 1)) add("rflags", fmt::format("RFLAGS = {:x}h: bit 1 must be 1", flags));
    constexpr std::uint64_t kReserved = ~low_mask(22) | 1u << 15 | 1u << 5 | 1u << 3;
    if ((flags & kReserved) != 0)
      add("rflags", fmt::format("RFLAGS = {:x}h has reserved bits", flags));
    if ((flags & spec::RFLAGS_VM) != 0 && (long_mode_ || (s_.cr0 & spec::CR0_PE) == 0))
      add("rflags", "RFLAGS.VM is 1 in long mode or in real mode");
    const auto& events = f_.cpu->events;
    if (events.interrupt.injected != 0 && events.interrupt.soft == 0) {
      if ((flags & spec::RFLAGS_IF) == 0)
        add("injection", fmt::format("external interrupt {:x}h is injected while RFLAGS.IF is 0",
                                     events.interrupt.nr));
      if (events.interrupt.shadow != 0)
        add("injection", fmt::format("external interrupt {:x}h is injected in the shadow of STI or "
                                     "MOV SS",
                                     events.interrupt.nr));
    }
    const bool wide = f_.mode == CpuMode::Long64;
    if (!wide && f_.cpu->regs.rip >> 32 != 0)
      add("rip",
          fmt::format("RIP = {:x}h has bits above 31 outside 64-bit mode", f_.cpu->regs.rip));
    if (wide && !canonical(f_.cpu->regs.rip) && (s_.cr4 & spec::CR4_LA57) == 0)
      add("rip", fmt::format("RIP = {:x}h is not canonical", f_.cpu->regs.rip));
  }

  void segments() {
    if (s_.cs.base >> 32 != 0)
      add("cs-base", fmt::format("CS.base = {:x}h: bits 63:32 must be 0", s_.cs.base));
    if (s_.cs.l != 0 && s_.cs.db != 0 && long_mode_) add("cs", "CS has L and D both set");
    if (s_.cs.s == 0 || s_.cs.present == 0)
      add("cs", "CS is no present code segment");
    else if (s_.cs.type != 3 && (s_.cs.type & 9) != 9)
      add("cs", fmt::format("CS.type = {:x}h is no accessed code segment", s_.cs.type));
    const std::pair<std::string_view, const kvm_segment*> kData[] = {
        {"SS", &s_.ss}, {"DS", &s_.ds}, {"ES", &s_.es}};
    for (const auto& [name, segment] : kData) {
      if (segment->unusable != 0) continue;
      if (segment->base >> 32 != 0)
        add("segment-base",
            fmt::format("{}.base = {:x}h: bits 63:32 must be 0", name, segment->base));
      granularity(name, *segment);
    }
    granularity("CS", s_.cs);
    for (const auto& [name, base] : {std::pair{"FS", s_.fs.base},
                                     {"GS", s_.gs.base},
                                     {"GDTR", s_.gdt.base},
                                     {"IDTR", s_.idt.base},
                                     {"TR", s_.tr.base}})
      if (!canonical(base) && (s_.cr4 & spec::CR4_LA57) == 0)
        add("canonical", fmt::format("{}.base = {:x}h is not canonical", name, base));
    if (s_.tr.unusable != 0 || s_.tr.present == 0)
      add("tr", "TR is not usable");
    else if (s_.tr.type != 11 && (long_mode_ || s_.tr.type != 3))
      add("tr", fmt::format("TR.type = {:x}h is no busy TSS", s_.tr.type));
  }

  // A limit whose low bits are not all ones needs G=0, one with high bits needs G=1.
  void granularity(std::string_view name, const kvm_segment& segment) {
    if ((segment.g != 0 && (segment.limit & 0xfff) != 0xfff) ||
        (segment.g == 0 && segment.limit >> 20 != 0))
      add("limit",
          fmt::format("{}.limit = {:x}h does not fit G={}", name, segment.limit, segment.g));
  }

  const Facts& f_;
  const kvm_sregs& s_;
  bool long_mode_;
  std::vector<EntryViolation> list_;
};

}  // namespace

std::vector<EntryViolation> entry_violations(const Facts& facts) {
  if (facts.cpu == nullptr) return {};
  return Checks(facts).run();
}

}  // namespace vmm
