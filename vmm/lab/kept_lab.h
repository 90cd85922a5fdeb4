// A lab that is booted anew when it is of no further use: because its emulator died, its agent fell
// silent, or a cancelled command in it cannot be ended.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "vmm/lab/lab.h"

namespace vmm {

class KeptLab {
 public:
  // Boots a lab; gives up when `cancel` is readable.
  using Boot = std::function<Result<std::unique_ptr<Lab>>(int cancel)>;
  explicit KeptLab(Boot boot) : boot_(std::move(boot)) {}

  // Replaces the lab, if there is one. Errors are those of Boot.
  Result<void> boot(int cancel);
  // As Lab::execute(), in a lab that answers: one that does not is booted anew first, which a line
  // on the command's stderr says, with the reason. Errors: also those of Boot.
  Result<LabExit> execute(const LabCommand& command, const LabStreams& streams, int cancel);
  void end() { lab_.reset(); }

  // "idle", or "down: REASON" for one that the next command boots anew.
  std::string state() const { return trouble_.empty() ? "idle" : "down: " + trouble_; }
  // Of the lab that was last up; empty before the first.
  const std::string& description() const { return description_; }

 private:
  // Finds out whether the lab is fit for a command, and why not.
  void look_after();

  Boot boot_;
  std::unique_ptr<Lab> lab_;
  std::string description_;
  std::string trouble_;  // why the lab is of no further use
};

}  // namespace vmm
