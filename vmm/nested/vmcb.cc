#include "vmm/nested/vmcb.h"

#include <fmt/format.h>

#include <algorithm>

#include "vmm/base/bytes.h"
#include "vmm/base/check.h"
#include "vmm/nested/svm_exits.h"

namespace vmm::nested {

namespace {

constexpr std::size_t kMostBytesShown = 16;

std::string bytes_text(std::span<const std::uint8_t> bytes) {
  std::string text;
  for (const std::uint8_t byte : bytes.first(std::min(bytes.size(), kMostBytesShown)))
    text += fmt::format("{}{:02X}", text.empty() ? "" : " ", byte);
  if (bytes.size() > kMostBytesShown) text += fmt::format(" ... ({} bytes)", bytes.size());
  return text;
}

std::string words_of(const Vmcb& vmcb, const VmcbField& field, std::uint64_t value) {
  switch (field.id) {
    case VmcbId::ExitCode:
      return svm_exit_text(value);
    case VmcbId::ExitInfo1:
      return svm_exit_info_text(vmcb.get(VmcbId::ExitCode), value, vmcb.get(VmcbId::ExitInfo2));
    case VmcbId::ExitIntInfo:
    case VmcbId::EventInj:
      return svm_event_text(value);
    case VmcbId::TlbControl:
      return value == 0   ? "do nothing"
             : value == 1 ? "flush the entire TLB"
             : value == 3 ? "flush this guest's entries"
             : value == 7 ? "flush this guest's non-global entries"
                          : "reserved";
    case VmcbId::InstructionBytes:
      return vmcb.get(VmcbId::BytesFetched) == 0 ? "not valid" : "";
    default:
      return "";
  }
}

}  // namespace

Result<Vmcb> Vmcb::view(std::span<const std::uint8_t> bytes) {
  if (bytes.size() != kVmcbSize)
    return fail(Error::usage(fmt::format("decode a VMCB: it has {} bytes, a VMCB is a page of {}",
                                         bytes.size(), kVmcbSize)));
  return Vmcb(bytes.first<kVmcbSize>());
}

std::span<const std::uint8_t> Vmcb::bytes(VmcbId id) const {
  const VmcbField& field = vmcb_field(id);
  return std::span<const std::uint8_t>(bytes_).subspan(field.offset, field.size);
}

std::uint64_t Vmcb::get(VmcbId id) const {
  VMM_CHECK(vmcb_field(id).is_number(), "a field of at most 8 bytes");
  return load_uint(bytes(id));
}

bool Vmcb::bit(VmcbId id, unsigned index) const { return vmm::bit(get(id), index); }

void put_vmcb(std::span<std::uint8_t, kVmcbSize> bytes, VmcbId id, std::uint64_t value) {
  const VmcbField& field = vmcb_field(id);
  VMM_CHECK(field.is_number(), "a field of at most 8 bytes");
  store_uint(std::span<std::uint8_t>(bytes).subspan(field.offset, field.size), value);
}

std::string VmcbValue::text() const {
  std::string line = fmt::format("{:03X}h {} = {}", field->offset, field->name, shown);
  for (const VmcbBitValue& bit : bits)
    line += fmt::format(" {}{}", bit.text(), bit.reserved ? " (reserved)" : "");
  if (!words.empty()) line += fmt::format(": {}", words);
  return line;
}

std::vector<VmcbValue> decode_vmcb(const Vmcb& vmcb, VmcbShow show) {
  std::vector<VmcbValue> values;
  for (const VmcbField& field : vmcb_fields()) {
    const auto raw = vmcb.bytes(field.id);
    const bool zero = std::all_of(raw.begin(), raw.end(), [](std::uint8_t b) { return b == 0; });
    if (zero && show == VmcbShow::NonZero) continue;
    VmcbValue value{.field = &field, .value = 0, .shown = {}, .bits = {}, .words = {}};
    if (field.is_number()) {
      value.value = load_uint(raw);
      value.shown = fmt::format("{:0{}X}h", value.value, field.digits());
      value.bits = vmcb_bits(field, value.value);
    } else {
      value.shown = bytes_text(raw);
    }
    value.words = words_of(vmcb, field, value.value);
    values.push_back(std::move(value));
  }
  return values;
}

std::vector<std::string> describe(const Vmcb& vmcb, VmcbShow show) {
  std::vector<std::string> lines;
  for (const VmcbValue& value : decode_vmcb(vmcb, show)) lines.push_back(value.text());
  if (vmcb.is_sev_es())
    lines.emplace_back(
        "SEV-ES is set: where the processor has it the guest's state is in the encrypted VMSA, not "
        "in this page");
  return lines;
}

std::string vmcb_diff_text(const Vmcb& left, const Vmcb& right) {
  std::string text;
  const auto of_left = decode_vmcb(left, VmcbShow::All);
  const auto of_right = decode_vmcb(right, VmcbShow::All);
  for (std::size_t i = 0; i < of_left.size(); ++i)
    if (of_left[i].text() != of_right[i].text())
      text += fmt::format("{}\n  - {}\n  + {}\n", of_left[i].field->place(), of_left[i].text(),
                          of_right[i].text());
  return text;
}

}  // namespace vmm::nested
