// The pieces of explain_dump(): one reader for each kind of text. Each is fed line by line and
// keeps what it recognised, so that the whole stays linear in the text.
#pragma once

#include <array>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/machine/explain.h"

namespace vmm::dump {

// What is beyond these is left out.
constexpr std::size_t kMaxLine = 2000;  // bytes of one line
constexpr std::size_t kMaxThings = 64;  // dumps, and walks of a trace
constexpr std::size_t kMaxLevels = 5;

// A run of hex digits at the start of `text` (after an optional 0x), at most 16 of them; takes it
// away.
std::optional<std::uint64_t> take_hex(std::string_view& text);
// The hex number behind `key`, which may be followed by blanks, ':' or '='.
std::optional<std::uint64_t> hex_after(std::string_view line, std::string_view key);

// One register dump of QEMU.
struct QemuDump {
  std::size_t line = 0;
  CrashScene scene;
  bool error_named = false;  // an error message stands before the registers
  bool has_registers = false;
  bool has_code = false;
  bool wide = false;  // RAX rather than EAX
};

class QemuReader {
 public:
  // True when the line was one of a dump.
  bool feed(std::string_view line, std::size_t number);
  // Closes the last dump; dumps without registers and without an error are dropped.
  std::vector<QemuDump> finish();

 private:
  QemuDump& current(std::size_t number);
  void begin(std::size_t number);
  bool feed_registers(std::string_view line);
  bool feed_segment(std::string_view line);
  bool feed_code(std::string_view line);
  bool feed_extra(std::string_view line);

  std::vector<QemuDump> dumps_;
  bool open_ = false;
  std::optional<unsigned> next_cpu_;
};

// One walk that KVM's own walker made, from the trace.
struct TraceWalk {
  std::size_t line = 0;
  Gva address = 0;
  std::uint32_t wanted = 0;                                 // pferr of the request
  std::vector<std::pair<unsigned, std::uint64_t>> entries;  // level and entry, from the root
  std::optional<std::uint32_t> error;                       // pferr of the answer
};

struct Trace {
  std::size_t line = 0;  // of its first line
  std::size_t events = 0;
  std::vector<TraceWalk> failed;  // the last ones that ended in an error
  std::string exit_reason;        // of the last kvm_exit
  Gva exit_rip = 0;
  bool emulation_failed = false;
  Gva emulated_rip = 0;
  std::vector<std::uint8_t> emulated;
  std::string userspace_reason;
};

class TraceReader {
 public:
  bool feed(std::string_view line, std::size_t number);
  std::optional<Trace> finish();

 private:
  Trace trace_;
  std::optional<TraceWalk> walk_;
};

// A finished card with its place in the text.
struct PlacedCard {
  std::size_t line = 0;
  CrashCard card;
};

// Messages of a host kernel: MSRs that KVM does not know, EPT misconfigurations, dump_vmcs().
class KernelReader {
 public:
  bool feed(std::string_view line, std::size_t number);
  std::vector<PlacedCard> finish();

 private:
  struct Msr {
    std::size_t line = 0;
    std::uint32_t index = 0;
    bool write = false;
    std::uint64_t value = 0;
    std::optional<Gva> rip;
    std::uint64_t count = 0;
  };
  bool feed_vmcs(std::string_view line, std::size_t number);

  std::vector<Msr> msrs_;
  std::vector<PlacedCard> cards_;
  std::optional<CrashScene> vmcs_;
  std::size_t vmcs_line_ = 0;
};

// Words of IA32_VMX_PROCBASED_CTLS2.
class CapabilityReader {
 public:
  bool feed(std::string_view line, std::size_t number);
  std::optional<PlacedCard> finish();

 private:
  std::size_t line_ = 0;
  std::size_t last_mention_ = 0;
  bool mentioned_ = false;
  std::vector<std::uint64_t> words_;
};

// A card made of plain lines: cause, then "label text" rows.
CrashCard plain_card(std::string rule, std::string cause, std::string layer,
                     const std::vector<std::pair<std::string, std::string>>& rows);

}  // namespace vmm::dump
