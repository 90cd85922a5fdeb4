#include "vmm/cpu/guest_text.h"

#include <fmt/format.h>

#include <algorithm>

#include "vmm/base/sha256.h"
#include "vmm/cpu/features.h"
#include "vmm/cpu/vmx.h"
#include "vmm/cpu/words.h"

namespace vmm {
namespace {

// Whether a guest that goes by the limits in `table` reads the leaf.
bool within_limits(const CpuidTable& table, std::uint32_t leaf) {
  const std::uint32_t first = leaf & 0xf0000000;
  const CpuidRegs* limit = table.find(first);
  return limit != nullptr && leaf <= limit->eax;
}

}  // namespace

CpuidTable without_runtime_bits(const CpuidTable& table) {
  CpuidTable result = table;
  for (const auto& [key, unused] : table.entries()) {
    CpuidRegs& regs = result.at(key.leaf, key.subleaf);
    if (key.leaf == 1) {
      regs.ecx &= ~(1U << 27);  // OSXSAVE follows CR4
      regs.edx &= ~(1U << 9);   // APIC follows IA32_APIC_BASE
    } else if (key == CpuidKey{7, 0}) {
      regs.ecx &= ~(1U << 4);  // OSPKE follows CR4
    } else if (key == CpuidKey{0xd, 0} || key == CpuidKey{0xd, 1}) {
      regs.ebx = 0;  // sizes for the XCR0, and IA32_XSS, of the moment
    }
  }
  return result;
}

std::vector<CpuidDifference> unexpected_differences(const CpuidTable& set, const CpuidTable& read) {
  return diff(without_runtime_bits(set), without_runtime_bits(read));
}

std::vector<std::uint32_t> telling_msrs(const CpuidTable& cpuid) {
  std::vector<std::uint32_t> msrs = {kMicrocodeRevision, kPlatformInfo};
  for (const std::uint32_t index : {0xcfU, 0x10aU, 0x345U})
    if (has_feature(cpuid, FeatureCatalog::get(*announced_by(index)).name)) msrs.push_back(index);
  if (has_feature(cpuid, "vmx")) {
    msrs.push_back(kFeatureControl);
    // 481h to 484h and the two CR_FIXED1 are made of the others and of CPUID.
    for (std::uint32_t index = kVmxBasic; index <= kVmxLast; ++index)
      if (is_vmx_choice(index)) msrs.push_back(index);
  }
  std::ranges::sort(msrs);
  return msrs;
}

std::string guest_text(const CpuidTable& cpuid,
                       const std::map<std::uint32_t, std::uint64_t>& msrs) {
  // An absent leaf and one of zeroes look the same to a guest.
  std::string text;
  const CpuidTable lasting = without_runtime_bits(cpuid);
  for (const auto& [key, r] : lasting.entries())
    if (r != CpuidRegs{} && within_limits(lasting, key.leaf))
      text += fmt::format("{:08x}.{:02x}={:08x} {:08x} {:08x} {:08x}\n", key.leaf, key.subleaf,
                          r.eax, r.ebx, r.ecx, r.edx);
  for (const std::uint32_t index : telling_msrs(cpuid))
    if (const auto at = msrs.find(index); at != msrs.end())
      text += fmt::format("msr.{:08x}={:016x}\n", index, without_fixed_by_kvm(index, at->second));
  return text;
}

std::string guest_digest(const CpuidTable& cpuid,
                         const std::map<std::uint32_t, std::uint64_t>& msrs) {
  return sha256_hex(guest_text(cpuid, msrs));
}

}  // namespace vmm
