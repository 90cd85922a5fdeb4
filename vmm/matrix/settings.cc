#include "vmm/matrix/settings.h"

#include <fmt/format.h>

#include <algorithm>

#include "loader/boot.h"
#include "vmm/base/text.h"
#include "vmm/core/guest_memory.h"
#include "vmm/cpu/cpu_model.h"
#include "vmm/cpu/resolve.h"
#include "vmm/cpu/selection.h"
#include "vmm/disk/disk.h"
#include "vmm/machine/flash_file.h"
#include "vmm/machine/spec.h"

namespace vmm {
namespace {

constexpr std::size_t kMaxText = 4096;    // bytes of one word
constexpr std::size_t kMaxItems = 256;    // of a list
constexpr std::size_t kMaxValues = 1024;  // of an axis
constexpr double kMaxSeconds = 1e6;

const std::vector<std::string> kCellKeys = {
    "expect",       "exit-code", "outcome", "rule",    "reason",   "link",
    "output",       "screen",    "forbid",  "results", "landmark", "progress",
    "boot-timeout", "timeout",   "silence", "noise",   "retries",  "keep"};
const std::vector<std::string> kGuestKeys = {"kernel",   "initrd", "module",  "firmware", "vars",
                                             "disk",     "share",  "options", "append",   "groups",
                                             "template", "axes",   "args"};

// What `outcome` may name: how a guest can end (docs/outcome.md).
const std::vector<std::string> kEndings = {
    "guest-exit", "power-off", "reset",   "triple-fault", "internal-error", "entry-failure",
    "caught",     "halted",    "stalled", "timeout",      "not-started"};

Error unknown_word(std::string_view key, std::string_view word,
                   const std::vector<std::string>& known) {
  Error error = Error::usage(fmt::format("'{}' is '{}', allowed are {}", key, printable(word, 60),
                                         fmt::join(known, ", ")));
  if (const auto near = nearest_name(word, known))
    error = std::move(error).hint(fmt::format("did you mean '{}'?", *near));
  return error;
}

Result<std::optional<std::string>> optional_text(const TomlTable& table, std::string_view key) {
  if (!table.has(key)) return std::nullopt;
  return VMM_TRY(table.text(key, kMaxText));
}

Result<std::optional<double>> optional_seconds(const TomlTable& table, std::string_view key) {
  if (!table.has(key)) return std::nullopt;
  return VMM_TRY(table.real(key, 0.001, kMaxSeconds));
}

Result<std::optional<std::vector<std::string>>> optional_list(const TomlTable& table,
                                                              std::string_view key) {
  if (!table.has(key)) return std::nullopt;
  std::vector<std::string> list;
  for (const TomlString& item : VMM_TRY(table.values(key, kMaxItems))) list.push_back(item.text);
  return list;
}

Result<std::vector<LinePattern>> patterns(const TomlTable& table, std::string_view key) {
  std::vector<LinePattern> list;
  for (const TomlString& item : VMM_TRY(table.values(key, kMaxItems))) {
    auto pattern = LinePattern::compile(item.text);
    if (!pattern) return fail(std::move(pattern).error().at(item.place));
    list.push_back(std::move(*pattern));
  }
  return list;
}

Result<std::optional<LinePattern>> optional_pattern(const TomlTable& table, std::string_view key) {
  if (!table.has(key)) return std::nullopt;
  const std::string text = VMM_TRY(table.text(key, kMaxText));
  auto pattern = LinePattern::compile(text);
  if (!pattern) return fail(std::move(pattern).error().at(table.place(key)));
  return std::move(*pattern);
}

Result<std::set<Artefact>> read_keep(const TomlTable& table) {
  const std::vector<std::string> words = {"outcome", "screen", "report", "core", "trace"};
  std::set<Artefact> keep;
  for (const TomlString& item : VMM_TRY(table.values("keep", words.size()))) {
    const auto word = std::find(words.begin(), words.end(), item.text);
    if (word == words.end()) return fail(unknown_word("keep", item.text, words).at(item.place));
    keep.insert(static_cast<Artefact>(word - words.begin()));
  }
  return keep;
}

Result<void> read_expectation(const TomlTable& table, Settings& s) {
  if (table.has("expect"))
    s.expect = static_cast<Expect>(VMM_TRY(table.choice("expect", {"pass", "fail", "xfail"})));
  if (table.has("exit-code"))
    s.exit_code = static_cast<int>(VMM_TRY(table.number("exit-code", 0, 255)));
  s.outcome = VMM_TRY(optional_text(table, "outcome"));
  if (s.outcome && std::find(kEndings.begin(), kEndings.end(), *s.outcome) == kEndings.end())
    return fail(unknown_word("outcome", *s.outcome, kEndings).at(table.place("outcome")));
  s.rule = VMM_TRY(optional_text(table, "rule"));
  s.reason = VMM_TRY(optional_text(table, "reason"));
  s.link = VMM_TRY(optional_text(table, "link"));
  s.output = VMM_TRY(patterns(table, "output"));
  s.screen = VMM_TRY(patterns(table, "screen"));
  s.forbid = VMM_TRY(patterns(table, "forbid"));
  return {};
}

Result<void> read_cell_keys(const TomlTable& table, Settings& s) {
  VMM_TRY(read_expectation(table, s));
  if (table.has("results"))
    s.results = static_cast<ResultFormat>(
        VMM_TRY(table.choice("results", {"none", "tap", "ktap", "kvm-unit-tests"})));
  s.landmark = VMM_TRY(optional_pattern(table, "landmark"));
  s.progress = VMM_TRY(optional_pattern(table, "progress"));
  s.boot_timeout = VMM_TRY(optional_seconds(table, "boot-timeout"));
  s.timeout = VMM_TRY(optional_seconds(table, "timeout"));
  s.silence = VMM_TRY(optional_seconds(table, "silence"));
  s.noise = VMM_TRY(optional_seconds(table, "noise"));
  if (table.has("retries"))
    s.retries = static_cast<unsigned>(VMM_TRY(table.number("retries", 0, 20)));
  if (table.has("keep")) s.keep = VMM_TRY(read_keep(table));
  return {};
}

// ---- what may be written to

// Cells run at the same time and in any order: nothing that one writes may reach another.
Error reaches_other_cells(std::string_view key, std::string_view value, const char* hint) {
  return Error::usage(fmt::format("'{}' is '{}': what one cell writes would reach the others", key,
                                  printable(value, 60)))
      .hint(hint);
}

Result<void> check_vars(std::string_view value) {
  if (VMM_TRY(parse_vars(value)).mode == VarsSpec::Mode::Write)
    return fail(reaches_other_cells("vars", value, "FILE,copy gives each a store of its own"));
  return {};
}

Result<void> check_disk(std::string_view value) {
  if (!VMM_TRY(parse_disk(value)).read_only)
    return fail(reaches_other_cells("disk", value, "raw:FILE,ro"));
  return {};
}

Result<void> check_share(std::string_view value) {
  if (VMM_TRY(parse_share(value)).write_back)
    return fail(reaches_other_cells("share", value, "DIR,overlay keeps it in the cell's memory"));
  return {};
}

Result<std::optional<std::vector<std::string>>> checked_list(
    const TomlTable& table, std::string_view key, Result<void> (*check)(std::string_view)) {
  auto list = VMM_TRY(optional_list(table, key));
  for (const std::string& item : list.value_or(std::vector<std::string>{}))
    if (auto good = check(item); !good) return fail(std::move(good).error().at(table.place(key)));
  return list;
}

Result<void> read_storage(const TomlTable& table, Settings& s) {
  s.firmware = VMM_TRY(optional_text(table, "firmware"));
  s.vars = VMM_TRY(optional_text(table, "vars"));
  if (s.vars)
    if (auto good = check_vars(*s.vars); !good)
      return fail(std::move(good).error().at(table.place("vars")));
  s.disk = VMM_TRY(checked_list(table, "disk", check_disk));
  s.share = VMM_TRY(checked_list(table, "share", check_share));
  return {};
}

// ---- axes

bool is_axis_name(std::string_view name) {
  return !name.empty() && name.size() <= 32 && std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_' || c == '.';
  });
}

// A file's path in a model's place starts from the matrix, not from here: only its overrides can be
// looked at.
Result<void> check_model(std::string_view value) {
  const CpuSelection selection = VMM_TRY(parse_cpu_selection(value));
  const bool is_file = selection.model.find('/') != std::string::npos;
  if (!is_file && !is_rule_host(selection)) VMM_TRY(find_cpu_model(selection.model));
  return {};
}

Result<void> check_word(std::string_view axis, std::string_view value,
                        const std::vector<std::string>& known) {
  if (std::find(known.begin(), known.end(), value) == known.end())
    return fail(unknown_word(axis, value, known));
  return {};
}

Result<void> check_kvm_param(std::string_view value) {
  if (value.empty()) return {};
  for (const std::string_view part : split(value, ',')) {
    const std::size_t equals = part.find('=');
    if (equals == 0 || equals == part.npos || equals + 1 == part.size())
      return fail(Error::usage(fmt::format("kvm-param '{}' is no NAME=VALUE", printable(part, 60)))
                      .hint("such as \"npt=0\", or \"\" for none"));
  }
  return {};
}

// The axes of one table: built-in ones, or those of the user's.
Result<std::vector<Axis>> read_axes(const TomlTable& table, bool of_user) {
  std::vector<Axis> axes;
  if (!of_user)
    VMM_TRY(table.only(std::vector<std::string>(std::begin(kAxisNames), std::end(kAxisNames))));
  for (const std::string& name : table.keys_in_order()) {
    const bool built_in = name == "guest" || std::find(std::begin(kAxisNames), std::end(kAxisNames),
                                                       name) != std::end(kAxisNames);
    if (of_user && (built_in || !is_axis_name(name)))
      return fail(
          Error::usage(fmt::format("'{}' cannot be an axis of one's own", printable(name, 60)))
              .at(table.place(name))
              .hint(built_in ? "it belongs into [axes]"
                             : "1 to 32 letters, digits, '-', '_' and '.'"));
    Axis axis{.name = name, .values = {}, .product = 0, .of_user = of_user};
    for (const TomlString& value : VMM_TRY(table.values(name, kMaxValues))) {
      if (auto good = check_axis_value(name, value.text); !good)
        return fail(std::move(good).error().at(value.place));
      if (std::find(axis.values.begin(), axis.values.end(), value.text) != axis.values.end())
        return fail(Error::usage(fmt::format("axis '{}' has '{}' twice", name, value.text))
                        .at(value.place));
      axis.values.push_back(value.text);
    }
    if (axis.values.empty())
      return fail(
          Error::usage(fmt::format("axis '{}' has no value, so there would be no cell", name))
              .at(table.place(name))
              .hint("leave the axis out for its default"));
    axis.product = axis.values.size();
    axes.push_back(std::move(axis));
  }
  return axes;
}

}  // namespace

Result<void> check_axis_value(std::string_view axis, std::string_view value) {
  if (axis == "on") return check_word(axis, value, {"host", "svm", "vmx"});
  if (axis == "kvm-param") return check_kvm_param(value);
  if (axis == "cpu-model") return check_model(value);
  if (axis == "cpu-policy") return check_word(axis, value, {"strict", "mask", "force"});
  if (axis == "irqchip") return check_word(axis, value, {"auto", "user", "split", "kernel"});
  if (axis == "smp") {
    VMM_TRY(parse_topology(value));
  } else if (axis == "mem") {
    const std::uint64_t size = VMM_TRY(parse_size(value));
    VMM_TRY(GuestMemory::check_size(size));
  } else if (axis == "boot") {
    std::vector<std::string> words = {"auto"};
    for (const std::string_view word : boot_protocol_words()) words.emplace_back(word);
    return check_word(axis, value, words);
  } else if (value.size() > 1024) {
    return fail(Error::usage("a value has at most 1024 bytes"));
  }
  return {};
}

Result<std::vector<Axis>> read_all_axes(const TomlTable& table) {
  std::vector<Axis> all;
  for (const bool of_user : {false, true}) {
    const char* key = of_user ? "args" : "axes";
    if (!table.has(key)) continue;
    const TomlTable axes = VMM_TRY(table.table(key));
    for (Axis& axis : VMM_TRY(read_axes(axes, of_user))) all.push_back(std::move(axis));
  }
  return all;
}

Result<GuestTable> read_guest_table(const TomlTable& table) {
  std::vector<std::string> known = kGuestKeys;
  known.insert(known.end(), kCellKeys.begin(), kCellKeys.end());
  VMM_TRY(table.only(known));
  GuestTable guest;
  Settings& s = guest.settings;
  s.kernel = VMM_TRY(optional_text(table, "kernel"));
  s.append = VMM_TRY(optional_text(table, "append"));
  s.initrd = VMM_TRY(optional_list(table, "initrd"));
  s.module = VMM_TRY(optional_list(table, "module"));
  VMM_TRY(read_storage(table, s));
  s.options = VMM_TRY(optional_list(table, "options"));
  if (const auto groups = VMM_TRY(optional_list(table, "groups"))) s.groups = *groups;
  VMM_TRY(read_cell_keys(table, s));
  if (table.has("template"))
    guest.base = TomlString{VMM_TRY(table.string("template", 64)), table.place("template")};
  guest.axes = VMM_TRY(read_all_axes(table));
  return guest;
}

Result<Settings> read_cell_settings(const TomlTable& table, const std::vector<std::string>& more) {
  std::vector<std::string> known = more;
  known.insert(known.end(), kCellKeys.begin(), kCellKeys.end());
  VMM_TRY(table.only(known));
  Settings settings;
  VMM_TRY(read_cell_keys(table, settings));
  return settings;
}

}  // namespace vmm
