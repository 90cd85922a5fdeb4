// Which cells of a matrix a command is about: filters and shards of the command line.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "vmm/base/result.h"
#include "vmm/matrix/expand.h"
#include "vmm/matrix/spec.h"

namespace vmm {

struct Selection {
  // AXIS=PATTERN: one of the same axis has to fit, for each axis that is named.
  std::vector<std::pair<std::string, std::string>> only;
  std::vector<std::string> groups;  // patterns, of which one has to fit one of the cell's groups
  std::vector<std::string> ids;     // none: every cell
  std::uint64_t shard = 0;          // from 1 on; 0: all of them
  std::uint64_t shards = 0;

  // "smp=2, group smoke, shard 2 of 4"; empty where everything is selected.
  std::string text() const;
};

// "AXIS=PATTERN" and "I/N"; Usage errors say what is wrong with them.
Result<std::pair<std::string, std::string>> parse_only(const std::string& text);
Result<void> parse_shard(const std::string& text, Selection& selection);

// Indices of cells, in their order: the shards take turns. Usage errors for an axis that no guest
// has, an id that no cell has, and where nothing is left.
Result<std::vector<std::size_t>> select(const MatrixSpec& spec, const Expansion& expansion,
                                        const Selection& selection);

}  // namespace vmm
