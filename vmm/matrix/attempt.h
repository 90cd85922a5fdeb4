// One run of a cell's guest: a child process, its console watched and kept, its time limits
// enforced, its outcome read when it has ended.
#pragma once

#include <sys/types.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "vmm/base/fd.h"
#include "vmm/base/process.h"
#include "vmm/base/result.h"
#include "vmm/matrix/cell_command.h"
#include "vmm/matrix/console_watch.h"
#include "vmm/matrix/judge.h"
#include "vmm/matrix/spec.h"

struct pollfd;

namespace vmm {

// How much slower than the host a place is allowed to be: the factor on limits that the host's
// clock measures.
double place_scale(std::string_view on);

class Attempt {
 public:
  // What of a console is kept in a file; a guest that writes more loses the middle of it.
  static constexpr std::uint64_t kMaxConsole = 8ull << 20;

  // `prefix`: words in front of "run" that take it to its lab; `directory` exists and is the
  // attempt's own. Errors of kind Internal where the process or its files cannot be made.
  // `settings` outlives this.
  static Result<std::unique_ptr<Attempt>> start(const MatrixSpec& spec, const Cell& cell,
                                                const Settings& settings,
                                                const std::vector<std::string>& prefix,
                                                const std::string& directory);

  // The descriptors that it waits for.
  void add_to(std::vector<pollfd>& wait) const;
  std::optional<WatchTime> next_deadline() const;
  // Takes in what is there, enforces limits; true once it has ended.
  bool step(WatchTime now);
  // Ends it early: the user wants to go.
  void cancel();

  // Once it has ended: what is known of it.
  AttemptFacts facts();
  double seconds(WatchTime now) const;
  const std::string& directory() const { return directory_; }

  // Removes those files that a pass does not keep, or a failure.
  void tidy(bool passed);

 private:
  Attempt(const Settings& settings, double scale, std::string directory, CellFiles files,
          WatchTime now);
  void drain(WatchTime now);
  void keep(std::span<const std::uint8_t> bytes);
  // Asks vmm to end; past the limit it is killed.
  void end_by(WatchTime limit);
  void signal(int number);

  const Settings& settings_;
  double scale_;
  std::string directory_;
  CellFiles files_;
  WatchTime start_;
  ConsoleWatch watch_;
  std::unique_ptr<ChildProcess> child_;
  Fd console_;
  Fd log_;
  std::uint64_t kept_ = 0;
  bool cut_ = false;
  std::string phase_;
  std::string fault_;
  std::optional<WatchTime> kill_at_;
  std::optional<ChildProcess::Status> status_;
};

}  // namespace vmm
