#include "vmm/nested/blob.h"

#include <fmt/format.h>

#include "vmm/base/bytes.h"
#include "vmm/nested/dump.h"
#include "vmm/nested/vmcb_fields.h"

namespace vmm::nested {
namespace {

constexpr std::size_t kStateHeader = 128;

bool is_nested_state(std::span<const std::uint8_t> bytes) {
  if (bytes.size() < kStateHeader) return false;
  const auto format = load<std::uint16_t>(bytes, 2);
  const auto size = load<std::uint32_t>(bytes, 4);
  return format <= 1 && size >= kStateHeader && size <= bytes.size();
}

bool is_vmcs(std::span<const std::uint8_t> bytes) {
  return bytes.size() >= sizeof(std::uint32_t) &&
         (load<std::uint32_t>(bytes) & 0x7fffffff) == kVmcs12Revision;
}

}  // namespace

Result<Blob> read_blob(std::span<const std::uint8_t> bytes) {
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  const auto dumped = VMM_TRY(parse_dump(text));
  if (dumped) bytes = *dumped;
  if (is_vmcs(bytes))
    return Blob{.what = "a VMCS in KVM's layout (vmcs12)", .vmcs = VMM_TRY(Vmcs::from(bytes))};
  if (is_nested_state(bytes)) {
    Blob blob{.what = "KVM's nested state", .state = VMM_TRY(parse_nested_state(bytes))};
    blob.vmcs = blob.state->vmcs;
    blob.vmcb = blob.state->vmcb;
    return blob;
  }
  if (bytes.size() == kVmcbSize)
    return Blob{.what = "4096 bytes, taken for a VMCB", .vmcb = {bytes.begin(), bytes.end()}};
  return fail(Error::image(fmt::format(
      "{} bytes that are neither a VMCS in KVM's layout (it begins with {:X}h) nor what "
      "KVM_GET_NESTED_STATE gives nor a page that may be a VMCB",
      bytes.size(), kVmcs12Revision)));
}

}  // namespace vmm::nested
