#include "vmm/cpu/show.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <set>

#include "vmm/base/bytes.h"
#include "vmm/core/quirks.h"
#include "vmm/cpu/features.h"
#include "vmm/cpu/topology.h"
#include "vmm/cpu/vmx.h"
#include "vmm/cpu/wishes.h"
#include "vmm/cpu/words.h"

namespace vmm {
namespace {

constexpr std::size_t kColumns = 100;

void field(std::vector<std::string>& lines, std::string_view label, std::string_view value) {
  lines.push_back(fmt::format("  {:<14}{}", label, value));
}

}  // namespace

void wrap_words(std::vector<std::string>& lines, const std::string& label, std::size_t indent,
                const std::vector<std::string>& words) {
  std::string line = fmt::format("  {:<{}}", label, indent - 2);
  bool empty = true;
  for (const std::string& word : words) {
    if (!empty && line.size() + 1 + word.size() > kColumns) {
      lines.push_back(line);
      line = std::string(indent, ' ');
      empty = true;
    }
    if (!empty) line += ' ';
    line += word;
    empty = false;
  }
  lines.push_back(line);
}

std::string identity_text(const CpuidTable& table) {
  const auto [family, model, stepping] = identity_of(table);
  return fmt::format("{}, family {} model {} stepping {} ({:08x}h)", table.vendor(), family, model,
                     stepping, table.get(1).eax);
}

std::string caches_text(const CpuidTable& table) {
  std::vector<std::string> parts;
  for (const CpuCache& cache : caches_of(table)) {
    const char* type = cache.type == CpuCache::Type::Data          ? "d"
                       : cache.type == CpuCache::Type::Instruction ? "i"
                                                                   : "";
    parts.push_back(cache.kib % 1024 == 0
                        ? fmt::format("L{}{} {} MiB", cache.level, type, cache.kib / 1024)
                        : fmt::format("L{}{} {} KiB", cache.level, type, cache.kib));
  }
  return fmt::format("{}", fmt::join(parts, ", "));
}

std::string version_range(const CpuModelFile& file) {
  std::string text;
  for (std::size_t i = 0; i < file.versions.size();) {
    std::size_t last = i;
    while (last + 1 < file.versions.size() &&
           file.versions[last + 1].version == file.versions[last].version + 1)
      ++last;
    if (!text.empty()) text += ", ";
    text += fmt::format("{}", file.versions[i].version);
    if (last > i) text += fmt::format("-{}", file.versions[last].version);
    i = last + 1;
  }
  return text;
}

std::string vendor_name(const std::string& vendor) {
  if (vendor == "GenuineIntel") return "Intel";
  if (vendor == "AuthenticAMD") return "AMD";
  return vendor;
}

std::vector<std::string> list_lines(const std::vector<ModelRow>& rows, const std::string& host) {
  // At least as wide as the headings.
  std::size_t names = 5;
  std::size_t versions = 8;
  std::size_t titles = 10;
  std::set<std::string> vendors;  // sorted; rows without one come first
  bool known = false;
  for (const ModelRow& row : rows) {
    names = std::max(names, row.name.size());
    versions = std::max(versions, row.versions.size());
    titles = std::max(titles, row.title.size());
    vendors.insert(row.vendor);
    known = known || row.missing.has_value();
  }
  std::vector<std::string> lines;
  const auto add = [&](const std::string& name, const std::string& range, const std::string& title,
                       const std::string& last) {
    std::string line =
        fmt::format("{:<{}} {:<{}} {:<{}} {}", name, names, range, versions, title, titles, last);
    line.erase(line.find_last_not_of(' ') + 1);
    lines.push_back(std::move(line));
  };
  add("MODEL", "VERSIONS", "WHAT IT IS", known ? host : "");
  for (const std::string& vendor : vendors) {
    if (!vendor.empty()) {
      lines.emplace_back();
      lines.push_back(vendor);
    }
    for (const ModelRow& row : rows)
      if (row.vendor == vendor)
        add(row.name, row.versions, row.title,
            !row.missing ? ""
            : *row.missing == 0
                ? "gives it"
                : fmt::format("lacks {} bit{}", *row.missing, *row.missing == 1 ? "" : "s"));
  }
  return lines;
}

std::vector<WordFeatures> features_by_word(const ResolvedCpu& cpu) {
  const CpuWords words = words_of(cpu);
  const bool amd = is_amd(cpu.cpuid);
  std::vector<WordFeatures> result;
  for (const FeatureWord& word : FeatureCatalog::words()) {
    const std::uint64_t value = words.word(word) & ~repeated_bits(word, amd);
    WordFeatures entry{word.text(), {}};
    for (unsigned i = 0; i < 64; ++i) {
      if (!bit(value, i)) continue;
      const auto id = FeatureCatalog::at({word, i});
      entry.names.push_back(id ? std::string(FeatureCatalog::get(*id).name)
                               : fmt::format("[{}]", i));
    }
    if (!entry.names.empty()) result.push_back(std::move(entry));
  }
  return result;
}

std::vector<std::string> show_lines(const ResolvedCpu& cpu, const CpuModelFile* file, bool words) {
  std::vector<std::string> lines;
  lines.push_back(file != nullptr ? fmt::format("{}  {}", cpu.text, file->title) : cpu.text);
  lines.emplace_back();
  field(lines, "cpu", identity_text(cpu.cpuid));
  if (!cpu.cpuid.brand().empty()) field(lines, "brand", cpu.cpuid.brand());
  const std::uint32_t widths = cpu.cpuid.get(0x80000008).eax;
  field(lines, "addresses",
        fmt::format("{} bits physical, {} bits linear", widths & 0xff, widths >> 8 & 0xff));
  field(lines, "leaves",
        fmt::format("up to {:X}h and {:X}h", cpu.cpuid.get(0).eax, cpu.cpuid.get(0x80000000).eax));
  if (const std::string text = caches_text(cpu.cpuid); !text.empty()) field(lines, "caches", text);
  if (file != nullptr) {
    field(lines, "versions",
          fmt::format("{}; {} is {}@{}", version_range(*file), file->name, file->name,
                      file->default_version));
    if (!file->inherits.empty()) field(lines, "inherits", file->inherits);
    std::vector<std::string> names;
    for (const CpuModel& version : file->versions)
      if (!version.alias.empty())
        names.push_back(fmt::format("{} = @{}", version.alias, version.version));
    for (std::string& name : names)
      if (&name != &names.back()) name += ',';
    if (!names.empty()) wrap_words(lines, "also", 16, names);
  }
  wrap_words(lines, "quirks off", 16, quirk_names(cpu.quirks_off));
  if (const std::vector<std::string> wishes = wish_texts(cpu.wishes, cpu.width_wish);
      !wishes.empty())
    wrap_words(lines, "wishes", 16, wishes);
  field(lines, "digest", "sha256 " + cpu.model_digest);
  lines.emplace_back();
  for (const WordFeatures& word : features_by_word(cpu))
    wrap_words(lines, word.word, 16, word.names);
  for (const CpuMsr& msr : cpu.msrs)
    field(lines, fmt::format("MSR {:X}h", msr.index), fmt::format("{:x}h", msr.value));
  if (words) {
    lines.emplace_back();
    lines.emplace_back("  leaf     sub       eax      ebx      ecx      edx");
    for (const auto& [key, regs] : cpu.cpuid.entries())
      lines.push_back(fmt::format("  {:08x} {:>3}  {:08x} {:08x} {:08x} {:08x}", key.leaf,
                                  fmt::format("{:x}", key.subleaf), regs.eax, regs.ebx, regs.ecx,
                                  regs.edx));
  }
  return lines;
}

std::vector<std::string> nested_lines(const ResolvedCpu& cpu) {
  const CpuWords words = words_of(cpu);
  const bool svm = words.has("svm");
  std::vector<std::string> lines;
  for (const FeatureWord& word : FeatureCatalog::words()) {
    const bool of_svm = !word.is_msr && word.index == 0x8000000a;
    if (svm ? !of_svm : !is_vmx_word(word)) continue;
    const std::uint64_t value = of_svm                            ? words.word(word)
                                : words.msrs.contains(word.index) ? words.msrs.at(word.index)
                                                                  : 0;
    lines.push_back(fmt::format("{}  {:0{}x}h", word.text(), value, of_svm ? 8 : 16));
    std::vector<std::string> names[3];
    for (const FeatureId id : FeatureCatalog::in_word(word)) {
      const FeaturePlace& place = FeatureCatalog::get(id).place;
      const bool fixed = word.is_msr && bit(vmx_controls_fixed(word.index, value), place.bit);
      names[fixed ? 1 : words.has(id) ? 0 : 2].emplace_back(FeatureCatalog::get(id).name);
    }
    constexpr const char* kLabels[] = {"on", "fixed", "off"};
    for (std::size_t i = 0; i < std::size(kLabels); ++i)
      if (!names[i].empty()) wrap_words(lines, kLabels[i], 9, names[i]);
  }
  return lines;
}

}  // namespace vmm
