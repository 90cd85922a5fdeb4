#include "devices/msix.h"

#include <fmt/format.h>

#include "vmm/base/bytes.h"

namespace vmm {
namespace spec {
namespace {

constexpr std::uint64_t ENTRY_SIZE = 16;
constexpr std::uint16_t CONTROL_ENABLE = 0x8000;
constexpr std::uint16_t CONTROL_FUNCTION_MASK = 0x4000;
constexpr std::uint32_t VECTOR_MASKED = 1;

}  // namespace
}  // namespace spec

namespace {

// Sends what is pending and no longer masked.
void flush(MsixState& state, const MsixSend& send) {
  if (!state.enabled || state.function_masked) return;
  for (unsigned i = 0; i < MsixState::kVectors; ++i) {
    const MsixState::Entry& entry = state.entries[i];
    if (!bit(state.pending, i) || entry.masked) continue;
    state.pending = static_cast<std::uint8_t>(state.pending & ~(1u << i));
    if (send) send({entry.address, entry.data});
  }
}

std::uint32_t read_dword(const MsixState& state, std::uint64_t offset) {
  if (offset == kMsixPendingOffset) return state.pending;
  const std::uint64_t index = offset / spec::ENTRY_SIZE;
  if (index >= MsixState::kVectors) return 0;
  const MsixState::Entry& entry = state.entries[index];
  switch (offset % spec::ENTRY_SIZE) {
    case 0:
      return static_cast<std::uint32_t>(entry.address);
    case 4:
      return static_cast<std::uint32_t>(entry.address >> 32);
    case 8:
      return entry.data;
    default:
      return entry.masked ? spec::VECTOR_MASKED : 0;
  }
}

void write_dword(MsixState& state, std::uint64_t offset, std::uint32_t value) {
  const std::uint64_t index = offset / spec::ENTRY_SIZE;
  if (index >= MsixState::kVectors) return;  // the pending bits too are the function's own
  MsixState::Entry& entry = state.entries[index];
  switch (offset % spec::ENTRY_SIZE) {
    case 0:
      entry.address = (entry.address & ~low_mask(32)) | (value & ~3u);
      break;
    case 4:
      entry.address = (entry.address & low_mask(32)) | std::uint64_t{value} << 32;
      break;
    case 8:
      entry.data = value;
      break;
    default:
      entry.masked = (value & spec::VECTOR_MASKED) != 0;
      break;
  }
}

Access check(std::uint64_t offset, std::size_t size) {
  if (offset >= kMsixWindowSize) return Access::NoRegister;
  return (size == 4 || size == 8) && offset % size == 0 ? Access::Ok : Access::BadWidth;
}

}  // namespace

void MsixState::visit(Archive& archive) {
  archive("msix.enabled", enabled)("msix.function_masked", function_masked);
  archive("msix.pending", pending);
  pending = static_cast<std::uint8_t>(pending & low_mask(kVectors));
  for (unsigned i = 0; i < kVectors; ++i) {
    const std::string name = fmt::format("msix{}.", i);
    archive(name + "address", entries[i].address)(name + "data", entries[i].data);
    archive(name + "masked", entries[i].masked);
    entries[i].address &= ~std::uint64_t{3};
  }
}

Access msix_read(const MsixState& state, std::uint64_t offset, std::span<std::uint8_t> data) {
  const Access access = check(offset, data.size());
  if (access != Access::Ok) return access;
  for (std::size_t at = 0; at < data.size(); at += 4)
    store(data, at, read_dword(state, offset + at));
  return access;
}

Access msix_write(MsixState& state, std::uint64_t offset, std::span<const std::uint8_t> data,
                  const MsixSend& send) {
  const Access access = check(offset, data.size());
  if (access != Access::Ok) return access;
  for (std::size_t at = 0; at < data.size(); at += 4)
    write_dword(state, offset + at, load<std::uint32_t>(data, at));
  flush(state, send);
  return access;
}

std::uint16_t msix_control(const MsixState& state) {
  return static_cast<std::uint16_t>((state.enabled ? spec::CONTROL_ENABLE : 0) |
                                    (state.function_masked ? spec::CONTROL_FUNCTION_MASK : 0) |
                                    (MsixState::kVectors - 1));
}

void set_msix_control(MsixState& state, std::uint16_t value, const MsixSend& send) {
  state.enabled = (value & spec::CONTROL_ENABLE) != 0;
  state.function_masked = (value & spec::CONTROL_FUNCTION_MASK) != 0;
  flush(state, send);
}

void msix_signal(MsixState& state, unsigned vector, const MsixSend& send) {
  if (!state.enabled || vector >= MsixState::kVectors) return;
  state.pending = static_cast<std::uint8_t>(state.pending | 1u << vector);
  flush(state, send);
}

}  // namespace vmm
