#include "vmm/matrix/spec.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <map>

#include "vmm/base/fd.h"
#include "vmm/base/sha256.h"
#include "vmm/base/text.h"
#include "vmm/cpu/toml_table.h"
#include "vmm/matrix/settings.h"

namespace vmm {
namespace {

constexpr std::size_t kMaxFile = 1 << 20;  // bytes
constexpr std::size_t kMaxTables = 10'000;

bool is_name(std::string_view name) {
  return !name.empty() && name.size() <= 64 && name != "." && name != ".." &&
         std::all_of(name.begin(), name.end(), [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                  c == '-' || c == '_' || c == '.' || c == '+';
         });
}

template <typename T>
void put_optional(std::optional<T>& over, const std::optional<T>& other) {
  if (other) over = other;
}

template <typename T>
void append(std::vector<T>& list, const std::vector<T>& more) {
  list.insert(list.end(), more.begin(), more.end());
}

// Axes of `over` take the place of those of the same name.
void put_axes(std::vector<Axis>& axes, const std::vector<Axis>& over) {
  for (const Axis& axis : over) {
    const auto same = std::find_if(axes.begin(), axes.end(),
                                   [&](const Axis& other) { return other.name == axis.name; });
    if (same == axes.end())
      axes.push_back(axis);
    else
      *same = axis;
  }
}

void put_in_order(std::vector<Axis>& axes) {
  const auto rank = [](const Axis& axis) {
    return std::find(std::begin(kAxisNames), std::end(kAxisNames), axis.name) -
           std::begin(kAxisNames);
  };
  std::stable_sort(axes.begin(), axes.end(),
                   [&](const Axis& a, const Axis& b) { return rank(a) < rank(b); });
}

class Reader {
 public:
  explicit Reader(MatrixSpec& spec) : spec_(spec) {}

  Result<void> read(const TomlTable& root) {
    VMM_TRY(root.only({"name", "pairwise", "axes", "args", "defaults", "template", "guest",
                       "exclude", "include", "expect"}));
    if (root.has("name")) spec_.name = VMM_TRY(root.string("name", 64));
    if (!is_name(spec_.name))
      return fail(
          Error::usage(fmt::format("'{}' is no name for a matrix", printable(spec_.name, 70)))
              .at(root.has("name") ? root.place("name") : spec_.file)
              .hint("name = \"...\" takes 1 to 64 letters, digits, '-', '_', '.' and '+'"));
    if (root.has("pairwise")) spec_.pairwise = VMM_TRY(root.boolean("pairwise"));
    put_axes(common_.axes, VMM_TRY(read_all_axes(root)));
    if (root.has("defaults")) VMM_TRY(read_defaults(root));
    if (root.has("template")) VMM_TRY(read_templates(root));
    if (!root.has("guest"))
      return fail(
          Error::usage("there is no [guest.NAME], so there is nothing to run").at(spec_.file));
    VMM_TRY(read_guests(root));
    VMM_TRY(read_excludes(root));
    VMM_TRY(read_includes(root));
    return read_expects(root);
  }

 private:
  Result<void> read_defaults(const TomlTable& root) {
    const TomlTable table = VMM_TRY(root.table("defaults"));
    const GuestTable defaults = VMM_TRY(read_guest_table(table));
    if (defaults.base)
      return fail(Error::usage("[defaults] cannot have a template").at(defaults.base->place));
    if (defaults.settings.kernel)
      return fail(Error::usage("[defaults] cannot have a kernel: each guest has its own")
                      .at(table.place("kernel")));
    common_.settings.put(defaults.settings);
    put_axes(common_.axes, defaults.axes);
    return {};
  }

  Result<void> read_templates(const TomlTable& root) {
    const TomlTable templates = VMM_TRY(root.table("template"));
    for (const std::string& name : templates.keys_in_order()) {
      const TomlTable table = VMM_TRY(templates.table(name));
      templates_[name] = VMM_TRY(read_guest_table(table));
    }
    return {};
  }

  // `guest` on top of the templates that it names, innermost first.
  Result<GuestTable> resolved(const GuestTable& guest, std::vector<std::string> path) const {
    GuestTable result = common_;
    if (guest.base) {
      const auto found = templates_.find(guest.base->text);
      if (found == templates_.end()) {
        Error error = Error::usage(fmt::format("there is no [template.{}]", guest.base->text))
                          .at(guest.base->place);
        std::vector<std::string> names;
        for (const auto& [name, table] : templates_) names.push_back(name);
        if (const auto near = nearest_name(guest.base->text, names))
          error = std::move(error).hint(fmt::format("did you mean '{}'?", *near));
        return fail(std::move(error));
      }
      path.push_back(guest.base->text);
      if (std::count(path.begin(), path.end(), guest.base->text) > 1)
        return fail(
            Error::usage(fmt::format("templates go round in a circle: {}", fmt::join(path, " -> ")))
                .at(guest.base->place));
      result = VMM_TRY(resolved(found->second, path));
    }
    result.settings.put(guest.settings);
    put_axes(result.axes, guest.axes);
    return result;
  }

  Result<void> read_guests(const TomlTable& root) {
    const TomlTable guests = VMM_TRY(root.table("guest"));
    for (const std::string& name : guests.keys_in_order()) {
      const TomlTable table = VMM_TRY(guests.table(name));
      if (!is_name(name))
        return fail(Error::usage(fmt::format("'{}' is no name for a guest", printable(name, 70)))
                        .at(table.place())
                        .hint("1 to 64 letters, digits, '-', '_', '.' and '+'"));
      const GuestTable own = VMM_TRY(read_guest_table(table));
      GuestTable whole = VMM_TRY(resolved(own, {}));
      if (whole.settings.kernel.value_or("").empty() &&
          whole.settings.firmware.value_or("").empty())
        return fail(Error::usage(fmt::format("guest '{}' has no kernel", name))
                        .at(table.place())
                        .hint("kernel = \"FILE\"; or firmware = \"CODE.fd\", which needs none"));
      put_in_order(whole.axes);
      spec_.guests.push_back({.name = name,
                              .place = table.place(),
                              .settings = std::move(whole.settings),
                              .axes = std::move(whole.axes)});
      if (spec_.guests.size() > kMaxTables)
        return fail(Error::usage(fmt::format("more than {} guests", kMaxTables)).at(table.place()));
    }
    if (spec_.guests.empty())
      return fail(Error::usage("[guest] is empty, so there is nothing to run").at(guests.place()));
    return {};
  }

  // "guest" and every axis that some guest has.
  std::vector<std::string> axis_names() const {
    std::vector<std::string> names = {"guest"};
    append(names, std::vector<std::string>(std::begin(kAxisNames), std::end(kAxisNames)));
    for (const MatrixGuest& guest : spec_.guests)
      for (const Axis& axis : guest.axes)
        if (std::find(names.begin(), names.end(), axis.name) == names.end())
          names.push_back(axis.name);
    return names;
  }

  std::vector<std::string> guest_names() const {
    std::vector<std::string> names;
    for (const MatrixGuest& guest : spec_.guests) names.push_back(guest.name);
    return names;
  }

  Error no_guest(const TomlString& name) const {
    Error error = Error::usage(fmt::format("there is no guest '{}'", printable(name.text, 60)))
                      .at(name.place);
    if (const auto near = nearest_name(name.text, guest_names()))
      error = std::move(error).hint(fmt::format("did you mean '{}'?", *near));
    return error;
  }

  Result<CellMatch> read_match(const TomlTable& table, const std::vector<std::string>& axes) const {
    CellMatch match;
    match.place = table.place();
    const std::vector<std::string> guests = guest_names();
    for (const std::string& name : axes) {
      CellMatch::Condition condition{.axis = name, .patterns = {}};
      for (const TomlString& pattern : VMM_TRY(table.values(name, 256))) {
        // A pattern without wildcards for something that is not there is a slip of the pen.
        if (name == "guest" && pattern.text.find_first_of("*?") == std::string::npos &&
            std::find(guests.begin(), guests.end(), pattern.text) == guests.end())
          return fail(no_guest(pattern));
        condition.patterns.push_back(pattern.text);
      }
      if (!condition.patterns.empty()) match.conditions.push_back(std::move(condition));
    }
    if (match.conditions.empty())
      return fail(Error::usage("it names no axis, so every cell would match").at(match.place));
    return match;
  }

  Result<void> read_excludes(const TomlTable& root) {
    const std::vector<std::string> axes = axis_names();
    std::vector<std::string> known = axes;
    known.emplace_back("reason");
    for (const TomlTable& table : VMM_TRY(root.tables("exclude", kMaxTables))) {
      VMM_TRY(table.only(known));
      MatrixSpec::Exclude exclude{.match = VMM_TRY(read_match(table, axes)), .reason = {}};
      if (table.has("reason")) exclude.reason = VMM_TRY(table.text("reason", 1000));
      spec_.excludes.push_back(std::move(exclude));
    }
    return {};
  }

  Result<void> read_includes(const TomlTable& root) {
    const std::vector<std::string> axes = axis_names();
    for (const TomlTable& table : VMM_TRY(root.tables("include", kMaxTables))) {
      VMM_TRY(table.only(axes));
      const TomlString name{VMM_TRY(table.text("guest", 64)), table.place("guest")};
      const std::vector<std::string> guests = guest_names();
      const auto found = std::find(guests.begin(), guests.end(), name.text);
      if (found == guests.end()) return fail(no_guest(name));
      MatrixSpec::Include include;
      include.guest = static_cast<std::size_t>(found - guests.begin());
      include.place = table.place();
      for (const std::string& axis : axes) {
        if (axis == "guest" || !table.has(axis)) continue;
        const std::vector<TomlString> values = VMM_TRY(table.values(axis, 1));
        if (values.size() != 1)
          return fail(Error::usage(fmt::format("an [[include]] has one value of '{}'", axis))
                          .at(table.place(axis)));
        if (auto good = check_axis_value(axis, values.front().text); !good)
          return fail(std::move(good).error().at(values.front().place));
        include.values.push_back({axis, values.front().text});
      }
      spec_.includes.push_back(std::move(include));
    }
    return {};
  }

  Result<void> read_expects(const TomlTable& root) {
    const std::vector<std::string> axes = axis_names();
    for (const TomlTable& table : VMM_TRY(root.tables("expect", kMaxTables))) {
      // Not within the braces: what stands there already is never destroyed when VMM_TRY returns.
      CellMatch match = VMM_TRY(read_match(table, axes));
      auto settings = VMM_TRY(read_cell_settings(table, axes));
      spec_.expects.push_back({.match = std::move(match), .settings = std::move(settings)});
    }
    return {};
  }

  MatrixSpec& spec_;
  GuestTable common_;
  std::map<std::string, GuestTable> templates_;
};

}  // namespace

std::string_view expect_word(Expect expect) {
  switch (expect) {
    case Expect::Pass:
      return "pass";
    case Expect::Fail:
      return "fail";
    case Expect::XFail:
      return "xfail";
  }
  return "pass";
}

void Settings::put(const Settings& other) {
  put_optional(kernel, other.kernel);
  put_optional(initrd, other.initrd);
  put_optional(module, other.module);
  put_optional(firmware, other.firmware);
  put_optional(vars, other.vars);
  put_optional(disk, other.disk);
  put_optional(share, other.share);
  put_optional(options, other.options);
  put_optional(this->append, other.append);
  vmm::append(groups, other.groups);
  put_optional(expect, other.expect);
  put_optional(exit_code, other.exit_code);
  put_optional(outcome, other.outcome);
  put_optional(rule, other.rule);
  put_optional(reason, other.reason);
  put_optional(link, other.link);
  vmm::append(output, other.output);
  vmm::append(screen, other.screen);
  vmm::append(forbid, other.forbid);
  put_optional(results, other.results);
  put_optional(landmark, other.landmark);
  put_optional(progress, other.progress);
  put_optional(boot_timeout, other.boot_timeout);
  put_optional(timeout, other.timeout);
  put_optional(silence, other.silence);
  put_optional(noise, other.noise);
  put_optional(retries, other.retries);
  put_optional(keep, other.keep);
}

std::string Settings::expectation_text() const {
  std::string text(expect_word(expect.value_or(Expect::Pass)));
  if (outcome) text += fmt::format(", {}", *outcome);
  if (rule) text += fmt::format(" ({})", *rule);
  if (exit_code) text += fmt::format(", exit code {}", *exit_code);
  if (reason) text += fmt::format(": {}", *reason);
  return text;
}

const Axis* MatrixGuest::axis(std::string_view wanted) const {
  for (const Axis& axis : axes)
    if (axis.name == wanted) return &axis;
  return nullptr;
}

Result<MatrixSpec> parse_matrix(std::string_view text, const std::string& file) {
  const TomlDocument document = VMM_TRY(TomlDocument::parse(text, file));
  MatrixSpec spec;
  const std::filesystem::path path(file);
  spec.file = file;
  spec.directory = path.parent_path().string();
  spec.name = path.stem().string();
  spec.text_digest = sha256_hex(text);
  VMM_TRY(Reader(spec).read(document.root()));
  return spec;
}

Result<MatrixSpec> read_matrix(const std::string& file) {
  const std::vector<std::uint8_t> bytes = VMM_TRY(read_file(file, kMaxFile, ErrorKind::Usage));
  return parse_matrix({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, file);
}

}  // namespace vmm
