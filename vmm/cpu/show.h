// A CPU for people: identity, features by name, words in hex. At most 100 columns.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "vmm/cpu/cpu_model.h"
#include "vmm/cpu/resolve.h"

namespace vmm {

// One row of `vmm cpu list`.
struct ModelRow {
  std::string name;      // "haswell@4"; "host"
  std::string versions;  // "1-4"
  std::string vendor;    // "Intel", "AMD"
  std::string title;
  std::optional<std::size_t> missing;  // bits the host cannot give; absent when not known
};

// A heading and one line per row, grouped by vendor. `host` heads the last column.
std::vector<std::string> list_lines(const std::vector<ModelRow>& rows,
                                    const std::string& host = "THIS HOST");

// "1-4", "1, 3-5" for rising numbers.
std::string version_range(const CpuModelFile& file);
// "Intel" for GenuineIntel, "AMD" for AuthenticAMD, else as it is.
std::string vendor_name(const std::string& vendor);

// "GenuineIntel, family 6 model 60 stepping 1 (000306c1h)".
std::string identity_text(const CpuidTable& table);
// "L1d 32 KiB, ..."; empty where the table says nothing.
std::string caches_text(const CpuidTable& table);
// "label" padded to `indent`, then the words, wrapped under each other at 100 columns.
void wrap_words(std::vector<std::string>& lines, const std::string& label, std::size_t indent,
                const std::vector<std::string>& words);

// Names of the features of one word that a CPU has; "bit 12" for those without a name.
struct WordFeatures {
  std::string word;  // "7.0.EBX"
  std::vector<std::string> names;
};
std::vector<WordFeatures> features_by_word(const ResolvedCpu& cpu);

// Identity, features grouped by word and wrapped, MSRs; with `words` also every CPUID register.
// `file` adds what a resolved CPU no longer knows: title, versions, aliases.
std::vector<std::string> show_lines(const ResolvedCpu& cpu, const CpuModelFile* file, bool words);

// What guests may virtualize: each word of VMX controls, or SVM's, with the names that are on,
// fixed to 1 and off, and the value.
std::vector<std::string> nested_lines(const ResolvedCpu& cpu);

}  // namespace vmm
