// vmm cpu bisect: which of the differences between two CPUs decides how a run ends.
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>

#include "vmm/base/text.h"
#include "vmm/cli/bisect_run.h"
#include "vmm/cli/cmd_cpu.h"
#include "vmm/cli/lab_paths.h"
#include "vmm/cpu/bisect.h"
#include "vmm/cpu/flatten.h"
#include "vmm/cpu/model_text.h"
#include "vmm/cpu/selection.h"

namespace vmm {
namespace {

using nlohmann::json;

struct BisectOptions {
  std::string good;
  std::string bad;
  double timeout = 30;
  std::size_t max_runs = 1000;
  bool quiet = false;
  bool as_json = false;
  std::vector<std::string> run_options;
  std::vector<std::string> guest;
};

// What bisect says to `vmm run` itself, and what makes no sense many times over.
constexpr std::string_view kNotForRuns[] = {"--cpu-model", "--outcome-json", "--on",
                                            "--dry-run",   "--help",         "--help-all"};

// As a CPU to take apart: flattened, so that the file of each try stands for itself.
struct Side {
  std::string text;  // "haswell@4,+pdpe1gb"
  BisectCpu cpu;
};

Result<Side> side_of(const std::string& selection_text, const char* name) {
  const CpuSelection selection = VMM_TRY(parse_cpu_selection(selection_text));
  const WholeCpu whole = VMM_TRY(resolve_whole(selection_text, HostGrant{}));
  Side side;
  side.text = whole.cpu.text;
  side.cpu = {VMM_TRY(flatten(selection, whole, name)), whole.nesting.empty()};
  return side;
}

class Bisection {
 public:
  explicit Bisection(const BisectOptions& options)
      : options_(options), spec_{options.run_options, options.guest, options.timeout} {}

  Result<int> run() {
    good_ = VMM_TRY_CONTEXT(side_of(options_.good, "good"), "--good");
    bad_ = VMM_TRY_CONTEXT(side_of(options_.bad, "bad"), "--bad");
    deltas_ = deltas_between(good_.cpu, bad_.cpu);
    if (deltas_.empty())
      return fail(Error::usage(fmt::format("{} and {} are the same CPU", good_.text, bad_.text)));
    std::vector<std::size_t> all;
    for (std::size_t i = 0; i < deltas_.size(); ++i) all.push_back(i);
    good_verdict_ = VMM_TRY(verdict_of_end(good_, {}, "--good"));
    bad_verdict_ = VMM_TRY(verdict_of_end(bad_, all, "--bad"));
    if (good_verdict_.same(bad_verdict_)) return report_same();
    const BisectResult result = VMM_TRY(bisect(
        deltas_.size(), [this](const auto& chosen) { return ask(chosen); }, options_.max_runs));
    return report(result);
  }

 private:
  // `text` is the model as a file.
  Result<RunVerdict> run_once(const BisectCpu& cpu, const std::string& text) {
    const char* const suffix = !cpu.nested                          ? ""
                               : cpu.model.vendor == "GenuineIntel" ? ",+vmx"
                                                                    : ",+svm";
    ++runs_;
    return run_under_model(spec_, text, suffix);
  }

  // Twice: what is not the same each time cannot be bisected.
  Result<RunVerdict> verdict_of_end(const Side& side, const std::vector<std::size_t>& chosen,
                                    std::string_view option) {
    const BisectCpu cpu = with_deltas(good_.cpu, bad_.cpu, deltas_, chosen);
    const std::string text = cpu_model_text(cpu.model, "");
    const RunVerdict first = VMM_TRY(run_once(cpu, text));
    say(fmt::format("{} {}: {}", option, side.text, first.text()));
    if (first.not_started())
      return fail(
          Error::host(fmt::format("{} {} does not start: {}", option, side.text, first.headline))
              .hint("--cpu-policy mask or force among the run's options lets it"));
    const RunVerdict second = VMM_TRY(run_once(cpu, text));
    if (!first.same(second))
      return fail(
          Error::host(fmt::format("{} {} ends with {} and then with {}: a run that is not "
                                  "the same twice cannot be bisected",
                                  option, side.text, first.text(), second.text())));
    return first;
  }

  Result<BisectVerdict> ask(const std::vector<std::size_t>& chosen) {
    const BisectCpu cpu = with_deltas(good_.cpu, bad_.cpu, deltas_, chosen);
    const std::string text = cpu_model_text(cpu.model, "");
    const auto told = [&](const std::string& what) {
      say(fmt::format("{} of {}: {}", chosen.size(), deltas_.size(), what));
    };
    if (!stands(cpu, good_.cpu, bad_.cpu) || !parse_cpu_model(text, "a try")) {
      told("does not stand by itself");
      return BisectVerdict::Unresolved;
    }
    const RunVerdict verdict = VMM_TRY(run_once(cpu, text));
    const BisectVerdict result = verdict.same(good_verdict_)  ? BisectVerdict::Good
                                 : verdict.same(bad_verdict_) ? BisectVerdict::Bad
                                                              : BisectVerdict::Unresolved;
    told(fmt::format("{}: {}", verdict.text(),
                     result == BisectVerdict::Good  ? "good"
                     : result == BisectVerdict::Bad ? "bad"
                                                    : "neither"));
    return result;
  }

  void say(const std::string& line) const {
    if (!options_.quiet) fmt::print(stderr, "vmm: {}\n", line);
  }

  json ends_json() const {
    const auto end = [](const Side& side, const RunVerdict& verdict) {
      return json{{"selection", side.text},
                  {"kind", verdict.kind},
                  {"exit_code", verdict.code},
                  {"rule", verdict.rule.empty() ? json(nullptr) : json(verdict.rule)}};
    };
    json out = document("vmm-cpu-bisect");
    out.update({{"good", end(good_, good_verdict_)},
                {"bad", end(bad_, bad_verdict_)},
                {"differences", deltas_.size()},
                {"runs", runs_}});
    return out;
  }

  int report_same() const {
    if (options_.as_json) {
      json out = ends_json();
      out.update({{"smallest", nullptr}, {"finished", true}});
      print_json(out);
    } else {
      fmt::print("{} and {} end the same way: {}\n", good_.text, bad_.text, good_verdict_.text());
    }
    return 1;
  }

  // As overrides of the good selection, where all of them can be such.
  std::string as_selection(const BisectResult& result) const {
    std::string text = good_.text;
    for (const std::size_t index : result.smallest) {
      const CpuDelta& delta = deltas_[index];
      using Kind = CpuDelta::Kind;
      if (delta.kind > Kind::Nesting && delta.kind != Kind::PhysBits) return "";
      text += "," + delta.text;
    }
    return text;
  }

  int report(const BisectResult& result) const {
    const BisectCpu cpu = with_deltas(good_.cpu, bad_.cpu, deltas_, result.smallest);
    std::string changes = cpu_model_changes(cpu.model, good_.cpu.model);
    if (cpu.model.vendor != good_.cpu.model.vendor)
      changes =
          fmt::format("# at the top of the file: vendor = \"{}\"\n", cpu.model.vendor) + changes;
    std::vector<std::string> names;
    for (const std::size_t index : result.smallest) names.push_back(deltas_[index].text);
    const std::string selection = as_selection(result);
    if (options_.as_json) {
      json out = ends_json();
      out.update({{"smallest", names},
                  {"toml", changes},
                  {"cpu_model", selection.empty() ? json(nullptr) : json(selection)},
                  {"unresolved", result.unresolved},
                  {"finished", result.finished}});
      print_json(out);
      return 0;
    }
    fmt::print("good: {}: {}\nbad:  {}: {}\n", good_.text, good_verdict_.text(), bad_.text,
               bad_verdict_.text());
    fmt::print(
        "{} of {} differences make the one out of the other: {} runs, {} sets without a "
        "verdict{}\n",
        names.size(), deltas_.size(), runs_, result.unresolved,
        result.finished ? "" : "; stopped by --max-runs, it may be fewer");
    fmt::print("\n# {}\n", fmt::join(names, ", "));
    fmt::print("{}", changes);
    if (!selection.empty()) fmt::print("\nas an option: --cpu-model {}\n", selection);
    return 0;
  }

  const BisectOptions& options_;
  BisectRunSpec spec_;
  Side good_, bad_;
  std::vector<CpuDelta> deltas_;
  RunVerdict good_verdict_, bad_verdict_;
  std::size_t runs_ = 0;
};

// The options are those of `vmm run`: it understands them, and says what it does not.
Result<Command> as_run(const BisectOptions& options) {
  if (options.guest.empty())
    return fail(Error::usage("no kernel is named")
                    .hint("vmm cpu bisect --good A --bad B [OPTIONS OF RUN] -- KERNEL [ARGS]"));
  for (const std::string& word : options.run_options)
    for (const std::string_view other : kNotForRuns)
      if (word == other || word.starts_with(fmt::format("{}=", other)))
        return fail(
            Error::usage(fmt::format("{} is not for the runs of a bisection", other))
                .hint("a lab is for the whole: vmm lab run --backend svm -- cpu bisect ..."));
  std::vector<std::string> words =
      bisect_run_words({options.run_options, options.guest, options.timeout}, options.good, "");
  words.insert(words.begin(), "vmm");
  return VMM_TRY_CONTEXT(parse_command_line(words), "the runs' options");
}

}  // namespace

void add_cpu_bisect(CLI::App& cpu, Command& chosen, const std::vector<std::string>& command_line) {
  auto options = std::make_shared<BisectOptions>();
  CLI::App* bisect = cpu.add_subcommand(
      "bisect",
      "run a guest under two CPUs and between them, until what makes the difference is found: "
      "bisect --good A --bad B [options of run] -- KERNEL [ARGS]; exits with 1 when both end the "
      "same way");
  const char* const selection = "NAME[@VERSION][,+feat,-feat,phys-bits=N], or a model file";
  bisect->add_option("--good", options->good, selection)->required();
  bisect->add_option("--bad", options->bad, selection)->required();
  bisect->add_option("--timeout", options->timeout, "of each run, in seconds")
      ->check(CLI::Range(0.1, 86400.0))
      ->capture_default_str();
  bisect->add_option("--max-runs", options->max_runs, "give up after so many tries")
      ->capture_default_str();
  bisect->add_flag("-q,--quiet", options->quiet, "no line for each run");
  bisect->add_flag("--json", options->as_json, "print JSON");
  // Options of `run` are for it to parse.
  bisect->allow_extras();
  const auto dashes = std::find(command_line.begin(), command_line.end(), "--");
  if (dashes != command_line.end()) options->guest.assign(dashes + 1, command_line.end());
  bisect->callback([options, bisect, &chosen] {
    options->run_options = bisect->remaining();
    chosen.run = [options]() -> Result<int> {
      VMM_TRY(as_run(*options));
      return Bisection(*options).run();
    };
    chosen.paths = [options]() -> Result<std::vector<PathUse>> {
      // The good model is among them.
      const Command run = VMM_TRY(as_run(*options));
      std::vector<PathUse> paths = VMM_TRY(run.paths());
      add_paths(paths, VMM_TRY(model_paths(options->bad)));
      return paths;
    };
  });
}

}  // namespace vmm
