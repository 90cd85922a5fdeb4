// QEMU's register dumps ("KVM internal error", "KVM: entry failed", info registers), in both
// widths.
#include <fmt/format.h>

#include <algorithm>

#include "vmm/base/bytes.h"
#include "vmm/base/text.h"
#include "vmm/machine/explain_dump_parts.h"

namespace vmm::dump {
namespace {

bool is_hex(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}
bool is_name(char c) {
  return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

// The high dword of a descriptor without its base and limit bits, as QEMU prints it.
void set_flags(kvm_segment& segment, std::uint64_t flags) {
  segment.type = static_cast<std::uint8_t>(bits(flags, 11, 8));
  segment.s = bit(flags, 12);
  segment.dpl = static_cast<std::uint8_t>(bits(flags, 14, 13));
  segment.present = bit(flags, 15);
  segment.avl = bit(flags, 20);
  segment.l = bit(flags, 21);
  segment.db = bit(flags, 22);
  segment.g = bit(flags, 23);
  segment.unusable = segment.present ? 0 : 1;
}

bool set_register(CpuState& cpu, std::string_view name, std::uint64_t value) {
  kvm_regs& r = cpu.regs;
  kvm_sregs& s = cpu.sregs;
  using Slot = std::pair<std::string_view, decltype(r.rax)*>;
  const Slot kSlots[] = {
      {"RAX", &r.rax}, {"RBX", &r.rbx}, {"RCX", &r.rcx},    {"RDX", &r.rdx}, {"RSI", &r.rsi},
      {"RDI", &r.rdi}, {"RBP", &r.rbp}, {"RSP", &r.rsp},    {"R8", &r.r8},   {"R9", &r.r9},
      {"R10", &r.r10}, {"R11", &r.r11}, {"R12", &r.r12},    {"R13", &r.r13}, {"R14", &r.r14},
      {"R15", &r.r15}, {"RIP", &r.rip}, {"RFL", &r.rflags}, {"EAX", &r.rax}, {"EBX", &r.rbx},
      {"ECX", &r.rcx}, {"EDX", &r.rdx}, {"ESI", &r.rsi},    {"EDI", &r.rdi}, {"EBP", &r.rbp},
      {"ESP", &r.rsp}, {"EIP", &r.rip}, {"EFL", &r.rflags}, {"CR0", &s.cr0}, {"CR2", &s.cr2},
      {"CR3", &s.cr3}, {"CR4", &s.cr4}, {"EFER", &s.efer}};
  for (const auto& [key, slot] : kSlots) {
    if (key != name) continue;
    *slot = value;
    return true;
  }
  return false;
}

}  // namespace

std::optional<std::uint64_t> take_hex(std::string_view& text) {
  std::string_view rest = text;
  if (rest.starts_with("0x") || rest.starts_with("0X")) rest.remove_prefix(2);
  std::uint64_t value = 0;
  std::size_t digits = 0;
  while (digits < rest.size() && is_hex(rest[digits])) {
    if (digits == 16) return std::nullopt;
    const char c = rest[digits++];
    const int digit = c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10;
    value = value << 4 | static_cast<std::uint64_t>(digit);
  }
  if (digits == 0) return std::nullopt;
  rest.remove_prefix(digits);
  text = rest;
  return value;
}

std::optional<std::uint64_t> hex_after(std::string_view line, std::string_view key) {
  const std::size_t at = line.find(key);
  if (at == std::string_view::npos) return std::nullopt;
  std::string_view rest = line.substr(at + key.size());
  while (!rest.empty() && (rest[0] == ' ' || rest[0] == ':' || rest[0] == '=' || rest[0] == '\t'))
    rest.remove_prefix(1);
  return take_hex(rest);
}

void QemuReader::begin(std::size_t number) {
  open_ = true;
  if (dumps_.size() >= kMaxThings) dumps_.pop_back();  // the first ones and the last stay
  QemuDump made;
  made.line = number;
  made.scene.vcpus.resize(1);
  made.scene.memory_is_partial = true;
  made.scene.efer_known = false;
  made.scene.vcpu_known = false;
  InternalError error;
  error.suberror = 1;
  made.scene.outcome = ending::InternalFailure{0, error};
  dumps_.push_back(std::move(made));
}

QemuDump& QemuReader::current(std::size_t number) {
  if (!open_) begin(number);
  return dumps_.back();
}

bool QemuReader::feed_registers(std::string_view line) {
  QemuDump& dump = dumps_.back();
  bool any = false;
  for (std::size_t at = line.find('='); at != std::string_view::npos; at = line.find('=', at + 1)) {
    std::size_t end = at;
    while (end > 0 && line[end - 1] == ' ') --end;
    std::size_t start = end;
    while (start > 0 && end - start < 8 && is_name(line[start - 1])) --start;
    std::string_view rest = line.substr(at + 1);
    const auto value = take_hex(rest);
    if (!value) continue;
    const std::string_view name = line.substr(start, end - start);
    if (set_register(dump.scene.vcpus[0], name, *value)) {
      any = true;
      if (name == "EFER") dump.scene.efer_known = true;
      if (name == "RIP" || name == "EIP") dump.has_registers = true;
      if (name == "RIP") dump.wide = true;
    }
  }
  return any;
}

bool QemuReader::feed_segment(std::string_view line) {
  // "CS =0038 0000000000000000 ffffffff 00a09b00 ...", "GDT=     000000003f9ee698 00000047".
  std::string_view text = trim(line);
  const std::size_t equals = text.find('=');
  if (equals == std::string_view::npos || equals > 4) return false;
  const std::string_view name = trim(text.substr(0, equals));
  text.remove_prefix(equals + 1);
  std::array<std::uint64_t, 4> words{};
  std::size_t count = 0;
  while (count < words.size()) {
    while (!text.empty() && text[0] == ' ') text.remove_prefix(1);
    const auto word = take_hex(text);
    if (!word || (!text.empty() && text[0] != ' ')) break;
    words[count++] = *word;
  }
  kvm_sregs& s = dumps_.back().scene.vcpus[0].sregs;
  if ((name == "GDT" || name == "IDT") && count == 2) {
    kvm_dtable& table = name == "GDT" ? s.gdt : s.idt;
    table.base = words[0];
    table.limit = static_cast<std::uint16_t>(words[1]);
    return true;
  }
  const std::pair<std::string_view, kvm_segment*> kSegments[] = {
      {"ES", &s.es}, {"CS", &s.cs}, {"SS", &s.ss},   {"DS", &s.ds},
      {"FS", &s.fs}, {"GS", &s.gs}, {"LDT", &s.ldt}, {"TR", &s.tr}};
  for (const auto& [key, segment] : kSegments) {
    if (key != name || count != 4) continue;
    segment->selector = static_cast<std::uint16_t>(words[0]);
    segment->base = words[1];
    segment->limit = static_cast<std::uint32_t>(words[2]);
    set_flags(*segment, words[3]);
    return true;
  }
  return false;
}

bool QemuReader::feed_code(std::string_view line) {
  std::string_view text = trim(line);
  if (!text.starts_with("Code=")) return false;
  QemuDump& dump = dumps_.back();
  text.remove_prefix(5);
  const std::size_t mark = text.find('<');
  dump.has_code = true;
  if (mark == std::string_view::npos) return true;  // QEMU could not read the bytes at RIP
  text.remove_prefix(mark);
  dump.scene.code.clear();
  while (!text.empty() && dump.scene.code.size() < 32) {
    if (!is_hex(text[0])) {
      text.remove_prefix(1);
      continue;
    }
    const auto byte = take_hex(text);
    if (!byte || *byte > 0xff) break;
    dump.scene.code.push_back(static_cast<std::uint8_t>(*byte));
  }
  return true;
}

bool QemuReader::feed_extra(std::string_view line) {
  const std::size_t at = line.find("extra data[");
  if (at == std::string_view::npos) return false;
  auto* failure = std::get_if<ending::InternalFailure>(&dumps_.back().scene.outcome);
  std::string_view text = line.substr(at + 11);
  const std::size_t close = text.find(']');
  if (failure == nullptr || close == std::string_view::npos) return false;
  const auto index = parse_number(text.substr(0, close));
  const auto value = hex_after(text, "]");
  if (!index || !value || *index >= failure->error.data.size()) return true;
  failure->error.data[*index] = *value;
  failure->error.ndata = std::max(failure->error.ndata, static_cast<std::uint32_t>(*index + 1));
  return true;
}

bool QemuReader::feed(std::string_view line, std::size_t number) {
  if (const auto at = line.find("KVM internal error. Suberror:"); at != std::string_view::npos) {
    begin(number);
    std::string_view rest = trim(line.substr(at + 29));
    const auto suberror = take_hex(rest);
    dumps_.back().error_named = true;
    std::get<ending::InternalFailure>(dumps_.back().scene.outcome).error.suberror =
        static_cast<std::uint32_t>(suberror.value_or(0));
    return true;
  }
  if (const auto reason = hex_after(line, "KVM: entry failed, hardware error")) {
    begin(number);
    dumps_.back().scene.outcome = ending::EntryFailure{0, *reason, 0};
    dumps_.back().error_named = true;
    return true;
  }
  if (trim(line) == "Triple fault") {  // with -d cpu_reset
    begin(number);
    dumps_.back().scene.outcome = ending::TripleFault{0};
    dumps_.back().error_named = true;
    return true;
  }
  if (line.starts_with("CPU#")) {
    std::string_view rest = line.substr(4);
    const std::size_t end = std::min(rest.find_first_not_of("0123456789"), rest.size());
    const auto index = parse_number(rest.substr(0, end));
    if (index && *index < 4096) next_cpu_ = static_cast<unsigned>(*index);
    return next_cpu_.has_value();
  }
  const bool first_line =
      line.find("EAX=") != std::string_view::npos || line.find("RAX=") != std::string_view::npos;
  // Registers again: another processor of the same dump.
  if (first_line && (!open_ || dumps_.back().has_registers)) begin(number);
  if (!open_) return false;
  if (first_line && next_cpu_) {
    dumps_.back().scene.vcpu_known = true;
    RunOutcome& outcome = dumps_.back().scene.outcome;
    if (auto* failure = std::get_if<ending::InternalFailure>(&outcome)) failure->vcpu = *next_cpu_;
    if (auto* failure = std::get_if<ending::EntryFailure>(&outcome)) failure->vcpu = *next_cpu_;
    if (auto* failure = std::get_if<ending::TripleFault>(&outcome)) failure->vcpu = *next_cpu_;
    next_cpu_.reset();
  }
  return feed_extra(line) || feed_code(line) || feed_segment(line) || feed_registers(line) ||
         line.starts_with("emulation failure");
}

std::vector<QemuDump> QemuReader::finish() {
  for (QemuDump& dump : dumps_) {
    kvm_sregs& s = dump.scene.vcpus[0].sregs;
    const kvm_regs& r = dump.scene.vcpus[0].regs;
    if (!dump.has_registers) {
      dump.scene.vcpus.clear();
      continue;
    }
    if (dump.scene.efer_known) continue;
    // Without an EFER line: a 64-bit code segment, or the write of EFER that the registers show.
    const bool paging = (s.cr0 & spec::CR0_PG) != 0 && (s.cr4 & spec::CR4_PAE) != 0;
    const bool entering = (r.rcx & 0xffffffff) == 0xc0000080 && (r.rax & 0xffffffff) == s.cr0;
    if (paging && (s.cs.l != 0 || entering)) s.efer = spec::EFER_LME | spec::EFER_LMA;
  }
  return std::move(dumps_);
}

}  // namespace vmm::dump
