#include "vmm/nested/vmcs_text.h"

#include <fmt/format.h>

#include <algorithm>

#include "vmm/base/bytes.h"
#include "vmm/nested/ept.h"
#include "vmm/nested/vmx_controls.h"
#include "vmm/nested/vmx_exits.h"

namespace vmm::nested {
namespace {

using F = VmcsField;

std::string rights_text(std::uint64_t rights) {
  if (bit(rights, 16)) return "unusable";
  static constexpr std::string_view kBits[] = {"P", "", "", "", "", "AVL", "L", "D/B", "G"};
  std::string text = fmt::format("type {}, S {}, DPL {}", bits(rights, 3, 0),
                                 bit(rights, 4) ? 1 : 0, bits(rights, 6, 5));
  for (unsigned i = 0; i < std::size(kBits); ++i)
    if (!kBits[i].empty() && bit(rights, 7 + i)) text += fmt::format(", {}", kBits[i]);
  return text;
}

std::string ept_pointer_text(std::uint64_t pointer) {
  if (pointer == 0) return {};
  return fmt::format("table at {:X}h, {} levels, {}{}", pointer & ~std::uint64_t{0xfff},
                     bits(pointer, 5, 3) + 1,
                     memory_type_name(static_cast<unsigned>(bits(pointer, 2, 0))),
                     bit(pointer, 6) ? ", accessed and dirty flags" : "");
}

std::string activity_text(std::uint64_t state) {
  static constexpr std::string_view kNames[] = {"active", "HLT", "shutdown", "wait-for-SIPI"};
  return state < std::size(kNames) ? std::string(kNames[state]) : "reserved";
}

std::string interruptibility_text(std::uint64_t state) {
  static constexpr std::string_view kNames[] = {"STI", "MOV SS", "SMI", "NMI", "enclave"};
  std::string text;
  for (unsigned i = 0; i < std::size(kNames); ++i)
    if (bit(state, i)) text += fmt::format("{}{}", text.empty() ? "blocked by " : ", ", kNames[i]);
  return text;
}

std::string link_text(std::uint64_t pointer) {
  return pointer == ~std::uint64_t{0} ? "none" : std::string();
}

std::string meaning_of(const Vmcs& vmcs, F field, std::uint64_t value) {
  const auto word = static_cast<std::uint32_t>(value);
  switch (field) {
    case F::PinBasedControls:
    case F::ProcBasedControls:
    case F::VmExitControls:
    case F::VmEntryControls:
    case F::VmFunctionControl:
      return control_names(field, value);
    case F::ProcBasedControls2:
      return vmcs.control(F::ProcBasedControls, kActivateSecondary) || value == 0
                 ? control_names(field, value)
                 : "not activated: " + control_names(field, value);
    case F::EptPointer:
      return ept_pointer_text(value);
    case F::VmEntryIntrInfo:
    case F::VmExitIntrInfo:
    case F::IdtVectoringInfo:
      return vmx_interruption_text(word);
    case F::VmInstructionError:
      return value == 0 ? std::string() : vm_instruction_error_text(word);
    case F::VmExitReason:
      return vmx_exit_text(word);
    case F::ExitQualification:
      return vmx_qualification_text(static_cast<std::uint32_t>(vmcs.get(F::VmExitReason)), value);
    case F::GuestActivityState:
      return activity_text(value);
    case F::GuestInterruptibility:
      return interruptibility_text(value);
    case F::VmcsLinkPointer:
      return link_text(value);
    default:
      return vmcs_field(field).name.ends_with("access rights") ? rights_text(value) : std::string();
  }
}

// The order in which a hypervisor's author looks at them.
constexpr VmcsFieldType kOrder[] = {VmcsFieldType::Control, VmcsFieldType::GuestState,
                                    VmcsFieldType::HostState, VmcsFieldType::ReadOnly};

std::string value_text(const VmcsFieldInfo& field, std::uint64_t value) {
  return fmt::format("{:0{}X}h", value, field.bytes * 2);
}

}  // namespace

std::string_view vmcs_type_text(VmcsFieldType type) {
  switch (type) {
    case VmcsFieldType::Control:
      return "controls";
    case VmcsFieldType::ReadOnly:
      return "exit information";
    case VmcsFieldType::GuestState:
      return "guest state";
    case VmcsFieldType::HostState:
      return "host state";
  }
  return "?";
}

std::vector<VmcsLine> decode_vmcs(const Vmcs& vmcs) {
  std::vector<VmcsLine> lines;
  for (const VmcsFieldType type : kOrder)
    for (const VmcsFieldInfo& info : vmcs_fields()) {
      if (info.type() != type) continue;
      const std::uint64_t value = vmcs.get(info.field);
      lines.push_back({&info, value, meaning_of(vmcs, info.field, value)});
    }
  return lines;
}

std::string vmcs_header_text(const Vmcs& vmcs) {
  std::string text = fmt::format("revision identifier {:X}h (KVM's), {}", vmcs.revision(),
                                 vmcs.launch_state() == 0   ? "clear"
                                 : vmcs.launch_state() == 1 ? "launched"
                                                            : "launch state invalid");
  if (vmcs.is_shadow()) text += ", a shadow VMCS";
  if (vmcs.abort() != 0) text += fmt::format(", VMX abort {}", vmcs.abort());
  return text;
}

std::string vmcs_text(const Vmcs& vmcs, bool all) {
  std::string text = vmcs_header_text(vmcs) + "\n";
  std::optional<VmcsFieldType> section;
  for (const VmcsLine& line : decode_vmcs(vmcs)) {
    if (line.value == 0 && !all) continue;
    if (section != line.field->type()) {
      section = line.field->type();
      text += fmt::format("{}\n", vmcs_type_text(*section));
    }
    text += fmt::format("  {:04X}h {:<46} {:>17}", line.field->encoding(), line.field->name,
                        value_text(*line.field, line.value));
    if (!line.meaning.empty()) text += "  " + line.meaning;
    text += "\n";
  }
  return text;
}

std::vector<VmcsDifference> diff_vmcs(const Vmcs& left, const Vmcs& right) {
  std::vector<VmcsDifference> differences;
  const std::vector<VmcsLine> of_left = decode_vmcs(left), of_right = decode_vmcs(right);
  for (std::size_t i = 0; i < of_left.size(); ++i)
    if (of_left[i].value != of_right[i].value)
      differences.push_back({of_left[i].field, of_left[i].value, of_right[i].value,
                             of_left[i].meaning, of_right[i].meaning});
  return differences;
}

std::string vmcs_diff_text(const Vmcs& left, const Vmcs& right) {
  std::string text;
  for (const VmcsDifference& d : diff_vmcs(left, right)) {
    const int digits = static_cast<int>(d.field->bytes) * 2;
    text += fmt::format("{} ({:04X}h)\n  - {:0{}X}h  {}\n  + {:0{}X}h  {}\n", d.field->name,
                        d.field->encoding(), d.left, digits, d.left_meaning, d.right, digits,
                        d.right_meaning);
  }
  return text;
}

}  // namespace vmm::nested
