#include "vmm/kvm/kvm_events.h"

#include <fmt/format.h>

#include "vmm/base/bytes.h"
#include "vmm/base/text.h"

namespace vmm {

namespace spec {
constexpr std::uint64_t KVM_ISA_SVM = 2;
}

namespace {

struct Known {
  std::array<std::string_view, 2> names;
  std::size_t count;  // of those
  std::string_view code, rip, block, message;
};

// In the order of KvmEventKind. kvm_nested_vmenter is kvm_nested_vmrun in older kernels.
constexpr Known kKnown[kKvmEventKinds] = {
    {{"kvm_entry"}, 1, "", "rip", "", ""},
    {{"kvm_exit"}, 1, "exit_reason", "guest_rip", "", ""},
    {{"kvm_nested_vmexit"}, 1, "exit_reason", "guest_rip", "", ""},
    {{"kvm_nested_vmexit_inject"}, 1, "exit_code", "", "", ""},
    {{"kvm_nested_vmenter", "kvm_nested_vmrun"}, 2, "", "nested_rip", "vmcb", ""},
    {{"kvm_nested_vmenter_failed"}, 1, "err", "", "", "msg"},
};

const Known& known(KvmEventKind kind) { return kKnown[static_cast<std::size_t>(kind)]; }

// Fit for a terminal and for JSON.
std::string harmless(std::string_view text) {
  std::string result = printable(text);
  for (char& c : result)
    if (c == '"' || c == '\\') c = '\'';
  return result;
}

}  // namespace

std::span<const std::string_view> KvmEventDecoder::names(KvmEventKind kind) {
  return std::span(known(kind).names).first(known(kind).count);
}

Result<void> KvmEventDecoder::add(KvmEventKind kind, EventFormat format) {
  for (const std::string_view field :
       {std::string_view("common_pid"), known(kind).code, known(kind).message})
    if (!field.empty() && !format.has(field))
      return fail(Error::host(
          fmt::format("this kernel's {} has no field {}", known(kind).names[0], field)));
  formats_[static_cast<std::size_t>(kind)] = std::move(format);
  return {};
}

std::optional<KvmEvent> KvmEventDecoder::decode(std::uint64_t time,
                                                std::span<const std::uint8_t> event) const {
  if (event.size() < sizeof(std::uint16_t)) return std::nullopt;
  const auto id = load<std::uint16_t>(event);
  for (std::size_t i = 0; i < kKvmEventKinds; ++i) {
    const auto& format = formats_[i];
    if (!format || format->id != id) continue;
    const Known& what = kKnown[i];
    const auto thread = format->number("common_pid", event);
    const auto code = format->number(what.code, event);
    if (!thread || (!what.code.empty() && !code)) return std::nullopt;
    KvmEvent result{.kind = static_cast<KvmEventKind>(i),
                    .thread = static_cast<std::int32_t>(*thread),
                    .time = time,
                    .svm = format->number("isa", event) == spec::KVM_ISA_SVM,
                    .code = static_cast<std::uint32_t>(code.value_or(0)),
                    .rip = format->number(what.rip, event).value_or(0),
                    .block = format->number(what.block, event).value_or(0)};
    if (!what.message.empty())
      result.message = harmless(format->text(what.message, event, kMaxMessage));
    return result;
  }
  return std::nullopt;
}

}  // namespace vmm
