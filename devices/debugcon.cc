#include "devices/debugcon.h"

#include <utility>

namespace vmm {
namespace spec {
namespace {
constexpr std::uint8_t DEBUGCON_PRESENT = 0xe9;
}  // namespace
}  // namespace spec

Debugcon::Debugcon(std::string name, ByteSink* out) : name_(std::move(name)), out_(out) {}

Access Debugcon::read(std::uint64_t offset, std::span<std::uint8_t> data) {
  if (offset != 0) return Access::NoRegister;
  if (data.size() != 1) return Access::BadWidth;
  data[0] = spec::DEBUGCON_PRESENT;
  return Access::Ok;
}

Access Debugcon::write(std::uint64_t offset, std::span<const std::uint8_t> data) {
  if (offset != 0) return Access::NoRegister;
  if (data.size() != 1) return Access::BadWidth;
  if (out_ != nullptr && !out_->put(data[0])) ++state_.dropped;
  return Access::Ok;
}

void Debugcon::visit(Archive& archive) {
  archive.block("debugcon", 1);
  archive("dropped", state_.dropped);
}

}  // namespace vmm
