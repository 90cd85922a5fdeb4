// Chip:       a virtio device on PCI, transitional: legacy and modern registers (the transport;
// what
//             the device does is its subclass's)
// Source:     VIRTIO 1.2, sections 2, 4.1 and, for the legacy registers, 4.1.4.10; PCI Local Bus
//             Specification 3.0, chapter 6
// Implements: legacy I/O registers in BAR 0; MSI-X with two vectors in BAR 1; common, notify, ISR
//             and device registers and the configuration window in BAR 4; INTx; bus master enable
// Leaves out: more than one queue, queue reset, notification data, 64-bit BARs
// Differs:    after a malformed ring a device stops until it is reset; a legacy driver, which has
//             no status bit for that, is not told. Drivers must enable bus mastering
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "devices/msix.h"
#include "devices/pci_function.h"
#include "devices/virtio_queue.h"
#include "vmm/core/device.h"
#include "vmm/core/guest_memory.h"
#include "vmm/core/irq.h"

namespace vmm {

// Offset 0: the legacy registers; kMsixOffset: the MSI-X table; kModernOffset: the modern
// registers. The board maps each where windows() says.
class VirtioPci : public Device, public PciFunction {
 public:
  static constexpr std::uint64_t kMsixOffset = 0x1000;
  static constexpr std::uint64_t kModernOffset = 0x4000;
  static constexpr std::uint64_t kIoSize = 0x80;
  static constexpr std::uint64_t kModernSize = 0x4000;
  static constexpr std::size_t kConfigSize = 64;
  static constexpr std::uint16_t kNoVector = 0xffff;

  // The window on BAR 4 in configuration space (4.1.4.9).
  struct ConfigWindow {
    std::uint8_t bar = 0;
    std::uint32_t offset = 0;
    std::uint32_t length = 0;
    bool operator==(const ConfigWindow&) const = default;
  };
  struct State {
    std::uint16_t command = 0;
    std::uint8_t interrupt_line = 0;
    std::uint32_t io_base = 0;
    std::uint32_t msix_base = 0;
    std::uint32_t modern_base = 0;
    ConfigWindow window;
    MsixState msix;

    std::uint32_t device_feature_select = 0;
    std::uint32_t driver_feature_select = 0;
    std::uint64_t driver_features = 0;
    std::uint8_t status = 0;
    bool broken = false;  // the driver has to reset the device
    std::uint8_t isr = 0;
    std::uint16_t config_vector = kNoVector;
    std::uint16_t queue_vector = kNoVector;
    std::uint16_t queue_select = 0;
    VirtQueueState queue;

    bool operator==(const State&) const = default;
  };

  struct Identity {
    std::uint16_t device = 0;     // PCI device id of a transitional device
    std::uint16_t subsystem = 0;  // the virtio device type
    std::uint32_t class_code = 0;
  };
  // Where firmware would put it.
  struct Resources {
    std::uint16_t io_base = 0;
    std::uint32_t msix_base = 0;
    std::uint32_t modern_base = 0;
    std::uint8_t interrupt_line = 0;
  };
  struct Wires {
    IrqLine line;                 // INTA#
    MsixSend msi;                 // a message-signalled interrupt
    std::function<void()> remap;  // windows() has changed
    // There may be something to do for whoever does what takes long. Must not call back.
    std::function<void()> work;
  };

  std::string_view name() const final { return name_; }
  void reset() final;
  Access read(std::uint64_t offset, std::span<std::uint8_t> data) final;
  Access write(std::uint64_t offset, std::span<const std::uint8_t> data) final;
  void visit(Archive& archive) final;

  void read_config(std::uint8_t offset, std::span<std::uint8_t> data) final;
  void write_config(std::uint8_t offset, std::span<const std::uint8_t> data) final;
  // What it decodes now.
  std::vector<PciWindow> windows() const;
  // As firmware leaves it: addresses and the interrupt line set, decoding on, bus mastering off.
  void assign(const Resources& resources);

  // The rule that the driver broke last, in words; empty while it has broken none.
  std::string_view problem() const { return problem_; }
  const State& state() const { return state_; }

 protected:
  VirtioPci(std::string name, Identity identity, GuestMemory& memory, Wires wires);

  // Feature bits of the device type, and of rings.
  virtual std::uint64_t device_features() const = 0;
  // The device's configuration as drivers read it; its size never changes.
  virtual std::array<std::uint8_t, kConfigSize> device_config() const = 0;
  // The driver has reset the device, or its state was replaced: what was going on is void.
  virtual void forget() = 0;

  GuestMemory& memory() { return memory_; }
  bool negotiated(unsigned feature) const;
  // Whether the device may look at its queue and at what the driver gave it.
  bool running() const;
  // Makes `chain` the one at the front of the queue; false if there is none, or while it is not
  // running. A malformed one breaks the device.
  bool next(VirtChain& chain);
  // Hands the front chain back; interrupts where the driver wants that.
  void use(std::uint16_t head, std::uint32_t written);
  void break_device(std::string_view rule);
  void ask_for_work() {
    if (wires_.work) wires_.work();
  }

 private:
  static constexpr std::size_t kConfigBytes = 256;
  using ConfigBytes = std::array<std::uint8_t, kConfigBytes>;

  std::uint64_t offered() const;
  std::uint8_t status() const;
  VirtQueueFeatures ring_features() const;
  bool line_level() const;
  void update_line();
  void interrupt(std::uint8_t isr_bit, std::uint16_t vector);
  void reset_device();
  void set_status(std::uint8_t value);
  void set_driver_features(unsigned half, std::uint32_t value);
  void set_queue_size(std::uint16_t size);
  void enable_queue();
  void notify(std::uint64_t queue);

  ConfigBytes config() const;
  void absorb(const ConfigBytes& bytes);
  std::optional<std::uint64_t> window_target() const;

  Access read_legacy(std::uint64_t offset, std::span<std::uint8_t> data);
  Access write_legacy(std::uint64_t offset, std::span<const std::uint8_t> data);
  Access read_modern(std::uint64_t offset, std::span<std::uint8_t> data);
  Access write_modern(std::uint64_t offset, std::span<const std::uint8_t> data);
  Access write_common(std::uint64_t offset, std::uint32_t value);
  std::uint64_t legacy_config_offset() const;
  std::uint8_t take_isr();
  Access read_device_config(std::uint64_t offset, std::span<std::uint8_t> data) const;

  std::string name_;
  Identity identity_;
  GuestMemory& memory_;
  Wires wires_;
  std::string_view problem_;
  State state_;
};

}  // namespace vmm
