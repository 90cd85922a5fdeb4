#include "vmm/nested/vmx_check.h"

#include <fmt/format.h>

#include "vmm/base/bytes.h"
#include "vmm/core/cpu_state.h"

namespace vmm::nested {
namespace {

constexpr std::uint64_t kLamBits = 3ull << 61;  // CR3.LAM_U57 and LAM_U48

}  // namespace

CheckReport check_vm_entry(const VmxEntry& entry) {
  VmxCheck check(entry);
  for (const auto rules :
       {vmx_instruction_rules(), vmx_execution_rules(), vmx_exit_and_entry_rules(),
        vmx_host_rules(), vmx_guest_register_rules(), vmx_guest_segment_rules(),
        vmx_guest_pointer_rules(), vmx_guest_state_rules(), vmx_loading_rules()})
    run_rules(rules, check);
  return check.findings.take();
}

std::optional<unsigned> VmxCheck::injected_type() const {
  const std::uint64_t info = get(VmcsField::VmEntryIntrInfo);
  if (!bit(info, 31)) return std::nullopt;
  return static_cast<unsigned>(bits(info, 10, 8));
}

unsigned VmxCheck::injected_vector() const {
  return static_cast<unsigned>(bits(get(VmcsField::VmEntryIntrInfo), 7, 0));
}

bool VmxCheck::v8086() const { return (get(VmcsField::GuestRflags) & spec::RFLAGS_VM) != 0; }

bool VmxCheck::pae_paging() const {
  return (get(VmcsField::GuestCr0) & spec::CR0_PG) != 0 &&
         (get(VmcsField::GuestCr4) & spec::CR4_PAE) != 0 && !ia32e_guest();
}

Violation& VmxCheck::violate(VmcsField field, std::string allowed, std::string why) {
  return findings.violate(vmcs_field_text(field), get(field), vmcs_field(field).bytes * 2u,
                          std::move(allowed), std::move(why));
}

void VmxCheck::no_bits(VmcsField field, std::uint64_t bad, const std::string& why) {
  const std::uint64_t found = get(field) & bad;
  if (found != 0) violate(field, bits_text(found) + " = 0", why).bits = found;
}

std::optional<std::uint64_t> VmxCheck::capability(std::uint32_t msr) {
  const std::optional<std::uint64_t> value = entry.capabilities.get(msr);
  if (!value) findings.unknown(fmt::format("{} is not known", vmx_msr_text(msr)));
  return value;
}

std::optional<unsigned> VmxCheck::phys_bits() {
  if (entry.cpuid == nullptr) {
    findings.unknown("MAXPHYADDR is not known: no CPUID");
    return std::nullopt;
  }
  if (bit(entry.capabilities.get(kMsrVmxBasic).value_or(0), 48)) return 32;
  return entry.cpuid->phys_bits();
}

std::optional<bool> VmxCheck::cpuid_bit(std::uint32_t leaf, std::uint32_t subleaf, CpuidReg reg,
                                        unsigned index) {
  if (entry.cpuid == nullptr) {
    findings.unknown(
        fmt::format("{}[{}] is not known: no CPUID", cpuid_word_name({leaf, subleaf}, reg), index));
    return std::nullopt;
  }
  return entry.cpuid->bit(leaf, subleaf, reg, index);
}

void VmxCheck::allowed_settings(VmcsField field) {
  const std::optional<std::uint32_t> msr = entry.capabilities.msr_of(field);
  if (!msr) return;
  const std::optional<std::uint64_t> value = capability(*msr);
  if (!value) return;
  const std::uint64_t controls = get(field);
  const std::uint64_t must = *value & low_mask(32), may = *value >> 32;
  for (unsigned i = 0; i < 32; ++i) {
    const bool set = bit(controls, i);
    if (set ? bit(may, i) : !bit(must, i)) continue;
    const std::string_view name = control_name(field, i);
    const std::string control = name.empty() ? "reserved" : fmt::format("\"{}\"", name);
    Violation& broken =
        violate(field, fmt::format("bit {} ({}) = {}", i, control, set ? 0 : 1),
                set ? fmt::format("{}[{}], its allowed-1 setting, is 0", vmx_msr_text(*msr), i + 32)
                    : fmt::format("{}[{}], its allowed-0 setting, is 1", vmx_msr_text(*msr), i));
    broken.bits = 1ull << i;
    broken.msr = msr;
    broken.msr_bit = set ? i + 32 : i;
  }
}

void VmxCheck::fixed_bits(VmcsField field, std::uint32_t fixed0, std::uint32_t fixed1,
                          std::uint64_t exempt) {
  const std::optional<std::uint64_t> ones = capability(fixed0), zeros = capability(fixed1);
  if (!ones || !zeros) return;
  const std::uint64_t value = get(field);
  const std::uint64_t missing = *ones & ~value & ~exempt;
  if (missing != 0)
    violate(field, bits_text(missing) + " = 1",
            fmt::format("fixed to 1 in {}: {:X}h", vmx_msr_text(fixed0), *ones))
        .bits = missing;
  const std::uint64_t extra = value & ~*zeros & ~exempt;
  if (extra != 0)
    violate(field, bits_text(extra) + " = 0",
            fmt::format("not allowed in {}: {:X}h", vmx_msr_text(fixed1), *zeros))
        .bits = extra;
}

void VmxCheck::within(VmcsField field, std::uint64_t value, unsigned width) {
  const std::uint64_t beyond = value & ~low_mask(width);
  if (beyond != 0)
    violate(field, fmt::format("bits 63:{} = 0", width),
            fmt::format("MAXPHYADDR is {} (CPUID 80000008h.EAX[7:0])", width))
        .bits = beyond;
}

void VmxCheck::within_phys_bits(VmcsField field) {
  if (const std::optional<unsigned> width = phys_bits()) within(field, get(field), *width);
}

void VmxCheck::physical(VmcsField field, std::uint64_t alignment) {
  const std::uint64_t value = get(field);
  if ((value & (alignment - 1)) != 0)
    violate(field, fmt::format("a multiple of {}", alignment)).bits = value & (alignment - 1);
  within_phys_bits(field);
}

bool VmxCheck::is_canonical(std::uint64_t address) {
  // Without CPUID: canonical for every processor there is.
  const bool la57 = entry.cpuid != nullptr && entry.cpuid->bit(7, 0, CpuidReg::Ecx, 16);
  const unsigned shift = la57 ? 64 - 57 : 64 - 48;
  return static_cast<std::uint64_t>(static_cast<std::int64_t>(address << shift) >> shift) ==
         address;
}

void VmxCheck::canonical(VmcsField field, unsigned low) {
  if (!is_canonical(get(field) & ~low_mask(low))) violate(field, "a canonical address");
}

void VmxCheck::pat(VmcsField field) {
  const std::uint64_t value = get(field);
  for (unsigned entry_number = 0; entry_number < 8; ++entry_number) {
    const std::uint64_t type = bits(value, entry_number * 8 + 7, entry_number * 8);
    if (type <= 7 && type != 2 && type != 3) continue;
    violate(field, "0, 1, 4, 5, 6 or 7 in each byte",
            fmt::format("PA{} is {:X}h", entry_number, type));
    return;
  }
}

void VmxCheck::efer_reserved(VmcsField field) {
  std::uint64_t known = spec::EFER_SCE | spec::EFER_LME | spec::EFER_LMA | spec::EFER_NXE;
  const std::optional<bool> nx = cpuid_bit(0x80000001, 0, CpuidReg::Edx, 20);
  if (!nx) return;
  if (!*nx) known &= ~spec::EFER_NXE;
  no_bits(field, ~known, "reserved");
}

void VmxCheck::perf_global_reserved(VmcsField field) {
  if (entry.cpuid == nullptr) return findings.unknown("the counters are not known: no CPUID");
  const CpuidRegs pmu = entry.cpuid->get(0xa);
  const bool there = (pmu.eax & 0xff) >= 1;
  const auto general = there ? static_cast<unsigned>(bits(pmu.eax, 15, 8)) : 0;
  // CPUID.0AH:EDX counts the fixed counters from architectural version 2 on.
  const unsigned fixed = (pmu.eax & 0xff) >= 2 ? pmu.edx & 0x1f : 0;
  no_bits(field, ~(low_mask(std::min(general, 32u)) | low_mask(fixed) << 32),
          fmt::format("CPUID 0Ah has {} general and {} fixed counters", general, fixed));
}

void VmxCheck::s_cet(VmcsField field) {
  const std::uint64_t value = get(field);
  no_bits(field, 0xfull << 6, "reserved");
  if (bit(value, 10) && bit(value, 11)) violate(field, "SUPPRESS (10) and TRACKER (11) not both 1");
  canonical(field, 12);
}

void VmxCheck::cr3(VmcsField field) {
  const std::uint64_t lam =
      entry.cpuid != nullptr && entry.cpuid->bit(7, 1, CpuidReg::Eax, 26) ? kLamBits : 0;
  // CR3 is no physical address of the VMCS: IA32_VMX_BASIC[48] does not confine it.
  if (phys_bits()) within(field, get(field) & ~lam, entry.cpuid->phys_bits());
}

}  // namespace vmm::nested
