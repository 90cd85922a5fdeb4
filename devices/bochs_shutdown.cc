#include "devices/bochs_shutdown.h"

#include <utility>

namespace vmm {
namespace spec {
namespace {
constexpr std::string_view BOCHS_SHUTDOWN = "Shutdown";
}  // namespace
}  // namespace spec

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
