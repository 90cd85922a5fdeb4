#include "devices/port92.h"

#include <utility>

namespace vmm {
namespace spec {
namespace {
constexpr std::uint8_t INIT_NOW = 0x01;
constexpr std::uint8_t ALT_A20_GATE = 0x02;
}  // namespace
}  // namespace spec

Port92::Port92(std::string name, std::function<void()> on_reset)
    : name_(std::move(name)), on_reset_(std::move(on_reset)) {}

Access Port92::read(std::uint64_t offset, std::span<std::uint8_t> data) {
  if (offset != 0) return Access::NoRegister;
  if (data.size() != 1) return Access::BadWidth;
  data[0] = state_.value;
  return Access::Ok;
}

Access Port92::write(std::uint64_t offset, std::span<const std::uint8_t> data) {
  if (offset != 0) return Access::NoRegister;
  if (data.size() != 1) return Access::BadWidth;
  const bool was_set = (state_.value & spec::INIT_NOW) != 0;
  state_.value = data[0] & (spec::INIT_NOW | spec::ALT_A20_GATE);
  // The transition from 0 to 1 counts, so that a read-modify-write of A20 does no harm.
  if (!was_set && (data[0] & spec::INIT_NOW) != 0 && on_reset_) on_reset_();
  return Access::Ok;
}

void Port92::visit(Archive& archive) {
  archive.block("port92", 1);
  archive("value", state_.value);
}

}  // namespace vmm
