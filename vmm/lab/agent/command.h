// The one command that runs in the lab at a time.
#pragma once

#include <sys/types.h>

#include "vmm/base/descriptors.h"
#include "vmm/base/fd.h"
#include "vmm/base/result.h"
#include "vmm/lab/messages.h"

namespace vmm {

// A started command and our ends of its streams.
struct RunningCommand {
  pid_t pid = 0;  // also its process group and session
  Endpoint in;
  Fd out;
  Fd err;
};

// Errors of kind Lab: it could not be started.
Result<RunningCommand> start_command(const StartCommand& start);

}  // namespace vmm
