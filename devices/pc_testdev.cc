#include "devices/pc_testdev.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "vmm/base/bytes.h"

namespace vmm {
namespace {

constexpr std::uint64_t kFlush = 4;
constexpr std::uint64_t kByteStorage = 8;
constexpr std::uint64_t kPortsEnd = 12;

bool is_storage(std::uint64_t offset) {
  return offset < kFlush || (offset >= kByteStorage && offset < kPortsEnd);
}

bool is_memory(std::uint64_t offset) {
  return offset >= PcTestdev::kMemoryOffset &&
         offset - PcTestdev::kMemoryOffset < PcTestdev::kMemorySize;
}

std::optional<unsigned> line_at(std::uint64_t offset) {
  if (offset < PcTestdev::kLinesOffset || offset - PcTestdev::kLinesOffset >= PcTestdev::kLines)
    return std::nullopt;
  return static_cast<unsigned>(offset - PcTestdev::kLinesOffset);
}

}  // namespace

PcTestdev::PcTestdev(std::string name, std::array<IrqLine, kLines> lines,
                     std::function<void(Gpa)> flush_page)
    : name_(std::move(name)), lines_(std::move(lines)), flush_page_(std::move(flush_page)) {}

void PcTestdev::reset() {
  state_ = {};
  for (IrqLine& line : lines_) line.set(false);
}

Access PcTestdev::read(std::uint64_t offset, std::span<std::uint8_t> data) {
  if (is_storage(offset)) {
    if (data.size() > 4 - offset % 4) return Access::BadWidth;
    store_uint(data, state_.storage >> (8 * (offset % 4)));
    return Access::Ok;
  }
  // The page register and the lines cannot be read.
  if (!is_memory(offset)) return Access::NoRegister;
  const std::uint64_t at = offset - kMemoryOffset;
  if (data.size() > kMemorySize - at) return Access::BadWidth;
  std::fill(data.begin(), data.end(), std::uint8_t{0});
  if (!state_.memory.empty())
    std::copy_n(state_.memory.begin() + static_cast<std::ptrdiff_t>(at), data.size(), data.begin());
  return Access::Ok;
}

Access PcTestdev::write(std::uint64_t offset, std::span<const std::uint8_t> data) {
  if (is_storage(offset)) {
    if (data.size() > 4 - offset % 4) return Access::BadWidth;
    std::array<std::uint8_t, 4> bytes;
    store(bytes, 0, state_.storage);
    std::copy(data.begin(), data.end(), bytes.begin() + static_cast<std::ptrdiff_t>(offset % 4));
    state_.storage = load<std::uint32_t>(bytes);
    return Access::Ok;
  }
  if (offset >= kFlush && offset < kByteStorage) {
    if (offset != kFlush || data.size() != 4) return Access::BadWidth;
    if (flush_page_) flush_page_(align_down(load<std::uint32_t>(data), 4_KiB));
    return Access::Ok;
  }
  if (const std::optional<unsigned> line = line_at(offset)) {
    if (data.size() != 1) return Access::BadWidth;
    const bool level = data[0] != 0;
    const std::uint32_t mask = std::uint32_t{1} << *line;
    state_.lines = level ? state_.lines | mask : state_.lines & ~mask;
    lines_[*line].set(level);
    return Access::Ok;
  }
  if (!is_memory(offset)) return Access::NoRegister;
  const std::uint64_t at = offset - kMemoryOffset;
  if (data.size() > kMemorySize - at) return Access::BadWidth;
  state_.memory.resize(kMemorySize);
  std::copy(data.begin(), data.end(), state_.memory.begin() + static_cast<std::ptrdiff_t>(at));
  return Access::Ok;
}

void PcTestdev::visit(Archive& archive) {
  archive.block("pc_testdev", 1);
  archive("storage", state_.storage)("lines", state_.lines)("memory", state_.memory, kMemorySize);
  state_.lines &= static_cast<std::uint32_t>(low_mask(kLines));
  if (!state_.memory.empty()) state_.memory.resize(kMemorySize);
  for (unsigned n = 0; n < kLines; ++n) lines_[n].restore_level(bit(state_.lines, n));
}

}  // namespace vmm
