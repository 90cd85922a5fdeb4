// What other programs have written down as CPUs, as hostile as files can be: one target a format,
// VMM_IMPORT_FORMAT.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "vmm/cpu/import.h"
#include "vmm/cpu/words.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  constexpr auto kFormat = vmm::ImportFormat::VMM_IMPORT_FORMAT;
  const bool over = kFormat == vmm::ImportFormat::Firecracker;
  // An odd size lays a template over the other vendor's CPU.
  const char* const base = !over ? "" : size % 2 == 0 ? "haswell@4" : "epyc-milan@2";
  const auto imported = vmm::import_cpu_model(kFormat, {text, "fuzz", "fuzzed", base});
  if (!imported) {
    // An Internal error says that the model does not read back as it was written.
    if (imported.error().kind() != vmm::ErrorKind::Usage) std::abort();
    if (imported.error().place().empty()) std::abort();
    return 0;
  }
  vmm::CpuWords words = vmm::model_words(imported->model);
  vmm::derive(words, {});
  if (words.cpuid.entries().size() > 200) std::abort();
  return 0;
}
