// What the page of a run shows, as JSON: small by a table of strings, and with as much of the
// cells' files as a budget allows. page/page.js reads it.
//
//   run      the header, less the list of cells
//   verdicts the words; a verdict is an index into them
//   axes     their names, in the matrix's order
//   strings  a string is an index into these; 0 is the empty one
//   cells    see cell_json() in page_data.cc
//   files    what is shown of a cell's files
//   not_run  ids
#pragma once

#include <cstddef>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "vmm/matrix/record.h"
#include "vmm/matrix/run_files.h"

namespace vmm {

struct PageLimits {
  std::size_t page = 4'900'000;  // what the whole page should not exceed; files yield first
  std::size_t files = 3 << 20;   // all that is shown of files
  std::size_t log = 8 << 10;     // of one log
  std::size_t screen = 256 << 10;
};

// `frame` is how many bytes the rest of the page has; `files` may be null: none are shown then.
nlohmann::json page_data(const RunRecord& run, const RunFiles* files, std::size_t frame,
                         const PageLimits& limits);
// A document as the content of a <script type="application/json">: no '<', '>' or '&' in it, so
// that nothing in it can end the element.
std::string embedded_json(const nlohmann::json& document);

}  // namespace vmm
