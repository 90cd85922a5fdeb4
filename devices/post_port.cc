#include "devices/post_port.h"

namespace vmm {

Access PostPort::read(std::uint64_t offset, std::span<std::uint8_t> data) {
  if (offset != 0) return Access::NoRegister;
  if (data.size() != 1) return Access::BadWidth;
  data[0] = state_.code;
  return Access::Ok;
}

Access PostPort::write(std::uint64_t offset, std::span<const std::uint8_t> data) {
  if (offset != 0) return Access::NoRegister;
  if (data.size() != 1) return Access::BadWidth;
  state_.code = data[0];
  return Access::Ok;
}

void PostPort::visit(Archive& archive) {
  archive.block("post-port", 1);
  archive("code", state_.code);
}

}  // namespace vmm
