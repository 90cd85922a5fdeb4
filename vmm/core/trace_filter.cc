#include "vmm/core/trace_filter.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <utility>

#include "vmm/base/text.h"

namespace vmm {
namespace {

struct Group {
  std::string_view name;
  unsigned bits;
};
constexpr Group kGroups[] = {{"exit", trace_group::kExit},   {"access", trace_group::kAccess},
                             {"apic", trace_group::kApic},   {"timer", trace_group::kTimer},
                             {"start", trace_group::kStart}, {"kvm", trace_group::kKvm}};

constexpr std::string_view kNobody = "none";

struct KeyInfo {
  std::string_view name;
  std::string_view example;
  unsigned base;  // of its numbers; 0: names
  std::uint64_t largest;
};
// In the order of TraceFilter::Key.
constexpr KeyInfo kKeys[] = {
    {"kind", "kind=sipi|init or kind=access", 0, 0},
    {"vcpu", "vcpu=0 or vcpu=1-3", 10, 63},
    {"device", "device=serial0", 0, 0},
    {"port", "port=3f8-3ff", 16, 0xffff},
    {"address", "address=fec00000-fec00fff", 16, ~std::uint64_t{0}},
    {"msr", "msr=6e0 or msr=800-8ff", 16, 0xffffffff},
    {"vector", "vector=30", 16, 0xff},
    {"gsi", "gsi=4", 10, 23},
};

template <typename Names>
std::string nearest_hint(std::string_view wanted, const Names& names, std::string_view all) {
  const std::vector<std::string> list(names.begin(), names.end());
  if (const auto nearest = nearest_name(wanted, list))
    return fmt::format("did you mean {}?", *nearest);
  return fmt::format("{}: {}", all, fmt::join(list, ", "));
}

// 3f8, 0x3f8 and 3f8h are one number where numbers are hexadecimal.
std::optional<std::uint64_t> number_of(std::string_view text, unsigned base) {
  if (base == 16 && text.size() > 2 && (text.starts_with("0x") || text.starts_with("0X")))
    text.remove_prefix(2);
  else if (base == 16 && text.size() > 1 && (text.ends_with('h') || text.ends_with('H')))
    text.remove_suffix(1);
  std::uint64_t value = 0;
  const char* end = text.data() + text.size();
  const auto [stopped, error] = std::from_chars(text.data(), end, value, static_cast<int>(base));
  if (error != std::errc() || stopped != end || text.empty()) return std::nullopt;
  return value;
}

// What a key looks at, where an event has it.
bool is_port(TraceKind kind) { return kind == "in" || kind == "out"; }
bool is_memory(TraceKind kind) { return kind == "mmio-read" || kind == "mmio-write"; }
bool is_msr(TraceKind kind) { return kind == "rdmsr" || kind == "wrmsr"; }

}  // namespace

bool TraceFilter::Term::fits(const TraceEvent& e) const {
  const auto in_range = [&](std::uint64_t first, std::uint64_t size = 1) {
    return std::ranges::any_of(ranges, [&](const Range& range) {
      return first <= range.last && first + (size - 1) >= range.first;
    });
  };
  // An access of several bytes touches each of their addresses.
  const std::uint64_t size = std::max<std::uint64_t>(e.width, 1);
  const auto fields = e.kind.info().fields;
  switch (key) {
    case Key::Kind:
      return kinds.test(e.kind.index());
    case Key::Vcpu:
      return (e.vcpu != kNoVcpu && in_range(e.vcpu)) || (e.other != kNoVcpu && in_range(e.other));
    case Key::Device:
      return std::ranges::any_of(names, [&](const std::string& name) {
        return e.device.empty() ? name == kNobody && fields == TraceFields::Access
                                : means_device(name, e.device);
      });
    case Key::Port:
      return is_port(e.kind) && in_range(e.address, size);
    case Key::Address:
      return is_memory(e.kind) && in_range(e.address, size);
    case Key::Msr:
      return is_msr(e.kind) && in_range(e.address);
    case Key::Vector:
      return (fields == TraceFields::Vector || fields == TraceFields::Message) &&
             in_range(e.value & 0xff);
    case Key::Gsi:
      return fields == TraceFields::Line && in_range(e.address);
  }
  return false;
}

bool TraceFilter::means_device(std::string_view wanted, std::string_view name) {
  return name.starts_with(wanted) &&
         name.find_first_not_of("0123456789", wanted.size()) == std::string_view::npos;
}

bool TraceFilter::matches(const TraceEvent& event) const {
  if (alternatives_.empty()) return true;
  return std::ranges::any_of(alternatives_, [&](const std::vector<Term>& terms) {
    return std::ranges::all_of(terms,
                               [&](const Term& term) { return term.fits(event) != term.negated; });
  });
}

Result<TraceFilter> TraceFilter::parse(std::span<const std::string> alternatives) {
  TraceFilter filter;
  for (const std::string& text : alternatives) {
    std::vector<Term> terms;
    for (const std::string_view part : split(text, ','))
      terms.push_back(VMM_TRY_CONTEXT(parse_term(trim(part)), "--trace-filter"));
    filter.alternatives_.push_back(std::move(terms));
  }
  return filter;
}

Result<TraceFilter::Term> TraceFilter::parse_term(std::string_view text) {
  Term term;
  std::string_view rest = text;
  if (rest.starts_with('!')) {
    term.negated = true;
    rest.remove_prefix(1);
  }
  std::vector<std::string_view> keys;
  for (const KeyInfo& info : kKeys) keys.push_back(info.name);
  const std::size_t equals = rest.find('=');
  if (equals == std::string_view::npos)
    return fail(Error::usage(fmt::format("'{}' is not KEY=VALUE", printable(text)))
                    .hint(fmt::format("write for instance kind=sipi|init,vcpu=0; keys: {}",
                                      fmt::join(keys, ", "))));
  const std::string key = lower(trim(rest.substr(0, equals)));
  const auto found = std::ranges::find(kKeys, key, &KeyInfo::name);
  if (found == std::end(kKeys))
    return fail(
        Error::usage(fmt::format("'{}': no key is named '{}'", printable(text), printable(key)))
            .hint(nearest_hint(key, keys, "keys")));
  term.key = static_cast<Key>(found - std::begin(kKeys));
  for (const std::string_view value : split(rest.substr(equals + 1), '|'))
    VMM_TRY_CONTEXT(parse_value(trim(value), term), fmt::format("'{}'", printable(text)));
  return term;
}

Result<void> TraceFilter::parse_value(std::string_view value, Term& term) {
  const KeyInfo& key = kKeys[static_cast<std::size_t>(term.key)];
  if (value.empty())
    return fail(Error::usage(fmt::format("{}= needs a value", key.name))
                    .hint(fmt::format("write for instance {}", key.example)));
  if (key.base != 0) {
    term.ranges.push_back(VMM_TRY(parse_range(value, term)));
  } else if (term.key == Key::Device) {
    term.names.push_back(lower(value));
  } else {
    term.asked.push_back(VMM_TRY(parse_kind(value)));
    term.kinds |= term.asked.back().kinds;
  }
  return {};
}

Result<TraceFilter::Asked> TraceFilter::parse_kind(std::string_view value) {
  const std::string name = lower(value);
  Asked asked;
  if (const auto kind = TraceKind::from_name(name)) {
    asked.name = kind->name();
    asked.kinds.set(kind->index());
    return asked;
  }
  std::vector<std::string_view> names;
  for (const Group& group : kGroups) {
    names.push_back(group.name);
    if (group.name != name) continue;
    asked.name = group.name;
    for (std::size_t i = 0; i < kKinds; ++i)
      if ((kTraceKinds[i].groups & group.bits) != 0) asked.kinds.set(i);
    return asked;
  }
  for (const TraceKindInfo& info : kTraceKinds) names.push_back(info.name);
  return fail(Error::usage(fmt::format("no kind of event is named '{}'", printable(value)))
                  .hint(nearest_hint(name, names, "groups and kinds")));
}

Result<TraceFilter::Range> TraceFilter::parse_range(std::string_view value, const Term& term) {
  const KeyInfo& key = kKeys[static_cast<std::size_t>(term.key)];
  const auto wrong = [&](std::string_view why) {
    return fail(Error::usage(fmt::format("{}={}: {}", key.name, printable(value), why))
                    .hint(fmt::format("write for instance {}", key.example)));
  };
  const std::size_t dash = value.find('-');
  const auto first = number_of(value.substr(0, dash), key.base);
  const auto last =
      dash == std::string_view::npos ? first : number_of(value.substr(dash + 1), key.base);
  if (!first || !last)
    return wrong(key.base == 16 ? "not a hexadecimal number or a range of two"
                                : "not a number or a range of two");
  if (*last < *first) return wrong("the range ends before it begins");
  if (*last > key.largest)
    return wrong(key.base == 16 ? fmt::format("the largest is {:x}", key.largest)
                                : fmt::format("the largest is {}", key.largest));
  return Range{*first, *last};
}

// The names of what is asked for and where every kind that it means fits.
template <typename Fits>
std::vector<std::string_view> TraceFilter::asked_where(const Fits& fits) const {
  std::vector<std::string_view> names;
  const auto all_fit = [&](const Asked& asked) {
    for (std::size_t i = 0; i < kKinds; ++i)
      if (asked.kinds.test(i) && !fits(kTraceKinds[i])) return false;
    return true;
  };
  for (const auto& terms : alternatives_)
    for (const Term& term : terms)
      for (const Asked& asked : term.asked)
        if (!term.negated && all_fit(asked) && std::ranges::find(names, asked.name) == names.end())
          names.push_back(asked.name);
  return names;
}

std::vector<std::string_view> TraceFilter::invisible_under(IrqChipKind chip) const {
  return asked_where(
      [&](const TraceKindInfo& kind) { return (kind.chips & trace_detail::seen(chip)) == 0; });
}

std::vector<std::string_view> TraceFilter::asked_of(unsigned groups) const {
  return asked_where([&](const TraceKindInfo& kind) { return (kind.groups & groups) != 0; });
}

std::vector<std::string> TraceFilter::devices() const {
  std::vector<std::string> names;
  for (const auto& terms : alternatives_)
    for (const Term& term : terms)
      for (const std::string& name : term.names)
        if (name != kNobody) names.push_back(name);
  return names;
}

}  // namespace vmm
