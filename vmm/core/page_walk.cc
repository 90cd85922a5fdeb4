#include "vmm/core/page_walk.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>
#include <set>
#include <utility>

#include "vmm/base/bytes.h"
#include "vmm/core/page_tables.h"

namespace vmm {

using namespace page_tables;

namespace {

constexpr std::uint64_t kRw = 1u << 1;
constexpr std::uint64_t kUs = 1u << 2;
constexpr std::uint64_t kBit8 = 1u << 8;
constexpr std::uint64_t kNx = 1ull << 63;

constexpr std::uint32_t kErrorP = 1u << 0;
constexpr std::uint32_t kErrorW = 1u << 1;
constexpr std::uint32_t kErrorU = 1u << 2;
constexpr std::uint32_t kErrorRsvd = 1u << 3;
constexpr std::uint32_t kErrorI = 1u << 4;

std::string_view name_of_level(unsigned level) {
  constexpr std::array<std::string_view, 6> kNames = {"", "PTE", "PDE", "PDPTE", "PML4E", "PML5E"};
  return kNames[level];
}

// A broken rule of one present entry: "has WHAT: WHY".
struct EntryFault {
  std::string_view rule;
  std::string what;
  std::string why;
  std::string_view depends_on{};
  std::string_view feature{};
};

std::string bit_list(std::uint64_t value) {
  std::string text;
  int more = 0;
  for (unsigned i = 0; i < 64; ++i) {
    if (!bit(value, i)) continue;
    if (text.size() > 16)
      ++more;
    else
      text += fmt::format("{}{}", text.empty() ? "" : ", ", i);
  }
  const bool one = (value & (value - 1)) == 0;
  return fmt::format("bit{} {}{}", one ? "" : "s", text,
                     more != 0 ? fmt::format(" and {} more", more) : "");
}

std::optional<EntryFault> entry_fault_32(const PagingContext& context, bool leaf, unsigned level,
                                         std::uint64_t entry) {
  if (!leaf || level == 1) return std::nullopt;  // no reserved bits
  const unsigned width = pse36_bits(context.features);
  const std::uint64_t reserved = (low_mask(22) & ~low_mask(width - 32 + 13)) & entry;
  if (reserved == 0) return std::nullopt;
  if ((reserved & ~(1ull << 21)) != 0 && !context.features.pse36)
    return EntryFault{"reserved-pse36", bit_list(reserved) + " set, a 4 MiB page above 4 GiB",
                      "reserved while CPUID 1.EDX[17] (pse36) is 0", "CPUID 1.EDX[17] (pse36)",
                      "pse36"};
  return EntryFault{"reserved-large-page", bit_list(reserved) + " set",
                    fmt::format("bits 21:{} of a 4 MiB page are reserved here", width - 32 + 13)};
}

// The rules on reserved bits of a present entry (SDM 4.3 to 4.5, APM 5.3). The bits of a PAE PDPTE
// are checked when CR3 is loaded.
std::optional<EntryFault> entry_fault(const PagingContext& context, PagingMode mode, unsigned level,
                                      std::uint64_t entry) {
  const bool leaf = is_leaf(context, mode, level, entry);
  if (mode == PagingMode::Bits32) return entry_fault_32(context, leaf, level, entry);
  const PagingFeatures& features = context.features;
  const std::string_view name = name_of_level(level);
  if (mode == PagingMode::Pae && level == 3) {
    constexpr std::uint64_t kLow = 0x6 | 0x1e0;
    if ((entry & kLow) != 0)
      return EntryFault{"reserved-pae-pdpte", bit_list(entry & kLow) + " set",
                        "bits 2:1 and 8:5 of a PAE PDPTE are reserved"};
    if ((entry & ~low_mask(features.phys_bits)) != 0)
      return EntryFault{
          "reserved-phys", bit_list(entry & ~low_mask(features.phys_bits)) + " set",
          fmt::format("reserved: MAXPHYADDR (CPUID 80000008h.EAX[7:0]) is {}", features.phys_bits),
          "CPUID 80000008h.EAX[7:0] (MAXPHYADDR)"};
    return std::nullopt;
  }
  if (level >= 4 && (entry & kPs) != 0)
    return EntryFault{level == 4 ? "reserved-ps-pml4e" : "reserved-ps-pml5e", "PS (bit 7) set",
                      fmt::format("bit 7 of a {} is always reserved", name)};
  if (level == 3 && leaf && !features.pdpe1gb)
    return EntryFault{"reserved-ps-pdpte", "PS (bit 7) set, a 1 GiB page",
                      "reserved while CPUID 80000001h.EDX[26] (pdpe1gb) is 0",
                      "CPUID 80000001h.EDX[26] (pdpe1gb)", "pdpe1gb"};
  if (level >= 4 && features.amd && (entry & kBit8) != 0)
    return EntryFault{"reserved-bit8", "bit 8 set",
                      fmt::format("bit 8 of a {} must be zero on AMD", name)};
  if ((entry & kNx) != 0 && (context.efer & spec::EFER_NXE) == 0)
    return EntryFault{"reserved-nx", "NX (bit 63) set", "reserved while EFER.NXE is 0", "EFER.NXE",
                      features.nx ? "" : "nx"};
  // 62:52 are free in the 64-bit modes and reserved in PAE (SDM table 4-10, 4-11).
  const std::uint64_t high =
      entry & low_mask(is_long(mode) ? 52 : 63) & ~low_mask(features.phys_bits);
  if (high != 0)
    return EntryFault{
        "reserved-phys", bit_list(high) + " set",
        fmt::format("reserved: MAXPHYADDR (CPUID 80000008h.EAX[7:0]) is {}", features.phys_bits),
        "CPUID 80000008h.EAX[7:0] (MAXPHYADDR)"};
  if (leaf && level > 1) {
    const unsigned top = level == 3 ? 29 : 20;
    const std::uint64_t low = entry & low_mask(top + 1) & ~low_mask(13);
    if (low != 0)
      return EntryFault{
          "reserved-large-page", bit_list(low) + " set",
          fmt::format("bits {}:13 of a {} page are reserved", top, level == 3 ? "1 GiB" : "2 MiB")};
  }
  return std::nullopt;
}

std::string flags_of(const PagingMode mode, unsigned level, std::uint64_t entry) {
  if ((entry & kP) == 0) return "not present";
  std::string text = "P";
  const bool pae_pdpte = mode == PagingMode::Pae && level == 3;
  const auto add = [&](unsigned index, std::string_view name) {
    if (bit(entry, index)) text += fmt::format(" {}", name);
  };
  if (pae_pdpte) return text;
  add(1, "RW");
  add(2, "US");
  add(5, "A");
  if (level == 1 || (entry & kPs) != 0) add(6, "D");
  if (level > 1) add(7, "PS");
  add(63, "NX");
  return text;
}

// The rules on rights (SDM 4.6.1), once the whole walk is known.
std::optional<WalkFailure> access_fault(const PagingContext& context, const Walk& walk,
                                        const PageAccess& access) {
  const auto failure = [&](std::string rule, std::string text, std::string depends_on = "") {
    // The entry that takes the right away, the first from the root.
    unsigned level = 0;
    for (const WalkStep& step : walk.steps) {
      if (walk.mode == PagingMode::Pae && step.level == 3) continue;
      const bool takes = rule == "nx"                ? (step.entry & kNx) != 0
                         : rule == "read-only"       ? (step.entry & kRw) == 0
                         : rule == "supervisor-page" ? (step.entry & kUs) == 0
                                                     : step.page_size != 0;
      if (!takes) continue;
      level = step.level;
      text = fmt::format("{}[{}] at {:x}h = {:x}h: {}", step.entry_name, step.index, step.entry_gpa,
                         step.entry, text);
      break;
    }
    return WalkFailure{std::move(rule), level, std::move(text), std::move(depends_on), "", 14,
                       kErrorP};
  };
  const bool user = access.user && !access.implicit;
  const bool wp = (context.cr0 & spec::CR0_WP) != 0;
  if (user && !walk.user)
    return failure("supervisor-page", "U/S (bit 2) clear, and the access is of CPL 3");
  if (access.fetch) {
    if (!walk.executable) return failure("nx", "NX (bit 63) set, and this is a fetch", "EFER.NXE");
    if (!user && walk.user && (context.cr4 & spec::CR4_SMEP) != 0)
      return failure("smep", "a user page, and CR4.SMEP forbids ring 0 to execute it", "CR4.SMEP");
    return std::nullopt;
  }
  if (!user && walk.user && (context.cr4 & spec::CR4_SMAP) != 0 &&
      (access.implicit || (context.rflags & spec::RFLAGS_AC) == 0))
    return failure("smap", "a user page, and CR4.SMAP keeps ring 0 out while RFLAGS.AC is 0",
                   "CR4.SMAP");
  if (access.write && !walk.writable && (user || wp))
    return failure("read-only",
                   user ? "R/W (bit 1) clear, and this is a write"
                        : "R/W (bit 1) clear, and CR0.WP holds ring 0 to it",
                   user ? "" : "CR0.WP");
  return std::nullopt;
}

std::uint32_t access_bits(const PagingContext& context, const PageAccess& access) {
  const bool shows_fetch =
      (context.cr4 & spec::CR4_SMEP) != 0 ||
      ((context.cr4 & spec::CR4_PAE) != 0 && (context.efer & spec::EFER_NXE) != 0);
  return (access.write ? kErrorW : 0) | (access.user && !access.implicit ? kErrorU : 0) |
         (access.fetch && shows_fetch ? kErrorI : 0);
}

std::optional<std::uint64_t> read_entry(const MemoryReader& memory, Gpa gpa, unsigned size) {
  std::array<std::uint8_t, 8> raw{};
  if (!memory.read(gpa, std::span(raw).first(size))) return std::nullopt;
  return load_uint(std::span<const std::uint8_t>(raw).first(size));
}

}  // namespace

PagingFeatures PagingFeatures::from(const CpuidTable& cpuid) {
  PagingFeatures f;
  f.phys_bits = std::clamp(cpuid.phys_bits(), 32u, 52u);
  f.pse = cpuid.bit(1, 0, CpuidReg::Edx, 3);
  f.pae = cpuid.bit(1, 0, CpuidReg::Edx, 6);
  f.pse36 = cpuid.bit(1, 0, CpuidReg::Edx, 17);
  f.nx = cpuid.bit(0x80000001, 0, CpuidReg::Edx, 20);
  f.pdpe1gb = cpuid.bit(0x80000001, 0, CpuidReg::Edx, 26);
  f.la57 = cpuid.bit(7, 0, CpuidReg::Ecx, 16);
  const std::string vendor = cpuid.vendor();
  f.amd = vendor == "AuthenticAMD" || vendor == "HygonGenuine";
  return f;
}

PagingFeatures PagingFeatures::all_allowed() {
  return {.phys_bits = 52,
          .pse = true,
          .pse36 = true,
          .pae = true,
          .nx = true,
          .pdpe1gb = true,
          .la57 = true,
          .amd = false};
}

PagingContext PagingContext::from(const CpuState& state, const PagingFeatures& features) {
  return {state.sregs.cr0,  state.sregs.cr3,   state.sregs.cr4,
          state.sregs.efer, state.regs.rflags, features};
}

PagingMode PagingContext::mode() const {
  if ((cr0 & spec::CR0_PG) == 0 || (cr0 & spec::CR0_PE) == 0) return PagingMode::None;
  if ((cr4 & spec::CR4_PAE) == 0) return PagingMode::Bits32;
  if ((efer & spec::EFER_LMA) == 0) return PagingMode::Pae;
  return (cr4 & spec::CR4_LA57) != 0 ? PagingMode::Level5 : PagingMode::Level4;
}

std::string page_fault_code_name(std::uint32_t error_code) {
  constexpr std::array<std::pair<unsigned, std::string_view>, 8> kNames = {
      {{0, "P"}, {1, "W"}, {2, "U"}, {3, "RSVD"}, {4, "I"}, {5, "PK"}, {6, "SS"}, {15, "SGX"}}};
  std::string text;
  for (const auto& [index, name] : kNames)
    if (bit(error_code, index)) text += fmt::format("{}{}", text.empty() ? "" : "|", name);
  return text.empty() ? "0" : text;
}

Walk walk_page(const MemoryReader& memory, const PagingContext& context, Gva gva,
               const PageAccess& access) {
  Walk walk;
  walk.mode = context.mode();
  if (!is_long(walk.mode)) gva &= 0xffffffff;
  if (walk.mode == PagingMode::None) {
    walk.gpa = gva;
    return walk;
  }
  const Shape shape = shape_of(walk.mode);
  if (is_long(walk.mode)) {
    const unsigned width = walk.mode == PagingMode::Level5 ? 57 : 48;
    const std::uint64_t top = gva >> (width - 1);
    if (top != 0 && top != low_mask(64 - width + 1)) {
      walk.failure =
          WalkFailure{"non-canonical",
                      0,
                      fmt::format("{:x}h is not canonical: bits 63:{} differ", gva, width - 1),
                      width == 48 ? "CR4.LA57" : "",
                      "",
                      13,
                      0};
      return walk;
    }
  }
  const std::uint32_t code = access_bits(context, access);
  Gpa table = root_of(walk.mode, context.cr3);
  for (unsigned level = shape.levels; level >= 1; --level) {
    const unsigned shift = shift_of(shape, level);
    const unsigned index =
        static_cast<unsigned>(gva >> shift) & (entries_of(walk.mode, shape, level) - 1);
    WalkStep step{name_of_level(level), level, index, table + index * shape.entry_size, 0, 0};
    const auto entry = read_entry(memory, step.entry_gpa, shape.entry_size);
    if (!entry) {
      walk.failure = WalkFailure{
          "table-not-ram",
          level,
          fmt::format("{}[{}] would be at {:x}h, which is not RAM ({})", step.entry_name, index,
                      step.entry_gpa,
                      walk.steps.empty()
                          ? fmt::format("CR3 = {:x}h", context.cr3)
                          : fmt::format("{}[{}] = {:x}h", walk.steps.back().entry_name,
                                        walk.steps.back().index, walk.steps.back().entry)),
          "",
          "",
          14,
          code};
      return walk;
    }
    step.entry = *entry;
    walk.steps.push_back(step);
    const std::string place =
        fmt::format("{}[{}] at {:x}h = {:x}h", step.entry_name, index, step.entry_gpa, *entry);
    if ((*entry & kP) == 0) {
      walk.failure = WalkFailure{
          "not-present", level, place + " is not present (P, bit 0, is clear)", "", "", 14, code};
      return walk;
    }
    if (const auto fault = entry_fault(context, walk.mode, level, *entry)) {
      walk.failure = WalkFailure{std::string(fault->rule),
                                 level,
                                 fmt::format("{} has {}: {}", place, fault->what, fault->why),
                                 std::string(fault->depends_on),
                                 std::string(fault->feature),
                                 14,
                                 code | kErrorP | kErrorRsvd};
      if (walk.mode == PagingMode::Pae && level == 3) {
        walk.failure->vector = 13;  // MOV to CR3 reads the four and refuses (SDM 4.4.1)
        walk.failure->error_code = 0;
      }
      return walk;
    }
    if (walk.mode != PagingMode::Pae || level != 3) {
      walk.writable = walk.writable && (*entry & kRw) != 0;
      walk.user = walk.user && (*entry & kUs) != 0;
      walk.executable = walk.executable && (shape.entry_size == 4 || (*entry & kNx) == 0);
    }
    table = target_of(context, walk.mode, level, *entry);
    if (!is_leaf(context, walk.mode, level, *entry)) continue;
    walk.page_size = walk.steps.back().page_size = 1ull << shift;
    walk.failure = access_fault(context, walk, access);
    if (walk.failure)
      walk.failure->error_code |= code;
    else
      walk.gpa = table | (gva & (walk.page_size - 1));
    break;
  }
  return walk;
}

std::vector<std::string> describe(const Walk& walk) {
  std::vector<std::string> lines;
  for (const WalkStep& step : walk.steps) {
    const bool at_fault = walk.failure && walk.failure->level == step.level;
    lines.push_back(fmt::format("{}[{}] at {:x}h = {:x}h {}{}", step.entry_name, step.index,
                                step.entry_gpa, step.entry,
                                flags_of(walk.mode, step.level, step.entry),
                                at_fault ? "  <-- " + walk.failure->rule : ""));
  }
  if (walk.failure && (walk.failure->level == 0 || walk.failure->rule == "table-not-ram"))
    lines.push_back(walk.failure->text);
  if (walk.gpa && walk.mode != PagingMode::None)
    lines.push_back(fmt::format("-> {:x}h ({} page{}{}{})", *walk.gpa,
                                walk.page_size == 4_KiB   ? "4 KiB"
                                : walk.page_size == 2_MiB ? "2 MiB"
                                : walk.page_size == 4_MiB ? "4 MiB"
                                                          : "1 GiB",
                                walk.writable ? ", writable" : ", read-only",
                                walk.user ? ", user" : "", walk.executable ? "" : ", no execute"));
  return lines;
}

bool table_keeps_rules(const MemoryReader& memory, const PagingContext& context, Gpa table,
                       unsigned level) {
  const PagingMode mode = context.mode();
  const Shape shape = shape_of(mode);
  if (level == 0 || level > shape.levels) return false;
  for (unsigned index = 0; index < entries_of(mode, shape, level); ++index) {
    const auto entry = read_entry(memory, table + index * shape.entry_size, shape.entry_size);
    if (!entry || ((*entry & kP) != 0 && entry_fault(context, mode, level, *entry))) return false;
  }
  return true;
}

namespace {

// Goes through the live tables and gathers what breaks a rule, one group a rule.
class Lint {
 public:
  Lint(const MemoryReader& memory, const PagingContext& context, std::size_t budget)
      : memory_(memory),
        context_(context),
        mode_(context.mode()),
        shape_(shape_of(mode_)),
        budget_(budget) {}

  std::vector<PagingFinding> run() {
    if (mode_ == PagingMode::None) return {};
    check_controls();
    // A work list rather than recursion; what is on it has been marked as seen, so that it holds
    // each table once a level.
    if (!push(root_of(mode_, context_.cr3), shape_.levels))
      controls_.push_back(
          {"table-not-ram", fmt::format("CR3 = {:x}h does not lead to RAM", context_.cr3), "", 0});
    while (!todo_.empty() && !stopped_) {
      const auto [table, level] = todo_.back();
      todo_.pop_back();
      look(table, level);
    }
    std::vector<PagingFinding> findings = std::move(controls_);
    for (auto& [rule, group] : groups_) findings.push_back(group.finding(rule));
    if (stopped_)
      findings.push_back({"lint-incomplete",
                          fmt::format("the tables are larger than {} entries: the rest was not "
                                      "looked at",
                                      looked_),
                          "", 0});
    return findings;
  }

 private:
  // The entries that break one rule: the first run of neighbours, and how many in all.
  struct Group {
    std::string_view name;
    Gpa table = 0;
    unsigned first = 0, last = 0;
    std::string reason;
    std::string feature;
    std::uint64_t entries = 0;

    PagingFinding finding(const std::string& rule) const {
      const std::uint64_t run = last - first + 1;
      std::string place = run == 1 ? fmt::format("{}[{}]", name, first)
                                   : fmt::format("{}[{}..{}]", name, first, last);
      place += fmt::format(" of the table at {:x}h", table);
      if (entries > run) place += fmt::format(" and {} more", entries - run);
      return {rule, fmt::format("{}: {}", place, reason), feature, entries};
    }
  };

  void check_controls() {
    const PagingFeatures& f = context_.features;
    const auto note = [&](bool broken, std::string rule, std::string text, std::string feature) {
      if (broken) controls_.push_back({std::move(rule), std::move(text), std::move(feature), 0});
    };
    note((context_.cr4 & spec::CR4_LA57) != 0 && !f.la57, "la57-without-cpuid",
         "CR4.LA57 is 1, CPUID 7.0.ECX[16] (la57) is 0", "la57");
    note((context_.cr4 & spec::CR4_PAE) != 0 && !f.pae, "pae-without-cpuid",
         "CR4.PAE is 1, CPUID 1.EDX[6] (pae) is 0", "pae");
    note((context_.cr4 & spec::CR4_PSE) != 0 && !f.pse, "pse-without-cpuid",
         "CR4.PSE is 1, CPUID 1.EDX[3] (pse) is 0", "pse");
    note((context_.efer & spec::EFER_NXE) != 0 && !f.nx, "nxe-without-cpuid",
         "EFER.NXE is 1, CPUID 80000001h.EDX[20] (nx) is 0", "nx");
  }

  // Puts a table on the work list, once a level; false when it is not RAM.
  bool push(Gpa table, unsigned level) {
    if (seen_.contains({table, level})) return true;
    if (!read_entry(memory_, table, shape_.entry_size)) return false;
    seen_.insert({table, level});
    todo_.emplace_back(table, level);
    return true;
  }

  void add(const std::string& rule, Gpa table, unsigned level, unsigned index,
           const std::string& reason, std::string_view feature) {
    auto [place, is_new] = groups_.try_emplace(rule);
    Group& group = place->second;
    if (is_new) {
      group = {name_of_level(level), table, index, index, reason, std::string(feature), 0};
    } else if (group.table == table && group.last + 1 == index &&
               group.name == name_of_level(level)) {
      group.last = index;
    }
    ++group.entries;
  }

  void look(Gpa table, unsigned level) {
    const unsigned count = entries_of(mode_, shape_, level);
    for (unsigned index = 0; index < count; ++index) {
      if (looked_ >= budget_) {
        stopped_ = true;
        return;
      }
      ++looked_;
      const auto entry = read_entry(memory_, table + index * shape_.entry_size, shape_.entry_size);
      if (!entry || (*entry & kP) == 0) continue;
      if (const auto fault = entry_fault(context_, mode_, level, *entry)) {
        add(std::string(fault->rule), table, level, index, fault->what + ": " + fault->why,
            fault->feature);
        // What a 1 GiB page or an address beyond MAXPHYADDR leads to is not a table.
        continue;
      }
      if (is_leaf(context_, mode_, level, *entry)) continue;
      if (!push(target_of(context_, mode_, level, *entry), level - 1))
        add("table-not-ram", table, level, index,
            fmt::format("{:x}h names a table that is not RAM", *entry), "");
    }
  }

  const MemoryReader& memory_;
  const PagingContext& context_;
  PagingMode mode_;
  Shape shape_;
  std::size_t budget_;
  std::size_t looked_ = 0;
  bool stopped_ = false;
  std::set<std::pair<Gpa, unsigned>> seen_;
  std::vector<std::pair<Gpa, unsigned>> todo_;
  std::map<std::string, Group> groups_;
  std::vector<PagingFinding> controls_;
};

}  // namespace

std::vector<PagingFinding> lint_paging(const MemoryReader& memory, const PagingContext& context,
                                       std::size_t max_entries) {
  return Lint(memory, context, max_entries).run();
}

}  // namespace vmm
