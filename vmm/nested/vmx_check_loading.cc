// PDPTEs and the list of MSRs that the entry loads (SDM 26.3.1.6 and 26.4), and what is left.
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "vmm/base/bytes.h"
#include "vmm/core/cpu_state.h"
#include "vmm/nested/vmx_check.h"

namespace vmm::nested {
namespace {

using enum EntryResult;
using enum Finder;
using F = VmcsField;

constexpr std::uint64_t kPdpteReserved = 0x1e6;  // bits 8:5 and 2:1
// Entries looked at, as many as IA32_VMX_MISC[27:25] = 0 recommends at most.
constexpr std::uint64_t kMostEntries = 512;

constexpr std::array kPdptes = {F::GuestPdpte0, F::GuestPdpte1, F::GuestPdpte2, F::GuestPdpte3};

void pdptes_in_vmcs(VmxCheck& c) {
  if (!c.pae_paging() || !c.secondary(kEnableEpt)) return;
  const std::optional<unsigned> width = c.phys_bits();
  if (!width) return;
  for (const F field : kPdptes)
    if (c.has(field, 0))
      c.no_bits(field, kPdpteReserved | ~low_mask(c.entry.cpuid->phys_bits()),
                "reserved in a PDPTE that is present");
}

void pdptes_in_memory(VmxCheck& c) {
  if (!c.pae_paging() || c.secondary(kEnableEpt)) return;
  const std::optional<unsigned> width = c.phys_bits();
  if (!width) return;
  if (c.entry.memory == nullptr) return c.findings.unknown("the PDPTEs are not known: no memory");
  const std::uint64_t table = c.get(F::GuestCr3) & 0xffffffe0;
  for (unsigned i = 0; i < 4; ++i) {
    const auto entry = c.entry.memory->read_value<std::uint64_t>(table + i * 8ull);
    if (!entry) return c.findings.unknown(fmt::format("{:X}h is not RAM", table));
    const std::uint64_t bad = kPdpteReserved | ~low_mask(c.entry.cpuid->phys_bits());
    if (bit(*entry, 0) && (*entry & bad) != 0)
      c.findings
          .violate(fmt::format("PDPTE[{}] at {:X}h", i, table + i * 8ull), *entry, 16,
                   "reserved bits 0", "\"enable EPT\" is 0, so CR3 names the PDPTEs")
          .bits = *entry & bad;
  }
}

// One entry of the list.
struct MsrEntry {
  std::uint64_t number;  // from 1 on, as the exit qualification says it
  std::uint64_t index;   // all 64 bits of the first half
  std::uint64_t value;
  std::uint32_t msr() const { return static_cast<std::uint32_t>(index); }
};

template <typename Check>
void each_entry(VmxCheck& c, Check check) {
  const std::uint64_t count = c.get(F::VmEntryMsrLoadCount);
  if (count == 0) return;
  if (c.entry.memory == nullptr)
    return c.findings.unknown("the entry MSR-load list is not known: no memory");
  const std::uint64_t list = c.get(F::VmEntryMsrLoadAddress);
  for (std::uint64_t i = 0; i < std::min(count, kMostEntries); ++i) {
    std::array<std::uint8_t, 16> raw{};
    if (!c.entry.memory->read(list + i * 16, raw))
      return c.findings.unknown(fmt::format("{:X}h is not RAM", list + i * 16));
    check(MsrEntry{i + 1, load<std::uint64_t>(raw), load<std::uint64_t>(raw, 8)});
  }
  if (count > kMostEntries)
    c.findings.unknown(fmt::format("entries past {} are not looked at", kMostEntries));
}

Violation& wrong_entry(VmxCheck& c, const MsrEntry& entry, std::string allowed,
                       std::string why = {}) {
  return c.findings.violate(
      fmt::format("entry {} of the MSR-load list, MSR {:X}h", entry.number, entry.msr()),
      entry.value, 16, std::move(allowed), std::move(why));
}

// MSRs that no list may load (SDM 26.4): each has a rule of its own.
bool is_segment_base(std::uint32_t msr) { return msr == 0xc0000100 || msr == 0xc0000101; }
bool is_x2apic_register(std::uint32_t msr) { return msr >= 0x800 && msr <= 0x8ff; }
bool is_microcode_or_smm(std::uint32_t msr) {
  return msr == 0x79 || msr == 0x8b || msr == 0x9b || msr == 0x9e;
}

// MSRs that hold an address and refuse one that is not canonical.
bool holds_address(std::uint32_t msr) {
  switch (msr) {
    case 0x175:       // IA32_SYSENTER_ESP
    case 0x176:       // IA32_SYSENTER_EIP
    case 0xc0000082:  // IA32_LSTAR
    case 0xc0000083:  // IA32_CSTAR
    case 0xc0000102:  // IA32_KERNEL_GS_BASE
      return true;
    default:
      return false;
  }
}

// MSRs that take any value: STAR, and the low half alone of SYSENTER_CS.
bool takes_all(std::uint32_t msr) {
  return msr == 0xc0000081 || msr == 0x174 || msr == 0x10 || msr == 0xc0000103;
}

bool is_pat(std::uint64_t value) {
  for (unsigned i = 0; i < 8; ++i, value >>= 8) {
    const std::uint64_t type = value & 0xff;
    if (type > 7 || type == 2 || type == 3) return false;
  }
  return true;
}

// As WRMSR in ring 0 would take it; of MSRs that are not known here nothing is said.
void writable_value(VmxCheck& c, const MsrEntry& entry) {
  const std::uint32_t msr = entry.msr();
  if (holds_address(msr)) {
    if (!c.is_canonical(entry.value)) wrong_entry(c, entry, "a canonical address");
  } else if (msr == 0x277) {
    if (!is_pat(entry.value)) wrong_entry(c, entry, "0, 1, 4, 5, 6 or 7 in each byte");
  } else if (msr == 0xc0000080) {
    const std::uint64_t known = spec::EFER_SCE | spec::EFER_LME | spec::EFER_LMA | spec::EFER_NXE;
    if ((entry.value & ~known) != 0)
      wrong_entry(c, entry, "reserved bits of IA32_EFER 0").bits = entry.value & ~known;
  } else if (msr == 0xc0000084) {
    if ((entry.value >> 32) != 0) wrong_entry(c, entry, "bits 63:32 of IA32_FMASK 0");
  } else if (msr >= kMsrVmxBasic && msr <= 0x493) {
    wrong_entry(c, entry, "an MSR that can be written", "VMX capabilities are read-only");
  } else if (!takes_all(msr)) {
    c.findings.unknown(fmt::format("what MSR {:X}h takes is not known here", msr));
  }
}

constexpr CheckedRule<VmxCheck> kRules[] = {
    {{"I212", "26.3.1.6", "GUEST_PDPTE0-3", "must have reserved bits clear in PAE paging with EPT",
      Exit33Pdpte, KvmNamed},
     pdptes_in_vmcs},
    {{"I213", "26.3.1.6", "PDPTEs of GUEST_CR3",
      "must have reserved bits clear in PAE paging without EPT", Exit33Pdpte, KvmNamed},
     pdptes_in_memory},
    {{"I214", "26.4", "entry MSR list", "must not name FS_BASE or GS_BASE", Exit34, KvmNamed},
     [](VmxCheck& c) {
       each_entry(c, [&](const MsrEntry& e) {
         if (is_segment_base(e.msr()))
           wrong_entry(c, e, "another MSR", "the fields of the VMCS hold the bases of FS and GS");
       });
     }},
    {{"I215", "26.4", "entry MSR list", "must not name an x2APIC register", Exit34, KvmNamed},
     [](VmxCheck& c) {
       each_entry(c, [&](const MsrEntry& e) {
         if (is_x2apic_register(e.msr())) wrong_entry(c, e, "an MSR outside 800h-8FFh");
       });
     }},
    {{"I216", "26.4", "entry MSR list", "must have bits 63:32 of each entry clear", Exit34,
      KvmNamed},
     [](VmxCheck& c) {
       each_entry(c, [&](const MsrEntry& e) {
         if ((e.index >> 32) != 0)
           c.findings.violate(fmt::format("entry {} of the MSR-load list, its index", e.number),
                              e.index, 16, "bits 63:32 = 0");
       });
     }},
    {{"I217", "26.4", "entry MSR list", "must not name an MSR that no list may load", Exit34,
      KvmNamed},
     [](VmxCheck& c) {
       each_entry(c, [&](const MsrEntry& e) {
         if (is_microcode_or_smm(e.msr()))
           wrong_entry(c, e, "another MSR", "microcode and SMM cannot be loaded by a VM entry");
       });
     }},
    {{"I218", "26.4", "entry MSR list", "must hold values that WRMSR would take", Exit34, KvmNamed},
     [](VmxCheck& c) {
       each_entry(c, [&](const MsrEntry& e) {
         if (!is_segment_base(e.msr()) && !is_x2apic_register(e.msr()) &&
             !is_microcode_or_smm(e.msr()))
           writable_value(c, e);
       });
     }},
    {{"I219", "26.8", "machine check", "must not happen during the entry", Exit41, Processor},
     nullptr,
     "nothing in a VMCS tells"},
};

}  // namespace

std::span<const CheckedRule<VmxCheck>> vmx_loading_rules() { return kRules; }

}  // namespace vmm::nested
