#include "devices/ps2_keyboard.h"

#include <array>
#include <utility>

namespace vmm {
namespace spec {
namespace {

constexpr std::uint8_t SET_LEDS = 0xed;
constexpr std::uint8_t ECHO = 0xee;
constexpr std::uint8_t SCAN_CODE_SET = 0xf0;
constexpr std::uint8_t IDENTIFY = 0xf2;
constexpr std::uint8_t TYPEMATIC = 0xf3;
constexpr std::uint8_t ENABLE = 0xf4;
constexpr std::uint8_t DISABLE = 0xf5;
constexpr std::uint8_t DEFAULTS = 0xf6;
constexpr std::uint8_t RESET = 0xff;

constexpr std::uint8_t ACK = 0xfa;
constexpr std::uint8_t SELF_TEST_PASSED = 0xaa;
constexpr std::array<std::uint8_t, 2> ID = {0xab, 0x83};  // MF2

constexpr std::uint8_t EXTENDED = 0xe0;  // in front of a code, in both sets
constexpr std::uint8_t RELEASE = 0x80;   // set 1: a bit of the code
constexpr std::uint8_t BREAK = 0xf0;     // set 2: a byte in front of the code

}  // namespace
}  // namespace spec

namespace {

// The codes of set 2 by those of set 1, 00h to 58h (the manual's table of key numbers; what the
// controller's translation does the other way round).
constexpr std::array<std::uint8_t, 0x59> kSet2 = {
    0x00, 0x76, 0x16, 0x1e, 0x26, 0x25, 0x2e, 0x36, 0x3d, 0x3e, 0x46, 0x45, 0x4e, 0x55, 0x66,
    0x0d, 0x15, 0x1d, 0x24, 0x2d, 0x2c, 0x35, 0x3c, 0x43, 0x44, 0x4d, 0x54, 0x5b, 0x5a, 0x14,
    0x1c, 0x1b, 0x23, 0x2b, 0x34, 0x33, 0x3b, 0x42, 0x4b, 0x4c, 0x52, 0x0e, 0x12, 0x5d, 0x1a,
    0x22, 0x21, 0x2a, 0x32, 0x31, 0x3a, 0x41, 0x49, 0x4a, 0x59, 0x7c, 0x11, 0x29, 0x58, 0x05,
    0x06, 0x04, 0x0c, 0x03, 0x0b, 0x83, 0x0a, 0x01, 0x09, 0x77, 0x7e, 0x6c, 0x75, 0x7d, 0x7b,
    0x6b, 0x73, 0x74, 0x79, 0x69, 0x72, 0x7a, 0x70, 0x71, 0x84, 0x60, 0x61, 0x78, 0x07};

}  // namespace

void Ps2Keyboard::receive(std::uint8_t value) {
  State& s = state_;
  const std::uint8_t command = std::exchange(s.command, std::uint8_t{0});
  // Every command begins with its high bit set, and takes the place of one that waits.
  if (command == 0 || value >= spec::SET_LEDS) {
    run_command(value);
    return;
  }
  s.answers.push_back(spec::ACK);
  if (command != spec::SCAN_CODE_SET) return;
  if (value == 0)
    s.answers.push_back(s.set);
  else if (value <= 3)
    s.set = value;
}

void Ps2Keyboard::run_command(std::uint8_t command) {
  State& s = state_;
  // A new command ends the answer to the last one.
  s.answers.clear();
  if (command == spec::ECHO) {
    s.answers.push_back(spec::ECHO);
    return;
  }
  s.answers.push_back(spec::ACK);
  switch (command) {
    case spec::SET_LEDS:
    case spec::SCAN_CODE_SET:
    case spec::TYPEMATIC:
      s.command = command;
      break;
    case spec::IDENTIFY:
      s.answers.insert(s.answers.end(), spec::ID.begin(), spec::ID.end());
      break;
    case spec::ENABLE:
      s.scanning = true;
      s.keys.clear();
      break;
    case spec::DISABLE:
    case spec::DEFAULTS:
      s.scanning = command == spec::DEFAULTS;
      s.set = 2;
      s.keys.clear();
      break;
    case spec::RESET:
      reset();
      state_.answers = {spec::ACK, spec::SELF_TEST_PASSED};
      break;
    default:  // acknowledged, so that kernels that wait for it go on
      break;
  }
}

void Ps2Keyboard::type(std::span<const std::uint8_t> codes) {
  if (!state_.scanning || codes.size() > kBuffer - state_.keys.size()) return;
  state_.keys.insert(state_.keys.end(), codes.begin(), codes.end());
}

std::optional<std::uint8_t> Ps2Keyboard::next(bool translate, bool held) {
  State& s = state_;
  if (!s.answers.empty()) {
    std::uint8_t value = s.answers.front();
    s.answers.pop_front();
    // The controller translates whatever looks like a code; the identification does.
    if (translate && value == spec::ID[1]) value = 0x41;
    return value;
  }
  if (held) return std::nullopt;
  if (s.parts) return std::exchange(s.parts, std::nullopt);
  if (s.keys.empty()) return std::nullopt;
  const std::uint8_t code = s.keys.front();
  s.keys.pop_front();
  if (translate || code == spec::EXTENDED) return code;
  const std::uint8_t key = code & static_cast<std::uint8_t>(~spec::RELEASE);
  const std::uint8_t set2 = key < kSet2.size() ? kSet2[key] : key;
  if ((code & spec::RELEASE) == 0) return set2;
  s.parts = set2;
  return spec::BREAK;
}

void Ps2Keyboard::visit(Archive& archive) {
  State& s = state_;
  archive("keyboard_answers", s.answers, kAnswers)("keyboard_keys", s.keys, kBuffer);
  archive("keyboard_parts", s.parts);
  archive("keyboard_command", s.command)("keyboard_set", s.set)("keyboard_scanning", s.scanning);
}

}  // namespace vmm
