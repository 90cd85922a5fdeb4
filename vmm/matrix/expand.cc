#include "vmm/matrix/expand.h"

#include <fmt/format.h>

#include <algorithm>
#include <unordered_map>

#include "vmm/base/sha256.h"
#include "vmm/base/text.h"

namespace vmm {
namespace {

// Rows of the product that pairwise looks at; a guest with more needs excludes or fewer values.
constexpr std::size_t kMaxPairwiseRows = 200'000;

std::size_t index_of(const MatrixGuest& guest, std::string_view axis) {
  for (std::size_t i = 0; i < guest.axes.size(); ++i)
    if (guest.axes[i].name == axis) return i;
  return guest.axes.size();
}

std::string_view value_of(const MatrixGuest& guest, const Cell& cell, std::size_t axis) {
  return guest.axes[axis].values[cell.values[axis]];
}

bool on_host(const MatrixGuest& guest, const Cell& cell) {
  const std::size_t on = index_of(guest, "on");
  return on == guest.axes.size() || value_of(guest, cell, on) == "host";
}

// The size of a guest's product; nothing beyond the limit.
std::optional<std::size_t> product(const MatrixGuest& guest, std::size_t limit) {
  std::size_t size = 1;
  for (const Axis& axis : guest.axes) {
    size *= axis.product;
    if (size > limit) return std::nullopt;
  }
  return size;
}

// The last axis counts fastest; false after the last cell.
bool next(const MatrixGuest& guest, Cell& cell) {
  for (std::size_t i = guest.axes.size(); i-- > 0;) {
    if (++cell.values[i] < guest.axes[i].product) return true;
    cell.values[i] = 0;
  }
  return false;
}

class Expander {
 public:
  explicit Expander(MatrixSpec& spec) : spec_(spec) {}

  Result<Expansion> run() {
    result_.left_out.reserve(spec_.excludes.size());
    for (const MatrixSpec::Exclude& exclude : spec_.excludes)
      result_.left_out.push_back(
          {.cells = 0, .reason = exclude.reason, .place = exclude.match.place});
    VMM_TRY(check_size());
    for (std::size_t guest = 0; guest < spec_.guests.size(); ++guest) VMM_TRY(add_guest(guest));
    for (const MatrixSpec::Include& include : spec_.includes) VMM_TRY(add_include(include));
    if (result_.cells.empty())
      return fail(
          Error::usage("every cell is excluded, so there is nothing to run").at(spec_.file));
    take_notes();
    return std::move(result_);
  }

 private:
  Result<void> check_size() const {
    std::size_t all = spec_.includes.size();
    for (const MatrixGuest& guest : spec_.guests) {
      const auto size = product(guest, MatrixSpec::kMaxCells);
      if (size) all += *size;
      if (!size || all > MatrixSpec::kMaxCells)
        return fail(
            Error::usage(fmt::format("the axes make more than {} cells{}", MatrixSpec::kMaxCells,
                                     size ? "" : fmt::format(" for guest '{}' alone", guest.name)))
                .at(guest.place)
                .hint("give guests axes of their own with fewer values, or make several matrices"));
    }
    return {};
  }

  bool excluded(const Cell& cell) {
    for (std::size_t i = 0; i < spec_.excludes.size(); ++i)
      if (cell_matches(spec_, cell, spec_.excludes[i].match)) {
        ++result_.left_out[i].cells;
        return true;
      }
    return false;
  }

  Result<void> add_guest(std::size_t index) {
    const MatrixGuest& guest = spec_.guests[index];
    const std::size_t parameter = index_of(guest, "kvm-param");
    Cell cell{.guest = static_cast<std::uint32_t>(index),
              .values = std::vector<std::uint16_t>(guest.axes.size(), 0)};
    std::vector<Cell> cells;
    do {
      // Parameters are the lab's: on the host one cell stands for all of them.
      if (parameter < guest.axes.size() && cell.values[parameter] != 0 && on_host(guest, cell))
        continue;
      if (!excluded(cell)) cells.push_back(cell);
    } while (next(guest, cell));
    if (spec_.pairwise) VMM_TRY(thin_out(guest, cells));
    for (Cell& kept : cells) VMM_TRY(add(std::move(kept), guest.place));
    return {};
  }

  Result<void> thin_out(const MatrixGuest& guest, std::vector<Cell>& cells) {
    if (cells.size() > kMaxPairwiseRows)
      return fail(
          Error::usage(fmt::format("guest '{}' has {} combinations, of which pairwise can choose "
                                   "among {} at most",
                                   guest.name, cells.size(), kMaxPairwiseRows))
              .at(guest.place)
              .hint("fewer values, or [[exclude]]"));
    std::vector<std::vector<std::uint16_t>> rows;
    rows.reserve(cells.size());
    for (const Cell& cell : cells) rows.push_back(cell.values);
    std::vector<Cell> kept;
    for (const std::size_t row : covering_rows(rows)) kept.push_back(std::move(cells[row]));
    result_.pairs_left_out += cells.size() - kept.size();
    cells = std::move(kept);
    return {};
  }

  Result<void> add_include(const MatrixSpec::Include& include) {
    MatrixGuest& guest = spec_.guests[include.guest];
    Cell cell{.guest = static_cast<std::uint32_t>(include.guest),
              .values = std::vector<std::uint16_t>(guest.axes.size(), 0)};
    for (const AxisValue& wanted : include.values) {
      const std::size_t at = index_of(guest, wanted.axis);
      if (at == guest.axes.size())
        return fail(
            Error::usage(fmt::format("guest '{}' has no axis '{}', which the [[include]] names",
                                     guest.name, wanted.axis))
                .at(include.place)
                .hint("name it in [axes] or in the guest's own axes, with its usual value"));
      std::vector<std::string>& values = guest.axes[at].values;
      auto found = std::find(values.begin(), values.end(), wanted.value);
      if (found == values.end()) found = values.insert(values.end(), wanted.value);
      cell.values[at] = static_cast<std::uint16_t>(found - values.begin());
    }
    return add(std::move(cell), include.place);
  }

  Result<void> add(Cell cell, const std::string& place) {
    const auto [known, fresh] = places_.emplace(cell_id(spec_, cell), place);
    if (!fresh)
      return fail(Error::usage(fmt::format("the cell '{}' is there twice", known->first))
                      .at(place)
                      .hint("first by " + known->second));
    result_.cells.push_back(std::move(cell));
    return {};
  }

  void take_notes() {
    for (const Expansion::LeftOut& out : result_.left_out)
      if (out.cells == 0)
        result_.notes.push_back(fmt::format("{}: this [[exclude]] matches no cell", out.place));
    for (const MatrixSpec::ExpectRule& rule : spec_.expects)
      if (std::none_of(result_.cells.begin(), result_.cells.end(),
                       [&](const Cell& cell) { return cell_matches(spec_, cell, rule.match); }))
        result_.notes.push_back(
            fmt::format("{}: this [[expect]] matches no cell", rule.match.place));
  }

  MatrixSpec& spec_;
  Expansion result_;
  std::unordered_map<std::string, std::string> places_;  // of each cell
};

// A pair of values of two axes, as one number.
std::uint64_t pair_of(std::size_t a, std::uint16_t value_a, std::size_t b, std::uint16_t value_b) {
  return (a << 48) | (std::uint64_t{value_a} << 32) | (b << 16) | value_b;
}

}  // namespace

Result<Expansion> expand(MatrixSpec& spec) { return Expander(spec).run(); }

std::vector<std::size_t> covering_rows(const std::vector<std::vector<std::uint16_t>>& rows) {
  std::vector<std::size_t> chosen;
  if (rows.empty()) return chosen;
  const std::size_t axes = rows.front().size();
  if (axes < 2) {
    for (std::size_t i = 0; i < rows.size(); ++i) chosen.push_back(i);
    return chosen;
  }
  std::unordered_map<std::uint64_t, bool> met;
  const auto each_pair = [&](const std::vector<std::uint16_t>& row, const auto& visit) {
    for (std::size_t a = 0; a < axes; ++a)
      for (std::size_t b = a + 1; b < axes; ++b) visit(met[pair_of(a, row[a], b, row[b])]);
  };
  for (const auto& row : rows) each_pair(row, [](bool&) {});
  std::size_t missing = met.size();
  const auto gain = [&](std::size_t index) {
    std::size_t count = 0;
    each_pair(rows[index], [&](bool& seen) { count += seen ? 0u : 1u; });
    return count;
  };
  // What a row adds only ever shrinks: a row that still leads with its gain counted anew is the
  // best.
  struct Candidate {
    std::size_t gain;
    std::size_t row;
    bool operator<(const Candidate& other) const {
      return gain != other.gain ? gain < other.gain : row > other.row;
    }
  };
  std::vector<Candidate> heap;
  for (std::size_t i = 0; i < rows.size(); ++i) heap.push_back({axes * (axes - 1) / 2, i});
  std::make_heap(heap.begin(), heap.end());
  while (missing > 0) {
    std::pop_heap(heap.begin(), heap.end());
    Candidate best = heap.back();
    heap.pop_back();
    const std::size_t now = gain(best.row);
    if (now != best.gain) {
      if (now > 0) {
        heap.push_back({now, best.row});
        std::push_heap(heap.begin(), heap.end());
      }
      continue;
    }
    each_pair(rows[best.row], [](bool& seen) { seen = true; });
    missing -= now;
    chosen.push_back(best.row);
  }
  std::sort(chosen.begin(), chosen.end());
  return chosen;
}

std::string_view cell_value(const MatrixSpec& spec, const Cell& cell, std::string_view axis) {
  const MatrixGuest& guest = spec.guests[cell.guest];
  if (axis == "guest") return guest.name;
  const std::size_t at = index_of(guest, axis);
  if (at == guest.axes.size() || (axis == "kvm-param" && on_host(guest, cell))) return {};
  return value_of(guest, cell, at);
}

std::vector<AxisValue> cell_axes(const MatrixSpec& spec, const Cell& cell) {
  const MatrixGuest& guest = spec.guests[cell.guest];
  std::vector<AxisValue> axes = {{"guest", guest.name}};
  for (std::size_t i = 0; i < guest.axes.size(); ++i)
    if (guest.axes[i].name != "kvm-param" || !on_host(guest, cell))
      axes.push_back({guest.axes[i].name, std::string(value_of(guest, cell, i))});
  return axes;
}

std::string cell_id(const MatrixSpec& spec, const Cell& cell) {
  const MatrixGuest& guest = spec.guests[cell.guest];
  std::string id = guest.name;
  for (std::size_t i = 0; i < guest.axes.size(); ++i) {
    if (guest.axes[i].name == "kvm-param" && on_host(guest, cell)) continue;
    id += ' ';
    id += guest.axes[i].name;
    id += '=';
    id += value_of(guest, cell, i);
  }
  return id;
}

bool cell_matches(const MatrixSpec& spec, const Cell& cell, const CellMatch& match) {
  return std::all_of(match.conditions.begin(), match.conditions.end(), [&](const auto& condition) {
    const std::string_view value = cell_value(spec, cell, condition.axis);
    return std::any_of(condition.patterns.begin(), condition.patterns.end(),
                       [&](const std::string& pattern) { return glob_matches(pattern, value); });
  });
}

Settings cell_settings(const MatrixSpec& spec, const Cell& cell) {
  Settings settings = spec.guests[cell.guest].settings;
  for (const MatrixSpec::ExpectRule& rule : spec.expects)
    if (cell_matches(spec, cell, rule.match)) settings.put(rule.settings);
  return settings;
}

std::string matrix_digest(const MatrixSpec& spec, const Expansion& expansion) {
  Sha256 digest;
  const auto add = [&](std::string_view text) {
    digest.update({reinterpret_cast<const std::uint8_t*>(text.data()), text.size()});
  };
  add(spec.text_digest);
  for (const Cell& cell : expansion.cells) {
    add("\n");
    add(cell_id(spec, cell));
  }
  return digest.hex();
}

}  // namespace vmm
