#include "devices/reset_port.h"

#include <utility>

namespace vmm {
namespace spec {
namespace {
constexpr std::uint8_t SYS_RST = 0x02;
constexpr std::uint8_t RST_CPU = 0x04;
constexpr std::uint8_t FULL_RST = 0x08;
}  // namespace
}  // namespace spec

ResetPort::ResetPort(std::string name, std::function<void()> on_reset)
    : name_(std::move(name)), on_reset_(std::move(on_reset)) {}

Access ResetPort::read(std::uint64_t offset, std::span<std::uint8_t> data) {
  if (offset != 0) return Access::NoRegister;
  if (data.size() != 1) return Access::BadWidth;
  data[0] = state_.rst_cnt;
  return Access::Ok;
}

Access ResetPort::write(std::uint64_t offset, std::span<const std::uint8_t> data) {
  if (offset != 0) return Access::NoRegister;
  if (data.size() != 1) return Access::BadWidth;
  const bool was_set = (state_.rst_cnt & spec::RST_CPU) != 0;
  state_.rst_cnt = data[0] & (spec::SYS_RST | spec::RST_CPU | spec::FULL_RST);
  if (!was_set && (data[0] & spec::RST_CPU) != 0 && on_reset_) on_reset_();
  return Access::Ok;
}

void ResetPort::visit(Archive& archive) {
  archive.block("reset_port", 1);
  archive("rst_cnt", state_.rst_cnt);
}

}  // namespace vmm
