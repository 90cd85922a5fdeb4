// Interrupt lines and what they lead to. Devices hold a line, never a number; the board knows the
// numbers; the chip delivers.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

namespace vmm {

// Receives the level of each pin, once per change. GSI numbering: ISA IRQ n is pin n.
class IrqSink {
 public:
  virtual ~IrqSink() = default;
  virtual void set_pin(unsigned gsi, bool level) = 0;
};

// A handle on one pin. Several lines may share a pin: it is high while any of them is. A line made
// by default is detached: its changes go nowhere. A line has one owner: a copy would count as high
// what only the original raised.
class IrqLine {
 public:
  IrqLine() = default;
  IrqLine(IrqLine&& other) noexcept { swap(other); }
  IrqLine& operator=(IrqLine&& other) noexcept {
    swap(other);
    return *this;
  }
  IrqLine(const IrqLine&) = delete;
  IrqLine& operator=(const IrqLine&) = delete;

  void set(bool level);
  // High and low again: one edge.
  void pulse();
  bool level() const { return level_; }
  // Puts the level back after a restore, without an edge.
  void restore_level(bool level);

 private:
  friend class IrqPins;
  struct Pin {
    IrqSink* sink = nullptr;
    unsigned gsi = 0;
    unsigned raised = 0;  // how many lines hold it high
  };
  explicit IrqLine(std::shared_ptr<Pin> pin) : pin_(std::move(pin)) {}
  void swap(IrqLine& other) noexcept {
    pin_.swap(other.pin_);
    std::swap(level_, other.level_);
  }
  std::shared_ptr<Pin> pin_;
  bool level_ = false;
};

// The pins of a board; hands out lines.
class IrqPins {
 public:
  // `sink` must outlive every line.
  IrqPins(IrqSink& sink, unsigned count);
  // A new line on pin `gsi` (a check that it exists).
  IrqLine line(unsigned gsi);
  // Whether any line holds pin `gsi` high.
  bool level(unsigned gsi) const { return pins_.at(gsi)->raised != 0; }
  unsigned count() const { return static_cast<unsigned>(pins_.size()); }

 private:
  std::vector<std::shared_ptr<IrqLine::Pin>> pins_;
};

}  // namespace vmm
