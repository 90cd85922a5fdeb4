#include "vmm/machine/explain_exit.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "vmm/base/bytes.h"
#include "vmm/core/uapi.h"
#include "vmm/nested/vmx_exits.h"

namespace vmm {
namespace {

struct Named {
  std::uint64_t value;
  std::string_view name;
};

// APM vol. 2 appendix C.
constexpr Named kSvmReasons[] = {
    {0x60, "interrupt"},
    {0x61, "NMI"},
    {0x63, "INIT"},
    {0x64, "interrupt window"},
    {0x6e, "RDTSC"},
    {0x72, "CPUID"},
    {0x73, "RSM"},
    {0x74, "IRET"},
    {0x76, "INVD"},
    {0x77, "PAUSE"},
    {0x78, "HLT"},
    {0x79, "INVLPG"},
    {0x7b, "port I/O"},
    {0x7c, "MSR"},
    {0x7d, "task switch"},
    {0x7f, "shutdown"},
    {0x80, "VMRUN"},
    {0x81, "VMMCALL"},
    {0x82, "VMLOAD"},
    {0x83, "VMSAVE"},
    {0x84, "STGI"},
    {0x85, "CLGI"},
    {0x86, "SKINIT"},
    {0x87, "RDTSCP"},
    {0x89, "WBINVD"},
    {0x8a, "MONITOR"},
    {0x8b, "MWAIT"},
    {0x8d, "XSETBV"},
    {0x400, "nested page fault"},
    {0x401, "AVIC incomplete IPI"},
    {0x402, "AVIC no acceleration"},
    {0x403, "VMGEXIT"},
};

constexpr std::uint64_t kVmxEptViolation = 48;
constexpr std::uint64_t kVmxEptMisconfig = 49;
constexpr std::uint64_t kSvmNpf = 0x400;
constexpr std::uint64_t kEntryFailed = 1ull << 31;

// The exit reason and what belongs to it; `info1`, `info2` as get_exit_info of KVM gives them.
void add_reason(ErrorWords& words, std::uint64_t reason, std::uint64_t info1, std::uint64_t info2,
                bool info2_is_address) {
  words.reason = reason;
  if (words.backend.empty()) {
    if (reason >= kSvmNpf && reason < kSvmNpf + 16) words.backend = "svm";
    if (reason == kVmxEptViolation || reason == kVmxEptMisconfig) words.backend = "vmx";
  }
  std::string line = "VM exit " + exit_reason_name(reason, words.backend);
  if (words.backend == "vmx" && reason == kVmxEptViolation) {
    words.fetch = bit(info1, 2);
    words.write = bit(info1, 1);
    line += fmt::format(", qualification {:x}h: a {}", info1,
                        words.fetch   ? "fetch"
                        : words.write ? "write"
                                      : "read");
    line += (info1 & 0x38) == 0 ? " where nothing is mapped" : " that the mapping forbids";
  } else if (words.backend == "vmx" && reason == kVmxEptMisconfig) {
    words.misconfig_or_mmio = true;
    line += " (KVM's mark for MMIO)";
  } else if (words.backend == "svm" && reason == kSvmNpf) {
    words.fetch = bit(info1, 4);
    words.write = bit(info1, 1);
    line += fmt::format(", error code {:x}h: a {}", info1,
                        words.fetch   ? "fetch"
                        : words.write ? "write"
                                      : "read");
    if (bit(info1, 33)) line += " of the guest's own page tables";
    if (info2_is_address) {
      words.gpa = info2;
      line += fmt::format(" at GPA {:x}h", info2);
    }
  } else {
    line += fmt::format(", info {:x}h {:x}h", info1, info2);
  }
  words.lines.push_back(std::move(line));
}

void decode_emulation(ErrorWords& words, std::span<const std::uint64_t> data) {
  if (data.empty()) return;
  std::size_t next = 1;
  if (bit(data[0], 0) && data.size() >= 3) {  // KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES
    std::array<std::uint8_t, 16> raw{};
    std::memcpy(raw.data(), &data[1], raw.size());
    const std::size_t size = std::min<std::size_t>(raw[0], 15);
    words.insn.assign(raw.begin() + 1, raw.begin() + 1 + static_cast<std::ptrdiff_t>(size));
    next = 3;
  }
  // Since Linux 5.16 five words of exit information follow.
  if (data.size() < next + 5) return;
  const std::uint64_t reason = data[next];
  if (reason == 0 && data[next + 1] == 0 && data[next + 2] == 0) return;
  add_reason(words, reason, data[next + 1], data[next + 2], true);
  const std::uint64_t event = data[next + 3];
  if (bit(event, 31)) words.lines.push_back("event at the exit: " + vectoring_text(event));
}

void decode_delivery(ErrorWords& words, std::span<const std::uint64_t> data) {
  if (data.size() < 3) return;
  const bool svm = words.backend == "svm" || (words.backend.empty() && data[1] == kSvmNpf);
  if (svm) {
    // info2 stands first, and on SVM that is the address.
    add_reason(words, data[1], data[2], data[0], true);
    if (data.size() >= 5) words.gpa = data[3];
    return;
  }
  if (bit(data[0], 31)) words.vectoring = data[0];
  words.lines.push_back("was delivering " + vectoring_text(data[0]));
  add_reason(words, data[1], data[2], 0, false);
  if (data.size() >= 5) {
    words.gpa = data[3];
    words.lines.push_back(fmt::format("the access went to GPA {:x}h", data[3]));
  }
}

}  // namespace

std::string vector_name(unsigned vector) {
  constexpr std::array<std::string_view, 32> kNames = {
      "#DE", "#DB", "NMI", "#BP", "#OF", "#BR", "#UD", "#NM", "#DF", "",    "#TS",
      "#NP", "#SS", "#GP", "#PF", "",    "#MF", "#AC", "#MC", "#XM", "#VE", "#CP",
      "",    "",    "",    "",    "",    "",    "#HV", "#VC", "#SX", ""};
  if (vector < kNames.size() && !kNames[vector].empty()) return std::string(kNames[vector]);
  return fmt::format("vector {}", vector);
}

std::string exit_reason_name(std::uint64_t reason, std::string_view backend) {
  const std::uint64_t basic = backend == "vmx" ? reason & 0xffff : reason;
  std::string_view name;
  if (backend == "vmx") {
    name = nested::vmx_exit_name(static_cast<std::uint16_t>(basic));
  } else if (backend == "svm") {
    for (const Named& entry : kSvmReasons)
      if (entry.value == basic) name = entry.name;
    if (basic < 0x20) name = bit(basic, 4) ? "control register write" : "control register read";
    if (basic >= 0x20 && basic < 0x40) name = "debug register";
    if (basic >= 0x40 && basic < 0x60)
      return fmt::format("{:x}h exception {}", reason,
                         vector_name(static_cast<unsigned>(basic - 0x40)));
  }
  std::string text = fmt::format("{:x}h", reason);
  if (!name.empty()) text += fmt::format(" {}", name);
  if (backend == "vmx" && (reason & kEntryFailed) != 0) text += " (VM entry failed)";
  return text;
}

std::string vectoring_text(std::uint64_t info) {
  if (!bit(info, 31)) return fmt::format("nothing ({:x}h)", info);
  constexpr std::array<std::string_view, 8> kTypes = {
      "external interrupt", "event of type 1",    "NMI",
      "hardware exception", "software interrupt", "privileged software exception",
      "software exception", "event of type 7"};
  const unsigned vector = static_cast<unsigned>(info & 0xff);
  const unsigned type = static_cast<unsigned>(bits(info, 10, 8));
  std::string text(kTypes[type]);
  if (type == 3 || type == 6) text += " " + vector_name(vector);
  return fmt::format("{} (vector {}){}", text, vector, bit(info, 11) ? " with an error code" : "");
}

ErrorWords decode_error(const InternalError& error, std::string_view backend) {
  ErrorWords words;
  words.backend = backend == "vmx" || backend == "svm" ? backend : "";
  const std::size_t count = std::min<std::size_t>(error.ndata, error.data.size());
  const std::span<const std::uint64_t> data = std::span(error.data).first(count);
  if (backend == "pvm") {
    // kvm_pvm has neither exit reasons nor qualifications of its own that are documented.
    if (error.suberror == KVM_INTERNAL_ERROR_EMULATION && !data.empty() && bit(data[0], 0) &&
        data.size() >= 3) {
      std::array<std::uint64_t, 3> head = {data[0], data[1], data[2]};
      decode_emulation(words, head);
    }
    return words;
  }
  switch (error.suberror) {
    case KVM_INTERNAL_ERROR_EMULATION:
      decode_emulation(words, data);
      break;
    case KVM_INTERNAL_ERROR_SIMUL_EX:
      if (data.size() >= 2) {
        if (bit(data[0], 31)) words.vectoring = data[0];
        words.lines.push_back("was delivering " + vectoring_text(data[0]));
        words.lines.push_back("then came " + vectoring_text(data[1]));
        if (data.size() >= 3 && bit(data[1], 11))
          words.lines.push_back(fmt::format("its error code {:x}h", data[2]));
      }
      break;
    case KVM_INTERNAL_ERROR_DELIVERY_EV:
      decode_delivery(words, data);
      break;
    case KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON:
      if (!data.empty()) {
        words.reason = data[0];
        words.lines.push_back("VM exit " + exit_reason_name(data[0], words.backend));
      }
      break;
    default:
      break;
  }
  return words;
}

}  // namespace vmm
