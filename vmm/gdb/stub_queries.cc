// The packets that ask about the session, its threads and documents.
#include <fmt/format.h>

#include "vmm/base/text.h"
#include "vmm/gdb/stub.h"
#include "vmm/gdb/stub_answers.h"
#include "vmm/gdb/target_xml.h"

namespace vmm::gdb {
namespace {

std::string_view mode_text(CpuMode mode) {
  switch (mode) {
    case CpuMode::Real:
      return "real mode";
    case CpuMode::Protected16:
    case CpuMode::Compat16:
      return "16-bit";
    case CpuMode::Protected32:
      return "32-bit";
    case CpuMode::Compat32:
      return "32-bit in long mode";
    case CpuMode::Long64:
      return "64-bit";
  }
  return "";
}

}  // namespace

Stub::Answer Stub::on_supported(Arguments) {
  return fmt::format(
      "PacketSize={:x};QStartNoAckMode+;qXfer:features:read+;qXfer:threads:read+;swbreak+;hwbreak+;"
      "vContSupported+;ConditionalBreakpoints+",
      kPacketSize);
}

Stub::Answer Stub::on_no_ack(Arguments) {
  // This very answer is still acknowledged; an ack that comes is no packet.
  acks_ = false;
  reader_.ignore_checksums();
  return "OK";
}

// A document in pieces: OFFSET,LENGTH -> m and more to come, or l and the last.
Stub::Answer Stub::transfer(Arguments a, std::string_view document) const {
  const std::uint64_t offset = a.number();
  a.expect(',');
  const std::uint64_t length = a.number();
  if (!a.good() || !a.at_end() || offset > document.size()) return kBadArguments;
  const std::string_view part =
      document.substr(offset, std::min<std::uint64_t>(length, kPacketSize / 2));
  return (offset + part.size() == document.size() ? "l" : "m") + std::string(part);
}

Stub::Answer Stub::on_features(Arguments a) { return transfer(a, target_xml(registers_)); }

// --- threads
// --------------------------------------------------------------------------------------

std::optional<unsigned> Stub::vcpu_of(std::string_view thread) const {
  if (thread == "0" || thread.empty()) return general_;
  const auto number = parse_number(thread);
  if (!number || *number == 0 || *number > target_.vcpu_count()) return std::nullopt;
  return static_cast<unsigned>(*number - 1);
}

std::string Stub::thread_state(unsigned vcpu) const {
  const auto state = target_.cpu_state(vcpu);
  if (!state) return "unknown";
  if (state->mp_state == KVM_MP_STATE_UNINITIALIZED ||
      state->mp_state == KVM_MP_STATE_INIT_RECEIVED)
    return "waits for a SIPI";
  const std::string halted = state->mp_state == KVM_MP_STATE_HALTED ? "halted, " : "";
  return fmt::format("{}{}, CPL {}{}", halted, mode_text(cpu_mode(state->sregs)),
                     static_cast<unsigned>(state->sregs.ss.dpl),
                     target_.nested_position(vcpu).level == 2 ? ", in L2" : "");
}

std::string Stub::threads_xml() const {
  std::string xml = "<?xml version=\"1.0\"?>\n<threads>\n";
  for (unsigned i = 0; i < target_.vcpu_count(); ++i)
    xml += fmt::format("<thread id=\"{:x}\" core=\"{}\" name=\"vCPU {}\">{}</thread>\n", i + 1, i,
                       i, thread_state(i));
  return xml + "</threads>\n";
}

Stub::Answer Stub::on_threads(Arguments a) { return transfer(a, threads_xml()); }

Stub::Answer Stub::on_first_threads(Arguments) {
  std::string reply = "m";
  for (unsigned i = 0; i < target_.vcpu_count(); ++i)
    reply += fmt::format("{}{:x}", i == 0 ? "" : ",", i + 1);
  return reply;
}

Stub::Answer Stub::on_more_threads(Arguments) { return "l"; }

Stub::Answer Stub::on_thread_info(Arguments a) {
  const auto vcpu = vcpu_of(a.rest());
  if (!vcpu) return kNoSuchThread;
  return to_hex(fmt::format("vCPU {}: {}", *vcpu, thread_state(*vcpu)));
}

Stub::Answer Stub::on_current(Arguments) { return fmt::format("QC{:x}", general_ + 1); }

// Hg: of whom the packets that follow ask. Hc came before vCont, which names its threads.
Stub::Answer Stub::on_thread(Arguments a) {
  if (a.accept('c')) return "OK";
  if (!a.accept('g')) return kBadArguments;
  if (a.rest() == "-1") return "OK";
  const auto vcpu = vcpu_of(a.rest());
  if (!vcpu) return kNoSuchThread;
  general_ = *vcpu;
  return "OK";
}

Stub::Answer Stub::on_alive(Arguments a) { return vcpu_of(a.rest()) ? "OK" : kNoSuchThread; }

// --- the session
// ----------------------------------------------------------------------------------

// There before the debugger came: quitting it leaves the guest alone.
// 0: gdb's `quit` kills. 1: it detaches.
Stub::Answer Stub::on_attached(Arguments) { return options_.started_us ? "0" : "1"; }

Stub::Answer Stub::on_symbols(Arguments) { return "OK"; }

// QEMU's packets, which its users' scripts send.
Stub::Answer Stub::on_physical(Arguments a) {
  const std::uint64_t on = a.number();
  if (!a.good() || !a.at_end() || on > 1) return kBadArguments;
  physical_ = on == 1;
  return "OK";
}

Stub::Answer Stub::on_physical_query(Arguments) { return physical_ ? "1" : "0"; }

Stub::Answer Stub::on_monitor(Arguments a) {
  const auto bytes = from_hex(a.rest());
  if (!bytes) return kBadArguments;
  if (!options_.monitor) return "";
  const std::string text = options_.monitor(std::string(bytes->begin(), bytes->end()), general_);
  if (text.empty()) return "OK";
  return to_hex(std::string_view(text).substr(0, kPacketSize / 2));
}

// What LLDB asks first.
Stub::Answer Stub::on_host_info(Arguments) {
  const std::string triple =
      options_.arch == Arch::X86_64 ? "x86_64-unknown-none" : "i386-unknown-none";
  return fmt::format("triple:{};ptrsize:{};endian:little;", to_hex(triple),
                     options_.arch == Arch::X86_64 ? 8 : 4);
}

}  // namespace vmm::gdb
