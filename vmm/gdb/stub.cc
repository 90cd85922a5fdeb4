#include "vmm/gdb/stub.h"

#include <fmt/format.h>

#include <algorithm>

#include "vmm/gdb/stub_answers.h"

namespace vmm::gdb {
Stub::Stub(DebugTarget& target, Debugger& debugger, Options options)
    : target_(target),
      debugger_(debugger),
      options_(std::move(options)),
      registers_(options_.arch, target.cpuid()) {}

// The first that fits; longer words in front of their own beginnings.
std::span<const Stub::Command> Stub::commands() {
  static constexpr Command kCommands[] = {
      {"qSupported", &Stub::on_supported, true},
      {"QStartNoAckMode", &Stub::on_no_ack, true},
      {"qXfer:features:read:target.xml:", &Stub::on_features, true},
      {"qXfer:threads:read::", &Stub::on_threads},
      {"qThreadExtraInfo,", &Stub::on_thread_info},
      {"qfThreadInfo", &Stub::on_first_threads, true},
      {"qsThreadInfo", &Stub::on_more_threads, true},
      {"qAttached", &Stub::on_attached, true},
      {"qSymbol:", &Stub::on_symbols, true},
      {"qRcmd,", &Stub::on_monitor},
      {"qSearch:memory:", &Stub::on_search},
      {"qCRC:", &Stub::on_checksum},
      {"qHostInfo", &Stub::on_host_info, true},
      {"qC", &Stub::on_current, true},
      {"Qqemu.PhyMemMode:", &Stub::on_physical, true},
      {"qqemu.PhyMemMode", &Stub::on_physical_query, true},
      {"vCont?", &Stub::on_vcont_query, true},
      {"vCont", &Stub::on_vcont},
      {"vKill", &Stub::on_kill, true},
      {"?", &Stub::on_reason},
      {"g", &Stub::on_read_all},
      {"G", &Stub::on_write_all},
      {"p", &Stub::on_read_register},
      {"P", &Stub::on_write_register},
      {"m", &Stub::on_read_memory},
      {"M", &Stub::on_write_memory},
      {"x", &Stub::on_read_binary},
      {"X", &Stub::on_write_binary},
      {"c", &Stub::on_continue},
      {"s", &Stub::on_step},
      {"H", &Stub::on_thread, true},
      {"T", &Stub::on_alive, true},
      {"Z", &Stub::on_insert},
      {"z", &Stub::on_remove},
      {"D", &Stub::on_detach, true},
      {"k", &Stub::on_kill, true},
  };
  return kCommands;
}

void Stub::new_client() {
  reader_ = PacketReader();
  output_.clear();
  last_sent_.clear();
  acks_ = true;
  physical_ = false;
  report_.reset();
  asked_ = false;
  announced_ = false;
  wish_ = Wish::Nothing;
  if (death_) general_ = death_->vcpu;
  debugger_.remove_all();
}

void Stub::receive(std::span<const std::uint8_t> bytes) {
  for (const Event& event : reader_.push(bytes)) take(event);
}

void Stub::take(const Event& event) {
  if (const auto* packet = std::get_if<Packet>(&event)) {
    if (acks_) output_ += '+';
    if (const Answer reply = answer(packet->payload)) send(*reply);
  } else if (std::holds_alternative<Damaged>(event)) {
    if (acks_) output_ += '-';
  } else if (std::holds_alternative<Nack>(event)) {
    if (acks_) output_ += last_sent_;
  } else if (std::holds_alternative<Interrupt>(event)) {
    if (debugger_.running()) wish_ = Wish::Interrupt;
  }
}

void Stub::send(std::string_view payload) {
  last_sent_ = frame(payload);
  output_ += last_sent_;
}

// An empty answer says that a packet is not known.
Stub::Answer Stub::answer(std::string_view packet) {
  for (const Command& command : commands()) {
    if (!packet.starts_with(command.prefix)) continue;
    if (debugger_.running() && !command.while_running) return "E.the guest is running";
    return (this->*command.handler)(Arguments(packet.substr(command.prefix.size())));
  }
  return "";
}

// --- stops
// ----------------------------------------------------------------------------------------

void Stub::stopped(const DebugReport& report) {
  report_ = report;
  general_ = report.vcpu;
  asked_ = false;
  send(stop_reply());
}

void Stub::machine_was_reset() {
  report_.reset();
  asked_ = false;
}

void Stub::interrupted() {
  report_.reset();
  asked_ = true;
  send(stop_reply());
}

void Stub::died(unsigned vcpu, int exit_code) {
  const bool awaited = debugger_.running();
  death_ = {vcpu, exit_code};
  general_ = vcpu;
  report_.reset();
  if (awaited) send(stop_reply());
}

void Stub::ended(int exit_code) {
  exit_code_ = exit_code;
  send(stop_reply());
}

std::string Stub::stop_reply() const {
  constexpr unsigned kInterrupt = 2;  // SIGINT
  constexpr unsigned kTrap = 5;       // SIGTRAP
  constexpr unsigned kDied = 11;      // SIGSEGV
  if (exit_code_) return fmt::format("W{:02x}", *exit_code_ & 0xff);
  const unsigned signal = death_ ? kDied : asked_ ? kInterrupt : kTrap;
  std::string reply = fmt::format("T{:02x}thread:{:x};", signal, general_ + 1);
  if (!report_) return reply;
  const Breakpoint& b = report_->breakpoint;
  // gdb takes no notice of a breakpoint that it has not set.
  if (report_->why == DebugReport::Why::Breakpoint && !b.catching)
    reply += b.kind == Breakpoint::Kind::Software ? "swbreak:;" : "hwbreak:;";
  if (report_->why == DebugReport::Why::Watch)
    reply +=
        fmt::format("{}:{:x};", b.kind == Breakpoint::Kind::Write ? "watch" : "awatch", b.address);
  return reply;
}

Stub::Answer Stub::on_reason(Arguments) { return stop_reply(); }

// --- going on
// -------------------------------------------------------------------------------------

// No answer now: the next stop is the answer.
Stub::Answer Stub::go(const std::vector<GoOn>& how) {
  if (death_ && !exit_code_) {
    exit_code_ = death_->exit_code;
    wish_ = Wish::Kill;
  }
  if (exit_code_) return stop_reply();
  if (const auto gone = debugger_.go(how); !gone) return refusal(gone.error());
  announce();
  return std::nullopt;
}

// An accepted watchpoint that costs so much is not to come as a surprise. The console's output is
// only heard while the guest runs.
void Stub::announce() {
  if (announced_ || !debugger_.steps_for_watch()) return;
  announced_ = true;
  note_ =
      "this host's KVM delivers no watchpoints: while there is one the guest goes on by single "
      "steps, some thousand a second, and the watched bytes are compared after each; a write that "
      "changes nothing is not seen";
  send("O" + to_hex("vmm: " + note_ + "\n"));
}

Stub::Answer Stub::on_continue(Arguments a) {
  if (!a.at_end()) return kBadArguments;
  return go(std::vector<GoOn>(target_.vcpu_count(), {.how = GoOn::How::Run}));
}

Stub::Answer Stub::on_step(Arguments a) {
  if (!a.at_end()) return kBadArguments;
  std::vector<GoOn> how(target_.vcpu_count());
  how[general_].how = GoOn::How::OneStep;
  return go(how);
}

Stub::Answer Stub::on_vcont_query(Arguments) { return "vCont;c;C;s;S;t;r"; }

// vCont;ACTION[:THREAD];...: for each thread the first action that names it, or that names none.
Stub::Answer Stub::on_vcont(Arguments a) {
  std::vector<std::optional<GoOn>> how(target_.vcpu_count());
  while (a.accept(';')) {
    GoOn action;
    if (a.accept('c')) {
      action.how = GoOn::How::Run;
    } else if (a.accept('C')) {
      a.number();
      action.how = GoOn::How::Run;
    } else if (a.accept('s')) {
      action.how = GoOn::How::OneStep;
    } else if (a.accept('S')) {
      a.number();
      action.how = GoOn::How::OneStep;
    } else if (a.accept('r')) {
      action.how = GoOn::How::Range;
      action.first = a.number();
      a.expect(',');
      action.end = a.number();
    } else if (!a.accept('t')) {
      return kBadArguments;
    }
    std::optional<unsigned> only;
    if (a.accept(':')) {
      const std::string_view thread = a.until(';');
      if (thread != "-1") {
        only = vcpu_of(thread);
        if (!only) return kNoSuchThread;
      }
    }
    for (unsigned i = 0; i < how.size(); ++i)
      if (!how[i] && (!only || *only == i)) how[i] = action;
  }
  if (!a.good() || !a.at_end()) return kBadArguments;
  std::vector<GoOn> result;
  for (const auto& one : how) result.push_back(one.value_or(GoOn()));
  if (std::ranges::all_of(result, [](const GoOn& g) { return g.how == GoOn::How::Hold; }))
    return kBadArguments;
  return go(result);
}

Stub::Answer Stub::on_detach(Arguments) {
  debugger_.remove_all();
  wish_ = death_ ? Wish::Kill : Wish::Detach;
  return "OK";
}

Stub::Answer Stub::on_kill(Arguments) {
  wish_ = Wish::Kill;
  return "OK";
}

}  // namespace vmm::gdb
