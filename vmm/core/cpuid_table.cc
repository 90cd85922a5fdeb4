#include "vmm/core/cpuid_table.h"

#include <fmt/format.h>

#include <array>
#include <cstring>

#include "vmm/base/bytes.h"
#include "vmm/base/text.h"

namespace vmm {

std::uint32_t& CpuidRegs::operator[](CpuidReg reg) {
  switch (reg) {
    case CpuidReg::Eax:
      return eax;
    case CpuidReg::Ebx:
      return ebx;
    case CpuidReg::Ecx:
      return ecx;
    case CpuidReg::Edx:
      break;
  }
  return edx;
}

std::uint32_t CpuidRegs::operator[](CpuidReg reg) const {
  return const_cast<CpuidRegs&>(*this)[reg];
}

bool has_subleaves(std::uint32_t leaf) {
  switch (leaf) {
    case 0x4:
    case 0x7:
    case 0xb:
    case 0xd:
    case 0xf:
    case 0x10:
    case 0x12:
    case 0x14:
    case 0x17:
    case 0x18:
    case 0x1b:
    case 0x1d:
    case 0x1e:
    case 0x1f:
    case 0x23:
    case 0x24:
    case 0x8000001d:
    case 0x80000020:
    case 0x80000026:
      return true;
    default:
      return false;
  }
}

CpuidTable CpuidTable::from_kvm(std::span<const kvm_cpuid_entry2> entries) {
  CpuidTable table;
  for (const kvm_cpuid_entry2& e : entries) {
    const std::uint32_t subleaf = has_subleaves(e.function) ? e.index : 0;
    table.entries_.try_emplace({e.function, subleaf}, CpuidRegs{e.eax, e.ebx, e.ecx, e.edx});
  }
  return table;
}

std::vector<kvm_cpuid_entry2> CpuidTable::to_kvm() const {
  std::vector<kvm_cpuid_entry2> entries;
  for (const auto& [key, regs] : entries_) {
    kvm_cpuid_entry2 entry{};
    entry.function = key.leaf;
    entry.index = key.subleaf;
    entry.flags = has_subleaves(key.leaf) ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0;
    entry.eax = regs.eax;
    entry.ebx = regs.ebx;
    entry.ecx = regs.ecx;
    entry.edx = regs.edx;
    entries.push_back(entry);
  }
  return entries;
}

const CpuidRegs* CpuidTable::find(std::uint32_t leaf, std::uint32_t subleaf) const {
  const auto it = entries_.find({leaf, subleaf});
  return it != entries_.end() ? &it->second : nullptr;
}

CpuidRegs CpuidTable::get(std::uint32_t leaf, std::uint32_t subleaf) const {
  const CpuidRegs* regs = find(leaf, subleaf);
  return regs != nullptr ? *regs : CpuidRegs{};
}

void CpuidTable::erase(std::uint32_t leaf) {
  std::erase_if(entries_, [leaf](const auto& entry) { return entry.first.leaf == leaf; });
}

bool CpuidTable::bit(std::uint32_t leaf, std::uint32_t subleaf, CpuidReg reg,
                     unsigned index) const {
  return vmm::bit(get(leaf, subleaf)[reg], index);
}

unsigned CpuidTable::phys_bits() const {
  const CpuidRegs* regs = find(0x80000008);
  if (regs == nullptr || (regs->eax & 0xff) == 0) return 36;
  return regs->eax & 0xff;
}

std::string CpuidTable::vendor() const {
  const CpuidRegs regs = get(0);
  std::array<char, 12> text{};
  std::memcpy(text.data(), &regs.ebx, 4);
  std::memcpy(text.data() + 4, &regs.edx, 4);
  std::memcpy(text.data() + 8, &regs.ecx, 4);
  return std::string(text.data(), strnlen(text.data(), text.size()));
}

std::string CpuidTable::brand() const {
  std::array<char, 48> text{};
  for (std::uint32_t i = 0; i < 3; ++i) {
    const CpuidRegs regs = get(0x80000002 + i);
    std::memcpy(text.data() + i * 16, &regs, 16);
  }
  return std::string(trim(std::string_view(text.data(), strnlen(text.data(), text.size()))));
}

std::vector<CpuidDifference> diff(const CpuidTable& left, const CpuidTable& right) {
  CpuidTable keys = left;
  for (const auto& [key, regs] : right.entries()) keys.at(key.leaf, key.subleaf);
  std::vector<CpuidDifference> result;
  for (const auto& [key, unused] : keys.entries()) {
    const CpuidRegs a = left.get(key.leaf, key.subleaf);
    const CpuidRegs b = right.get(key.leaf, key.subleaf);
    for (const CpuidReg reg : {CpuidReg::Eax, CpuidReg::Ebx, CpuidReg::Ecx, CpuidReg::Edx})
      if (a[reg] != b[reg]) result.push_back({key, reg, a[reg], b[reg]});
  }
  return result;
}

std::string cpuid_word_name(CpuidKey key, CpuidReg reg) {
  constexpr std::array<const char*, 4> kNames = {"EAX", "EBX", "ECX", "EDX"};
  const char* name = kNames[static_cast<std::size_t>(reg)];
  return has_subleaves(key.leaf) ? fmt::format("{:X}.{:X}.{}", key.leaf, key.subleaf, name)
                                 : fmt::format("{:X}.{}", key.leaf, name);
}

}  // namespace vmm
