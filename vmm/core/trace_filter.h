// --trace-filter: which events go into a trace. The grammar is in docs/traces.md.
#pragma once

#include <bitset>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/base/result.h"
#include "vmm/core/trace.h"

namespace vmm {

class TraceFilter {
 public:
  // Lets everything pass.
  TraceFilter() = default;
  // Each of `alternatives` is a list of terms, "kind=sipi|init,vcpu=0"; an event passes when all
  // terms of one of them fit. A Usage error names the term and what would be right.
  static Result<TraceFilter> parse(std::span<const std::string> alternatives);

  bool matches(const TraceEvent& event) const;

  // Kinds and groups that a term asks for and of which `chip` shows nothing; each once.
  std::vector<std::string_view> invisible_under(IrqChipKind chip) const;
  // Kinds and groups that a term asks for and of which all belong to `groups`; each once.
  std::vector<std::string_view> asked_of(unsigned groups) const;
  // Whether `device=wanted` means the device of that name: "lapic" is lapic, lapic0, lapic1, ...
  static bool means_device(std::string_view wanted, std::string_view name);
  // Devices that terms name, in lower case, without "none".
  std::vector<std::string> devices() const;

 private:
  static constexpr std::size_t kKinds = kTraceKinds.size();
  struct Range {
    std::uint64_t first = 0;
    std::uint64_t last = 0;
  };
  struct Asked {  // one value of `kind`
    std::string_view name;
    std::bitset<kKinds> kinds;
  };
  enum class Key : std::uint8_t { Kind, Vcpu, Device, Port, Address, Msr, Vector, Gsi };
  struct Term {
    Key key = Key::Kind;
    bool negated = false;
    std::bitset<kKinds> kinds;
    std::vector<std::string> names;
    std::vector<Range> ranges;
    std::vector<Asked> asked;

    bool fits(const TraceEvent& event) const;
  };
  template <typename Fits>
  std::vector<std::string_view> asked_where(const Fits& fits) const;
  static Result<Term> parse_term(std::string_view text);
  static Result<void> parse_value(std::string_view value, Term& term);
  static Result<Asked> parse_kind(std::string_view value);
  static Result<Range> parse_range(std::string_view value, const Term& term);

  std::vector<std::vector<Term>> alternatives_;
};

}  // namespace vmm
