#include "vmm/nested/nested_state.h"

#include <fmt/format.h>

#include "vmm/base/bytes.h"
#include "vmm/nested/vmcb.h"
#include "vmm/nested/vmx_controls.h"

namespace vmm::nested {
namespace {

constexpr std::size_t kHeader = 8, kData = 128, kPage = 4096;
// Of the flags.
constexpr unsigned kGuestMode = 0, kRunPending = 1, kMtfPending = 3, kGifSet = 8;
constexpr std::uint16_t kFormatVmx = 0, kFormatSvm = 1;

Result<void> read_vmx(NestedState& state, std::span<const std::uint8_t> bytes) {
  state.vmxon_address = load<std::uint64_t>(bytes, kHeader);
  state.vmcs_address = load<std::uint64_t>(bytes, kHeader + 8);
  if (bytes.size() >= kData + kPage) state.vmcs = VMM_TRY(Vmcs::from(bytes.subspan(kData, kPage)));
  if (bytes.size() >= kData + 2 * kPage) {
    // Of no use when it is not in KVM's layout, and no reason to refuse the rest.
    auto shadow = Vmcs::from(bytes.subspan(kData + kPage, kPage));
    if (shadow) state.shadow_vmcs = *shadow;
  }
  return {};
}

void read_svm(NestedState& state, std::span<const std::uint8_t> bytes) {
  if (!state.guest_mode) return;
  state.vmcb_address = load<std::uint64_t>(bytes, kHeader);
  if (bytes.size() < kData + kPage) return;
  const auto vmcb = bytes.subspan(kData, kPage);
  state.vmcb.assign(vmcb.begin(), vmcb.end());
}

}  // namespace

bool may_leave_halt(const NestedState& state) {
  if (!state.guest_mode) return false;
  if (state.vmcs)
    return state.vmcs->control(VmcsField::PinBasedControls, kExternalInterruptExiting) ||
           state.vmcs->control(VmcsField::PinBasedControls, kPreemptionTimer);
  constexpr unsigned kInterceptIntr = 0;
  if (const auto vmcb = Vmcb::view(state.vmcb))
    return vmcb->bit(VmcbId::Intercept3, kInterceptIntr);
  return true;
}

Result<NestedState> parse_nested_state(std::span<const std::uint8_t> bytes) {
  if (bytes.size() < kData)
    return fail(Error::image(fmt::format("KVM's nested state has a header of {} bytes, here are {}",
                                         kData, bytes.size())));
  const auto flags = load<std::uint16_t>(bytes);
  const auto format = load<std::uint16_t>(bytes, 2);
  const auto size = load<std::uint32_t>(bytes, 4);
  if (size < kData || size > bytes.size())
    return fail(Error::image(fmt::format(
        "KVM's nested state says that it has {} bytes, here are {}", size, bytes.size())));
  if (format != kFormatVmx && format != kFormatSvm)
    return fail(
        Error::image(fmt::format("KVM's nested state is of format {}, neither VMX (0) nor "
                                 "SVM (1)",
                                 format)));
  NestedState state;
  state.format = format == kFormatVmx ? NestedState::Format::Vmx : NestedState::Format::Svm;
  state.guest_mode = bit(flags, kGuestMode);
  state.run_pending = bit(flags, kRunPending);
  state.mtf_pending = bit(flags, kMtfPending);
  state.gif = format == kFormatVmx || bit(flags, kGifSet);
  if (format == kFormatVmx)
    VMM_TRY(read_vmx(state, bytes.first(size)));
  else
    read_svm(state, bytes.first(size));
  return state;
}

}  // namespace vmm::nested
