// A VMCS for people: each field with its value and what the value means.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "vmm/nested/vmcs.h"

namespace vmm::nested {

struct VmcsLine {
  const VmcsFieldInfo* field;
  std::uint64_t value;
  std::string meaning;  // bits by name, words for codes; may be empty
};

// All fields, by kind: controls, guest state, host state, exit information; in each by encoding.
std::vector<VmcsLine> decode_vmcs(const Vmcs& vmcs);

// "revision identifier 11E57ED0h, launched" and the like.
std::string vmcs_header_text(const Vmcs& vmcs);

// "  Host TR selector (0C0Ch)  0018h", with headings; fields that are zero are left out unless
// `all`.
std::string vmcs_text(const Vmcs& vmcs, bool all);

// The fields in which two differ, old value first.
struct VmcsDifference {
  const VmcsFieldInfo* field;
  std::uint64_t left, right;
  std::string left_meaning, right_meaning;
};
std::vector<VmcsDifference> diff_vmcs(const Vmcs& left, const Vmcs& right);
// Three lines a field: its name, the old value, the new one; empty where none differs.
std::string vmcs_diff_text(const Vmcs& left, const Vmcs& right);

// "VM-execution, VM-exit and VM-entry controls", ...
std::string_view vmcs_type_text(VmcsFieldType type);

}  // namespace vmm::nested
