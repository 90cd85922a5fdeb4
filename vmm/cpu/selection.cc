#include "vmm/cpu/selection.h"

#include <fmt/format.h>

#include <optional>

#include "vmm/base/text.h"
#include "vmm/cpu/vmx.h"

namespace vmm {
namespace {

constexpr std::size_t kMaxLength = 8192;
constexpr std::size_t kMaxOverrides = 256;

constexpr std::pair<std::string_view, CpuOverride::Kind> kPolicies[] = {
    {"require:", CpuOverride::Kind::Require},
    {"optional:", CpuOverride::Kind::Optional},
    {"forbid:", CpuOverride::Kind::Forbid},
};

// Bits that have another master than the user.
std::optional<std::string> why_fixed(const Feature& feature) {
  if (feature.name == "hypervisor") return "is always set: the guest runs under one";
  if (feature.name == "ht" || feature.name == "cmp-legacy")
    return "follows from the threads and cores of --smp";
  if (feature.name == "fdp-excptn-only" || feature.name == "zero-fcs-fds")
    return "means 'absent' when set, and is always set";
  if (feature.name == "xss-cet-u" || feature.name == "xss-cet-s")
    return "follows from shstk and ibt";
  return std::nullopt;
}

Result<FeatureId> find_free_feature(std::string_view name) {
  const FeatureId id = VMM_TRY(find_feature(name));
  const Feature& feature = FeatureCatalog::get(id);
  if (const auto why = why_fixed(feature))
    return fail(Error::usage(fmt::format("CPU feature '{}' {}", feature.name, *why)));
  return id;
}

Result<CpuOverride> parse_override(std::string_view text) {
  if (text.starts_with('+') || text.starts_with('-'))
    return CpuOverride{text.front() == '+' ? CpuOverride::Kind::Add : CpuOverride::Kind::Remove,
                       VMM_TRY(find_free_feature(trim(text.substr(1)))), 0};
  // vmx.+ctl is +vmx.ctl.
  if (lower(text.substr(0, 4)) == "vmx." && (text.substr(4, 1) == "+" || text.substr(4, 1) == "-"))
    return parse_override(fmt::format("{}vmx.{}", text[4], trim(text.substr(5))));
  for (const auto& [word, kind] : kPolicies)
    if (lower(text.substr(0, word.size())) == word)
      return CpuOverride{kind, VMM_TRY(find_free_feature(trim(text.substr(word.size())))), 0};
  const std::size_t equals = text.find('=');
  if (equals == std::string_view::npos)
    return fail(Error::usage(fmt::format("'{}' changes nothing", printable(text, 60)))
                    .hint(fmt::format("write +{0} or -{0}", printable(text, 60))));
  const std::string_view key = trim(text.substr(0, equals));
  const std::string_view value = trim(text.substr(equals + 1));
  if (lower(key) == "phys-bits" || lower(key) == "phys_bits") {
    if (lower(value) == "host-exact") return CpuOverride{CpuOverride::Kind::PhysExact, 0, 0};
    if (lower(value) == "at-most-host") return CpuOverride{CpuOverride::Kind::PhysAtMost, 0, 0};
    const auto number = parse_number(value);
    if (!number || *number < 32 || *number > 52)
      return fail(
          Error::usage(fmt::format("phys-bits={}: a number of bits from 32 to 52 is meant, "
                                   "host-exact or at-most-host",
                                   printable(value, 40))));
    return CpuOverride{CpuOverride::Kind::PhysBits, 0, static_cast<unsigned>(*number)};
  }
  const std::string state = lower(value);
  const bool on = state == "on" || state == "true" || state == "yes" || state == "1";
  const bool off = state == "off" || state == "false" || state == "no" || state == "0";
  const FeatureId id = VMM_TRY(find_free_feature(key));
  if (state == "fixed" && is_vmx_control_msr(FeatureCatalog::get(id).place.word.index))
    return CpuOverride{CpuOverride::Kind::Fix, id, 0};
  if (!on && !off)
    return fail(Error::usage(
        fmt::format("{}={}: 'on' or 'off' is meant", printable(key, 40), printable(value, 40))));
  return CpuOverride{on ? CpuOverride::Kind::Add : CpuOverride::Kind::Remove, id, 0};
}

}  // namespace

std::string CpuOverride::text() const {
  switch (kind) {
    case Kind::Add:
      return fmt::format("+{}", FeatureCatalog::get(feature).name);
    case Kind::Remove:
      return fmt::format("-{}", FeatureCatalog::get(feature).name);
    case Kind::Fix:
      return fmt::format("{}=fixed", FeatureCatalog::get(feature).name);
    case Kind::Require:
    case Kind::Optional:
    case Kind::Forbid:
      for (const auto& [word, policy] : kPolicies)
        if (policy == kind) return fmt::format("{}{}", word, FeatureCatalog::get(feature).name);
      break;
    case Kind::PhysExact:
      return "phys-bits=host-exact";
    case Kind::PhysAtMost:
      return "phys-bits=at-most-host";
    case Kind::PhysBits:
      break;
  }
  return fmt::format("phys-bits={}", phys_bits);
}

bool is_rule_host(const CpuSelection& selection) { return lower(selection.model) == "host"; }

Result<CpuSelection> parse_cpu_selection(std::string_view text) {
  if (text.size() > kMaxLength)
    return fail(Error::usage(fmt::format("a CPU model of {} characters", text.size())));
  const std::vector<std::string_view> parts = split(text, ',');
  CpuSelection selection;
  selection.model = trim(parts.front());
  const auto here = [&](Error error) {
    return fail(std::move(error).context(fmt::format("--cpu-model {}", printable(text, 120))));
  };
  if (selection.model.empty())
    return here(Error::usage("no model is named").hint("vmm cpu list shows the models"));
  if (parts.size() - 1 > kMaxOverrides)
    return here(Error::usage(
        fmt::format("{} overrides, at most {} are allowed", parts.size() - 1, kMaxOverrides)));
  for (std::size_t i = 1; i < parts.size(); ++i) {
    auto change = parse_override(trim(parts[i]));
    if (!change) return here(std::move(change).error());
    selection.overrides.push_back(*change);
  }
  return selection;
}

}  // namespace vmm
