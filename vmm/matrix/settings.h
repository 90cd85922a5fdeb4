// The keys of a guest in a matrix file, read from any of the tables that may have them.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "vmm/base/result.h"
#include "vmm/cpu/toml_table.h"
#include "vmm/matrix/spec.h"

namespace vmm {

// What a table of guest keys says: [defaults], a template or a guest.
struct GuestTable {
  Settings settings;
  std::vector<Axis> axes;          // built-in and the user's
  std::optional<TomlString> base;  // template = "..."
};

Result<GuestTable> read_guest_table(const TomlTable& table);
// The keys of an [[expect]]: those of a guest that may differ between its cells. `more` are the
// axes that stand beside them.
Result<Settings> read_cell_settings(const TomlTable& table, const std::vector<std::string>& more);

// The axes under `axes` and `args` of `table`, as far as they are there; each value is checked.
Result<std::vector<Axis>> read_all_axes(const TomlTable& table);
// A Usage error, without a place, for a value that the axis cannot have.
Result<void> check_axis_value(std::string_view axis, std::string_view value);

}  // namespace vmm
