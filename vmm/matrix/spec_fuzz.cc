// Hostile matrix files: whatever one says, it is an error with a place or a matrix whose cells can
// be told apart.
#include <cstdlib>
#include <set>

#include "vmm/matrix/cell_command.h"
#include "vmm/matrix/expand.h"
#include "vmm/matrix/spec.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace vmm;
  auto spec = parse_matrix({reinterpret_cast<const char*>(data), size}, "fuzz.toml");
  if (!spec) {
    if (spec.error().text().empty()) std::abort();
    return 0;
  }
  // A product that is large and allowed takes its time, which is no fault.
  std::size_t cells = spec->includes.size();
  for (const MatrixGuest& guest : spec->guests) {
    std::size_t product = 1;
    for (const Axis& axis : guest.axes)
      product = std::min<std::size_t>(product * axis.product, 10'000);
    cells += product;
  }
  if (cells > 2000) return 0;
  const auto expansion = expand(*spec);
  if (!expansion) return 0;
  std::set<std::string> ids;
  for (const Cell& cell : expansion->cells) {
    if (!ids.insert(cell_id(*spec, cell)).second) std::abort();
    const Settings settings = cell_settings(*spec, cell);
    if (cell_command_line(*spec, cell, settings).empty()) std::abort();
  }
  return 0;
}
