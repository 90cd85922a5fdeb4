#include "devices/debug_exit.h"

#include <utility>

#include "vmm/base/bytes.h"

namespace vmm {
namespace spec {
namespace {
constexpr std::uint64_t DEBUG_EXIT_PORTS = 4;
}  // namespace
}  // namespace spec

namespace {

Access check(std::uint64_t offset, std::size_t size) {
  if (offset >= spec::DEBUG_EXIT_PORTS) return Access::NoRegister;
  return size <= spec::DEBUG_EXIT_PORTS - offset ? Access::Ok : Access::BadWidth;
}

}  // namespace

DebugExit::DebugExit(std::string name, std::function<void(std::uint64_t value)> on_exit)
    : name_(std::move(name)), on_exit_(std::move(on_exit)) {}

Access DebugExit::read(std::uint64_t offset, std::span<std::uint8_t> data) {
  const Access access = check(offset, data.size());
  if (access == Access::Ok) store_uint(data, 0);
  return access;
}

Access DebugExit::write(std::uint64_t offset, std::span<const std::uint8_t> data) {
  const Access access = check(offset, data.size());
  if (access != Access::Ok) return access;
  state_.value = load_uint(data);
  if (on_exit_) on_exit_(*state_.value);
  return access;
}

void DebugExit::visit(Archive& archive) {
  archive.block("debug_exit", 1);
  archive("value", state_.value);
}

}  // namespace vmm
