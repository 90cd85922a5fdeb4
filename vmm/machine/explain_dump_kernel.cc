// Fragments of a host kernel's log, and words of VMX capability MSRs.
#include <fmt/format.h>

#include <algorithm>

#include "vmm/base/bytes.h"
#include "vmm/base/text.h"
#include "vmm/machine/explain_dump_parts.h"

namespace vmm::dump {
namespace {

struct NamedMsr {
  std::uint32_t index;
  std::string_view name;
};
// The ones that unknown-MSR messages are about, as a rule.
constexpr NamedMsr kMsrs[] = {{0x10, "IA32_TIME_STAMP_COUNTER"},
                              {0x17, "IA32_PLATFORM_ID"},
                              {0x1b, "IA32_APIC_BASE"},
                              {0x34, "MSR_SMI_COUNT"},
                              {0x35, "MSR_CORE_THREAD_COUNT"},
                              {0x3a, "IA32_FEATURE_CONTROL"},
                              {0x48, "IA32_SPEC_CTRL"},
                              {0x8b, "IA32_BIOS_SIGN_ID"},
                              {0xce, "MSR_PLATFORM_INFO"},
                              {0xe2, "MSR_PKG_CST_CONFIG_CONTROL"},
                              {0x10a, "IA32_ARCH_CAPABILITIES"},
                              {0x122, "IA32_TSX_CTRL"},
                              {0x13c, "MSR_FEATURE_CONFIG"},
                              {0x140, "MSR_MISC_FEATURES_ENABLES"},
                              {0x17f, "MSR_ERROR_CONTROL"},
                              {0x198, "IA32_PERF_STATUS"},
                              {0x19c, "IA32_THERM_STATUS"},
                              {0x1a0, "IA32_MISC_ENABLE"},
                              {0x1a2, "MSR_TEMPERATURE_TARGET"},
                              {0x1ad, "MSR_TURBO_RATIO_LIMIT"},
                              {0x1d9, "IA32_DEBUGCTL"},
                              {0x345, "IA32_PERF_CAPABILITIES"},
                              {0x480, "IA32_VMX_BASIC"},
                              {0x48b, "IA32_VMX_PROCBASED_CTLS2"},
                              {0x606, "MSR_RAPL_POWER_UNIT"},
                              {0x611, "MSR_PKG_ENERGY_STATUS"},
                              {0x619, "MSR_DRAM_ENERGY_STATUS"},
                              {0x639, "MSR_PP0_ENERGY_STATUS"},
                              {0x6e0, "IA32_TSC_DEADLINE"},
                              {0x770, "IA32_PM_ENABLE"},
                              {0xda0, "IA32_XSS"},
                              {0xc0010010, "SYSCFG"},
                              {0xc0010015, "HWCR"},
                              {0xc001001f, "NB_CFG"},
                              {0xc0010114, "VM_CR"},
                              {0xc0010117, "VM_HSAVE_PA"},
                              {0xc0011020, "LS_CFG"},
                              {0xc0011022, "DC_CFG"},
                              {0xc0011029, "DE_CFG"},
                              {0xc001102a, "BU_CFG2"}};

std::string msr_name(std::uint32_t index) {
  for (const NamedMsr& msr : kMsrs)
    if (msr.index == index) return fmt::format("{:x}h ({})", index, msr.name);
  return fmt::format("{:x}h", index);
}

// Secondary processor-based VM-execution controls (SDM vol. 3C table 25-7).
constexpr std::array<std::string_view, 32> kCtls2 = {"virtualize APIC accesses",
                                                     "enable EPT",
                                                     "descriptor-table exiting",
                                                     "enable RDTSCP",
                                                     "virtualize x2APIC mode",
                                                     "enable VPID",
                                                     "WBINVD exiting",
                                                     "unrestricted guest",
                                                     "APIC-register virtualization",
                                                     "virtual-interrupt delivery",
                                                     "PAUSE-loop exiting",
                                                     "RDRAND exiting",
                                                     "enable INVPCID",
                                                     "enable VM functions",
                                                     "VMCS shadowing",
                                                     "enable ENCLS exiting",
                                                     "RDSEED exiting",
                                                     "enable PML",
                                                     "EPT-violation #VE",
                                                     "conceal VMX from PT",
                                                     "enable XSAVES/XRSTORS",
                                                     "PASID translation",
                                                     "mode-based execute control for EPT",
                                                     "sub-page write permissions for EPT",
                                                     "Intel PT uses guest physical addresses",
                                                     "use TSC scaling",
                                                     "enable user wait and pause",
                                                     "enable PCONFIG",
                                                     "enable ENCLV exiting",
                                                     "",
                                                     "VMM bus-lock detection",
                                                     "instruction timeout"};
constexpr unsigned kXsaves = 20;

}  // namespace

CrashCard plain_card(std::string rule, std::string cause, std::string layer,
                     const std::vector<std::pair<std::string, std::string>>& rows) {
  CrashCard card;
  card.rule = std::move(rule);
  card.cause = std::move(cause);
  card.layer = std::move(layer);
  const auto put = [&](std::string line) {
    constexpr std::size_t kColumns = 120;
    while (line.size() > kColumns && card.lines.size() < kMaxCardLines) {
      std::size_t cut = line.rfind(' ', kColumns);
      if (cut == std::string::npos || cut < 40) cut = kColumns;
      card.lines.push_back(line.substr(0, cut));
      line = fmt::format("            {}", trim(std::string_view(line).substr(cut)));
    }
    if (card.lines.size() < kMaxCardLines) card.lines.push_back(std::move(line));
  };
  put(card.cause);
  for (const auto& [label, text] : rows) put(fmt::format("  {:<8}{}", label, text));
  return card;
}

bool KernelReader::feed(std::string_view line, std::size_t number) {
  if (feed_vmcs(line, number)) return true;
  for (const std::string_view verb : {"rdmsr: ", "wrmsr: "}) {
    const std::size_t at = line.find(verb);
    if (at == std::string_view::npos || line.find("kvm") == std::string_view::npos) continue;
    std::string_view rest = line.substr(at + verb.size());
    const auto index = take_hex(rest);
    if (!index) continue;
    const bool write = verb[0] == 'w';
    const auto value = write ? hex_after(rest, "data ") : std::nullopt;
    for (Msr& known : msrs_) {
      if (known.index != static_cast<std::uint32_t>(*index) || known.write != write) continue;
      ++known.count;
      return true;
    }
    if (msrs_.size() < kMaxThings)
      msrs_.push_back({number, static_cast<std::uint32_t>(*index), write, value.value_or(0),
                       hex_after(line, "guest rIP"), 1});
    return true;
  }
  const bool misconfig = line.find("EPT misconfiguration") != std::string_view::npos ||
                         line.find("EPT: Misconfiguration") != std::string_view::npos;
  if (misconfig && cards_.size() < kMaxThings) {
    const auto gpa = hex_after(line, "gpa") ? hex_after(line, "gpa") : hex_after(line, "GPA");
    cards_.push_back(
        {number,
         plain_card("ept-misconfiguration",
                    fmt::format("the host's KVM met an EPT entry that it did not write as such{}: "
                                "a fault of the host",
                                gpa ? fmt::format(" for GPA {:x}h", *gpa) : ""),
                    "host",
                    {{"note",
                      "the entries are KVM's own, so no guest can write them: memory "
                      "corruption, a KVM bug, or a nested hypervisor whose EPT "
                      "breaks a rule (W without R, memory type 2, 3 or 7)"},
                     {"try",
                      "the host's dmesg around this line; another kernel; for a nested "
                      "guest, check the EPT that L1 built"}})});
    return true;
  }
  return misconfig;
}

bool KernelReader::feed_vmcs(std::string_view line, std::size_t number) {
  if (line.find("*** Guest State ***") != std::string_view::npos) {
    if (vmcs_) return true;  // one is enough: they come in floods
    vmcs_.emplace();
    vmcs_line_ = number;
    vmcs_->vcpus.resize(1);
    vmcs_->memory_is_partial = true;
    vmcs_->kvm_backend = "vmx";
    vmcs_->outcome = ending::EntryFailure{0, 0x80000021, 0};
    return true;
  }
  if (!vmcs_) return false;
  CpuState& cpu = vmcs_->vcpus[0];
  kvm_sregs& s = cpu.sregs;
  bool any = false;
  const auto take = [&](std::string_view key, auto& slot) {
    if (const auto value = hex_after(line, key)) {
      slot = *value;
      any = true;
    }
  };
  take("CR0: actual=", s.cr0);
  take("CR4: actual=", s.cr4);
  if (line.find("Sysenter") == std::string_view::npos) {
    take("CR3 =", s.cr3);
    take("RIP =", cpu.regs.rip);
    take("RSP =", cpu.regs.rsp);
  }
  take("RFLAGS=", cpu.regs.rflags);
  if (line.find("EFER") != std::string_view::npos && s.efer == 0) take("EFER", s.efer);
  if (const auto info = hex_after(line, "VMEntry: intr_info=")) {
    any = true;
    if (bit(*info, 31) && bits(*info, 10, 8) == 0) {
      cpu.events.interrupt.injected = 1;
      cpu.events.interrupt.nr = static_cast<std::uint8_t>(*info & 0xff);
    }
  }
  if (const auto reason = hex_after(line, " reason="); reason && line.find("qualification")) {
    any = true;
    std::get<ending::EntryFailure>(vmcs_->outcome).reason = *reason;
  }
  const std::size_t attr = line.find("attr=0x");
  const std::size_t colon = line.find(":   ");
  if (attr != std::string_view::npos && colon != std::string_view::npos && colon >= 2) {
    const std::pair<std::string_view, kvm_segment*> kSegments[] = {
        {"CS", &s.cs}, {"DS", &s.ds}, {"SS", &s.ss}, {"ES", &s.es},
        {"FS", &s.fs}, {"GS", &s.gs}, {"TR", &s.tr}};
    const std::string_view name = line.substr(colon - 2, 2);
    for (const auto& [key, segment] : kSegments) {
      if (key != name) continue;
      const std::uint64_t ar = hex_after(line, "attr=").value_or(0);
      segment->selector = static_cast<std::uint16_t>(hex_after(line, "sel=").value_or(0));
      segment->limit = static_cast<std::uint32_t>(hex_after(line, "limit=").value_or(0));
      segment->base = hex_after(line, "base=").value_or(0);
      segment->type = static_cast<std::uint8_t>(bits(ar, 3, 0));
      segment->s = bit(ar, 4);
      segment->dpl = static_cast<std::uint8_t>(bits(ar, 6, 5));
      segment->present = bit(ar, 7);
      segment->l = bit(ar, 13);
      segment->db = bit(ar, 14);
      segment->g = bit(ar, 15);
      segment->unusable = bit(ar, 16);
      any = true;
    }
  }
  return any;
}

std::vector<PlacedCard> KernelReader::finish() {
  for (const Msr& msr : msrs_) {
    const std::string place = msr.rip ? fmt::format(" at RIP {:x}h", *msr.rip) : "";
    cards_.push_back(
        {msr.line,
         plain_card("unknown-msr",
                    fmt::format("the guest {} MSR {}{}, which this host's KVM does not know",
                                msr.write ? "wrote" : "read", msr_name(msr.index), place),
                    "guest",
                    {{"note", fmt::format("{}: #GP(0) in the guest, or {} with kvm.ignore_msrs=1",
                                          msr.count == 1 ? "one message"
                                                         : fmt::format("{} messages", msr.count),
                                          msr.write ? "the write is dropped" : "it reads as 0")},
                     {"try",
                      "let the guest ask CPUID (vendor, family, feature bits) before it touches a "
                      "model-specific register, or handle the #GP"}})});
  }
  if (vmcs_) cards_.push_back({vmcs_line_, explain(*vmcs_)});
  return std::move(cards_);
}

bool CapabilityReader::feed(std::string_view line, std::size_t number) {
  constexpr std::size_t kNear = 4;  // lines between the name and its words
  const bool names = line.find("PROCBASED_CTLS2") != std::string_view::npos;
  if (names) {
    if (!mentioned_) line_ = number;
    mentioned_ = true;
    last_mention_ = number;
  }
  if (!mentioned_ || number - last_mention_ > kNear || words_.size() >= 8) return names;
  bool any = names;
  for (std::size_t at = 0; at < line.size();) {
    const char c = line[at];
    const bool boundary =
        at == 0 ||
        !(std::isalnum(static_cast<unsigned char>(line[at - 1])) != 0 || line[at - 1] == '_');
    if (!boundary || std::isxdigit(static_cast<unsigned char>(c)) == 0) {
      ++at;
      continue;
    }
    std::string_view rest = line.substr(at);
    const std::size_t before = rest.size();
    const auto word = take_hex(rest);
    const std::size_t used = before - rest.size();
    const bool ends =
        rest.empty() || std::isalnum(static_cast<unsigned char>(rest[0])) == 0 || rest[0] == 'h';
    // The allowed-1 bits stand in the high half; the low half (allowed-0) is 0 on all processors.
    if (word && ends && *word >> 32 != 0 && (*word & 0xffffffff) == 0 && words_.size() < 8) {
      words_.push_back(*word);
      any = true;
    }
    at += std::max<std::size_t>(used, 1);
  }
  return any;
}

std::optional<PlacedCard> CapabilityReader::finish() {
  if (words_.empty()) return std::nullopt;
  const std::uint64_t first = words_.front() >> 32;
  std::vector<std::pair<std::string, std::string>> rows;
  const auto name_of = [](unsigned index) {
    return kCtls2[index].empty() ? fmt::format("bit {}", index)
                                 : fmt::format("{} (bit {})", kCtls2[index], index);
  };
  rows.emplace_back("word", fmt::format("{:x}h: the high half, {:x}h, has the controls that may be "
                                        "1",
                                        words_.front(), first));
  if (first == 0x378ef) {
    rows.emplace_back("model",
                      "the word of QEMU's Skylake-Client v1 to v3; v4 has 1378efh, with bit 20");
  } else if (first == 0x1378ef) {
    rows.emplace_back("model", "the word of QEMU's Skylake-Client v4, with bit 20");
  }
  for (std::size_t i = 1; i < words_.size(); ++i) {
    const std::uint64_t missing = (words_[i] >> 32) & ~first;
    std::string list;
    for (unsigned b = 0; b < 32; ++b)
      if (bit(missing, b)) list += fmt::format("{}{}", list.empty() ? "" : ", ", name_of(b));
    rows.emplace_back("missing",
                      fmt::format("against {:x}h: {}", words_[i], list.empty() ? "nothing" : list));
  }
  const bool has_xsaves = bit(first, kXsaves);
  if (!has_xsaves) {
    rows.emplace_back("note",
                      "a hypervisor that sees this word cannot let its guest run XSAVES: while its "
                      "guest sees CPUID Dh.1.EAX[3] = 1, the first XSAVES there is #UD");
    rows.emplace_back("try",
                      first == 0x378ef
                          ? "-cpu Skylake-Client-v4 or later (QEMU), or "
                            "vmx-xsaves=on with the version in use"
                          : "a CPU model with the control, or hide XSAVES (CPUID Dh.1.EAX[3]) "
                            "from the inner guest");
  }
  return PlacedCard{
      line_,
      plain_card(has_xsaves ? "vmx-capability-word" : "vmx-lacks-xsaves-control",
                 has_xsaves ? "IA32_VMX_PROCBASED_CTLS2 (48Bh) allows \"enable XSAVES/XRSTORS\""
                            : "IA32_VMX_PROCBASED_CTLS2 (48Bh) lacks bit 20 of its high half, "
                              "\"enable XSAVES/XRSTORS\"",
                 "guest", rows)};
}

}  // namespace vmm::dump
