#include "vmm/matrix/attempt.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <filesystem>

#include "vmm/base/descriptors.h"

namespace vmm {
namespace {

constexpr std::size_t kMaxOutcome = 64u << 20;  // bytes
// After SIGTERM vmm writes its report; in a lab that takes a while.
constexpr std::chrono::seconds kGrace{20};
// Beyond the guest's own limit: what starting and reporting take.
constexpr std::chrono::seconds kSlack{60};

bool keeps(const Settings& settings, Artefact artefact) {
  return settings.keep && settings.keep->contains(artefact);
}

}  // namespace

double place_scale(std::string_view on) {
  if (on == "svm") return 4;
  if (on == "vmx") return 30;
  return 1;
}

Attempt::Attempt(const Settings& settings, double scale, std::string directory, CellFiles files,
                 WatchTime now)
    : settings_(settings),
      scale_(scale),
      directory_(std::move(directory)),
      files_(std::move(files)),
      start_(now),
      watch_(settings, scale, now) {}

Result<std::unique_ptr<Attempt>> Attempt::start(const MatrixSpec& spec, const Cell& cell,
                                                const Settings& settings,
                                                const std::vector<std::string>& prefix,
                                                const std::string& directory) {
  CellFiles files;
  files.outcome = directory + "/outcome.json";
  if (keeps(settings, Artefact::Screen) || !settings.screen.empty())
    files.screen = directory + "/screen.png";
  if (keeps(settings, Artefact::Core)) files.core = directory + "/core";
  if (keeps(settings, Artefact::Trace)) files.trace = directory + "/trace.json";
  std::unique_ptr<Attempt> attempt(new Attempt(settings, place_scale(cell_value(spec, cell, "on")),
                                               directory, files, std::chrono::steady_clock::now()));
  attempt->log_ = VMM_TRY(
      Fd::open(directory + "/serial.log", O_WRONLY | O_CREAT | O_TRUNC, ErrorKind::Internal));
  Pipe console = VMM_TRY(make_pipe());
  VMM_TRY(set_nonblocking(console.read.get()));
  ProcessSpec process;
  process.argv = {"/proc/self/exe"};
  process.argv.insert(process.argv.end(), prefix.begin(), prefix.end());
  const std::vector<std::string> words = cell_words(spec, cell, settings, files);
  process.argv.insert(process.argv.end(), words.begin(), words.end());
  process.output = console.write.get();
  process.log = directory + "/report.txt";
  attempt->console_ = std::move(console.read);
  attempt->child_ = std::make_unique<ChildProcess>(VMM_TRY(ChildProcess::start(process)));
  return attempt;
}

void Attempt::add_to(std::vector<pollfd>& wait) const {
  if (console_) wait.push_back({console_.get(), POLLIN, 0});
  if (child_->output().fd() >= 0) wait.push_back({child_->output().fd(), POLLIN, 0});
  wait.push_back({child_->pidfd().get(), POLLIN, 0});
}

std::optional<WatchTime> Attempt::next_deadline() const {
  if (kill_at_) return kill_at_;
  const WatchTime whole = start_ + watch_seconds(settings_.whole_limit() * scale_) +
                          std::chrono::duration_cast<WatchTime::duration>(kSlack * scale_);
  const auto limit = watch_.next_deadline();
  return limit ? std::min(*limit, whole) : whole;
}

bool Attempt::step(WatchTime now) {
  if (status_) return true;
  drain(now);
  status_ = child_->ended();
  if (status_) {
    // What it wrote just before it ended.
    drain(now);
    child_->output().drain();
    watch_.finish();
    console_.reset();
    return true;
  }
  if (kill_at_) {
    if (now >= *kill_at_) {
      fault_ = fmt::format("vmm did not end within {} s of SIGTERM and was killed", kGrace.count());
      signal(SIGKILL);
      kill_at_ = now + kGrace;
    }
    return false;
  }
  if (const std::string_view phase = watch_.expired(now); !phase.empty()) {
    phase_ = phase;
    end_by(now + std::chrono::duration_cast<WatchTime::duration>(kGrace * scale_));
  } else if (now >= *next_deadline()) {
    fault_ =
        fmt::format("vmm run did not end by its own time limit of {:g} s", settings_.whole_limit());
    end_by(now + std::chrono::duration_cast<WatchTime::duration>(kGrace * scale_));
  }
  return false;
}

void Attempt::cancel() {
  if (status_ || kill_at_) return;
  fault_ = "stopped";
  end_by(std::chrono::steady_clock::now() + kGrace);
}

void Attempt::end_by(WatchTime limit) {
  signal(SIGTERM);
  kill_at_ = limit;
}

void Attempt::signal(int number) {
  // By the descriptor: the number cannot have become another process's.
  ::syscall(SYS_pidfd_send_signal, child_->pidfd().get(), number, nullptr, 0u);
}

void Attempt::drain(WatchTime now) {
  std::array<std::uint8_t, 65536> room;
  // A guest that writes without end must not keep the others from being served.
  for (int round = 0; console_ && round < 16; ++round) {
    const long count = read_some(console_, room);
    if (count == 0) console_.reset();
    if (count <= 0) break;
    const std::span<const std::uint8_t> bytes(room.data(), static_cast<std::size_t>(count));
    watch_.take(bytes, now);
    keep(bytes);
  }
}

void Attempt::keep(std::span<const std::uint8_t> bytes) {
  if (!log_ || cut_) return;
  if (kept_ + bytes.size() > kMaxConsole) {
    constexpr std::string_view kCut = "\n[vmm matrix: the console went on; not kept]\n";
    (void)!::write(log_.get(), kCut.data(), kCut.size());
    cut_ = true;
    return;
  }
  kept_ += bytes.size();
  while (!bytes.empty()) {
    const ssize_t count = ::write(log_.get(), bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) {
      // A full disk: the verdict stands without the log.
      fault_ = fmt::format("the console could not be kept in {}/serial.log: {}", directory_,
                           errno_name(errno));
      log_.reset();
      return;
    }
    bytes = bytes.subspan(static_cast<std::size_t>(count));
  }
}

AttemptFacts Attempt::facts() {
  AttemptFacts facts;
  facts.exit_code = status_->how == CLD_EXITED ? status_->value : 128 + status_->value;
  facts.last_lines = child_->output().tail().last(3);
  facts.phase = phase_;
  facts.console = watch_.seen();
  facts.results = watch_.results();
  facts.fault = fault_;
  facts.screen.output.resize(settings_.screen.size());
  const auto bytes = read_file(files_.outcome, kMaxOutcome, ErrorKind::Internal);
  if (!bytes || bytes->empty()) return facts;
  const std::string_view document(reinterpret_cast<const char*>(bytes->data()), bytes->size());
  auto outcome = parse_cell_outcome(document);
  if (!outcome) return facts;
  facts.outcome = std::move(*outcome);
  if (!settings_.screen.empty() || !settings_.forbid.empty())
    see_lines(facts.outcome->screen, settings_.screen, settings_.forbid, facts.screen);
  return facts;
}

double Attempt::seconds(WatchTime now) const {
  return std::chrono::duration<double>(now - start_).count();
}

void Attempt::tidy(bool passed) {
  if (!passed) return;
  const auto drop = [&](Artefact artefact, const std::string& path) {
    std::error_code error;
    if (!path.empty() && !keeps(settings_, artefact)) std::filesystem::remove(path, error);
  };
  drop(Artefact::Outcome, files_.outcome);
  drop(Artefact::Screen, files_.screen);
  drop(Artefact::Report, directory_ + "/report.txt");
}

}  // namespace vmm
