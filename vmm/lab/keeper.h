// A lab that stays up between commands: a process of its own keeps it and listens on a Unix socket
// in a directory that only its user can enter. Whoever wants a command run there hands over the
// command, the directory, the files it names and his three descriptors, and gets its end.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "vmm/base/result.h"
#include "vmm/lab/session.h"
#include "vmm/lab/spec.h"

namespace vmm {

// The directory of the sockets, made if it is missing: $XDG_RUNTIME_DIR/vmm-labs, else
// /tmp/vmm-labs-UID. Errors of kind NoLab, also when another user could reach into it.
Result<std::string> lab_socket_directory();

// A lab's name is part of a path: 1 to 32 letters, digits, "-" and "_". A Usage error otherwise.
Result<void> check_lab_name(const std::string& name);

struct RunningLab {
  std::string name;
  std::string description;
  long pid = 0;       // of the keeper
  std::string state;  // "idle", "busy", "down: REASON" (it reboots for the next command)
};
// The labs of this user that answer.
std::vector<RunningLab> running_labs();

// Boots a lab and leaves a keeper behind that holds it; returns its description once it is up.
// Errors: Usage when a lab of the name is up already; those of Lab::boot().
Result<std::string> start_lab(const std::string& name, const LabSpec& spec,
                              std::chrono::seconds patience, int cancel);

// Runs a command in a lab that is up, booting it anew if it died or hangs. Errors as
// LabSession::execute(); NoLab when no lab of the name is up. `cancel`, when readable, ends the
// command.
Result<LabExit> execute_in_lab(const std::string& name, const LabCommand& command,
                               const LabStreams& streams, int cancel);

// Ends a lab and waits until it is gone. NoLab when there is none.
Result<void> stop_lab(const std::string& name);

}  // namespace vmm
