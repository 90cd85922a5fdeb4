// What a terminal on the serial line would show, as a screen: UEFI firmware has no driver for VGA
// text, its console is such a terminal. Source: ECMA-48 (control functions), and what edk2's
// TerminalDxe sends of it.
#pragma once

#include <array>
#include <cstdint>

#include "devices/vga_screen.h"
#include "vmm/core/byte_stream.h"

namespace vmm {

// Passes bytes on to `sink`, which outlives this, and draws those that it took. Understands cursor
// movement, erasing and colours; other control sequences are swallowed. Text is UTF-8 as far as
// code page 437 has it; bytes that are no UTF-8 are taken for that code page.
class TerminalScreen final : public ByteSink {
 public:
  // The largest that edk2's terminals have.
  static constexpr unsigned kColumns = 100;
  static constexpr unsigned kRows = 31;

  explicit TerminalScreen(ByteSink& sink);

  bool put(std::uint8_t byte) override;
  const VgaSnapshot& screen() const { return screen_; }

 private:
  enum class State : std::uint8_t { Text, Escape, Control, String };
  static constexpr std::size_t kMaxParameters = 8;

  void draw(std::uint8_t byte);
  void text(std::uint8_t byte);
  void put_code_point(std::uint32_t code_point);
  void put_character(std::uint8_t character);
  void control(std::uint8_t byte);
  void run_control(std::uint8_t final_byte);
  void set_rendition();
  void erase(unsigned from, unsigned to);
  void line_feed();
  void move_to(unsigned column, unsigned row);
  unsigned parameter(std::size_t index, unsigned otherwise) const;
  std::uint8_t attribute() const;

  ByteSink& sink_;
  VgaSnapshot screen_;
  State state_ = State::Text;
  std::uint8_t string_end_ = 0;  // the byte before, in a string
  std::array<unsigned, kMaxParameters> parameters_{};
  std::size_t parameter_count_ = 0;
  bool private_ = false;  // a sequence with '=' or '?', which none of ours has
  std::uint32_t code_point_ = 0;
  unsigned more_bytes_ = 0;  // of a UTF-8 sequence
  unsigned column_ = 0;      // kColumns: behind the last one, the next character wraps
  unsigned row_ = 0;
  std::uint8_t foreground_ = 7, background_ = 0;
  bool bright_ = false, reverse_ = false;
};

}  // namespace vmm
