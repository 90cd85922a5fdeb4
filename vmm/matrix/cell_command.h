// The command line of a cell.
#pragma once

#include <string>
#include <vector>

#include "vmm/matrix/expand.h"
#include "vmm/matrix/spec.h"

namespace vmm {

// Where the files of an attempt go; those that are not wanted are empty.
struct CellFiles {
  std::string outcome;
  std::string screen;  // PNG
  std::string core;
  std::string trace;
};

// The words behind `vmm`: "run", its options, the kernel and its arguments. Paths of the matrix are
// made relative to the current directory.
std::vector<std::string> cell_words(const MatrixSpec& spec, const Cell& cell,
                                    const Settings& settings, const CellFiles& files);
// A line for a shell that repeats the cell by hand, in a lab of its own where it runs in one.
std::string cell_command_line(const MatrixSpec& spec, const Cell& cell, const Settings& settings);
// The files that the guest boots from, as paths from here.
std::vector<std::string> cell_images(const MatrixSpec& spec, const Settings& settings);
// The guest's command line: `append` with {AXIS} filled in, and AXIS=VALUE for every axis of the
// user's that it does not name.
std::string cell_arguments(const MatrixSpec& spec, const Cell& cell, const Settings& settings);

}  // namespace vmm
