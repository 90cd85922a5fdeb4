// Chip:       VMware's backdoor, a port by which a guest asks its hypervisor
// Source:     open-vm-tools, lib/include/backdoor_def.h; QEMU's vmport, as kvm-unit-tests use it
// Implements: command 10 (get version) with the magic number in EAX
// Leaves out: every other command, which leaves the registers alone
// Differs:    version and product are QEMU's (6, and ECX stays)
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "vmm/core/device.h"

namespace vmm {

// One port of 4 bytes, for IN. What is asked is in the registers of the processor that reads.
class VmwarePort final : public Device {
 public:
  struct State {  // all of it is the processor's
    bool operator==(const State&) const = default;
  };
  // EAX and ECX of that processor, nothing where they cannot be had; and a new EBX for it.
  struct Question {
    std::uint32_t eax = 0, ecx = 0;
  };
  struct Caller {
    std::function<std::optional<Question>()> ask;
    std::function<void(std::uint32_t ebx)> set_ebx;
  };

  VmwarePort(std::string name, Caller caller);

  std::string_view name() const override { return name_; }
  void reset() override {}
  Access read(std::uint64_t offset, std::span<std::uint8_t> data) override;
  Access write(std::uint64_t offset, std::span<const std::uint8_t> data) override;
  void visit(Archive& archive) override;

  State state() const { return {}; }

 private:
  std::string name_;
  Caller caller_;
};

}  // namespace vmm
