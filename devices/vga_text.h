// Chip:       IBM VGA as a BIOS leaves it in text mode 3, ports 3B0h-3DFh, and its memory window
// Source:     IBM PS/2 Hardware Interface Technical Reference, Video Subsystem; Intel graphics PRM
//             volume "VGA and extended VGA registers"; default values of mode 3 from the former
// Implements: attribute, sequencer, graphics, CRT and DAC registers with their indexes, the
// flip-flop,
//             CRTC write protection, input status 1, colour and monochrome addresses; the screen as
//             a value: size, start address, row offset, cursor, palette, blinking
// Leaves out: graphics modes, planes, fonts loaded into plane 2, split screen, smooth scrolling,
//             underlining
// Differs:    retrace bits toggle with each read of input status 1. The window is always the plain
//             memory of odd/even text mode, so that trapped and mapped memory give the same
//             picture. Palette registers can be written while the picture is on. Lone writes to
//             registers that do not exist are ignored.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>

#include "devices/vga_screen.h"
#include "vmm/core/device.h"

namespace vmm {

// The registers. Offsets are port - 3B0h: map 3B0h to 3DFh with BusWidth::Byte.
class VgaText final : public Device {
 public:
  struct State {
    std::uint8_t misc_output = 0x67;  // colour addresses, 28 MHz clock, memory on
    std::uint8_t feature_control = 0;
    std::uint8_t video_enable = 0x01;
    bool retrace = false;

    bool attribute_data_next = false;     // the flip-flop of 3C0h
    std::uint8_t attribute_index = 0x20;  // with PAS, the picture is on
    std::array<std::uint8_t, 21> attribute = {0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x14,
                                              0x07, 0x38, 0x39, 0x3a, 0x3b, 0x3c, 0x3d,
                                              0x3e, 0x3f, 0x0c, 0x00, 0x0f, 0x08, 0x00};
    std::uint8_t sequencer_index = 0;
    std::array<std::uint8_t, 5> sequencer = {0x03, 0x00, 0x03, 0x00, 0x02};
    std::uint8_t graphics_index = 0;
    std::array<std::uint8_t, 9> graphics = {0x00, 0x00, 0x00, 0x00, 0x00, 0x10, 0x0e, 0x00, 0xff};
    std::uint8_t crtc_index = 0;
    std::array<std::uint8_t, 25> crtc = {0x5f, 0x4f, 0x50, 0x82, 0x55, 0x81, 0xbf, 0x1f, 0x00,
                                         0x4f, 0x0d, 0x0e, 0x00, 0x00, 0x00, 0x00, 0x9c, 0x8e,
                                         0x8f, 0x28, 0x1f, 0x96, 0xb9, 0xa3, 0xff};

    std::uint8_t pel_mask = 0xff;
    std::uint8_t dac_read_index = 0;
    std::uint8_t dac_write_index = 0;
    std::uint8_t dac_component = 0;  // 0 red, 1 green, 2 blue comes next
    bool dac_reading = false;        // the last index was written to 3C7h
    std::array<std::uint8_t, 768> dac = default_dac();

    bool operator==(const State&) const = default;
  };

  static constexpr std::size_t kWindowSize = 128 * 1024;

  // `window` is the guest's memory behind A0000h-BFFFFh, kWindowSize bytes, and outlives this.
  VgaText(std::string name, std::span<std::uint8_t> window);

  std::string_view name() const override { return name_; }
  void reset() override { state_ = {}; }
  Access read(std::uint64_t offset, std::span<std::uint8_t> data) override;
  Access write(std::uint64_t offset, std::span<const std::uint8_t> data) override;
  void visit(Archive& archive) override;

  // The screen as it is now. The registers are the guest's, so every size is clamped.
  VgaSnapshot snapshot() const;
  std::span<std::uint8_t> window() const { return window_; }
  const State& state() const { return state_; }

 private:
  static std::array<std::uint8_t, 768> default_dac();
  bool answers_at(std::uint64_t offset) const;
  std::uint8_t read_register(std::uint64_t port);
  void write_register(std::uint64_t port, std::uint8_t value);
  void write_attribute(std::uint8_t value);
  void write_crtc(std::uint8_t value);
  std::uint8_t read_dac();
  void write_dac(std::uint8_t value);
  VgaColor color_of(unsigned attribute) const;
  VgaCursor cursor_at(const VgaSnapshot& screen, unsigned start, unsigned pitch) const;

  std::string name_;
  std::span<std::uint8_t> window_;
  State state_;
};

// The memory window A0000h-BFFFFh where each access exits: offsets from A0000h, 1 to 8 bytes.
class VgaWindow final : public Device {
 public:
  struct State {  // the bytes belong to the guest's memory
    bool operator==(const State&) const = default;
  };

  // `vga` outlives this.
  VgaWindow(std::string name, VgaText& vga);

  std::string_view name() const override { return name_; }
  void reset() override {}
  Access read(std::uint64_t offset, std::span<std::uint8_t> data) override;
  Access write(std::uint64_t offset, std::span<const std::uint8_t> data) override;
  void visit(Archive& archive) override { archive.block("vga_window", 1); }

  const State& state() const { return state_; }

 private:
  std::string name_;
  VgaText& vga_;
  State state_;
};

}  // namespace vmm
