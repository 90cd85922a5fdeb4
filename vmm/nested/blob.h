// A file that holds a VMCS or a VMCB, in one of the forms in which people have them.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "vmm/base/result.h"
#include "vmm/nested/nested_state.h"

namespace vmm::nested {

constexpr std::size_t kMaxBlobBytes = 64 * 1024;

struct Blob {
  std::string what;                       // "a VMCS in KVM's layout (vmcs12)"
  std::optional<NestedState> state = {};  // of KVM_GET_NESTED_STATE
  std::optional<Vmcs> vmcs = {};
  std::vector<std::uint8_t> vmcb = {};  // 4096 bytes, or none
};

// KVM's nested state is known by its header, a VMCS by KVM's revision identifier; any other 4096
// bytes are taken for a VMCB, which nothing marks. A dump (dump.h) stands for its bytes. Image
// errors say what does not fit.
Result<Blob> read_blob(std::span<const std::uint8_t> bytes);

}  // namespace vmm::nested
