// A matrix as its file describes it (docs/matrix.md): guests with their axes, what is expected of
// them, which combinations are left out or added.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/base/result.h"
#include "vmm/matrix/line_pattern.h"
#include "vmm/matrix/record.h"
#include "vmm/matrix/sub_results.h"

namespace vmm {

enum class Expect { Pass, Fail, XFail };
// "pass", "fail", "xfail".
std::string_view expect_word(Expect expect);

enum class Artefact { Outcome, Screen, Report, Core, Trace };

// What can be said of a guest and, but for the first group, of single cells. What is absent here is
// said elsewhere, or has its default.
struct Settings {
  std::optional<std::string> kernel, firmware;  // one of them at least
  std::optional<std::string> vars;
  std::optional<std::vector<std::string>> initrd, module, disk, share, options;
  std::optional<std::string> append;
  std::vector<std::string> groups;

  std::optional<Expect> expect;
  std::optional<int> exit_code;
  std::optional<std::string> outcome, rule, reason, link;
  std::vector<LinePattern> output, screen, forbid;
  std::optional<ResultFormat> results;
  std::optional<LinePattern> landmark, progress;
  std::optional<double> boot_timeout, timeout, silence, noise;  // seconds, more than 0
  std::optional<unsigned> retries;
  std::optional<std::set<Artefact>> keep;

  // `other` on top of this: lists of lines and groups grow, everything else is replaced.
  void put(const Settings& other);
  // "pass, exit code 3, triple-fault (RULE)", "xfail: REASON".
  std::string expectation_text() const;
  double limit() const { return timeout.value_or(60); }  // seconds
  double boot_limit() const { return boot_timeout.value_or(limit()); }
  // Of the whole run, which has a boot of its own where there is a landmark.
  double whole_limit() const { return landmark ? boot_limit() + limit() : limit(); }
};

// An axis of one guest. Values beyond `product` are those of [[include]] tables alone.
struct Axis {
  std::string name;
  std::vector<std::string> values;
  std::size_t product = 0;
  bool of_user = false;  // one of [args]
};

struct MatrixGuest {
  std::string name;
  std::string place;
  Settings settings;
  std::vector<Axis> axes;  // built-in ones in their order, then the user's in theirs

  const Axis* axis(std::string_view name) const;
};

// Axes with patterns of which one has to fit, each.
struct CellMatch {
  struct Condition {
    std::string axis;
    std::vector<std::string> patterns;
  };
  std::vector<Condition> conditions;
  std::string place;
};

struct MatrixSpec {
  static constexpr std::size_t kMaxCells = 1'000'000;

  struct Exclude {
    CellMatch match;
    std::string reason;
  };
  struct Include {
    std::size_t guest = 0;
    std::vector<AxisValue> values;
    std::string place;
  };
  struct ExpectRule {
    CellMatch match;
    Settings settings;
  };

  std::string name;
  std::string file;       // as it was given
  std::string directory;  // that relative paths in it start from
  std::string text_digest;
  bool pairwise = false;
  std::vector<MatrixGuest> guests;
  std::vector<Exclude> excludes;
  std::vector<Include> includes;
  std::vector<ExpectRule> expects;
};

// The axes that every matrix knows, in the order in which cells name them.
inline constexpr std::string_view kAxisNames[] = {"on",  "kvm-param", "cpu-model", "cpu-policy",
                                                  "smp", "irqchip",   "mem",       "boot"};

// Errors of kind Usage with FILE:LINE:COLUMN. Reads no other file: images may be missing yet.
Result<MatrixSpec> parse_matrix(std::string_view text, const std::string& file);
// The same of a file of at most 1 MiB.
Result<MatrixSpec> read_matrix(const std::string& file);

}  // namespace vmm
