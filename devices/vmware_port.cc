#include "devices/vmware_port.h"

#include <utility>

#include "vmm/base/bytes.h"

namespace vmm {
namespace spec {
namespace {
constexpr std::uint32_t BDOOR_MAGIC = 0x564d5868;
constexpr std::uint16_t BDOOR_CMD_GETVERSION = 10;
constexpr std::uint32_t VERSION = 6;
}  // namespace
}  // namespace spec

VmwarePort::VmwarePort(std::string name, Caller caller)
    : name_(std::move(name)), caller_(std::move(caller)) {}

Access VmwarePort::read(std::uint64_t offset, std::span<std::uint8_t> data) {
  if (offset != 0) return Access::NoRegister;
  if (data.size() != 4) return Access::BadWidth;
  const auto question = caller_.ask ? caller_.ask() : std::nullopt;
  std::uint32_t answer = question ? question->eax : ~0U;
  if (question && question->eax == spec::BDOOR_MAGIC &&
      (question->ecx & 0xffff) == spec::BDOOR_CMD_GETVERSION) {
    caller_.set_ebx(spec::BDOOR_MAGIC);
    answer = spec::VERSION;
  }
  store<std::uint32_t>(data, 0, answer);
  return Access::Ok;
}

Access VmwarePort::write(std::uint64_t offset, std::span<const std::uint8_t>) {
  return offset == 0 ? Access::Ok : Access::NoRegister;
}

void VmwarePort::visit(Archive& archive) { archive.block("vmware-port", 1); }

}  // namespace vmm
