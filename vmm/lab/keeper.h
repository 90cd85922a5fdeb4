// A lab that stays up between commands: a process of its own keeps it and listens on a Unix socket
// in a directory that only its user can enter. Whoever wants a command run there hands over the
// command, the directory, the files it names and his three descriptors, and gets its end.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "vmm/base/result.h"
#include "vmm/lab/keeper_server.h"
#include "vmm/lab/session.h"
#include "vmm/lab/spec.h"

namespace vmm {

struct RunningLab {
  std::string name;
  std::string description;
  long pid = 0;  // of the keeper
  // "starting", "idle", "busy", "down: REASON" (the next command boots it anew), "does not answer"
  std::string state;
};
// The labs of this user.
std::vector<RunningLab> running_labs();

// Boots a lab and leaves a keeper behind that holds it; returns its description once it is up.
// Errors: Usage when a lab of the name is up already; those of Lab::boot(). `cancel`, when
// readable, ends the boot.
Result<std::string> start_lab(const std::string& name, const LabSpec& spec,
                              std::chrono::seconds patience, int cancel);
// The same with another way to boot. This process has no threads.
Result<std::string> start_lab(const std::string& name, const KeeperServer::Boot& boot, int cancel);

// Runs a command in a lab that is up, after those that wait already, booting it anew if it died or
// hangs. Errors as LabSession::execute(), and Lab when the lab is stopped meanwhile; NoLab when no
// lab of the name is up. `cancel`, when readable, ends the command.
Result<LabExit> execute_in_lab(const std::string& name, const LabCommand& command,
                               const LabStreams& streams, int cancel);

// Ends a lab, whatever runs in it, and waits until it is gone: the name is free then. NoLab when
// there is none.
Result<void> stop_lab(const std::string& name);

}  // namespace vmm
