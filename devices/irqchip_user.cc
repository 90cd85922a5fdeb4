#include "devices/irqchip_user.h"

#include <fmt/format.h>

#include <algorithm>

#include "vmm/base/bytes.h"
#include "vmm/base/check.h"

namespace vmm {
namespace {

constexpr std::uint64_t kPage = 0x1000;
constexpr std::uint64_t kBaseAddress = 0x000f'ffff'ffff'f000;  // IA32_APIC_BASE bits 51:12

bool software_enabled(const Lapic& lapic) { return bit(lapic.state().svr, 8); }

}  // namespace

UserIrqChip::UserIrqChip(std::span<const std::uint32_t> apic_ids, Wires wires)
    : wires_(std::move(wires)) {
  VMM_CHECK(!apic_ids.empty(), "a machine has a processor");
  processors_.resize(apic_ids.size());
  for (unsigned i = 0; i < apic_ids.size(); ++i) {
    Lapic::Wires lapic;
    lapic.send = [this, i](const ApicCommand& sent) { command(i, sent); };
    lapic.broadcast_eoi = [this](std::uint8_t vector) {
      if (wires_.broadcast_eoi) wires_.broadcast_eoi(vector);
    };
    lapic.local_event = [this, i](DeliveryMode mode) { local_event(i, mode); };
    lapic.note = [this, i](TraceKind kind, std::uint64_t value) {
      note({.vcpu = i, .kind = kind, .value = value});
    };
    processors_[i].lapic =
        std::make_unique<Lapic>(fmt::format("lapic{}", i), apic_ids[i], i == 0, std::move(lapic));
  }
  reset();
}

void UserIrqChip::reset() {
  for (unsigned vcpu = 0; vcpu < vcpu_count(); ++vcpu) reset(vcpu);
}

void UserIrqChip::reset(unsigned vcpu) {
  Processor& processor = processors_[vcpu];
  processor.lapic->reset();
  processor.activity = vcpu == 0 ? Activity::Running : Activity::WaitForSipi;
  processor.init = processor.nmi = processor.extint = false;
  processor.sipi.reset();
  if (vcpu == 0) processor.lapic->set_virtual_wire();
}

Result<bool> UserIrqChip::can_wake_masked(unsigned vcpu) {
  if (event_pending(vcpu)) return true;
  // LVT entries that reach a processor with its interrupts off (SDM vol. 3A 11.5.1: mode NMI, not
  // masked). LINT1 is NMI on every PC and nothing of ours drives it, so it does not count.
  const auto& lvt = processors_[vcpu].lapic->state().lvt;
  return std::ranges::any_of(
      std::array{lvt[Lapic::kPerformance], lvt[Lapic::kLint0]}, [](std::uint32_t entry) {
        return bits(entry, 10, 8) == static_cast<unsigned>(DeliveryMode::Nmi) && !bit(entry, 16);
      });
}

bool UserIrqChip::event_pending(unsigned vcpu) const {
  const Processor& processor = processors_[vcpu];
  return processor.init || processor.nmi ||
         (processor.sipi && processor.activity == Activity::WaitForSipi);
}

void UserIrqChip::after_exit(unsigned vcpu, const EntryState& state) {
  Lapic& lapic = *processors_[vcpu].lapic;
  // A move to CR8 writes all of the TPR (SDM vol. 3A 11.8.6); one that leaves the class alone
  // cannot be told from none, and keeps the sub-class.
  if (state.cr8 != lapic.tpr() >> 4) lapic.set_tpr(static_cast<std::uint8_t>(state.cr8 << 4));
  if (state.apic_base != lapic.base()) {
    lapic.set_base(state.apic_base);
    note({.vcpu = vcpu, .kind = "apic-base", .value = state.apic_base});
  }
}

bool UserIrqChip::extint_wanted(const Processor& processor) const {
  if (!wires_.extint_pending || !wires_.extint_pending()) return false;
  return processor.extint || processor.lapic->wants_extint();
}

EntryPlan UserIrqChip::before_entry(unsigned vcpu, const EntryState& state, VmTime now) {
  Processor& self = processors_[vcpu];
  EntryPlan plan;
  if (self.init) {
    // The LAPIC goes with the processor (11.4.7.3); what was on its way is lost, but the SIPI.
    self.init = self.nmi = self.extint = false;
    self.lapic->init();
    // The bootstrap processor goes on at its reset vector, the others wait (9.4.2, KVM likewise).
    self.activity = bit(self.lapic->base(), 8) ? Activity::Running : Activity::WaitForSipi;
    plan.init = true;
  }
  if (self.activity == Activity::WaitForSipi) {
    if (!self.sipi) {
      plan.wait = true;
      return plan;
    }
    plan.sipi = self.sipi;
    self.sipi.reset();
    self.activity = Activity::Running;
  }
  self.lapic->advance(now);
  const bool slept = self.activity == Activity::Halted;
  // After a SIPI the flags that KVM left are those of a life before: interrupts are off.
  const bool interrupts_on = state.interrupts_on && !plan.sipi;
  if (self.nmi) {
    self.nmi = false;
    self.activity = Activity::Running;
    plan.nmi = true;
    if (slept) note({.vcpu = vcpu, .kind = "wake"});
    note({.vcpu = vcpu, .kind = "inject-nmi"});
  }
  const bool extint = extint_wanted(self);
  if (const auto vector = self.lapic->pending(); extint || vector) {
    if (interrupts_on && self.activity == Activity::Halted) {
      self.activity = Activity::Running;
      note({.vcpu = vcpu, .kind = "wake"});
    }
    if (interrupts_on && state.ready && !plan.nmi) {
      // The 8259A comes before the LAPIC, as in KVM.
      if (extint) {
        self.extint = false;
        plan.interrupt = wires_.extint_acknowledge();
      } else {
        self.lapic->acknowledge(*vector);
        plan.interrupt = *vector;
      }
      note({.vcpu = vcpu,
            .kind = "inject",
            .value = *plan.interrupt,
            .device = extint ? "pic" : "lapic"});
      // Another one may be behind it.
      plan.window = self.lapic->pending().has_value() || extint_wanted(self);
    } else if (self.activity == Activity::Running) {
      plan.window = true;
    }
  }
  plan.cr8 = static_cast<std::uint8_t>(self.lapic->tpr() >> 4);
  plan.wait = self.activity == Activity::Halted;
  return plan;
}

void UserIrqChip::halt(unsigned vcpu) { processors_[vcpu].activity = Activity::Halted; }

std::optional<std::uint64_t> UserIrqChip::register_at(unsigned vcpu, std::uint64_t gpa) const {
  const Lapic& lapic = *processors_[vcpu].lapic;
  const std::uint64_t base = lapic.base() & kBaseAddress;
  if (!lapic.xapic() || gpa < base || gpa >= base + kPage) return std::nullopt;
  return gpa - base;
}

void UserIrqChip::command(unsigned from, const ApicCommand& sent) {
  const ApicMessage& message = sent.message;
  note({.vcpu = from,
        .kind = "ipi",
        .address = message.destination,
        .value = message_bits(message, sent.shorthand)});
  switch (sent.shorthand) {
    case ApicShorthand::None:
      send(from, message);
      return;
    case ApicShorthand::Self:
      deliver(from, message, [from](unsigned vcpu) { return vcpu == from; });
      return;
    case ApicShorthand::All:
      deliver(from, message, [](unsigned) { return true; });
      return;
    case ApicShorthand::AllButSelf:
      deliver(from, message, [from](unsigned vcpu) { return vcpu != from; });
      return;
  }
}

bool UserIrqChip::send(unsigned from, const ApicMessage& message) {
  return deliver(from, message, [&](unsigned vcpu) {
    return processors_[vcpu].lapic->matches(message.destination, message.logical);
  });
}

template <typename Match>
bool UserIrqChip::deliver(unsigned from, const ApicMessage& message, const Match& match) {
  if (message.mode != DeliveryMode::LowestPriority) {
    bool accepted = false;
    for (unsigned vcpu = 0; vcpu < vcpu_count(); ++vcpu)
      if (match(vcpu)) accepted = deliver_to(vcpu, from, message) || accepted;
    return accepted;
  }
  std::optional<unsigned> lowest;
  for (unsigned vcpu = 0; vcpu < vcpu_count(); ++vcpu) {
    if (!match(vcpu) || !software_enabled(lapic(vcpu))) continue;
    if (!lowest || lapic(vcpu).ppr() < lapic(*lowest).ppr()) lowest = vcpu;
  }
  return lowest && deliver_to(*lowest, from, message);
}

// Whether the processor's LAPIC accepts it. What it does not is noted.
bool UserIrqChip::deliver_to(unsigned vcpu, unsigned from, const ApicMessage& message) {
  Processor& target = processors_[vcpu];
  const auto ignored = [&] {
    note({.vcpu = vcpu,
          .other = from,
          .kind = "ignored",
          .address = message.destination,
          .value = message_bits(message)});
    return false;
  };
  switch (message.mode) {
    case DeliveryMode::Fixed:
    case DeliveryMode::LowestPriority:
      if (!target.lapic->accept(message.vector, message.level_triggered)) return ignored();
      note({.vcpu = vcpu, .other = from, .kind = "accept", .value = message.vector});
      // A vCPU that runs and could not take it now has no reason to come out: the EOI or the lower
      // priority that lets it in will be an exit.
      if (target.activity == Activity::WaitForSipi || !target.lapic->pending()) return true;
      break;
    case DeliveryMode::Smi:
      ++ignored_smis_;
      return ignored();
    case DeliveryMode::Nmi:
      // 9.4: only INIT and SIPI get through.
      if (target.activity == Activity::WaitForSipi) return ignored();
      target.nmi = true;
      note({.vcpu = vcpu, .other = from, .kind = "nmi"});
      break;
    case DeliveryMode::Init:
      if (message.asserted) init(vcpu, from);
      return true;
    case DeliveryMode::Startup:
      // One that comes while the INIT is still being processed is kept; any other processor than a
      // waiting one ignores it (9.4.4.1).
      if (!target.init && target.activity != Activity::WaitForSipi) return ignored();
      target.sipi = message.vector;
      note({.vcpu = vcpu, .other = from, .kind = "sipi", .value = message.vector});
      break;
    case DeliveryMode::ExtInt:
      target.extint = true;
      note({.vcpu = vcpu, .other = from, .kind = "extint"});
      break;
  }
  if (wires_.wake) wires_.wake(vcpu);
  return true;
}

void UserIrqChip::init(unsigned vcpu, unsigned from) {
  Processor& target = processors_[vcpu];
  target.init = true;
  target.sipi.reset();
  note({.vcpu = vcpu, .other = from, .kind = "init"});
  if (wires_.wake) wires_.wake(vcpu);
}

void UserIrqChip::local_event(unsigned vcpu, DeliveryMode mode) {
  deliver_to(vcpu, kNoVcpu, ApicMessage{.mode = mode});
}

void UserIrqChip::set_intr(bool level) {
  for (unsigned vcpu = 0; vcpu < vcpu_count(); ++vcpu) {
    Processor& processor = processors_[vcpu];
    processor.lapic->set_lint(0, level);
    if (!level || processor.activity == Activity::WaitForSipi) continue;
    if ((processor.extint || processor.lapic->wants_extint() || processor.lapic->pending()) &&
        wires_.wake)
      wires_.wake(vcpu);
  }
}

void UserIrqChip::advance(VmTime now) {
  for (unsigned vcpu = 0; vcpu < vcpu_count(); ++vcpu) {
    Processor& processor = processors_[vcpu];
    const auto deadline = processor.lapic->next_deadline();
    if (!deadline || *deadline > now) continue;
    processor.lapic->advance(now);
    if (processor.activity != Activity::WaitForSipi && processor.lapic->pending() && wires_.wake)
      wires_.wake(vcpu);
  }
}

std::optional<VmTime> UserIrqChip::next_deadline() const {
  std::optional<VmTime> soonest;
  for (unsigned vcpu = 0; vcpu < vcpu_count(); ++vcpu)
    if (const auto deadline = next_deadline(vcpu); deadline && (!soonest || *deadline < *soonest))
      soonest = deadline;
  return soonest;
}

std::optional<VmTime> UserIrqChip::next_deadline(unsigned vcpu) const {
  return processors_[vcpu].lapic->next_deadline();
}

void UserIrqChip::visit(Archive& archive) {
  archive.block("irqchip_user", 1);
  for (unsigned vcpu = 0; vcpu < vcpu_count(); ++vcpu) {
    Processor& processor = processors_[vcpu];
    const std::string prefix = fmt::format("vcpu{}.", vcpu);
    archive(prefix + "activity", processor.activity)(prefix + "init", processor.init);
    archive(prefix + "nmi", processor.nmi)(prefix + "extint", processor.extint);
    archive(prefix + "sipi", processor.sipi);
    if (processor.activity > Activity::WaitForSipi) processor.activity = Activity::WaitForSipi;
  }
}

}  // namespace vmm
