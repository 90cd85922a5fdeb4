// Where our chips and KVM's differ, seen from inside a guest: the one table. docs/irqchips.md has
// the same rows for users. Whatever is not here is a failure of differential_test.cc.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "guest-tests/chip_log.h"

namespace vmm {

// One line of the same sequence under a chip of ours ("user" or "split") and under "kernel".
struct Difference {
  std::string host;  // "svm", "vmx" or "pvm"
  std::string chip;
  const ChipEpisode& left;
  const ChipEpisode& right;
  std::size_t line;

  const ChipLine& ours() const { return left.lines[line]; }
  const ChipLine& kvms() const { return right.lines[line]; }
  bool is(std::string_view subject) const { return left.subject == subject; }
  bool is_lapic() const { return is("lapic") || is("x2apic"); }
  bool did(std::string_view operation) const { return ours().operation == operation; }
  bool same_vectors() const { return ours().vectors == kvms().vectors; }
  std::uint64_t differing_bits() const { return ours().read.value_or(0) ^ kvms().read.value_or(0); }
  // The same vectors, and what was read differs in these bits alone.
  bool only_bits(std::uint64_t bits) const {
    return same_vectors() && differing_bits() != 0 && (differing_bits() & ~bits) == 0;
  }
  // KVM took `vector` besides what ours took.
  bool kvm_took_more() const {
    return kvms().vectors.size() == ours().vectors.size() + 1 &&
           std::includes(kvms().vectors.begin(), kvms().vectors.end(), ours().vectors.begin(),
                         ours().vectors.end());
  }
  // The last line up to and with this one that `wanted` accepts, or none.
  template <typename Wanted>
  const ChipLine* last(const Wanted& wanted) const {
    for (std::size_t i = line + 1; i-- > 0;)
      if (wanted(left.lines[i])) return &left.lines[i];
    return nullptr;
  }
};

// What a difference does to the lines behind it.
enum class Reach {
  Line,           // nothing: the chips go on in the same state
  RestOfEpisode,  // their states differ until the next episode begins
};

struct KnownDifference {
  std::string_view what;
  std::string_view subjects;
  bool (*covers)(const Difference&);
  Reach reach;
  std::string_view reason;
};

namespace differences {

constexpr std::uint64_t kRefused = 0xdead;  // an MSR access was #GP

// Reading this LAPIC register, by either way.
inline bool reads(const Difference& d, std::uint64_t first, std::uint64_t last) {
  const std::uint64_t at = d.ours().address;
  return (d.did("read") && at >= first && at <= last) ||
         (d.did("rdmsr") && at >= 0x800 + first / 16 && at <= 0x800 + last / 16);
}
// What "send" sent: bits of the ICR, and of the vector's IRR and TMR in what is read.
inline unsigned vector_of(const ChipLine& sent) { return sent.address & 0xff; }
inline unsigned mode_of(const ChipLine& sent) { return sent.address >> 8 & 7; }
inline bool without_shorthand(const ChipLine& sent) { return (sent.address & 0xc0000) == 0; }
inline bool is_logical(const ChipLine& sent) { return (sent.address & 0x800) != 0; }
inline bool is_level(const ChipLine& sent) { return (sent.address & 0x8000) != 0; }

// Where a line moved or its entry was written: what its entry was written to last.
inline const ChipLine* entry_of_line(const Difference& d) {
  if (!d.did("entry") && !d.did("line")) return nullptr;
  return d.last(
      [&d](const ChipLine& l) { return l.operation == "entry" && l.address == d.ours().address; });
}

// kvm_pvm's LAPIC keeps nothing in ISR: from the first interrupt of an episode on, all that depends
// on what is in service may differ, and that may be anything.
inline bool isr_of_pvm(const Difference& d) {
  if (d.host != "pvm" || !(d.is_lapic() || d.is("ioapic"))) return false;
  const auto took_one = [](const ChipLine& l) { return !l.vectors.empty(); };
  return d.last(took_one) != nullptr || took_one(d.kvms());
}
// The mode of the 8254's counter `n`, as last programmed ("pit" writes the control word).
inline unsigned pit_mode(const Difference& d, unsigned n) {
  const ChipLine* word =
      d.last([n](const ChipLine& l) { return l.operation == "pit" && l.address == n; });
  const unsigned mode = word == nullptr ? 0 : *word->written >> 1 & 7;
  return mode > 5 ? mode & 3 : mode;
}
inline bool pit_gate_low(const Difference& d) {
  const ChipLine* gate =
      d.last([](const ChipLine& l) { return l.operation == "out" && l.address == 0x61; });
  return gate != nullptr && (*gate->written & 1) == 0;
}
// The latest thing that was done to the 8259A pair after which KVM's goes its own way.
enum class PicCause { None, LineFell, Restart, Poll, SpecialMask, Elcr };
inline PicCause pic_cause(const ChipLine& l) {
  if (l.operation == "line" && l.written == 0) return PicCause::LineFell;
  if (l.operation == "icw") return PicCause::Restart;
  if (l.operation == "poll" && *l.read >= 0x80) return PicCause::Poll;
  if (l.operation == "out" && (l.address & 0xfff0) == 0x4d0) return PicCause::Elcr;
  if (l.operation == "out" && (l.address & 1) == 0 && l.written == 0x68)
    return PicCause::SpecialMask;
  return PicCause::None;
}
inline bool empty_poll(const Difference& d) {
  return d.did("poll") && d.same_vectors() && d.ours().read == 0 && d.kvms().read == 7;
}
inline bool follows(const Difference& d, PicCause cause) {
  if (!d.is("pic") || empty_poll(d)) return false;
  const ChipLine* latest = d.last([](const ChipLine& l) { return pic_cause(l) != PicCause::None; });
  return latest != nullptr && pic_cause(*latest) == cause;
}

}  // namespace differences

inline constexpr KnownDifference kKnownDifferences[] = {
    {"ISR on kvm_pvm", "lapic x2apic ioapic",
     [](const Difference& d) { return differences::isr_of_pvm(d); }, Reach::RestOfEpisode,
     "kvm_pvm (Linux 6.18) keeps ISR empty; whatever depends on what is in service is another"},
    {"ESR", "lapic",
     [](const Difference& d) {
       return !differences::isr_of_pvm(d) && differences::reads(d, 0x280, 0x280) &&
              d.only_bits(0xe0) && d.kvms().read == 0;
     },
     Reach::Line, "KVM detects no errors: its ESR is always 0"},
    {"the error interrupt", "lapic x2apic",
     [](const Difference& d) {
       if (differences::isr_of_pvm(d)) return false;
       std::vector<unsigned> rest = d.ours().vectors;
       const auto removed = std::erase(rest, 0xe5u);  // the error LVT's vector in every sequence
       const bool illegal = d.did("send") && differences::vector_of(d.ours()) < 16;
       // In x2APIC mode no access but an illegal vector is an error; with the page many are.
       return !illegal && ((removed != 0 && rest == d.kvms().vectors) ||
                           (differences::reads(d, 0x270, 0x270) && d.only_bits(0x20)));
     },
     Reach::RestOfEpisode, "KVM detects no errors, so its error LVT never fires"},
    {"an illegal vector sent (below 16)", "lapic x2apic",
     [](const Difference& d) {
       return !differences::isr_of_pvm(d) && d.did("send") && differences::vector_of(d.ours()) < 16;
     },
     Reach::RestOfEpisode, "SDM 11.5.2: vectors below 16 are errors; KVM puts them into IRR"},
    {"an illegal vector in IRR", "lapic x2apic",
     [](const Difference& d) {
       return !differences::isr_of_pvm(d) && differences::reads(d, 0x200, 0x200) &&
              d.only_bits(0xffff);
     },
     Reach::Line, "what came of an illegal vector stays in KVM's IRR for ever"},
    {"a level-triggered IPI", "lapic x2apic",
     [](const Difference& d) {
       return !differences::isr_of_pvm(d) && d.did("send") &&
              differences::vector_of(d.ours()) >= 16 && differences::is_level(d.ours());
     },
     Reach::RestOfEpisode,
     "SDM 11.6.1: the trigger mode counts for INIT only; KVM sets TMR, and drops a de-assert"},
    {"lowest priority among absent processors", "lapic x2apic ioapic",
     [](const Difference& d) {
       if (differences::isr_of_pvm(d)) return false;
       if (const ChipLine* entry = differences::entry_of_line(d))
         return (*entry->written & 0x2f00) == 0x0900 && *d.kvms().read < *d.ours().read;
       return d.did("send") && differences::vector_of(d.ours()) >= 16 &&
              !differences::is_level(d.ours()) && differences::mode_of(d.ours()) == 1 &&
              differences::without_shorthand(d.ours()) && differences::is_logical(d.ours()) &&
              d.kvms().read == 0;
     },
     Reach::RestOfEpisode,
     "KVM picks by the vector among all bits of a logical destination, and drops what falls on a "
     "processor that is not there"},
    {"hardware-disabling the LAPIC", "lapic",
     [](const Difference& d) { return !differences::isr_of_pvm(d) && d.did("again"); },
     Reach::RestOfEpisode, "SDM 11.4.3: registers as after reset; KVM keeps them"},
    {"a divisor for a timer that is over", "lapic x2apic",
     [](const Difference& d) {
       return !differences::isr_of_pvm(d) && d.did("divide") &&
              d.kvms().vectors.size() > d.ours().vectors.size();
     },
     Reach::RestOfEpisode, "KVM starts a one-shot timer that ended again, and it ends again"},
    {"status bits of LVT entries", "lapic",
     [](const Difference& d) {
       return !differences::isr_of_pvm(d) && differences::reads(d, 0x320, 0x370) &&
              d.only_bits(0x5000);
     },
     Reach::Line,
     "SDM 11.5.1: delivery status and remote IRR are read-only; KVM keeps what was written"},
    {"the reserved LVT timer mode 11b", "lapic x2apic",
     [](const Difference& d) {
       const ChipLine* lvt = d.last([](const ChipLine& l) {
         return l.operation == "fire" || (l.operation == "write" && l.address == 0x320);
       });
       return !differences::isr_of_pvm(d) && differences::reads(d, 0x390, 0x390) &&
              lvt != nullptr && (*lvt->written & 0x60000) == 0x60000 && d.kvms().read == 0;
     },
     Reach::Line, "ours counts as one-shot; KVM's timer stands still"},
    {"reserved bits of x2APIC registers", "x2apic",
     [](const Difference& d) {
       return !differences::isr_of_pvm(d) && (d.did("wrmsr") || d.did("write")) &&
              d.ours().read == differences::kRefused && d.kvms().read == 0;
     },
     Reach::RestOfEpisode, "SDM 11.12.1.3: #GP; KVM looks at bits 63:32 alone"},
    {"ICR's destination on entering x2APIC mode", "x2apic",
     [](const Difference& d) {
       const bool sent = d.last([](const ChipLine& l) {
         return l.operation == "send" && l.read != differences::kRefused;
       }) != nullptr;
       return !differences::isr_of_pvm(d) && !sent && differences::reads(d, 0x300, 0x300) &&
              d.only_bits(0xffffffff00000000);
     },
     Reach::Line, "SDM 11.12.5.1: cleared; KVM 6.18 shows that of the last time in this mode"},
    {"the sub-class of a CR8 write", "lapic x2apic",
     [](const Difference& d) {
       return !differences::isr_of_pvm(d) &&
              (differences::reads(d, 0x80, 0x80) || differences::reads(d, 0xa0, 0xa0)) &&
              d.only_bits(0x0f);
     },
     Reach::Line,
     "without its LAPIC KVM reports the class of the TPR only, so a CR8 write that keeps the class "
     "is not seen"},
    {"reserved bits of an IOAPIC entry", "ioapic",
     [](const Difference& d) {
       constexpr std::uint64_t kReserved = 0xfffe0000, kReservedHigh = 0x00ffffff;
       const bool high = (d.did("iread") || d.did("iwrite")) && (d.ours().address & 1) != 0;
       return !differences::isr_of_pvm(d) &&
              (d.did("iread") || d.did("iwrite") || d.did("entry")) &&
              d.only_bits(high ? kReservedHigh : kReserved);
     },
     Reach::Line, "82093AA: reserved, ours read 0; KVM keeps what was written"},
    {"IOAPIC polarity bit", "ioapic",
     [](const Difference& d) {
       const ChipLine* entry = differences::entry_of_line(d);
       return !differences::isr_of_pvm(d) && entry != nullptr && (*entry->written & 0x2000) != 0;
     },
     Reach::RestOfEpisode, "82093AA: active low; KVM ignores it"},
    {"an NMI from a level-triggered IOAPIC entry", "ioapic",
     [](const Difference& d) {
       const ChipLine* entry = differences::entry_of_line(d);
       return !differences::isr_of_pvm(d) && entry != nullptr &&
              (*entry->written & 0xa700) == 0x8400;
     },
     Reach::RestOfEpisode,
     "82093AA 3.2.4: an NMI is an edge even so; KVM waits for an EOI that no NMI has"},
    {"a poll of the 8259A without a request", "pic", differences::empty_poll, Reach::Line,
     "the 8259A's data sheet leaves the bits open; ours gives 0, as QEMU's does, KVM's 7"},
    {"a poll of the 8259A", "pic",
     [](const Difference& d) { return differences::follows(d, differences::PicCause::Poll); },
     Reach::RestOfEpisode,
     "8259A: a poll is an acknowledge that puts in service; KVM's clears the in-service bit"},
    {"an edge at the 8259A whose line falls before it is taken", "pic",
     [](const Difference& d) { return differences::follows(d, differences::PicCause::LineFell); },
     Reach::RestOfEpisode, "8259A: a request must stay until it is acknowledged; KVM keeps it"},
    {"ICW1", "pic",
     [](const Difference& d) { return differences::follows(d, differences::PicCause::Restart); },
     Reach::RestOfEpisode,
     "8259A: the edge sense is reset, and what is high asks with its next edge; KVM keeps "
     "requests, "
     "and knows neither LTIM nor SNGL"},
    {"special mask mode", "pic",
     [](const Difference& d) {
       return differences::follows(d, differences::PicCause::SpecialMask);
     },
     Reach::RestOfEpisode, "KVM stores the mode and does nothing with it"},
    {"ELCR while a line is high", "pic",
     [](const Difference& d) { return differences::follows(d, differences::PicCause::Elcr); },
     Reach::RestOfEpisode,
     "a level-triggered input asks while it is high; KVM looks at ELCR only when the line changes"},
    {"port 61h bits 3:2", "pit",
     [](const Difference& d) {
       return d.did("in") && d.ours().address == 0x61 && d.only_bits(0x0c);
     },
     Reach::Line,
     "PIIX: the enable bits of parity and channel check read as written; KVM's read 0"},
    {"null count", "pit", [](const Difference& d) { return d.did("null") && d.kvms().read == 0; },
     Reach::Line, "8254: set until a count is in the counter; KVM has no null count"},
    {"modes 6 and 7 of the PIT", "pit",
     [](const Difference& d) {
       return d.did("status") && d.only_bits(0x08) && d.kvms().read == (*d.ours().read & 0x37);
     },
     Reach::Line, "8254: the status has the mode as written; KVM's has 2 and 3"},
    {"OUT in modes 1, 4 and 5", "pit",
     [](const Difference& d) {
       const unsigned mode = differences::pit_mode(d, static_cast<unsigned>(d.ours().address));
       return d.did("output") && (mode == 1 || mode == 4 || mode == 5) && d.kvms().read == 0;
     },
     Reach::Line, "8254: high but for the pulse; KVM's is low but for it"},
    {"the gate in mode 0", "pit",
     [](const Difference& d) {
       return d.did("output") && d.ours().address == 2 && differences::pit_mode(d, 2) == 0 &&
              differences::pit_gate_low(d);
     },
     Reach::Line, "8254: a low gate stops the counter; KVM's counts on"},
};

}  // namespace vmm
