#include "vmm/machine/explain_tables.h"

#include <algorithm>
#include <array>
#include <set>

#include "vmm/base/bytes.h"

namespace vmm {
namespace {

constexpr Gpa kScanEnd = 1_GiB;
constexpr std::size_t kMaxCandidates = 256;

// Every feature there is: what fails under these rules is no page table of RIP at all.
PagingContext all_allowed(PagingContext context) {
  context.cr4 &= ~(spec::CR4_SMEP | spec::CR4_SMAP);
  context.efer |= spec::EFER_NXE;
  context.features = PagingFeatures::all_allowed();
  return context;
}

// The rules by which this host judges the guest's tables.
PagingContext as_judged(const Facts& f) {
  PagingContext context = f.paging;
  if (!f.scene.nested_paging) return context;
  // The silicon judges. How wide its addresses are is not known here.
  context.features = PagingFeatures::all_allowed();
  context.features.pdpe1gb = f.scene.host_has_pdpe1gb;
  context.features.amd = f.paging.features.amd;
  return context;
}

// Memory in which address bits that the model lacks make no difference, so that tables which set
// them (an encryption bit, say) still lead somewhere.
class FoldedMemory final : public MemoryReader {
 public:
  FoldedMemory(const MemoryReader& memory, unsigned phys_bits)
      : memory_(memory), mask_(low_mask(phys_bits)) {}
  Gpa fold(Gpa gpa) const { return gpa & mask_; }
  bool read(Gpa gpa, std::span<std::uint8_t> data) const override {
    return memory_.read(fold(gpa), data);
  }

 private:
  const MemoryReader& memory_;
  std::uint64_t mask_;
};

// RIP read as data: whether its page may be executed is no question of where it is.
Walk walk_to_rip(const FoldedMemory& memory, PagingContext context, Gva rip, Gpa root) {
  context.cr3 = root;
  return walk_page(memory, context, rip, {});
}

// The tables of a walk below its root.
void add_lower_tables(const FoldedMemory& memory, const Walk& walk, std::set<Gpa>& tables) {
  for (std::size_t i = 1; i < walk.steps.size(); ++i)
    tables.insert(align_down(memory.fold(walk.steps[i].entry_gpa), 4_KiB));
}

}  // namespace

OtherTables find_other_tables(const Facts& f) {
  OtherTables found;
  if (f.cpu == nullptr || f.scene.memory == nullptr || f.scene.memory_is_partial) return found;
  if (f.paging.mode() == PagingMode::None || !f.rip_place.gpa()) return found;
  const FoldedMemory memory(*f.scene.memory, f.paging.features.phys_bits);
  const PagingContext allowed = all_allowed(f.paging);
  const PagingContext judged = as_judged(f);
  const Walk last = walk_to_rip(memory, allowed, f.rip, f.paging.cr3);
  if (!last.gpa) return found;
  const Gpa last_root = align_down(last.steps.front().entry_gpa, 4_KiB);
  const std::size_t entry_size = last.mode == PagingMode::Bits32 ? 4 : 8;
  const Gpa offset = last.steps.front().index * entry_size;

  // A PD of 2 MiB pages, taken for a PDPT, maps 1 GiB pages: tables that are known as the lower
  // levels of others are therefore no roots.
  std::set<Gpa> lower;
  add_lower_tables(memory, last, lower);
  std::vector<std::pair<Gpa, Walk>> candidates;
  for (Gpa root = 0; root < kScanEnd; root += 4_KiB) {
    // One entry decides for nearly all pages. A page that the guest never touched is the host's
    // shared page of zeroes and stays it: reading takes no memory.
    std::array<std::uint8_t, 8> entry{};
    if (root == last_root || !memory.read(root + offset, std::span(entry).first(entry_size)) ||
        (entry[0] & 1) == 0)
      continue;
    Walk walk = walk_to_rip(memory, allowed, f.rip, root);
    if (!walk.gpa || memory.fold(*walk.gpa) != memory.fold(*last.gpa)) continue;
    if (candidates.size() == kMaxCandidates) {
      found.complete = false;
      return found;
    }
    add_lower_tables(memory, walk, lower);
    candidates.emplace_back(root, std::move(walk));
  }
  for (const auto& [root, walk] : candidates) {
    if (lower.contains(root)) continue;
    // All of each table has to look like one. This also tells the PD of 2 MiB pages above from a
    // PDPT when its own PML4 is gone: its second page sets a bit that a 1 GiB page reserves.
    const bool plausible =
        std::all_of(walk.steps.begin(), walk.steps.end(), [&](const WalkStep& step) {
          const Gpa table = step.entry_gpa - step.index * entry_size;
          return table_keeps_rules(memory, allowed, table, step.level);
        });
    if (!plausible) continue;
    Place place;
    place.linear = f.rip;
    place.access = f.rip_place.access;
    PagingContext context = judged;
    context.cr3 = root;
    place.walk = walk_page(*f.scene.memory, context, f.rip, place.access);
    place.known = true;
    // A failure that is not about reserved bits (NX, U/S) is how kernels keep address spaces apart.
    if (place.failed() && place.walk.failure->rule.starts_with("reserved-"))
      found.broken.push_back({root, std::move(place)});
    else
      ++found.sound;
  }
  return found;
}

namespace {

// Straight-line code from `from` on, as far as it is one; the targets of its calls go to `calls`.
std::optional<Cr3Load> sweep(const Facts& f, Gva from, std::vector<Gva>* calls) {
  constexpr std::size_t kBytes = 256;
  constexpr std::size_t kMaxCalls = 64;
  const auto bytes = f.read_linear(from, kBytes, {.fetch = true, .user = f.cpl == 3});
  std::span<const std::uint8_t> rest = bytes;
  Gva at = from;
  while (!rest.empty()) {
    const auto insn = decode_instruction(rest.first(std::min<std::size_t>(rest.size(), 15)), f.mode,
                                         at, nullptr, f.scene.symbols);
    if (!insn || insn->length == 0 || insn->length > rest.size()) break;
    if (insn->text.starts_with("mov cr3,")) return Cr3Load{at, insn->text};
    if (rest[0] == 0xe8 && insn->length == 5 && calls != nullptr && calls->size() < kMaxCalls) {
      const auto distance = static_cast<std::int32_t>(load<std::uint32_t>(rest.subspan(1)));
      const Gva target = at + 5 + static_cast<Gva>(static_cast<std::int64_t>(distance));
      calls->push_back(f.mode == CpuMode::Long64 ? target : target & 0xffffffff);
    }
    if (insn->mnemonic == "ret" || insn->mnemonic == "jmp" || insn->mnemonic == "hlt") break;
    rest = rest.subspan(insn->length);
    at += insn->length;
  }
  return std::nullopt;
}

}  // namespace

std::optional<Cr3Load> find_cr3_load(const Facts& f) {
  if (f.cpu == nullptr || f.scene.memory == nullptr) return std::nullopt;
  std::vector<Gva> starts = {f.rip};
  constexpr std::size_t kCallers = 8;
  const Gva base = f.mode == CpuMode::Long64 ? 0 : f.cpu->sregs.cs.base;
  for (const Gva address : f.return_addresses(kCallers)) starts.push_back(base + address);
  std::vector<Gva> calls;
  for (const Gva start : starts)
    if (auto load = sweep(f, start, &calls)) return load;
  for (const Gva target : calls)
    if (auto load = sweep(f, target, nullptr)) return load;
  return std::nullopt;
}

}  // namespace vmm
