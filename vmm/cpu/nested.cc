#include "vmm/cpu/nested.h"

#include <fmt/format.h>

#include <string_view>

#include "vmm/base/text.h"
#include "vmm/cpu/features.h"

namespace vmm {
namespace {

constexpr std::size_t kColumns = 100;
constexpr std::uint32_t kSvmLeaf = 0x8000000a;

// SDM Vol. 4, table 2-2.
struct VmxMsr {
  std::uint32_t index;
  std::string_view name;
};
constexpr std::string_view kPrefix = "IA32_VMX_";
constexpr VmxMsr kVmxMsrs[] = {
    {0x480, "IA32_VMX_BASIC"},
    {0x481, "IA32_VMX_PINBASED_CTLS"},
    {0x482, "IA32_VMX_PROCBASED_CTLS"},
    {0x483, "IA32_VMX_EXIT_CTLS"},
    {0x484, "IA32_VMX_ENTRY_CTLS"},
    {0x485, "IA32_VMX_MISC"},
    {0x486, "IA32_VMX_CR0_FIXED0"},
    {0x487, "IA32_VMX_CR0_FIXED1"},
    {0x488, "IA32_VMX_CR4_FIXED0"},
    {0x489, "IA32_VMX_CR4_FIXED1"},
    {0x48a, "IA32_VMX_VMCS_ENUM"},
    {0x48b, "IA32_VMX_PROCBASED_CTLS2"},
    {0x48c, "IA32_VMX_EPT_VPID_CAP"},
    {0x48d, "IA32_VMX_TRUE_PINBASED_CTLS"},
    {0x48e, "IA32_VMX_TRUE_PROCBASED_CTLS"},
    {0x48f, "IA32_VMX_TRUE_EXIT_CTLS"},
    {0x490, "IA32_VMX_TRUE_ENTRY_CTLS"},
    {0x491, "IA32_VMX_VMFUNC"},
    {0x492, "IA32_VMX_PROCBASED_CTLS3"},
    {0x493, "IA32_VMX_EXIT_CTLS2"},
};

bool offers_svm(const HostGrant& host) {
  return has_feature(host.supported, "svm") && host.supported.find(kSvmLeaf) != nullptr;
}

std::vector<NestedWord> vmx_words(const HostGrant& host) {
  std::vector<NestedWord> words;
  for (const VmxMsr& msr : kVmxMsrs)
    if (const auto it = host.feature_msrs.find(msr.index); it != host.feature_msrs.end())
      words.push_back({std::string(msr.name), fmt::format("{:x}h", msr.index), it->second});
  return words;
}

// Two columns, read from top to bottom.
std::vector<std::string> vmx_lines(const std::vector<NestedWord>& words) {
  std::vector<std::string> lines = {fmt::format("VMX capabilities for guests ({}*)", kPrefix)};
  const std::size_t rows = (words.size() + 1) / 2;
  for (std::size_t row = 0; row < rows; ++row) {
    std::string line;
    for (std::size_t i = row; i < words.size(); i += rows)
      line += fmt::format("  {}  {:<19} {:016x}h", words[i].place,
                          words[i].name.substr(kPrefix.size()), words[i].value);
    lines.push_back(std::move(line));
  }
  return lines;
}

std::vector<std::string> svm_lines(const CpuidRegs& leaf) {
  std::string names;
  for (unsigned bit = 0; bit < 32; ++bit) {
    if ((leaf.edx >> bit & 1) == 0) continue;
    const auto name = feature_name({kSvmLeaf, 0}, CpuidReg::Edx, bit);
    names += (names.empty() ? "" : ", ") + name.value_or(fmt::format("bit {}", bit));
  }
  std::vector<std::string> lines = {
      "SVM for guests (CPUID 8000000Ah)",
      fmt::format("  revision {}, {} ASIDs, EDX {:08x}h", leaf.eax & 0xff, leaf.ebx, leaf.edx)};
  if (names.empty()) names = "none";
  const std::string text = wrap_text("  features: ", names, kColumns);
  for (const std::string_view line : split(trim(text), '\n'))
    lines.push_back(lines.size() == 2 ? "  " + std::string(line) : std::string(line));
  return lines;
}

}  // namespace

std::vector<NestedWord> nested_words(const HostGrant& host) {
  std::vector<NestedWord> words = vmx_words(host);
  if (!offers_svm(host)) return words;
  const CpuidRegs leaf = host.supported.get(kSvmLeaf);
  for (const CpuidReg reg : {CpuidReg::Eax, CpuidReg::Ebx, CpuidReg::Edx}) {
    const char* letter = reg == CpuidReg::Eax ? "A" : reg == CpuidReg::Ebx ? "B" : "D";
    const std::string place = fmt::format("8000000Ah.E{}X", letter);
    words.push_back({place, place, leaf[reg], 8});
  }
  return words;
}

std::vector<std::string> nested_lines(const HostGrant& host) {
  if (offers_svm(host)) return svm_lines(host.supported.get(kSvmLeaf));
  const std::vector<NestedWord> words = vmx_words(host);
  return words.empty() ? std::vector<std::string>() : vmx_lines(words);
}

}  // namespace vmm
