#include "devices/pflash.h"

#include <algorithm>
#include <bit>
#include <utility>
#include <vector>

#include "vmm/base/bytes.h"
#include "vmm/base/check.h"

namespace vmm {
namespace spec {
namespace {

// Commands.
constexpr std::uint8_t READ_ARRAY = 0xff;
constexpr std::uint8_t READ_IDENTIFIER_CODES = 0x90;
constexpr std::uint8_t READ_QUERY = 0x98;
constexpr std::uint8_t READ_STATUS_REGISTER = 0x70;
constexpr std::uint8_t CLEAR_STATUS_REGISTER = 0x50;
constexpr std::uint8_t WRITE_TO_BUFFER = 0xe8;
constexpr std::uint8_t WORD_BYTE_PROGRAM = 0x40;
constexpr std::uint8_t WORD_BYTE_PROGRAM_10 = 0x10;
constexpr std::uint8_t BLOCK_ERASE = 0x20;
constexpr std::uint8_t LOCK_SETUP = 0x60;
constexpr std::uint8_t CONFIRM = 0xd0;

// Status register.
constexpr std::uint8_t SR7_READY = 0x80;
constexpr std::uint8_t SR5_ERASE_ERROR = 0x20;
constexpr std::uint8_t SR4_PROGRAM_ERROR = 0x10;

constexpr std::uint8_t kManufacturer = 0x89;  // Intel
constexpr std::uint8_t kDeviceCode = 0x16;    // 28F320J3

constexpr std::uint64_t kQueryStart = 0x10;
constexpr std::uint64_t DeviceSize = 0x27;
constexpr std::uint64_t BlocksLow = 0x2d;
constexpr std::uint64_t BlocksHigh = 0x2e;
// From 10h on; what depends on the size is 0 here. One erase region.
constexpr std::array<std::uint8_t, 0x32> kQuery = {
    'Q',  'R',  'Y',              // 10h
    0x01, 0x00,                   // 13h: Intel's command set
    0x31, 0x00,                   // 15h: where the primary table is
    0x00, 0x00, 0x00, 0x00,       // 17h: no other command set
    0x27, 0x36, 0x00, 0x00,       // 1Bh: 2.7 to 3.6 V, no VPP
    0x07, 0x07, 0x0a, 0x00,       // 1Fh: 2^7 us a byte and a buffer, 2^10 ms a block, no chip erase
    0x04, 0x04, 0x04, 0x00,       // 23h: at most 2^4 times that
    0x00,                         // 27h: DeviceSize
    0x00, 0x00,                   // 28h: 8 bits wide
    0x05, 0x00,                   // 2Ah: the buffer has 2^5 bytes
    0x01,                         // 2Ch: one region of blocks
    0x00, 0x00,                   // 2Dh: blocks - 1
    0x10, 0x00,                   // 2Fh: of 10h times 256 bytes
    'P',  'R',  'I',  '1',  '1',  // 31h: the primary table, version 1.1
    0x00, 0x00, 0x00, 0x00,       // 36h: no optional features
    0x00,                         // 3Ah: nothing after suspend
    0x00, 0x00,                   // 3Bh: no block status register
    0x33, 0x00,                   // 3Dh: best at 3.3 V
    0x00, 0x00, 0x00,             // 3Fh: no protection registers, no page mode
};
static_assert(PFlash::kBlockSize == 0x10 * 256 && PFlash::kBufferSize == 1 << 5);

}  // namespace
}  // namespace spec

PFlash::PFlash(std::string name, FlashStore& store) : name_(std::move(name)), store_(store) {
  const std::size_t size = store.bytes().size();
  VMM_CHECK(size != 0 && size % kBlockSize == 0 && size / kBlockSize <= 0x10000,
            "a flash has 1 to 65536 whole blocks");
}

void PFlash::reset() {
  const Reading before = state_.reading;
  state_ = {};
  tell_mode(before);
}

bool PFlash::is_inside(std::uint64_t offset, std::size_t size) const {
  const std::size_t all = store_.bytes().size();
  return offset < all && size <= all - offset;
}

std::uint8_t PFlash::identifier(std::uint64_t offset) const {
  if (offset == 0) return spec::kManufacturer;
  if (offset == 1) return spec::kDeviceCode;
  return 0;  // of each block at its offset 2: not locked
}

std::uint8_t PFlash::query(std::uint64_t offset) const {
  const std::size_t size = store_.bytes().size();
  const std::size_t blocks = size / kBlockSize - 1;
  if (offset == spec::DeviceSize)
    return static_cast<std::uint8_t>(std::countr_zero(std::bit_ceil(size)));
  if (offset == spec::BlocksLow) return static_cast<std::uint8_t>(bits(blocks, 7, 0));
  if (offset == spec::BlocksHigh) return static_cast<std::uint8_t>(bits(blocks, 15, 8));
  if (offset < spec::kQueryStart || offset - spec::kQueryStart >= spec::kQuery.size()) return 0;
  return spec::kQuery[offset - spec::kQueryStart];
}

Access PFlash::read(std::uint64_t offset, std::span<std::uint8_t> data) {
  if (!is_inside(offset, data.size())) return Access::NoRegister;
  for (std::size_t i = 0; i < data.size(); ++i) {
    const std::uint64_t at = offset + i;
    switch (state_.reading) {
      case Reading::Array:
        data[i] = store_.bytes()[at];
        break;
      case Reading::Status:
        data[i] = state_.status;
        break;
      case Reading::Identifier:
        data[i] = identifier(at % kBlockSize);
        break;
      case Reading::Query:
        data[i] = query(at % kBlockSize);
        break;
    }
  }
  return Access::Ok;
}

Access PFlash::write(std::uint64_t offset, std::span<const std::uint8_t> data) {
  if (data.empty() || !is_inside(offset, data.size())) return Access::NoRegister;
  const Reading before = state_.reading;
  const Cycle cycle = std::exchange(state_.cycle, Cycle::Command);
  switch (cycle) {
    case Cycle::Command:
      command(offset, data[0]);
      break;
    case Cycle::ProgramData:
      program(offset, data);
      break;
    case Cycle::EraseConfirm:
      if (data[0] == spec::CONFIRM)
        erase(offset);
      else
        sequence_error();
      break;
    case Cycle::LockConfirm:
      // No block is locked, so unlocking all of them is done; locking one is not possible.
      if (data[0] == spec::CONFIRM)
        finish(0);
      else
        sequence_error();
      break;
    case Cycle::BufferCount:
      // One less than the cycles to come.
      if (data[0] >= kBufferSize) {
        sequence_error();
        break;
      }
      state_.buffer_left = static_cast<std::uint8_t>(data[0] + 1);
      state_.cycle = Cycle::BufferData;
      break;
    case Cycle::BufferData:
      take_buffer_byte(offset, data);
      break;
    case Cycle::BufferConfirm:
      if (data[0] != spec::CONFIRM || offset / kBlockSize != state_.buffer_block) {
        sequence_error();
        break;
      }
      const std::uint64_t room = (state_.buffer_block + 1) * kBlockSize - state_.buffer_start;
      program(state_.buffer_start,
              std::span(state_.buffer).first(std::min<std::uint64_t>(room, kBufferSize)));
      break;
  }
  tell_mode(before);
  return Access::Ok;
}

void PFlash::command(std::uint64_t offset, std::uint8_t code) {
  switch (code) {
    case spec::READ_ARRAY:
      state_.reading = Reading::Array;
      break;
    case spec::READ_IDENTIFIER_CODES:
      state_.reading = Reading::Identifier;
      break;
    case spec::READ_QUERY:
      state_.reading = Reading::Query;
      break;
    case spec::READ_STATUS_REGISTER:
      state_.reading = Reading::Status;
      break;
    case spec::CLEAR_STATUS_REGISTER:
      state_.status = 0;
      break;
    case spec::WORD_BYTE_PROGRAM:
    case spec::WORD_BYTE_PROGRAM_10:
      state_.cycle = Cycle::ProgramData;
      state_.reading = Reading::Status;
      break;
    case spec::BLOCK_ERASE:
      state_.cycle = Cycle::EraseConfirm;
      state_.reading = Reading::Status;
      break;
    case spec::LOCK_SETUP:
      state_.cycle = Cycle::LockConfirm;
      state_.reading = Reading::Status;
      break;
    case spec::WRITE_TO_BUFFER:
      state_.cycle = Cycle::BufferCount;
      state_.reading = Reading::Status;
      state_.status |= spec::SR7_READY;  // a buffer is free
      state_.buffer_block = offset / kBlockSize;
      state_.buffer_started = false;
      state_.buffer.fill(0xff);
      break;
    default:
      break;  // reserved, or what is left out
  }
}

void PFlash::take_buffer_byte(std::uint64_t offset, std::span<const std::uint8_t> data) {
  if (!state_.buffer_started) {
    state_.buffer_start = offset;
    state_.buffer_started = true;
  }
  const std::uint64_t last = offset + data.size() - 1;
  if (offset < state_.buffer_start || last - state_.buffer_start >= kBufferSize ||
      offset / kBlockSize != state_.buffer_block || last / kBlockSize != state_.buffer_block) {
    sequence_error();
    return;
  }
  for (std::size_t i = 0; i < data.size(); ++i)
    state_.buffer.at(offset - state_.buffer_start + i) = data[i];
  --state_.buffer_left;
  state_.cycle = state_.buffer_left == 0 ? Cycle::BufferConfirm : Cycle::BufferData;
}

void PFlash::program(std::uint64_t offset, std::span<const std::uint8_t> data) {
  const auto old = store_.bytes().subspan(offset, data.size());
  std::array<std::uint8_t, kBufferSize> both;
  const auto wanted = std::span(both).first(data.size());
  std::transform(data.begin(), data.end(), old.begin(), wanted.begin(),
                 [](std::uint8_t a, std::uint8_t b) { return static_cast<std::uint8_t>(a & b); });
  // Only what changes is written: most bytes of a buffer are ones.
  const auto from = std::mismatch(wanted.begin(), wanted.end(), old.begin()).first;
  if (from == wanted.end()) {
    finish(store_.is_writable() ? 0 : spec::SR4_PROGRAM_ERROR);
    return;
  }
  const auto to = std::mismatch(wanted.rbegin(), wanted.rend(), old.rbegin()).first.base();
  const auto first = static_cast<std::size_t>(from - wanted.begin());
  const bool done =
      store_.write(offset + first, wanted.subspan(first, static_cast<std::size_t>(to - from)));
  finish(done ? 0 : spec::SR4_PROGRAM_ERROR);
}

void PFlash::erase(std::uint64_t offset) {
  const std::vector<std::uint8_t> ones(kBlockSize, 0xff);
  finish(store_.write(align_down(offset, kBlockSize), ones) ? 0 : spec::SR5_ERASE_ERROR);
}

// Both errors together say that the commands made no sense.
void PFlash::sequence_error() { finish(spec::SR4_PROGRAM_ERROR | spec::SR5_ERASE_ERROR); }

void PFlash::finish(std::uint8_t errors) {
  state_.status |= static_cast<std::uint8_t>(spec::SR7_READY | errors);
  state_.reading = Reading::Status;
}

void PFlash::tell_mode(Reading before) {
  if ((before == Reading::Array) != reads_array() && on_mode) on_mode(reads_array());
}

void PFlash::visit(Archive& archive) {
  const Reading before = state_.reading;
  archive.block("pflash", 1);
  archive("reading", state_.reading)("cycle", state_.cycle)("status", state_.status);
  archive("buffer_block", state_.buffer_block)("buffer_start", state_.buffer_start);
  archive("buffer_left", state_.buffer_left)("buffer_started", state_.buffer_started);
  archive("buffer", state_.buffer);
  // A saved state is a file that anyone may have edited.
  const std::uint64_t blocks = store_.bytes().size() / kBlockSize;
  if (state_.reading > Reading::Query || state_.cycle > Cycle::BufferConfirm ||
      state_.buffer_block >= blocks || state_.buffer_left > kBufferSize ||
      (state_.buffer_started && state_.buffer_start / kBlockSize != state_.buffer_block) ||
      (state_.cycle == Cycle::BufferConfirm && !state_.buffer_started) ||
      (state_.cycle == Cycle::BufferData && state_.buffer_left == 0))
    state_ = {};
  tell_mode(before);
}

}  // namespace vmm
