#include "devices/shutdown_port.h"

#include <utility>

#include "vmm/base/bytes.h"

namespace vmm {
namespace spec {
namespace {
constexpr std::uint16_t PM1_CNT_SLP_TYP = 0x1c00;  // bits 12:10
constexpr std::uint16_t PM1_CNT_SLP_EN = 0x2000;   // write-only
constexpr std::uint64_t PM1_CNT_LEN = 4;           // the upper word is reserved
constexpr std::string_view BOCHS_SHUTDOWN = "Shutdown";
}  // namespace
}  // namespace spec

ShutdownPort::ShutdownPort(std::string name, std::function<void()> on_power_off)
    : name_(std::move(name)), on_power_off_(std::move(on_power_off)) {}

Access ShutdownPort::read(std::uint64_t offset, std::span<std::uint8_t> data) {
  if (offset >= spec::PM1_CNT_LEN) return Access::NoRegister;
  if (data.size() > spec::PM1_CNT_LEN - offset) return Access::BadWidth;
  store_uint(data, 0);
  return Access::Ok;
}

Access ShutdownPort::write(std::uint64_t offset, std::span<const std::uint8_t> data) {
  if (offset >= spec::PM1_CNT_LEN) return Access::NoRegister;
  if (data.size() > spec::PM1_CNT_LEN - offset) return Access::BadWidth;
  // Bytes that are not written keep their value; SLP_EN is never kept.
  std::uint64_t value = state_.pm1a_cnt;
  for (std::size_t i = 0; i < data.size(); ++i) {
    const auto shift = static_cast<unsigned>(8 * (offset + i));
    value = (value & ~(std::uint64_t{0xff} << shift)) | (std::uint64_t{data[i]} << shift);
  }
  const auto written = static_cast<std::uint16_t>(value);
  state_.pm1a_cnt = static_cast<std::uint16_t>(written & ~spec::PM1_CNT_SLP_EN);
  const bool sleep = (written & spec::PM1_CNT_SLP_EN) != 0;
  if (sleep && (written & spec::PM1_CNT_SLP_TYP) == 0 && on_power_off_) on_power_off_();
  return Access::Ok;
}

void ShutdownPort::visit(Archive& archive) {
  archive.block("shutdown_port", 1);
  archive("pm1a_cnt", state_.pm1a_cnt);
}

BochsShutdownPort::BochsShutdownPort(std::string name, std::function<void()> on_power_off)
    : name_(std::move(name)), on_power_off_(std::move(on_power_off)) {}

Access BochsShutdownPort::read(std::uint64_t /*offset*/, std::span<std::uint8_t> /*data*/) {
  return Access::NoRegister;
}

Access BochsShutdownPort::write(std::uint64_t offset, std::span<const std::uint8_t> data) {
  if (offset != 0) return Access::NoRegister;
  if (data.size() != 1) return Access::BadWidth;
  const auto expected = [this] {
    return static_cast<std::uint8_t>(spec::BOCHS_SHUTDOWN[state_.matched]);
  };
  // A wrong character starts over, and may itself be the first one.
  if (data[0] != expected()) state_.matched = 0;
  if (data[0] == expected()) ++state_.matched;
  if (state_.matched == spec::BOCHS_SHUTDOWN.size()) {
    state_.matched = 0;
    if (on_power_off_) on_power_off_();
  }
  return Access::Ok;
}

void BochsShutdownPort::visit(Archive& archive) {
  archive.block("bochs_shutdown", 1);
  archive("matched", state_.matched);
  if (state_.matched >= spec::BOCHS_SHUTDOWN.size()) state_.matched = 0;
}

}  // namespace vmm
