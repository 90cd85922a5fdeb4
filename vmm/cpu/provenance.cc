#include "vmm/cpu/provenance.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "vmm/base/bytes.h"
#include "vmm/core/quirks.h"
#include "vmm/cpu/model_sections.h"
#include "vmm/cpu/model_values.h"
#include "vmm/cpu/show.h"
#include "vmm/cpu/vmx.h"
#include "vmm/cpu/words.h"

namespace vmm {
namespace {

bool listed(const std::vector<FeatureId>& ids, FeatureId id) {
  return std::ranges::binary_search(ids, id);
}

// The version that brought in what the source's version still has: `has` is asked of each.
template <typename Has>
std::string version_that_brought(const CpuSource& source, const Has& has) {
  const auto& versions = source.file->versions;
  auto at = std::ranges::find(versions, source.model->version, &CpuModel::version);
  while (at != versions.begin() && has(*std::prev(at))) --at;
  if (at == versions.begin() && !source.file->inherits.empty())
    if (const auto base = find_cpu_model(source.file->inherits); base && has(*base))
      return base->full_name();
  return at->full_name();
}

std::string width_origin(const CpuSource& source) {
  const CpuOverride* last = nullptr;
  for (const CpuOverride& change : source.selection->overrides)
    if (change.kind == CpuOverride::Kind::PhysBits) last = &change;
  if (last != nullptr) return last->text();
  if (source.model == nullptr) return "host";
  return version_that_brought(source, [&](const CpuModel& version) {
    return version.phys_bits == source.model->phys_bits;
  });
}

// Rows of "WORD  ORIGIN  names": the names of one word and one origin together.
struct Row {
  std::string word;
  std::string origin;
  std::vector<std::string> names;
};

void add(std::vector<Row>& rows, const std::string& word, const std::string& origin,
         const std::string& name) {
  for (Row& row : rows)
    if (row.word == word && row.origin == origin) return row.names.push_back(name);
  rows.push_back({word, origin, {name}});
}

// The bits of a word that come from raw words or from [msr].
std::uint64_t numbers_in(const CpuSource& source, const FeatureWord& word) {
  if (source.model == nullptr) return 0;
  for (const CpuRawWord& raw : source.model->raw)
    if (raw.word == word) return raw.mask;
  if (!word.is_msr) return 0;
  const auto msr = source.model->msrs.find(word.index);
  return msr == source.model->msrs.end() ? 0 : msr->second;
}

// KVM's quirks where a model file has its own say, with the version that says so.
void add_quirks(std::vector<Row>& rows, const CpuSource& source) {
  const std::uint32_t usual = usual_quirks_off();
  const std::uint32_t mine = source.model->quirks_off;
  if (mine == usual) return;
  const std::string version =
      version_that_brought(source, [&](const CpuModel& other) { return other.quirks_off == mine; });
  for (const std::string& name : quirk_names(mine & ~usual))
    add(rows, "quirks off", version + " kvm", name);
  for (const std::string& name : quirk_names(usual & ~mine))
    add(rows, "quirks on", version + " kvm", name);
}

// Raw words and [msr], as they are in the CPU, with the version that brought them.
void add_numbers(std::vector<Row>& rows, const CpuSource& source, const CpuWords& words) {
  for (const CpuRawWord& raw : source.model->raw) {
    const std::string version = version_that_brought(source, [&](const CpuModel& other) {
      return std::ranges::find(other.raw, raw) != other.raw.end();
    });
    const std::uint64_t value = words.word(raw.word) & raw.mask;
    add(rows, raw.word.text(), version + " words",
        raw.mask == 0xffffffff ? fmt::format("{:x}h", value)
                               : fmt::format("{:x}h&{:x}h", value, raw.mask));
  }
  for (const auto& msr : source.model->msrs) {
    const std::string version = version_that_brought(source, [&](const CpuModel& other) {
      const auto at = other.msrs.find(msr.first);
      return at != other.msrs.end() && at->second == msr.second;
    });
    if (words.msrs.contains(msr.first))
      add(rows, FeatureWord{true, msr.first}.text(), version + " msr",
          fmt::format("{:x}h", msr.second));
  }
}

}  // namespace

std::optional<std::string_view> fixed_origin(std::string_view feature) {
  if (feature == "hypervisor") return "always on: the guest runs under one";
  if (feature == "ht" || feature == "cmp-legacy")
    return "follows from --smp: on with several threads or cores";
  if (feature == "fdp-excptn-only" || feature == "zero-fcs-fds")
    return "means 'absent' when it is on; always on where the vendor defines it";
  if (feature == "xss-cet-u" || feature == "xss-cet-s") return "follows from shstk and ibt";
  return std::nullopt;
}

std::optional<std::string> wish_of_model(const CpuModel& model, FeatureId id) {
  const auto at = std::ranges::find(model.wishes, id, &CpuWish::feature);
  if (at == model.wishes.end()) return std::nullopt;
  return fmt::format("{} {}.{}", model.full_name(), section_of(at->kind), at->group);
}

bool model_has(const CpuModel& model, FeatureId id) {
  return listed(model.features, id) || listed(model.svm, id) || listed(model.vmx, id);
}

const CpuOverride* deciding_override(FeatureId id, const CpuSelection& selection, bool in_model) {
  const CpuOverride* last = nullptr;
  for (const CpuOverride& change : selection.overrides) {
    if (change.is_width()) continue;
    const bool taken = change.switches_off() && FeatureCatalog::needs(id, change.feature);
    if (change.feature == id || (taken && (in_model || last != nullptr))) last = &change;
  }
  return last;
}

std::string origin_of_bit(FeatureId id, const CpuSource& source) {
  const Feature& feature = FeatureCatalog::get(id);
  if (feature.name == "ht" || feature.name == "cmp-legacy") return "--smp";
  if (feature.name.starts_with("xss-")) return source.model == nullptr ? "host" : "other bits";
  if (fixed_origin(feature.name)) return "always";
  const bool in_model = source.model == nullptr || model_has(*source.model, id);
  if (const CpuOverride* change = deciding_override(id, *source.selection, in_model))
    return change->text();
  if (source.model == nullptr) return "host";
  // Beside what models list, only what other bits bring along is on.
  if (const auto wish = wish_of_model(*source.model, id)) return *wish;
  if (!in_model) return "other bits";
  return version_that_brought(source,
                              [&](const CpuModel& version) { return model_has(version, id); });
}

std::vector<std::string> provenance_lines(const CpuSource& source,
                                          const std::vector<MissingBit>& missing) {
  const CpuWords words = words_of(*source.cpu);
  const bool amd = is_amd(words.cpuid);
  std::vector<Row> rows;
  add(rows, "phys-bits", width_origin(source), fmt::format("{}", words.cpuid.phys_bits()));
  if (source.model != nullptr) {
    add_quirks(rows, source);
    add_numbers(rows, source, words);
  }
  for (const FeatureWord& word : FeatureCatalog::words()) {
    const std::uint64_t value =
        words.word(word) & ~repeated_bits(word, amd) & ~numbers_in(source, word);
    for (unsigned i = 0; i < 64; ++i) {
      if (!bit(value, i)) continue;
      const FeaturePlace place{word, i};
      const auto id = FeatureCatalog::at(place);
      const bool refused = std::ranges::any_of(
          missing, [&](const MissingBit& other) { return other.word == place.text(); });
      add(rows, word.text(), id ? origin_of_bit(*id, source) : "host",
          (id ? bit_name(place) : fmt::format("[{}]", i)) + (refused ? "!" : ""));
    }
  }
  // What the model has and an override took.
  const std::size_t on = rows.size();
  for (std::size_t i = 0; source.model != nullptr && i < FeatureCatalog::all().size(); ++i) {
    const auto id = static_cast<FeatureId>(i);
    const FeaturePlace& place = FeatureCatalog::get(id).place;
    const bool nested = is_vmx_word(place.word) || place.word.index == 0x8000000a;
    if (nested && !words.has(is_vmx_word(place.word) ? "vmx" : "svm")) continue;
    if (!words.has(id) && (model_has(*source.model, id) || wish_of_model(*source.model, id)))
      add(rows, place.word.text(), origin_of_bit(id, source), bit_name(place));
  }
  std::size_t width = 0;
  for (const Row& row : rows) width = std::max(width, row.origin.size());
  std::vector<std::string> lines;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (i == on) lines.insert(lines.end(), {"", "taken away:"});
    wrap_words(lines, fmt::format("{:<14}{}", rows[i].word, rows[i].origin), width + 18,
               rows[i].names);
  }
  return lines;
}

}  // namespace vmm
