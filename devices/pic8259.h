// Chip:       a PC's pair of Intel 8259A interrupt controllers, with the edge/level registers ELCR
// Source:     8259A data sheet (231468); ELCR as in the Intel PIIX data sheet (290550), 4d0h, 4d1h
// Implements: ICW1, ICW2, ICW4, OCW1 to OCW3: masks, every end of interrupt, rotation, set
// priority,
//             automatic EOI, special mask, special fully nested mode, poll, edge and level,
//             spurious
// Leaves out: MCS-80 mode, buffered mode, any cascade but the slave on the master's IR2
// Differs:    ICW3 is taken and ignored. ICW1 also clears the ISR (the data sheet is silent; KVM
//             keeps it). A request of the slave stays in the master's IRR until it is acknowledged
//             or polled, as in KVM: one that goes away ends as the slave's spurious IR7. An edge on
//             any other input falls with its line (KVM and QEMU hold it). A poll without a request
//             gives 00h. There is no request in the middle of an ICW sequence.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "vmm/core/device.h"

namespace vmm {

// Offsets 0 and 1 are the master (ports 20h, 21h), 2 and 3 the slave (A0h, A1h), 4 and 5 the ELCRs
// (4D0h, 4D1h); one byte each.
class Pic8259 final : public Device {
 public:
  // What the next write to a chip's odd port is.
  enum class Expects : std::uint8_t { Ocw1, Icw2, Icw3, Icw4 };

  struct Chip {
    std::uint8_t lines = 0;  // the inputs
    std::uint8_t edges = 0;  // the edge latches; IRR follows from both
    std::uint8_t isr = 0;
    std::uint8_t imr = 0;
    std::uint8_t elcr = 0;
    std::uint8_t base = 0;    // ICW2: the vector of IR0
    std::uint8_t lowest = 7;  // the input of lowest priority
    Expects expects = Expects::Ocw1;
    bool wants_icw4 = false;  // ICW1 bit 0
    bool single = false;      // ICW1 bit 1: there is no ICW3
    bool ltim = false;        // ICW1 bit 3: all inputs are level-triggered
    bool aeoi = false;        // ICW4 bit 1
    bool sfnm = false;        // ICW4 bit 4
    bool rotate_aeoi = false;
    bool special_mask = false;
    bool poll = false;      // the next read is a poll
    bool read_isr = false;  // the even port reads ISR instead of IRR

    bool operator==(const Chip&) const = default;
  };
  struct State {
    Chip master;
    Chip slave;

    bool operator==(const State&) const = default;
  };

  // `intr` is told every change of the master's INT output. An acknowledge lowers INT for a moment
  // when a further request waits. Loading a state tells nothing: ask pending() then.
  Pic8259(std::string name, std::function<void(bool level)> intr);

  // The level of ISA interrupt `irq`, 0 to 15 (a check). 2 is the cascade, where nothing arrives.
  void set_irq(unsigned irq, bool level);
  // The vector that acknowledge() would give, while INT is high.
  std::optional<std::uint8_t> pending() const;
  // The INTA cycle: the request goes into service, its vector comes back. Without a request that is
  // IR7's vector and nothing goes into service (data sheet, "Default IR7").
  std::uint8_t acknowledge();
  // What a firmware leaves behind, for guests that start without one: master at 08h, slave at 70h,
  // open are the timer, the keyboard, the cascade, IRQ 6, IRQ 8 and IRQs 12 to 14.
  void set_bios_defaults();
  // Bit n: input n is level-triggered, as firmware sets up those of PCI.
  void set_elcr(std::uint16_t levels);

  std::string_view name() const override { return name_; }
  void reset() override;
  Access read(std::uint64_t offset, std::span<std::uint8_t> data) override;
  Access write(std::uint64_t offset, std::span<const std::uint8_t> data) override;
  void visit(Archive& archive) override;

  const State& state() const { return state_; }

 private:
  std::optional<unsigned> request(const Chip& chip) const;
  bool is_master(const Chip& chip) const { return &chip == &state_.master; }
  std::uint8_t read_port(Chip& chip, bool odd);
  void write_even(Chip& chip, std::uint8_t value);
  void write_odd(Chip& chip, std::uint8_t value);
  void drop_cascade();
  void update();
  void set_output(bool level);

  std::string name_;
  std::function<void(bool level)> intr_;
  bool output_ = false;  // what intr_ was told last
  State state_;
};

}  // namespace vmm
