// Journals as hostile as files can be: what is read can be written and reads back the same.
#include <cstdint>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "vmm/matrix/journal.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto run = vmm::parse_journal(text, "journal.jsonl");
  if (!run) return 0;
  const auto header = vmm::parse_run_header(vmm::to_json(run->header));
  if (!header || *header != run->header) std::abort();
  if (run->cells.size() > run->header.cells.size()) std::abort();
  for (const vmm::CellRecord& cell : run->cells) {
    const auto again = vmm::parse_cell_record(nlohmann::json::parse(vmm::to_json(cell).dump()));
    if (!again || *again != cell) std::abort();
  }
  return 0;
}
