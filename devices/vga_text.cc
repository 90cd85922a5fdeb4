#include "devices/vga_text.h"

#include <algorithm>
#include <utility>

#include "vmm/base/check.h"

namespace vmm {
namespace spec {
namespace {

constexpr std::uint64_t PORT_BASE = 0x3b0;  // what offset 0 is

// Ports; CRTC, input status 1 and feature control move to 3Bxh while misc output bit 0 is 0.
constexpr std::uint64_t CRTC_INDEX_MONO = 0x3b4;
constexpr std::uint64_t CRTC_DATA_MONO = 0x3b5;
constexpr std::uint64_t INPUT_STATUS_1_MONO = 0x3ba;
constexpr std::uint64_t ATTRIBUTE = 0x3c0;
constexpr std::uint64_t ATTRIBUTE_READ = 0x3c1;
constexpr std::uint64_t MISC_OUTPUT_WRITE = 0x3c2;  // read: input status 0
constexpr std::uint64_t VIDEO_ENABLE = 0x3c3;
constexpr std::uint64_t SEQUENCER_INDEX = 0x3c4;
constexpr std::uint64_t SEQUENCER_DATA = 0x3c5;
constexpr std::uint64_t PEL_MASK = 0x3c6;
constexpr std::uint64_t DAC_READ_INDEX = 0x3c7;  // read: DAC state
constexpr std::uint64_t DAC_WRITE_INDEX = 0x3c8;
constexpr std::uint64_t DAC_DATA = 0x3c9;
constexpr std::uint64_t FEATURE_CONTROL_READ = 0x3ca;
constexpr std::uint64_t MISC_OUTPUT_READ = 0x3cc;
constexpr std::uint64_t GRAPHICS_INDEX = 0x3ce;
constexpr std::uint64_t GRAPHICS_DATA = 0x3cf;
constexpr std::uint64_t CRTC_INDEX = 0x3d4;
constexpr std::uint64_t CRTC_DATA = 0x3d5;
constexpr std::uint64_t INPUT_STATUS_1 = 0x3da;  // write: feature control

constexpr std::uint8_t MISC_COLOR = 0x01;
constexpr std::uint8_t INPUT_STATUS_0_SENSE = 0x10;
constexpr std::uint8_t INPUT_STATUS_1_RETRACE = 0x09;  // display disabled, vertical retrace

constexpr std::uint8_t ATTRIBUTE_PAS = 0x20;
constexpr std::size_t AR_MODE_CONTROL = 0x10;
constexpr std::size_t AR_COLOR_SELECT = 0x14;
constexpr std::uint8_t MODE_GRAPHICS = 0x01;
constexpr std::uint8_t MODE_LINE_GRAPHICS = 0x04;
constexpr std::uint8_t MODE_BLINK = 0x08;
constexpr std::uint8_t MODE_P54S = 0x80;

constexpr std::size_t SR_CLOCKING_MODE = 1;
constexpr std::uint8_t CLOCKING_8_DOTS = 0x01;
constexpr std::uint8_t CLOCKING_SCREEN_OFF = 0x20;

constexpr std::size_t GR_MISCELLANEOUS = 6;
constexpr std::uint8_t GR_MISC_GRAPHICS = 0x01;

constexpr std::size_t CR_HORIZONTAL_DISPLAY_END = 0x01;
constexpr std::size_t CR_OVERFLOW = 0x07;
constexpr std::size_t CR_MAXIMUM_SCAN_LINE = 0x09;
constexpr std::size_t CR_CURSOR_START = 0x0a;
constexpr std::size_t CR_CURSOR_END = 0x0b;
constexpr std::size_t CR_START_ADDRESS_HIGH = 0x0c;
constexpr std::size_t CR_START_ADDRESS_LOW = 0x0d;
constexpr std::size_t CR_CURSOR_LOCATION_HIGH = 0x0e;
constexpr std::size_t CR_CURSOR_LOCATION_LOW = 0x0f;
constexpr std::size_t CR_VERTICAL_RETRACE_END = 0x11;
constexpr std::size_t CR_VERTICAL_DISPLAY_END = 0x12;
constexpr std::size_t CR_OFFSET = 0x13;
constexpr std::uint8_t VERTICAL_RETRACE_END_PROTECT = 0x80;
constexpr std::uint8_t OVERFLOW_LINE_COMPARE_8 = 0x10;  // stays writable under protection
constexpr std::uint8_t CURSOR_OFF = 0x20;

// Bits that exist in each register.
constexpr std::array<std::uint8_t, 21> ATTRIBUTE_MASK = {0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f,
                                                         0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f,
                                                         0x3f, 0x3f, 0xef, 0xff, 0x3f, 0x0f, 0x0f};
constexpr std::array<std::uint8_t, 5> SEQUENCER_MASK = {0x03, 0x3d, 0x0f, 0x3f, 0x0e};
constexpr std::array<std::uint8_t, 9> GRAPHICS_MASK = {0x0f, 0x0f, 0x0f, 0x1f, 0x03,
                                                       0x7b, 0x0f, 0x0f, 0xff};

}  // namespace
}  // namespace spec

namespace {

constexpr std::size_t kTextPage = 0x18000;      // B8000h in the window
constexpr std::size_t kMonoTextPage = 0x10000;  // B0000h
constexpr unsigned kPageCells = 16 * 1024;      // 32 KiB of character and attribute

template <std::size_t N>
std::uint8_t get(const std::array<std::uint8_t, N>& registers, std::size_t index) {
  return index < N ? registers[index] : std::uint8_t{0};
}

template <std::size_t N>
void put(std::array<std::uint8_t, N>& registers, std::size_t index, std::uint8_t value,
         const std::array<std::uint8_t, N>& mask) {
  if (index < N) registers[index] = value & mask[index];
}

// The ports that move between 3Bxh and 3Dxh: 4h, 5h and Ah.
bool is_movable(std::uint64_t port) {
  const std::uint64_t low = port & 0x0f;
  return (port < 0x3c0 || port >= 0x3d0) && (low == 0x4 || low == 0x5 || low == 0xa);
}

}  // namespace

VgaText::VgaText(std::string name, std::span<std::uint8_t> window)
    : name_(std::move(name)), window_(window) {
  VMM_CHECK(window.size() == kWindowSize, "the VGA window is 128 KiB");
}

// The 64 colours of the EGA, which a BIOS loads for mode 3: bits 2:0 of the index are two thirds of
// red, green and blue, bits 5:3 the last third. 63 is full intensity.
std::array<std::uint8_t, 768> VgaText::default_dac() {
  std::array<std::uint8_t, 768> dac{};
  for (unsigned i = 0; i < 64; ++i) {
    for (unsigned component = 0; component < 3; ++component) {
      const unsigned bright = (i >> (2 - component)) & 1;
      const unsigned dim = (i >> (5 - component)) & 1;
      dac[i * 3 + component] = static_cast<std::uint8_t>(bright * 42 + dim * 21);
    }
  }
  return dac;
}

// True if a register is at `offset` now, given where the movable ones are.
bool VgaText::answers_at(std::uint64_t offset) const {
  if (offset > spec::INPUT_STATUS_1 - spec::PORT_BASE) return false;
  const std::uint64_t port = spec::PORT_BASE + offset;
  if (is_movable(port)) return ((state_.misc_output & spec::MISC_COLOR) != 0) == (port >= 0x3d0);
  return port >= spec::ATTRIBUTE && port <= spec::GRAPHICS_DATA && port != 0x3cb && port != 0x3cd;
}

Access VgaText::read(std::uint64_t offset, std::span<std::uint8_t> data) {
  if (!answers_at(offset)) return Access::NoRegister;
  if (data.size() != 1) return Access::BadWidth;
  data[0] = read_register(spec::PORT_BASE + offset);
  return Access::Ok;
}

Access VgaText::write(std::uint64_t offset, std::span<const std::uint8_t> data) {
  if (!answers_at(offset)) return Access::NoRegister;
  if (data.size() != 1) return Access::BadWidth;
  write_register(spec::PORT_BASE + offset, data[0]);
  return Access::Ok;
}

std::uint8_t VgaText::read_register(std::uint64_t port) {
  State& s = state_;
  switch (port) {
    case spec::ATTRIBUTE:
      return s.attribute_index;
    case spec::ATTRIBUTE_READ:
      return get(s.attribute, s.attribute_index & 0x1f);
    case spec::MISC_OUTPUT_WRITE:
      return spec::INPUT_STATUS_0_SENSE;
    case spec::VIDEO_ENABLE:
      return s.video_enable;
    case spec::SEQUENCER_INDEX:
      return s.sequencer_index;
    case spec::SEQUENCER_DATA:
      return get(s.sequencer, s.sequencer_index);
    case spec::PEL_MASK:
      return s.pel_mask;
    case spec::DAC_READ_INDEX:
      return s.dac_reading ? 3 : 0;
    case spec::DAC_WRITE_INDEX:
      return s.dac_write_index;
    case spec::DAC_DATA:
      return read_dac();
    case spec::FEATURE_CONTROL_READ:
      return s.feature_control;
    case spec::MISC_OUTPUT_READ:
      return s.misc_output;
    case spec::GRAPHICS_INDEX:
      return s.graphics_index;
    case spec::GRAPHICS_DATA:
      return get(s.graphics, s.graphics_index);
    case spec::CRTC_INDEX:
    case spec::CRTC_INDEX_MONO:
      return s.crtc_index;
    case spec::CRTC_DATA:
    case spec::CRTC_DATA_MONO:
      return get(s.crtc, s.crtc_index);
    case spec::INPUT_STATUS_1:
    case spec::INPUT_STATUS_1_MONO:
      s.attribute_data_next = false;
      s.retrace = !s.retrace;
      return s.retrace ? spec::INPUT_STATUS_1_RETRACE : 0;
    default:  // answers_at() lets no other port through
      return 0;
  }
}

void VgaText::write_register(std::uint64_t port, std::uint8_t value) {
  State& s = state_;
  switch (port) {
    case spec::ATTRIBUTE:
      write_attribute(value);
      break;
    case spec::MISC_OUTPUT_WRITE:
      s.misc_output = value;
      break;
    case spec::VIDEO_ENABLE:
      s.video_enable = value & 0x01;
      break;
    case spec::SEQUENCER_INDEX:
      s.sequencer_index = value;
      break;
    case spec::SEQUENCER_DATA:
      put(s.sequencer, s.sequencer_index, value, spec::SEQUENCER_MASK);
      break;
    case spec::PEL_MASK:
      s.pel_mask = value;
      break;
    case spec::DAC_READ_INDEX:
      s.dac_read_index = value;
      s.dac_component = 0;
      s.dac_reading = true;
      break;
    case spec::DAC_WRITE_INDEX:
      s.dac_write_index = value;
      s.dac_component = 0;
      s.dac_reading = false;
      break;
    case spec::DAC_DATA:
      write_dac(value);
      break;
    case spec::GRAPHICS_INDEX:
      s.graphics_index = value;
      break;
    case spec::GRAPHICS_DATA:
      put(s.graphics, s.graphics_index, value, spec::GRAPHICS_MASK);
      break;
    case spec::CRTC_INDEX:
    case spec::CRTC_INDEX_MONO:
      s.crtc_index = value;
      break;
    case spec::CRTC_DATA:
    case spec::CRTC_DATA_MONO:
      write_crtc(value);
      break;
    case spec::INPUT_STATUS_1:
    case spec::INPUT_STATUS_1_MONO:
      s.feature_control = value & 0x03;
      break;
    default:  // 3C1h, 3CAh and 3CCh are read-only
      break;
  }
}

void VgaText::write_attribute(std::uint8_t value) {
  State& s = state_;
  if (s.attribute_data_next)
    put(s.attribute, s.attribute_index & 0x1f, value, spec::ATTRIBUTE_MASK);
  else
    s.attribute_index = value & 0x3f;
  s.attribute_data_next = !s.attribute_data_next;
}

// Registers 0 to 7 are protected by bit 7 of the vertical retrace end, but for line compare bit 8.
void VgaText::write_crtc(std::uint8_t value) {
  State& s = state_;
  const std::size_t index = s.crtc_index;
  if (index >= s.crtc.size()) return;
  const bool is_protected =
      (s.crtc[spec::CR_VERTICAL_RETRACE_END] & spec::VERTICAL_RETRACE_END_PROTECT) != 0;
  if (index > spec::CR_OVERFLOW || !is_protected) {
    s.crtc[index] = value;
  } else if (index == spec::CR_OVERFLOW) {
    s.crtc[index] = static_cast<std::uint8_t>((s.crtc[index] & ~spec::OVERFLOW_LINE_COMPARE_8) |
                                              (value & spec::OVERFLOW_LINE_COMPARE_8));
  }
}

std::uint8_t VgaText::read_dac() {
  State& s = state_;
  const std::uint8_t value = s.dac[s.dac_read_index * 3u + s.dac_component % 3u];
  s.dac_component = static_cast<std::uint8_t>((s.dac_component + 1) % 3);
  if (s.dac_component == 0) ++s.dac_read_index;
  return value;
}

void VgaText::write_dac(std::uint8_t value) {
  State& s = state_;
  s.dac[s.dac_write_index * 3u + s.dac_component % 3u] = value & 0x3f;
  s.dac_component = static_cast<std::uint8_t>((s.dac_component + 1) % 3);
  if (s.dac_component == 0) ++s.dac_write_index;
}

// Attribute colour to palette register to DAC entry to 8 bits a component.
VgaColor VgaText::color_of(unsigned attribute) const {
  const State& s = state_;
  unsigned index = s.attribute[attribute & 0x0f] & 0x3fu;
  const unsigned select = s.attribute[spec::AR_COLOR_SELECT];
  if ((s.attribute[spec::AR_MODE_CONTROL] & spec::MODE_P54S) != 0)
    index = (index & 0x0f) | ((select & 0x03) << 4);
  index = (index | ((select & 0x0c) << 4)) & s.pel_mask;
  const auto widen = [&](unsigned component) {
    const unsigned value = s.dac[index * 3 + component] & 0x3fu;
    return static_cast<std::uint8_t>((value << 2) | (value >> 4));
  };
  return {widen(0), widen(1), widen(2)};
}

VgaCursor VgaText::cursor_at(const VgaSnapshot& screen, unsigned start, unsigned pitch) const {
  const auto& crtc = state_.crtc;
  VgaCursor cursor;
  cursor.first_line = crtc[spec::CR_CURSOR_START] & 0x1fu;
  cursor.last_line = std::min(crtc[spec::CR_CURSOR_END] & 0x1fu, screen.char_height - 1);
  const unsigned location =
      crtc[spec::CR_CURSOR_LOCATION_HIGH] * 256u + crtc[spec::CR_CURSOR_LOCATION_LOW];
  const unsigned distance = (location - start) % kPageCells;
  const unsigned row = pitch != 0 ? distance / pitch : 0;
  const unsigned column = pitch != 0 ? distance % pitch : distance;
  if (row >= screen.rows || column >= screen.columns) return cursor;
  cursor.column = column;
  cursor.row = row;
  cursor.visible = (crtc[spec::CR_CURSOR_START] & spec::CURSOR_OFF) == 0 &&
                   cursor.first_line <= cursor.last_line;
  return cursor;
}

VgaSnapshot VgaText::snapshot() const {
  const auto& crtc = state_.crtc;
  const std::uint8_t mode = state_.attribute[spec::AR_MODE_CONTROL];
  const std::uint8_t clocking = state_.sequencer[spec::SR_CLOCKING_MODE];
  const std::uint8_t misc = state_.graphics[spec::GR_MISCELLANEOUS];
  VgaSnapshot screen;
  screen.columns =
      std::clamp(crtc[spec::CR_HORIZONTAL_DISPLAY_END] + 1u, 1u, VgaSnapshot::kMaxColumns);
  const unsigned overflow = crtc[spec::CR_OVERFLOW];
  const unsigned lines =
      (crtc[spec::CR_VERTICAL_DISPLAY_END] | ((overflow & 0x02) << 7) | ((overflow & 0x40) << 3)) +
      1;
  screen.char_height = (crtc[spec::CR_MAXIMUM_SCAN_LINE] & 0x1fu) + 1;
  const unsigned doubled = (crtc[spec::CR_MAXIMUM_SCAN_LINE] & 0x80) != 0 ? 2 : 1;
  screen.rows = std::clamp(lines / (screen.char_height * doubled), 1u, VgaSnapshot::kMaxRows);
  screen.char_width = (clocking & spec::CLOCKING_8_DOTS) != 0 ? 8 : 9;
  screen.blink = (mode & spec::MODE_BLINK) != 0;
  screen.line_graphics = (mode & spec::MODE_LINE_GRAPHICS) != 0;
  screen.text_mode = (mode & spec::MODE_GRAPHICS) == 0 && (misc & spec::GR_MISC_GRAPHICS) == 0;
  screen.display_enabled = (state_.attribute_index & spec::ATTRIBUTE_PAS) != 0 &&
                           (clocking & spec::CLOCKING_SCREEN_OFF) == 0;
  for (unsigned i = 0; i < screen.palette.size(); ++i) screen.palette[i] = color_of(i);

  // Memory map select, bits 3:2 of the miscellaneous register: 2 is the monochrome page at B0000h.
  const std::size_t page = ((misc >> 2) & 3) == 2 ? kMonoTextPage : kTextPage;
  const unsigned start =
      crtc[spec::CR_START_ADDRESS_HIGH] * 256u + crtc[spec::CR_START_ADDRESS_LOW];
  const unsigned pitch = crtc[spec::CR_OFFSET] * 2u;
  screen.cells.assign(static_cast<std::size_t>(screen.columns) * screen.rows, VgaCell{});
  for (unsigned row = 0; row < screen.rows; ++row) {
    for (unsigned column = 0; column < screen.columns; ++column) {
      const std::size_t at = page + ((start + row * pitch + column) % kPageCells) * 2;
      screen.cells[static_cast<std::size_t>(row) * screen.columns + column] = {window_[at],
                                                                               window_[at + 1]};
    }
  }
  screen.cursor = cursor_at(screen, start, pitch);
  return screen;
}

void VgaText::visit(Archive& archive) {
  archive.block("vga_text", 1);
  State& s = state_;
  archive("misc_output", s.misc_output)("feature_control", s.feature_control);
  archive("video_enable", s.video_enable)("retrace", s.retrace);
  archive("attribute_data_next", s.attribute_data_next)("attribute_index", s.attribute_index);
  archive("attribute", s.attribute);
  archive("sequencer_index", s.sequencer_index)("sequencer", s.sequencer);
  archive("graphics_index", s.graphics_index)("graphics", s.graphics);
  archive("crtc_index", s.crtc_index)("crtc", s.crtc);
  archive("pel_mask", s.pel_mask)("dac_read_index", s.dac_read_index);
  archive("dac_write_index", s.dac_write_index)("dac_component", s.dac_component);
  archive("dac_reading", s.dac_reading)("dac", s.dac);
}

VgaWindow::VgaWindow(std::string name, VgaText& vga) : name_(std::move(name)), vga_(vga) {}

Access VgaWindow::read(std::uint64_t offset, std::span<std::uint8_t> data) {
  const std::span<std::uint8_t> window = vga_.window();
  if (offset >= window.size() || data.size() > window.size() - offset) return Access::NoRegister;
  std::copy_n(window.begin() + static_cast<std::ptrdiff_t>(offset), data.size(), data.begin());
  return Access::Ok;
}

Access VgaWindow::write(std::uint64_t offset, std::span<const std::uint8_t> data) {
  const std::span<std::uint8_t> window = vga_.window();
  if (offset >= window.size() || data.size() > window.size() - offset) return Access::NoRegister;
  std::copy(data.begin(), data.end(), window.begin() + static_cast<std::ptrdiff_t>(offset));
  return Access::Ok;
}

}  // namespace vmm
