// The parts of a model file that are numbers and not names: registers of CPUID leaves, and feature
// MSRs.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "vmm/base/result.h"
#include "vmm/cpu/cpu_model.h"
#include "vmm/cpu/toml_table.h"

namespace vmm {

// words = [{ leaf = 0x15, register = "eax", value = 2 }], with `subleaf` and `mask` where they are
// not 0 and all bits. Bits that have a name, and what is made of other keys, are refused.
Result<std::vector<CpuRawWord>> read_raw_words(const TomlTable& table);

// [msr]: name or index, and a value of up to 63 bits. What is made of names is refused.
Result<std::map<std::uint32_t, std::uint64_t>> read_msrs(const TomlTable& table);

// The lines that read as the same.
std::string raw_words_text(const std::vector<CpuRawWord>& words);
std::string msrs_text(const std::map<std::uint32_t, std::uint64_t>& msrs);

// "15.0.EAX" whole, "15.0.EAX & ffh" in part.
std::string raw_word_name(const CpuRawWord& word);
// "microcode-revision", or "8Bh" for an MSR without a name.
std::string msr_name(std::uint32_t index);

}  // namespace vmm
