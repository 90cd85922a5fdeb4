#include "vmm/nested/ept.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "vmm/base/bytes.h"
#include "vmm/base/text.h"
#include "vmm/base/units.h"

namespace vmm::nested {
namespace {

constexpr std::array<std::string_view, 6> kEntryNames = {"",          "EPT PTE",   "EPT PDE",
                                                         "EPT PDPTE", "EPT PML4E", "EPT PML5E"};

constexpr std::uint64_t page_size_at(unsigned level) { return 1ull << (12 + 9 * (level - 1)); }

// A walk in progress.
class Walker {
 public:
  Walker(const MemoryReader& memory, const EptFeatures& features, const EptAccess& access)
      : memory_(memory), features_(features), access_(access) {}

  EptWalk walk(std::uint64_t pointer, Gpa address) {
    unsigned level = bits(pointer, 5, 3) == 4 ? 5 : 4;
    if (address >> (12 + 9 * level) != 0) {
      violation(fmt::format("address {:X}h is beyond the {} bits of a walk of {} levels", address,
                            12 + 9 * level, level));
      return std::move(walk_);
    }
    Gpa table = pointer & address_mask();
    for (; level >= 1; --level) {
      const auto index = static_cast<unsigned>(bits(address, 11 + 9 * level, 3 + 9 * level));
      const Gpa entry_gpa = table + index * 8ull;
      const auto entry = memory_.read_value<std::uint64_t>(entry_gpa);
      if (!entry) {
        violation(fmt::format("the {} at {:X}h is not RAM", kEntryNames[level], entry_gpa));
        return std::move(walk_);
      }
      walk_.steps.push_back({kEntryNames[level], index, entry_gpa, *entry});
      if (!accept(*entry, level)) return std::move(walk_);
      if (is_leaf(*entry, level)) {
        finish(*entry, level, address);
        return std::move(walk_);
      }
      table = *entry & address_mask();
    }
    return std::move(walk_);
  }

 private:
  std::uint64_t address_mask() const {
    return low_mask(features_.phys_bits) & ~std::uint64_t{0xfff};
  }
  bool present(std::uint64_t entry) const {
    return (entry & 7) != 0 || (features_.mode_based_execute && bit(entry, 10));
  }
  static bool is_leaf(std::uint64_t entry, unsigned level) {
    return level == 1 || (level <= 3 && bit(entry, 7));
  }

  // An entry that is present and not misconfigured (SDM 28.3.3.1), and what it allows.
  bool accept(std::uint64_t entry, unsigned level) {
    if (!present(entry)) return violation(fmt::format("the {} is not present", name(level)));
    if (bit(entry, 1) && !bit(entry, 0))
      return misconfigured(fmt::format("the {} is writable and not readable", name(level)));
    if (!bit(entry, 0) && !features_.execute_only)
      return misconfigured(fmt::format(
          "the {} can only be executed, and IA32_VMX_EPT_VPID_CAP (48Ch)[0] is 0", name(level)));
    const std::uint64_t reserved = entry & reserved_bits(entry, level);
    if (reserved != 0)
      return misconfigured(fmt::format("the {} has reserved bits set: {:X}h{}", name(level),
                                       reserved, reason_of(reserved, level)));
    if (is_leaf(entry, level) && !known_type(static_cast<unsigned>(bits(entry, 5, 3))))
      return misconfigured(
          fmt::format("the {} has memory type {}", name(level), bits(entry, 5, 3)));
    walk_.readable = walk_.readable && bit(entry, 0);
    walk_.writable = walk_.writable && bit(entry, 1);
    const unsigned execute = features_.mode_based_execute && access_.user ? 10 : 2;
    walk_.executable = walk_.executable && bit(entry, execute);
    return true;
  }

  std::uint64_t reserved_bits(std::uint64_t entry, unsigned level) const {
    // Above MAXPHYADDR up to 51; the rest is ignored or has a meaning.
    std::uint64_t reserved = low_mask(52) & ~low_mask(features_.phys_bits);
    if (level >= 4) return reserved | 0xf8;  // bits 7:3
    if (level == 1) return reserved;
    const bool big = level == 3 ? features_.pages_1g : features_.pages_2m;
    if (!bit(entry, 7)) return reserved | 0x78;  // bits 6:3
    return reserved | (big ? low_mask(12 + 9 * (level - 1)) & ~low_mask(12) : 1u << 7);
  }
  std::string reason_of(std::uint64_t reserved, unsigned level) const {
    if (!bit(reserved, 7) || level >= 4 || level == 1)
      return (reserved >> features_.phys_bits) != 0
                 ? fmt::format(", MAXPHYADDR is {}", features_.phys_bits)
                 : std::string();
    return fmt::format(", {} pages need IA32_VMX_EPT_VPID_CAP (48Ch)[{}]",
                       level == 3 ? "1 GiB" : "2 MiB", level == 3 ? 17 : 16);
  }
  static bool known_type(unsigned type) {
    return type == 0 || type == 1 || type == 4 || type == 5 || type == 6;
  }

  void finish(std::uint64_t entry, unsigned level, Gpa address) {
    walk_.page_size = page_size_at(level);
    walk_.memory_type = static_cast<unsigned>(bits(entry, 5, 3));
    walk_.ignore_pat = bit(entry, 6);
    const std::uint64_t offset = low_mask(12 + 9 * (level - 1));
    const bool allowed = access_.write   ? walk_.writable
                         : access_.fetch ? walk_.executable
                                         : walk_.readable;
    if (!allowed) {
      violation(fmt::format("the entries together do not allow {}", access_.write   ? "writing"
                                                                    : access_.fetch ? "executing"
                                                                                    : "reading"));
      return;
    }
    walk_.address = (entry & address_mask() & ~offset) | (address & offset);
  }

  static std::string_view name(unsigned level) { return kEntryNames[level]; }
  bool violation(std::string text) {
    walk_.exit_reason = 48;
    walk_.failure = std::move(text);
    return false;
  }
  bool misconfigured(std::string text) {
    walk_.exit_reason = 49;
    walk_.failure = std::move(text);
    return false;
  }

  const MemoryReader& memory_;
  const EptFeatures& features_;
  const EptAccess& access_;
  EptWalk walk_;
};

}  // namespace

EptFeatures EptFeatures::from(std::optional<std::uint64_t> cap, unsigned phys_bits,
                              bool mode_based_execute) {
  EptFeatures features;
  features.phys_bits = std::clamp(phys_bits, 32u, 52u);
  features.mode_based_execute = mode_based_execute;
  if (!cap) return features;
  features.execute_only = bit(*cap, 0);
  features.pages_2m = bit(*cap, 16);
  features.pages_1g = bit(*cap, 17);
  return features;
}

EptWalk walk_ept(const MemoryReader& memory, std::uint64_t pointer, const EptFeatures& features,
                 Gpa l2_address, const EptAccess& access) {
  return Walker(memory, features, access).walk(pointer, l2_address);
}

std::string_view memory_type_name(unsigned type) {
  static constexpr std::string_view kNames[] = {"UC", "WC", "2?", "3?", "WT", "WP", "WB", "7?"};
  return kNames[type & 7];
}

std::vector<std::string> describe(const EptWalk& walk) {
  std::vector<std::string> lines;
  for (const EptStep& step : walk.steps) {
    const bool last = &step == &walk.steps.back();
    std::string line = fmt::format("{}[{}] at {:X}h = {:X}h {}{}{}", step.entry_name, step.index,
                                   step.entry_gpa, step.entry, bit(step.entry, 0) ? "R" : "-",
                                   bit(step.entry, 1) ? "W" : "-", bit(step.entry, 2) ? "X" : "-");
    if (last && walk.page_size != 0)
      line += fmt::format(" {} {}{}", format_size(walk.page_size),
                          memory_type_name(walk.memory_type), walk.ignore_pat ? " IPAT" : "");
    if (last && !walk.failure.empty()) line += "  <-";
    lines.push_back(std::move(line));
  }
  if (walk.address)
    lines.push_back(fmt::format("leads to {:X}h", *walk.address));
  else
    lines.push_back(fmt::format(
        "EPT {}: {}", walk.exit_reason == 49 ? "misconfiguration" : "violation", walk.failure));
  return lines;
}

}  // namespace vmm::nested
