// A driver for one virtio disk, legacy or modern, that waits by looking.
#pragma once

#include "guest-tests/guests/lapic.h"
#include "guest-tests/guests/pci.h"

namespace guest {

namespace spec {
constexpr uint32_t VIRTIO_BLK = 0x10011af4;
constexpr uint32_t BLK_IN = 0, BLK_OUT = 1, BLK_FLUSH = 4, BLK_GET_ID = 8;
constexpr uint8_t BLK_OK = 0, BLK_IOERR = 1, BLK_UNSUPP = 2;
constexpr uint8_t STATUS_DRIVER_OK = 4, STATUS_FEATURES_OK = 8, STATUS_NEEDS_RESET = 0x40;
constexpr uint16_t DESC_NEXT = 1, DESC_WRITE = 2, DESC_INDIRECT = 4;
}  // namespace spec

struct Descriptor {
  uint64_t address;
  uint32_t size;
  uint16_t flags, next;
};

// As the legacy layout has it for 256 entries; the modern registers are told the same addresses.
struct Rings {
  Descriptor descriptors[256];
  uint16_t available_flags, available_index, available[256], used_event;
  alignas(4096) uint16_t used_flags;
  uint16_t used_index;
  struct {
    uint32_t id, size;
  } used[256];
  uint16_t available_event;
};

struct BlockHeader {
  uint32_t type, reserved;
  uint64_t sector;
};

class VirtioDisk {
 public:
  VirtioDisk(PciDevice pci, bool modern, Rings& rings)
      : pci_(pci), modern_(modern), rings_(rings) {}

  // Where its windows are; false: it lacks one.
  bool find_windows() {
    io_ = static_cast<uint16_t>(pci_.read32(spec::PCI_BAR0) & 0xfffcu);
    for (uint8_t at = pci_.read8(spec::PCI_CAPABILITIES); at != 0;
         at = pci_.read8(static_cast<uint8_t>(at + 1))) {
      const uint8_t id = pci_.read8(at);
      if (id == spec::PCI_CAP_MSIX) {
        msix_capability_ = at;
        msix_table_ = bar(pci_.read32(static_cast<uint8_t>(at + 4)) & 7);
      }
      if (id != spec::PCI_CAP_VENDOR) continue;
      const uint8_t type = pci_.read8(static_cast<uint8_t>(at + 3));
      const uintptr_t address =
          bar(pci_.read8(static_cast<uint8_t>(at + 4))) + pci_.read32(static_cast<uint8_t>(at + 8));
      if (type == 1) common_ = address;
      if (type == 2) notify_ = address;
      if (type == 3) isr_ = address;
      if (type == 4) config_ = address;
    }
    return io_ != 0 && common_ != 0 && notify_ != 0 && isr_ != 0 && config_ != 0 &&
           msix_table_ != 0;
  }

  void enable() {
    pci_.write16(spec::PCI_COMMAND,
                 static_cast<uint16_t>(pci_.read16(spec::PCI_COMMAND) | spec::PCI_COMMAND_MASTER));
  }
  uint8_t status() const { return modern_ ? mmio_read<uint8_t>(common_ + 0x14) : in8(reg(0x12)); }
  void set_status(uint8_t value) {
    if (modern_)
      mmio_write<uint8_t>(common_ + 0x14, value);
    else
      out8(reg(0x12), value);
  }
  // From reset to ready; `low_features` beside VERSION_1. False: the device refused them.
  bool start(uint32_t low_features) {
    set_status(0);
    // Byte for byte: the compiler may not make a memset of it.
    for (auto* p = reinterpret_cast<volatile uint64_t*>(&rings_.available_flags);
         p < reinterpret_cast<volatile uint64_t*>(&rings_ + 1); ++p)
      *p = 0;
    set_status(1);
    set_status(3);
    if (!modern_) {
      out32(reg(4), low_features);
      out16(reg(0xe), 0);
      if (in16(reg(0xc)) != 256) return false;
      out32(reg(8), static_cast<uint32_t>(reinterpret_cast<uintptr_t>(&rings_) >> 12));
    } else {
      mmio_write<uint32_t>(common_ + 8, 0);
      mmio_write<uint32_t>(common_ + 0xc, low_features);
      mmio_write<uint32_t>(common_ + 8, 1);
      mmio_write<uint32_t>(common_ + 0xc, 1);
      set_status(0xb);
      if ((status() & spec::STATUS_FEATURES_OK) == 0) return false;
      mmio_write<uint16_t>(common_ + 0x16, 0);
      if (mmio_read<uint16_t>(common_ + 0x18) < 256) return false;
      write64(0x20, rings_.descriptors);
      write64(0x28, &rings_.available_flags);
      write64(0x30, const_cast<uint16_t*>(&rings_.used_flags));
      mmio_write<uint16_t>(common_ + 0x1c, 1);
    }
    if (vector_ != kNoVector) set_vectors();
    set_status(modern_ ? 0xf : 7);
    return true;
  }
  // From the next start() on the queue sends `vector` to this processor.
  void use_msix(uint8_t vector) {
    vector_ = 1;
    const uintptr_t entry = msix_table_ + 16;
    mmio_write<uint32_t>(entry, 0xfee00000u | (lapic_read(spec::APIC_ID) >> 24) << 12);
    mmio_write<uint32_t>(entry + 4, 0);
    mmio_write<uint32_t>(entry + 8, vector);
    mmio_write<uint32_t>(entry + 12, 0);
    pci_.write16(static_cast<uint8_t>(msix_capability_ + 2), 0x8000);
  }
  uint8_t take_isr() const { return modern_ ? mmio_read<uint8_t>(isr_) : in8(reg(0x13)); }

  uint64_t capacity() const {
    return modern_ ? mmio_read<uint32_t>(config_)
                   : in32(reg(static_cast<uint16_t>(vector_ != kNoVector ? 0x18 : 0x14)));
  }
  bool read_only_offered() {
    if (!modern_) return (in32(reg(0)) & 1u << 5) != 0;
    mmio_write<uint32_t>(common_, 0);
    return (mmio_read<uint32_t>(common_ + 4) & 1u << 5) != 0;
  }

  void describe(uint16_t index, const void* address, uint32_t size, uint16_t flags,
                uint16_t next = 0) {
    volatile Descriptor& d = rings_.descriptors[index];
    d.address = reinterpret_cast<uintptr_t>(address);
    d.size = size;
    d.flags = flags;
    d.next = next;
  }
  // The chain at `head`, `times` times at once; with more than one every entry of the ring is to be
  // `head` already, as 0 is after a start.
  void offer(uint16_t head, uint16_t times = 1) {
    volatile uint16_t& index = rings_.available_index;
    reinterpret_cast<volatile uint16_t&>(rings_.available[index % 256]) = head;
    asm volatile("" : : : "memory");
    index = static_cast<uint16_t>(index + times);
    asm volatile("mfence" : : : "memory");
    if (modern_)
      mmio_write<uint16_t>(notify_, 0);
    else
      out16(reg(0x10), 0);
  }
  // Whether everything that was offered came back; false after a long time without.
  bool wait(uint32_t patience = 200000) {
    const volatile uint16_t& used = rings_.used_index;
    const volatile uint16_t& wanted = rings_.available_index;
    for (uint32_t i = 0; i < patience; ++i) {
      if (used == wanted) return true;
      in8(0x80);
    }
    return false;
  }
  // One request of up to three descriptors; its status, or FFh when it never came back.
  uint8_t request(uint32_t type, uint64_t sector, void* data, uint32_t size) {
    header_.type = type;
    header_.sector = sector;
    status_ = 0xfe;
    describe(0, const_cast<BlockHeader*>(&header_), sizeof(BlockHeader), spec::DESC_NEXT, 1);
    const uint16_t direction = type == spec::BLK_OUT ? 0 : spec::DESC_WRITE;
    if (size != 0) describe(1, data, size, static_cast<uint16_t>(direction | spec::DESC_NEXT), 2);
    describe(size != 0 ? 2 : 1, const_cast<uint8_t*>(&status_), 1, spec::DESC_WRITE);
    offer(0);
    return wait() ? status_ : 0xff;
  }

  static constexpr uint16_t kNoVector = 0xffff;

 private:
  uint16_t reg(uint16_t offset) const { return static_cast<uint16_t>(io_ + offset); }
  uintptr_t bar(uint32_t index) const {
    return pci_.read32(static_cast<uint8_t>(spec::PCI_BAR0 + 4 * index)) & ~0xfu;
  }
  void write64(uintptr_t offset, void* address) {
    const auto value = reinterpret_cast<uintptr_t>(address);
    mmio_write<uint32_t>(common_ + offset, static_cast<uint32_t>(value));
    mmio_write<uint32_t>(common_ + offset + 4, 0);
  }
  void set_vectors() {
    if (modern_)
      mmio_write<uint16_t>(common_ + 0x1a, vector_);
    else
      out16(reg(0x16), vector_);
  }

  PciDevice pci_;
  bool modern_;
  Rings& rings_;
  uint16_t io_ = 0;
  uintptr_t common_ = 0, notify_ = 0, isr_ = 0, config_ = 0, msix_table_ = 0;
  uint8_t msix_capability_ = 0;
  uint16_t vector_ = kNoVector;
  volatile BlockHeader header_ = {};
  volatile uint8_t status_ = 0;
};

}  // namespace guest
