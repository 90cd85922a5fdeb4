// The cells of a matrix: the product of each guest's axes, or a covering of its pairs, less what is
// excluded, and what is included.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/base/result.h"
#include "vmm/matrix/spec.h"

namespace vmm {

struct Cell {
  std::uint32_t guest = 0;            // index into MatrixSpec::guests
  std::vector<std::uint16_t> values;  // of each axis of the guest, an index into its values
};

struct Expansion {
  std::vector<Cell> cells;
  struct LeftOut {
    std::size_t cells = 0;
    std::string reason;  // of the [[exclude]]; may be empty
    std::string place;
  };
  std::vector<LeftOut> left_out;   // one for each [[exclude]]
  std::size_t pairs_left_out = 0;  // cells of the product that pairwise does without
  std::vector<std::string> notes;  // tables that match no cell
};

// Adds values of [[include]] tables to the axes of `spec`. Usage errors: more than
// MatrixSpec::kMaxCells, a cell twice, an [[include]] of a value for an axis that its guest does
// not have.
Result<Expansion> expand(MatrixSpec& spec);

// The value of an axis in a cell; empty for an axis that it does not have (kvm-param on the host
// also).
std::string_view cell_value(const MatrixSpec& spec, const Cell& cell, std::string_view axis);
// "guest" first, then the axes that the cell has.
std::vector<AxisValue> cell_axes(const MatrixSpec& spec, const Cell& cell);
// "hello on=svm smp=2": the same in every run, and no two cells have one.
std::string cell_id(const MatrixSpec& spec, const Cell& cell);
bool cell_matches(const MatrixSpec& spec, const Cell& cell, const CellMatch& match);
// The guest's settings with those of each [[expect]] that matches on top.
Settings cell_settings(const MatrixSpec& spec, const Cell& cell);
// SHA-256 over the matrix's text and the ids of all of its cells.
std::string matrix_digest(const MatrixSpec& spec, const Expansion& expansion);

// Which of `rows` meet every pair of values that the rows have among them, in their order; a greedy
// choice, so not always the smallest. The same for the same rows.
std::vector<std::size_t> covering_rows(const std::vector<std::vector<std::uint16_t>>& rows);

}  // namespace vmm
