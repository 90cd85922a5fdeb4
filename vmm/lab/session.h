// The host's end of the channel: what a lab can be asked to do once its agent has said hello.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "vmm/base/fd.h"
#include "vmm/base/result.h"

namespace vmm {

// A path that a command names. The lab mirrors the host's paths: a command runs in the directory of
// the same name, and finds and leaves its files under the names it was given.
struct PathUse {
  enum class Kind {
    Input,   // a file, or a directory with all that is in it (and nothing else: what a command
             // has added to the copy goes before the next)
    Output,  // a file, brought back after the command if it exists by then; one that an earlier
             // command left is removed first, unless it is an Input as well
    Socket,  // a Unix socket that the command will listen on; made here, connections are relayed
  };
  Kind kind = Kind::Input;
  std::string path;  // a relative one starts from the command's directory
};

struct LabHello {
  std::string release;  // uname -r inside
  std::string backend;  // "svm", "vmx": which vendor module was loaded
};

struct LabCommand {
  std::vector<std::string> argv;         // argv[0] is the absolute path of the program (an Input)
  std::string directory;                 // absolute
  std::vector<std::string> environment;  // NAME=VALUE
  std::vector<PathUse> paths;
  // stdin and stdout inside are a terminal, as large as the one here. The caller has made its own
  // raw: the one inside echoes and turns Ctrl-C into a signal.
  bool terminal = false;
};

// The three descriptors of a command, here. Not owned.
struct LabStreams {
  int in = -1;  // -1: end of file at once
  int out = 1;
  int err = 2;
};

// How the command inside ended: exactly one of the two.
struct LabExit {
  std::optional<int> code;
  std::optional<int> signal;
};

class LabSession {
 public:
  // Waits for the agent's hello on `channel` (a non-blocking stream socket, not owned). `dead` is
  // asked now and then whether the emulator has died, and says how. Errors (kind Lab): silence for
  // `patience` of wall-clock time, the emulator's death, a bad frame.
  using Death = std::function<std::optional<std::string>()>;
  // How long a cancelled command is given: until SIGKILL, and until the lab is given up.
  struct CancelPatience {
    std::chrono::milliseconds term{3000};
    std::chrono::milliseconds kill{20000};
  };
  static Result<std::unique_ptr<LabSession>> open(const Fd& channel, Death dead,
                                                  std::chrono::seconds patience) {
    return open(channel, std::move(dead), patience, CancelPatience());
  }
  static Result<std::unique_ptr<LabSession>> open(const Fd& channel, Death dead,
                                                  std::chrono::seconds patience,
                                                  const CancelPatience& cancelled);
  virtual ~LabSession() = default;

  virtual const LabHello& hello() const = 0;
  // Brings the inputs in, runs the command, relays its streams, brings the outputs out. A silent
  // agent (no answer to pings for `patience` of wall-clock time), a dead emulator and a bad frame
  // are errors of kind Lab, an input that cannot be read one of kind Usage; whatever the command
  // itself does is a LabExit. An error about one command (kind Usage, or Lab for a command that
  // could not be started or a file that the lab could not take) leaves the session usable; after
  // the others every execute() fails with the same. `cancel`, when readable, ends the command
  // inside with SIGTERM, after 3 s with SIGKILL; one that does not end of that either within 20 s
  // is a final error. Before the command runs, the result is SIGTERM at once.
  virtual Result<LabExit> execute(const LabCommand& command, const LabStreams& streams,
                                  int cancel = -1) = 0;
  // Nothing when the lab answers within `limit` of wall-clock time; else a final error.
  virtual Result<void> check(std::chrono::seconds limit) = 0;
  // From now on.
  virtual void set_patience(std::chrono::seconds patience) = 0;
  // After an error that is final: the lab is of no further use.
  virtual bool broken() const = 0;
  // Asks the lab to power off; does not wait for it.
  virtual void power_off() = 0;
};

}  // namespace vmm
