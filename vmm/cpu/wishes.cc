#include "vmm/cpu/wishes.h"

#include <fmt/format.h>

#include "vmm/cpu/model_sections.h"

namespace vmm {
namespace {

using Kind = CpuOverride::Kind;

// 0 where it is not known.
unsigned width_of(const HostGrant& host) {
  const CpuidRegs* leaf = host.supported.find(0x80000008);
  return leaf != nullptr ? leaf->eax & 0xff : 0;
}

class Wishes {
 public:
  Wishes(Draft& draft, const HostGrant& host, CpuPolicy policy, Unmet unmet)
      : draft_(draft), host_(host), policy_(policy), unmet_(unmet) {}

  Result<void> width() {
    const unsigned theirs = width_of(host_);
    const unsigned mine = draft_.words.cpuid.phys_bits();
    if (theirs == 0 || mine == theirs) return {};
    if (!draft_.width_wish) return mask_width(mine, theirs);
    if (*draft_.width_wish == Kind::PhysExact)
      return refuse(
          Error::host(fmt::format("{} physical address bits are wanted exactly, and this host has "
                                  "{}",
                                  mine, theirs))
              .hint(fmt::format("phys-bits={} is this host's width; without phys-bits=host-exact "
                                "the run goes on and says what follows",
                                theirs)));
    if (mine < theirs) return {};
    draft_.set_width(theirs);
    draft_.notes.push_back(fmt::format("phys-bits=at-most-host: {} in place of {}", theirs, mine));
    return {};
  }

  // Without a wish the policy decides: mask takes away what the host does not have.
  Result<void> mask_width(unsigned mine, unsigned theirs) {
    if (policy_ != CpuPolicy::Mask || mine < theirs) return {};
    draft_.set_width(theirs);
    draft_.notes.push_back(fmt::format(
        "{} physical address bits of {} are masked to {}, the host's", mine, draft_.name, theirs));
    return {};
  }

  Result<void> forbidden() {
    for (const auto& [id, wish] : draft_.wishes) {
      if (wish != Kind::Forbid || !granted_words(host_, draft_.own).has(id)) continue;
      const std::string_view name = FeatureCatalog::get(id).name;
      VMM_TRY(refuse(
          Error::host(fmt::format("{} is forbidden{}, and this host gives it", name, group_of(id)))
              .hint(fmt::format("-{} hides it and lets the guest run", name))));
    }
    return {};
  }

  void optional(std::vector<Refusal>& refusals) {
    bool left_out = false;
    for (const Refusal& refusal : refusals) {
      if (!wished(refusal, Kind::Optional)) continue;
      draft_.drop(refusal.place);
      draft_.notes.push_back(fmt::format("optional {} is left out: refused by {}: {}",
                                         refusal.bit.name, refusal.bit.refused_by,
                                         refusal.bit.reason));
      left_out = true;
    }
    if (!left_out) return;
    draft_.finish();
    refusals = find_refusals(draft_.words, host_, draft_.own);
  }

  Result<void> required(const std::vector<Refusal>& refusals) {
    // Strict refuses them with all the others.
    if (policy_ == CpuPolicy::Strict) return {};
    for (const Refusal& refusal : refusals) {
      if (!wished(refusal, Kind::Require)) continue;
      const MissingBit& bit = refusal.bit;
      VMM_TRY(refuse(Error::host(fmt::format("{} is required{}, and refused by {}: {}", bit.name,
                                             group_of(*FeatureCatalog::at(refusal.place)),
                                             bit.refused_by, bit.reason))
                         .hint(fmt::format("optional:{} runs without it", bit.name))));
    }
    return {};
  }

 private:
  Result<void> refuse(Error error) {
    if (unmet_ == Unmet::Refuse) return fail(std::move(error));
    draft_.notes.push_back(fmt::format("a run here would be refused (77): {}", error.text()));
    return {};
  }

  bool wished(const Refusal& refusal, Kind kind) const {
    const auto id = FeatureCatalog::at(refusal.place);
    const auto at = id ? draft_.wishes.find(*id) : draft_.wishes.end();
    return at != draft_.wishes.end() && at->second == kind;
  }

  std::string group_of(FeatureId id) const {
    const auto at = draft_.groups.find(id);
    return at == draft_.groups.end() ? std::string() : fmt::format(" (group {})", at->second);
  }

  Draft& draft_;
  const HostGrant& host_;
  CpuPolicy policy_;
  Unmet unmet_;
};

}  // namespace

Result<void> apply_wishes(Draft& draft, const HostGrant& host, CpuPolicy policy, Unmet unmet,
                          std::vector<Refusal>& refusals) {
  if (host.supported.entries().empty()) return {};
  Wishes wishes(draft, host, policy, unmet);
  VMM_TRY(wishes.width());
  VMM_TRY(wishes.forbidden());
  wishes.optional(refusals);
  return wishes.required(refusals);
}

void note_widths(Draft& draft, const HostGrant& host) {
  const unsigned theirs = width_of(host);
  const unsigned mine = draft.words.cpuid.phys_bits();
  if (theirs == 0 || mine == theirs) return;
  const std::string widths =
      fmt::format("{} has {} physical address bits, the host {}", draft.name, mine, theirs);
  if (mine > theirs)
    draft.notes.push_back(
        fmt::format("{}: bit {} and up in a page table is a reserved-bit fault", widths, theirs));
  else if (theirs - mine == 1)
    draft.notes.push_back(
        fmt::format("{}: bit {} in a page table is no reserved bit there", widths, mine));
  else
    draft.notes.push_back(fmt::format("{}: page-table bits {} to {} are no reserved bits there",
                                      widths, mine, theirs - 1));
}

std::vector<CpuWish> wishes_of(const Draft& draft) {
  std::vector<CpuWish> wishes;
  for (const auto& [id, kind] : draft.wishes) {
    if (kind != Kind::Require && kind != Kind::Optional && kind != Kind::Forbid) continue;
    const auto group = draft.groups.find(id);
    wishes.push_back({id, kind, group == draft.groups.end() ? std::string() : group->second});
  }
  return wishes;
}

std::vector<std::string> wish_texts(const std::vector<CpuWish>& wishes,
                                    const std::optional<Kind>& width) {
  std::vector<std::string> texts;
  for (const CpuWish& wish : wishes)
    texts.push_back(
        fmt::format("{}:{}", section_of(wish.kind), FeatureCatalog::get(wish.feature).name));
  if (width) texts.push_back(CpuOverride{*width, 0, 0}.text());
  return texts;
}

}  // namespace vmm
