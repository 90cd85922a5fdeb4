#include "vmm/cpu/import_words.h"

#include <fmt/format.h>

#include <algorithm>

#include "vmm/base/bytes.h"
#include "vmm/base/text.h"
#include "vmm/cpu/topology.h"

namespace vmm {
namespace {

// `value` within what a model may hold.
template <typename T>
T limited(T value, T low, T high, std::string_view what, std::vector<ImportNote>& notes) {
  const T result = std::clamp(value, low, high);
  if (result != value)
    notes.push_back({"", fmt::format("{} is {:#x}, and {:#x} in the model", what, value, result)});
  return result;
}

// AMD's code for associativity in 80000006 (APM Vol. 3, table E-4); 0 for none and for full.
unsigned ways_of(std::uint64_t code) {
  constexpr unsigned kWays[] = {0, 1, 2, 3, 4, 6, 8, 0, 16, 0, 32, 48, 64, 96, 128, 0};
  return kWays[code & 15];
}

// What leaves 80000005h and 80000006h say, on AMD without TOPOEXT (APM Vol. 3, E.4.4 and E.4.5).
std::vector<CpuCache> amd_caches(const CpuidTable& table) {
  using Type = CpuCache::Type;
  using SharedBy = CpuCache::SharedBy;
  std::vector<CpuCache> caches;
  const auto add = [&](unsigned level, Type type, std::uint64_t kib, std::uint64_t ways,
                       std::uint64_t line, SharedBy shared_by) {
    if (kib == 0 || ways == 0 || line < 16 || kib * 1024 % (ways * line) != 0) return;
    caches.push_back({level, type, static_cast<unsigned>(kib), static_cast<unsigned>(ways),
                      static_cast<unsigned>(line), shared_by});
  };
  const CpuidRegs l1 = table.get(0x80000005);
  for (const auto& [type, value] : {std::pair{Type::Data, l1.ecx}, {Type::Instruction, l1.edx}})
    add(1, type, bits(value, 31, 24), bits(value, 23, 16), bits(value, 7, 0), SharedBy::Core);
  const CpuidRegs larger = table.get(0x80000006);
  add(2, Type::Unified, bits(larger.ecx, 31, 16), ways_of(bits(larger.ecx, 15, 12)),
      bits(larger.ecx, 7, 0), SharedBy::Core);
  add(3, Type::Unified, bits(larger.edx, 31, 18) * 512, ways_of(bits(larger.edx, 15, 12)),
      bits(larger.edx, 7, 0), SharedBy::Socket);
  return caches;
}

}  // namespace

void take_identity(const CpuidTable& table, CpuModel& model, std::vector<ImportNote>& notes) {
  if (const std::string vendor = table.vendor(); vendor.size() == 12 && printable(vendor) == vendor)
    model.vendor = vendor;
  else
    notes.push_back({"", fmt::format("the vendor '{}' is left out", printable(vendor))});
  const CpuIdentity identity = identity_of(table);
  model.family = identity.family;
  model.model = identity.model;
  model.stepping = identity.stepping;
  model.max_leaf = limited(table.get(0).eax, 1U, 0xffU, "the highest leaf", notes);
  model.max_ext_leaf = limited(table.get(0x80000000).eax, 0x80000008U, 0x800000ffU,
                               "the highest extended leaf", notes);
  model.phys_bits = limited(table.phys_bits(), 32U, 52U, "the width of physical addresses", notes);
  if (const std::string brand = table.brand(); !brand.empty() && printable(brand) == brand)
    model.brand = brand;
  model.caches.clear();
  std::vector<CpuCache> caches = caches_of(table);
  if (caches.empty() && is_amd(table)) caches = amd_caches(table);
  for (const CpuCache& cache : caches) {
    if (cache.ways > 1024 || cache.line < 16 || cache.line > 256)
      notes.push_back({"", fmt::format("a level {} cache of {} ways and {}-byte lines is left out",
                                       cache.level, cache.ways, cache.line)});
    else
      model.caches.push_back(cache);
  }
}

std::string places_text(const std::vector<FeaturePlace>& places) {
  std::vector<std::string> words;
  for (std::size_t i = 0; i < places.size();) {
    const FeatureWord word = places[i].word;
    std::string bits;
    while (i < places.size() && places[i].word == word) {
      std::size_t last = i;
      while (last + 1 < places.size() && places[last + 1].word == word &&
             places[last + 1].bit == places[last].bit + 1)
        ++last;
      bits += fmt::format("{}{}", bits.empty() ? "" : ",", places[i].bit);
      if (last > i) bits += fmt::format("-{}", places[last].bit);
      i = last + 1;
    }
    words.push_back(fmt::format("{}[{}]", word.text(), bits));
  }
  return fmt::format("{}", fmt::join(words, ", "));
}

bool is_shape_leaf(std::uint32_t leaf) {
  return leaf == 4 || leaf == 0xb || leaf == 0x1f || leaf == 0x8000001d || leaf == 0x8000001e ||
         leaf == 0x80000026;
}

}  // namespace vmm
