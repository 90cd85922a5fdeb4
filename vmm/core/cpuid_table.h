// A CPUID as a value: leaf and subleaf to four registers, sorted.
#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "vmm/core/uapi.h"

namespace vmm {

struct CpuidKey {
  std::uint32_t leaf = 0;
  std::uint32_t subleaf = 0;
  // clang-tidy 14 takes the comparison with 0 in what the compiler writes here for a null pointer.
  auto operator<=>(const CpuidKey&) const = default;  // NOLINT(modernize-use-nullptr)
};

enum class CpuidReg : std::uint8_t { Eax, Ebx, Ecx, Edx };

struct CpuidRegs {
  std::uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
  bool operator==(const CpuidRegs&) const = default;
  std::uint32_t& operator[](CpuidReg reg);
  std::uint32_t operator[](CpuidReg reg) const;
};

// One difference between two tables.
struct CpuidDifference {
  CpuidKey key;
  CpuidReg reg;
  std::uint32_t left;
  std::uint32_t right;
};

class CpuidTable {
 public:
  // From KVM's entries; a repeated key keeps the first.
  static CpuidTable from_kvm(std::span<const kvm_cpuid_entry2> entries);
  // For KVM_SET_CPUID2: SIGNIFCANT_INDEX is set for leaves whose subleaf counts.
  std::vector<kvm_cpuid_entry2> to_kvm() const;

  const CpuidRegs* find(std::uint32_t leaf, std::uint32_t subleaf = 0) const;
  // The registers, all zero where the leaf is absent.
  CpuidRegs get(std::uint32_t leaf, std::uint32_t subleaf = 0) const;
  CpuidRegs& at(std::uint32_t leaf, std::uint32_t subleaf = 0) { return entries_[{leaf, subleaf}]; }
  void erase(std::uint32_t leaf);  // with all its subleaves
  bool bit(std::uint32_t leaf, std::uint32_t subleaf, CpuidReg reg, unsigned index) const;

  const std::map<CpuidKey, CpuidRegs>& entries() const { return entries_; }
  bool operator==(const CpuidTable&) const = default;

  // Physical address width, 80000008h.EAX[7:0]; 36 where the leaf is absent (SDM 4.1.4).
  unsigned phys_bits() const;
  // "GenuineIntel" and the like from leaf 0.
  std::string vendor() const;
  // Leaves 80000002h-4 as text, trimmed.
  std::string brand() const;

 private:
  std::map<CpuidKey, CpuidRegs> entries_;
};

// True for leaves whose subleaves are different tables (4, 7, Bh, Dh, ...).
bool has_subleaves(std::uint32_t leaf);
// Registers that differ, an absent leaf counting as zeroes.
std::vector<CpuidDifference> diff(const CpuidTable& left, const CpuidTable& right);
// "7.0.EBX", "80000001.EDX", as the manuals write it.
std::string cpuid_word_name(CpuidKey key, CpuidReg reg);

}  // namespace vmm
