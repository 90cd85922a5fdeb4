// The guest's serial console on the host's side: rings towards the device, descriptors towards the
// world. Nothing here blocks, and nothing grows.
#pragma once

#include <poll.h>

#include <memory>
#include <vector>

#include "vmm/base/fd.h"
#include "vmm/machine/byte_ring.h"
#include "vmm/machine/spec.h"

namespace vmm {

class Console {
 public:
  // Opens the target. `wake` tells the event loop to look again; it is called from vCPU threads.
  // A pty's name is announced on stderr.
  static Result<std::unique_ptr<Console>> open(const SerialTarget& target,
                                               const std::function<void()>& wake);

  ByteRing& output() { return output_; }  // device -> world
  ByteRing& input() { return input_; }    // world -> device

  // Appends what to wait for now (at most two entries).
  void add_poll(std::vector<pollfd>& fds) const;
  enum class Event { None, Input, Quit };
  // Moves what can be moved, given the results of poll; Input: bytes arrived for the device.
  Event serve(const std::vector<pollfd>& fds);
  // Writes the rest of the output; gives up after `seconds` without progress.
  void flush(double seconds);
  // Whether the user types into this console (Ctrl-A x quits).
  bool interactive() const { return interactive_; }

 private:
  explicit Console(const std::function<void()>& wake)
      : output_(kRingSize, wake), input_(kRingSize, wake) {}
  static constexpr std::size_t kRingSize = 64 * 1024;
  // A pipe takes PIPE_BUF bytes without blocking once poll() says so, whoever shares it; setting
  // O_NONBLOCK would change the descriptor for the shell that gave it to us.
  static constexpr std::size_t kPipeChunk = 4096;
  bool write_some();
  Event take_input(std::span<const std::uint8_t> bytes);

  ByteRing output_;
  ByteRing input_;
  Fd owned_;
  int in_ = -1;
  int out_ = -1;
  std::size_t chunk_ = kPipeChunk;  // the most bytes for one write
  bool interactive_ = false;
  bool prefix_seen_ = false;  // Ctrl-A was typed
};

}  // namespace vmm
