#include "vmm/matrix/runner.h"

#include <fmt/format.h>
#include <poll.h>

#include <algorithm>
#include <deque>
#include <filesystem>
#include <memory>
#include <set>

#include "vmm/base/sha256.h"
#include "vmm/matrix/attempt.h"
#include "vmm/matrix/lab_place.h"
#include "vmm/matrix/stop_signals.h"

namespace vmm {
namespace {

constexpr std::chrono::milliseconds kTick{200};  // between two looks at the progress
constexpr unsigned kInfraRetries = 1;

// A cell on its way to a verdict.
struct Job {
  std::size_t cell = 0;
  std::size_t number = 0;
  std::string id;
  Settings settings;
  CellRecord record;
  WatchTime began;
};

// Where cells run: this host, or a lab.
struct Place {
  std::unique_ptr<LabPlace> lab;  // none: the host
  std::deque<std::unique_ptr<Job>> waiting;
  unsigned running = 0;
};

struct Running {
  std::unique_ptr<Job> job;
  Place* place = nullptr;
  std::unique_ptr<Attempt> attempt;
};

class Runner {
 public:
  Runner(const MatrixSpec& spec, const Expansion& expansion, const RunnerOptions& options,
         const CellTimes& times, Journal& journal,
         const std::function<void(const CellRecord&)>& on_cell,
         const std::function<void(const RunnerProgress&)>& on_progress)
      : spec_(spec),
        expansion_(expansion),
        options_(options),
        times_(times),
        journal_(journal),
        on_cell_(on_cell),
        on_progress_(on_progress) {}

  void add(std::size_t index, std::size_t number) {
    const Cell& cell = expansion_.cells[index];
    auto job = std::make_unique<Job>();
    job->cell = index;
    job->number = number;
    job->id = cell_id(spec_, cell);
    Place& place = place_of(cell);
    seconds_ahead_ += estimate(job->id);
    place.waiting.push_back(std::move(job));
    ++progress_.all;
  }

  Result<RunnerReport> run() {
    const StopSignals signals = VMM_TRY(StopSignals::take());
    start_ = std::chrono::steady_clock::now();
    Result<void> outcome = loop(signals);
    if (!outcome || report_.signal) stop_all();
    if (!outcome) return fail(std::move(outcome).error());
    return std::move(report_);
  }

 private:
  double estimate(const std::string& id) const {
    const auto known = times_.find(id);
    return known == times_.end() ? 0 : known->second;
  }

  Place& place_of(const Cell& cell) {
    std::string on(cell_value(spec_, cell, "on"));
    const std::string parameters(cell_value(spec_, cell, "kvm-param"));
    const bool host = on.empty() || on == "host";
    for (const auto& place : places_)
      if (host ? !place->lab
               : place->lab && place->lab->on() == on && place->lab->parameters() == parameters)
        return *place;
    places_.push_back(std::make_unique<Place>());
    if (!host) places_.back()->lab = std::make_unique<LabPlace>(std::move(on), parameters);
    return *places_.back();
  }

  Result<void> loop(const StopSignals& signals) {
    for (;;) {
      VMM_TRY(launch());
      show_progress(false);
      if (running_.empty() && booting() == 0) return {};
      wait(signals);
      if (const auto number = signals.taken()) {
        report_.signal = number;
        return {};
      }
      VMM_TRY(step_labs());
      VMM_TRY(step_attempts());
    }
  }

  std::size_t booting() const {
    return static_cast<std::size_t>(
        std::count_if(places_.begin(), places_.end(), [](const auto& place) {
          return place->lab && place->lab->state() == LabPlace::State::Starting;
        }));
  }

  bool may_start() const {
    return !report_.stopped_early && running_.size() + booting() < options_.jobs;
  }

  // Labs that are up come first: they take memory as long as they are.
  Result<void> launch() {
    for (const auto& place : places_) {
      if (!place->lab) continue;
      if (place->lab->state() == LabPlace::State::Up && place->running == 0 &&
          place->waiting.empty())
        place->lab->stop(guard_);
      if (place->lab->state() == LabPlace::State::Up && place->running == 0 &&
          !place->waiting.empty() && may_start())
        VMM_TRY(start_next(*place));
    }
    for (const auto& place : places_) {
      while (!place->lab && !place->waiting.empty() && may_start()) VMM_TRY(start_next(*place));
      if (place->lab && place->lab->state() == LabPlace::State::Down && !place->waiting.empty() &&
          may_start())
        VMM_TRY(place->lab->start(guard_));
    }
    return {};
  }

  Result<void> start_next(Place& place) {
    std::unique_ptr<Job> job = std::move(place.waiting.front());
    place.waiting.pop_front();
    const Cell& cell = expansion_.cells[job->cell];
    if (job->record.id.empty()) begin(*job, cell);
    const std::string directory = attempt_directory(
        job->number, job->id, spec_.guests[cell.guest].name, job->record.attempts.size());
    const std::string path = options_.directory + "/" + directory;
    std::error_code error;
    std::filesystem::create_directories(path, error);
    if (error)
      return fail(
          Error::internal(fmt::format("the folder {} cannot be made: {}", path, error.message())));
    auto attempt =
        VMM_TRY(Attempt::start(spec_, cell, job->settings,
                               place.lab ? place.lab->prefix() : std::vector<std::string>{}, path));
    job->record.attempts.emplace_back().directory = directory;
    ++place.running;
    running_.push_back({std::move(job), &place, std::move(attempt)});
    return {};
  }

  void begin(Job& job, const Cell& cell) const {
    job.settings = cell_settings(spec_, cell);
    job.began = std::chrono::steady_clock::now();
    CellRecord& record = job.record;
    record.id = job.id;
    record.axes = cell_axes(spec_, cell);
    record.groups = job.settings.groups;
    record.expected = job.settings.expectation_text();
    record.link = job.settings.link.value_or("");
    record.command = cell_command_line(spec_, cell, job.settings);
    record.started = unix_time();
  }

  void wait(const StopSignals& signals) {
    std::vector<pollfd> wait = {{signals.fd(), POLLIN, 0}};
    auto deadline = std::chrono::steady_clock::now() + kTick;
    for (const Running& one : running_) {
      one.attempt->add_to(wait);
      if (const auto next = one.attempt->next_deadline()) deadline = std::min(deadline, *next);
    }
    for (const auto& place : places_) {
      if (!place->lab || place->lab->poll_fd() < 0) continue;
      wait.push_back({place->lab->poll_fd(), POLLIN, 0});
      if (place->lab->output_fd() >= 0) wait.push_back({place->lab->output_fd(), POLLIN, 0});
    }
    const auto left =
        std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    ::poll(wait.data(), wait.size(), static_cast<int>(std::max<std::int64_t>(left.count(), 0)));
  }

  Result<void> step_labs() {
    for (const auto& place : places_) {
      if (!place->lab || !place->lab->step() || place->lab->state() != LabPlace::State::Failed)
        continue;
      // Nothing of what waits for it can run.
      constexpr int kNotInstalled = 76;
      const bool missing = place->lab->failure_code() == kNotInstalled;
      while (!place->waiting.empty()) {
        std::unique_ptr<Job> job = std::move(place->waiting.front());
        place->waiting.pop_front();
        if (job->record.id.empty()) begin(*job, expansion_.cells[job->cell]);
        AttemptRecord& attempt = job->record.attempts.emplace_back();
        attempt.verdict = missing ? CellVerdict::Skip : CellVerdict::Infra;
        attempt.reason = place->lab->failure();
        attempt.exit_code = place->lab->failure_code();
        VMM_TRY(finish(*job));
      }
    }
    return {};
  }

  Result<void> step_attempts() {
    for (std::size_t i = 0; i < running_.size();) {
      const WatchTime now = std::chrono::steady_clock::now();
      if (!running_[i].attempt->step(now)) {
        ++i;
        continue;
      }
      Running done = std::move(running_[i]);
      running_.erase(running_.begin() + static_cast<std::ptrdiff_t>(i));
      --done.place->running;
      take_result(done, now);
      if (again(*done.job)) {
        done.place->waiting.push_back(std::move(done.job));
        continue;
      }
      VMM_TRY(finish(*done.job));
    }
    return {};
  }

  static void take_result(Running& done, WatchTime now) {
    const AttemptFacts facts = done.attempt->facts();
    Judgement judgement = judge(done.job->settings, facts);
    AttemptRecord& record = done.job->record.attempts.back();
    record.verdict = judgement.verdict;
    record.reason = std::move(judgement.reason);
    record.exit_code = facts.exit_code;
    record.phase = facts.phase;
    record.seconds = done.attempt->seconds(now);
    record.results = facts.results;
    if (facts.outcome) {
      record.kind = facts.outcome->kind;
      record.rule = facts.outcome->rule;
      done.job->record.cpu = facts.outcome->cpu;
      done.job->record.host = facts.outcome->host;
    }
    done.attempt->tidy(record.verdict == CellVerdict::Pass || record.verdict == CellVerdict::Skip);
  }

  bool again(const Job& job) const {
    const auto& attempts = job.record.attempts;
    if (attempts.back().verdict == CellVerdict::Skip) return false;
    if (attempts.back().verdict == CellVerdict::Infra) {
      const auto infra =
          std::count_if(attempts.begin(), attempts.end(),
                        [](const AttemptRecord& one) { return one.verdict == CellVerdict::Infra; });
      return infra <= kInfraRetries;
    }
    const auto told = static_cast<unsigned>(
        std::count_if(attempts.begin(), attempts.end(),
                      [](const AttemptRecord& one) { return one.verdict != CellVerdict::Infra; }));
    if (options_.repeat > 1) return told < options_.repeat;
    return is_failure(attempts.back().verdict) && attempts.back().verdict != CellVerdict::XPass &&
           told <= job.settings.retries.value_or(0);
  }

  Result<void> finish(Job& job) {
    CellRecord& record = job.record;
    record.verdict = verdict_over(record.attempts);
    record.reason = record.last().reason;
    if (record.verdict == CellVerdict::Flaky)
      for (const AttemptRecord& attempt : record.attempts)
        if (is_failure(attempt.verdict))
          record.reason =
              fmt::format("{} of {} attempts failed: {}",
                          std::count_if(record.attempts.begin(), record.attempts.end(),
                                        [](const auto& one) { return is_failure(one.verdict); }),
                          record.attempts.size(), attempt.reason);
    record.seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - job.began).count();
    VMM_TRY(journal_.add(record));
    ++progress_.done;
    ++progress_.counts[record.verdict];
    seconds_ahead_ -= estimate(record.id);
    if (options_.fail_fast && is_failure(record.verdict)) report_.stopped_early = true;
    on_cell_(record);
    report_.cells.push_back(std::move(record));
    show_progress(true);
    return {};
  }

  void show_progress(bool at_once) {
    const auto now = std::chrono::steady_clock::now();
    if (!at_once && now - shown_ < kTick) return;
    shown_ = now;
    progress_.running.clear();
    for (const auto& place : places_)
      if (place->lab && place->lab->state() == LabPlace::State::Starting)
        progress_.running.push_back(fmt::format("lab {} boots", place->lab->text()));
    for (const Running& one : running_) progress_.running.push_back(one.job->id);
    progress_.seconds = std::chrono::duration<double>(now - start_).count();
    // By what cells took last time where that is known, else by the pace so far.
    if (!times_.empty() && seconds_ahead_ > 0)
      progress_.seconds_left = seconds_ahead_ / options_.jobs;
    else
      progress_.seconds_left = progress_.done == 0
                                   ? 0
                                   : progress_.seconds / static_cast<double>(progress_.done) *
                                         static_cast<double>(progress_.all - progress_.done);
    on_progress_(progress_);
  }

  // Everything that runs is told to end; nothing of it is recorded.
  void stop_all() {
    for (Running& one : running_) one.attempt->cancel();
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    while (!running_.empty() && std::chrono::steady_clock::now() < end) {
      std::vector<pollfd> wait;
      for (const Running& one : running_) one.attempt->add_to(wait);
      ::poll(wait.data(), wait.size(), 100);
      std::erase_if(running_, [](Running& one) {
        return one.attempt->step(std::chrono::steady_clock::now());
      });
    }
    running_.clear();
  }

  const MatrixSpec& spec_;
  const Expansion& expansion_;
  const RunnerOptions& options_;
  const CellTimes& times_;
  Journal& journal_;
  const std::function<void(const CellRecord&)>& on_cell_;
  const std::function<void(const RunnerProgress&)>& on_progress_;

  WatchTime start_;
  WatchTime shown_{};
  RunnerProgress progress_;
  RunnerReport report_;
  double seconds_ahead_ = 0;
  LabGuard guard_;  // goes after the labs
  std::vector<std::unique_ptr<Place>> places_;
  std::vector<Running> running_;
};

}  // namespace

std::string attempt_directory(std::size_t number, const std::string& id, const std::string& guest,
                              std::size_t attempt) {
  std::string path = fmt::format("cells/{:04}-{}-{}", number + 1, guest,
                                 sha256_hex(std::string_view(id)).substr(0, 8));
  if (attempt > 0) path += fmt::format(".{}", attempt + 1);
  return path;
}

CellVerdict verdict_over(const std::vector<AttemptRecord>& attempts) {
  bool failed = false;
  bool passed = false;
  for (const AttemptRecord& attempt : attempts) {
    failed = failed || is_failure(attempt.verdict);
    passed =
        passed || attempt.verdict == CellVerdict::Pass || attempt.verdict == CellVerdict::XFail;
  }
  return failed && passed ? CellVerdict::Flaky : attempts.back().verdict;
}

Result<RunnerReport> run_cells(const MatrixSpec& spec, const Expansion& expansion,
                               const std::vector<std::size_t>& chosen,
                               const std::vector<std::size_t>& numbers,
                               const RunnerOptions& options, const CellTimes& times,
                               Journal& journal,
                               const std::function<void(const CellRecord&)>& on_cell,
                               const std::function<void(const RunnerProgress&)>& on_progress) {
  Runner runner(spec, expansion, options, times, journal, on_cell, on_progress);
  for (std::size_t i = 0; i < chosen.size(); ++i) runner.add(chosen[i], numbers[i]);
  return runner.run();
}

}  // namespace vmm
