// What a debugger's client says, and what it is answered: GDB's remote serial protocol (the GDB
// manual, appendix "Remote Protocol") over a Debugger. Pure: bytes in, bytes out; who owns the
// socket and the machine does what wish() says.
//
// vCPU n is thread n+1. All stop together; there is no non-stop mode.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/core/debugger.h"
#include "vmm/gdb/agent_expression.h"
#include "vmm/gdb/packet.h"
#include "vmm/gdb/registers.h"

namespace vmm::gdb {

// What the client wants of the machine's owner.
enum class Wish { Nothing, Interrupt, Detach, Kill };

class Stub {
 public:
  struct Options {
    Arch arch = Arch::X86_64;
    PagingFeatures paging;
    // The client has started this process, and ends it when it quits.
    bool started_us = false;
    // `monitor ...`: the text to print, with its line ends.
    std::function<std::string(std::string_view command, unsigned vcpu)> monitor;
  };
  // The guest is stopped. Both outlive the stub, whose breakpoints end with it.
  Stub(DebugTarget& target, Debugger& debugger, Options options);
  ~Stub() { debugger_.remove_all(); }
  Stub(const Stub&) = delete;
  Stub& operator=(const Stub&) = delete;

  void receive(std::span<const std::uint8_t> bytes);
  // What is to be sent; the caller takes it away.
  std::string take_output() { return std::exchange(output_, {}); }
  // Why the last packet was refused, for the user; once.
  std::string take_note() { return std::exchange(note_, {}); }
  // Once each.
  Wish take_wish() { return std::exchange(wish_, Wish::Nothing); }

  // The guest stopped by itself.
  void stopped(const DebugReport& report);
  // The machine was reset: the last stop is no longer why it stands.
  void machine_was_reset();
  // It was stopped because of Wish::Interrupt.
  void interrupted();
  // It is over, with this exit code of the monitor's.
  void ended(int exit_code);
  // `vcpu` died, and all of it is kept to be looked at; whoever lets it go on ends it (Wish::Kill),
  // with this exit code.
  void died(unsigned vcpu, int exit_code);
  // Another client: nothing is left of the last one but where the guest stands.
  void new_client();

  // Nothing: the answer comes later, when the guest stops. Empty: the packet is not known.
  using Answer = std::optional<std::string>;
  // Answers one packet. Public for the tests.
  Answer answer(std::string_view packet);

 private:
  using Handler = Answer (Stub::*)(Arguments);
  struct Command {
    std::string_view prefix;
    Handler handler;
    bool while_running = false;
  };
  static std::span<const Command> commands();

  void take(const Event& event);
  void send(std::string_view payload);
  std::optional<unsigned> vcpu_of(std::string_view thread) const;
  std::string stop_reply() const;
  Answer go(const std::vector<GoOn>& how);
  void announce();
  Answer transfer(Arguments a, std::string_view document) const;
  std::string threads_xml() const;
  std::string thread_state(unsigned vcpu) const;
  // Bytes from `address` on, as far as there is RAM.
  std::vector<std::uint8_t> read(std::uint64_t address, std::size_t size) const {
    return read(general_, address, size);
  }
  std::vector<std::uint8_t> read(unsigned vcpu, std::uint64_t address, std::size_t size) const;
  bool write(std::uint64_t address, std::span<const std::uint8_t> bytes);
  std::function<std::optional<Gpa>(std::uint64_t address)> translation(unsigned vcpu) const;
  Answer change_registers(const std::function<Result<void>(DebugRegisters& registers)>& change);
  Answer set_breakpoint(Arguments a, bool insert);
  Result<void> insert(const Breakpoint& breakpoint, Arguments conditions);
  bool wants_stop(const std::vector<AgentExpression>& conditions, unsigned vcpu) const;
  Answer write_register(unsigned number, std::span<const std::uint8_t> bytes);

  Answer on_supported(Arguments a);
  Answer on_no_ack(Arguments a);
  Answer on_reason(Arguments a);
  Answer on_read_all(Arguments a);
  Answer on_write_all(Arguments a);
  Answer on_read_register(Arguments a);
  Answer on_write_register(Arguments a);
  Answer on_read_memory(Arguments a);
  Answer on_write_memory(Arguments a);
  Answer on_read_binary(Arguments a);
  Answer on_write_binary(Arguments a);
  Answer on_continue(Arguments a);
  Answer on_step(Arguments a);
  Answer on_vcont(Arguments a);
  Answer on_vcont_query(Arguments a);
  Answer on_thread(Arguments a);
  Answer on_alive(Arguments a);
  Answer on_current(Arguments a);
  Answer on_first_threads(Arguments a);
  Answer on_more_threads(Arguments a);
  Answer on_thread_info(Arguments a);
  Answer on_attached(Arguments a);
  Answer on_insert(Arguments a);
  Answer on_remove(Arguments a);
  Answer on_features(Arguments a);
  Answer on_threads(Arguments a);
  Answer on_physical(Arguments a);
  Answer on_physical_query(Arguments a);
  Answer on_search(Arguments a);
  Answer on_checksum(Arguments a);
  Answer on_monitor(Arguments a);
  Answer on_symbols(Arguments a);
  Answer on_detach(Arguments a);
  Answer on_kill(Arguments a);
  Answer on_host_info(Arguments a);

  DebugTarget& target_;
  Debugger& debugger_;
  Options options_;
  RegisterSet registers_;
  PacketReader reader_;
  std::string output_;
  std::string last_sent_;
  bool acks_ = true;
  bool physical_ = false;
  unsigned general_ = 0;  // the vCPU of g, p, m and their like
  std::optional<DebugReport> report_;
  std::optional<int> exit_code_;
  struct Death {
    unsigned vcpu;
    int exit_code;
  };
  std::optional<Death> death_;
  bool asked_ = false;      // the last stop was asked for
  bool announced_ = false;  // that watchpoints are stepped here
  std::string note_;
  Wish wish_ = Wish::Nothing;
};

}  // namespace vmm::gdb
