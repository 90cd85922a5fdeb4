// The running emulator as the lab sees it: a process with a byte stream to the agent inside.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "vmm/base/fd.h"
#include "vmm/base/result.h"
#include "vmm/lab/spec.h"

namespace vmm {

// What an emulator boots. Both are anonymous files (memfd), so that nothing is left behind however
// the lab ends.
struct LabImage {
  Fd kernel;            // a bzImage
  Fd initramfs;         // newc archive with the agent as /init and the modules it loads
  std::string release;  // of the kernel, as uname -r has it
  // Words for the kernel's command line besides the emulator's own: parameters of modules that this
  // kernel has built in.
  std::string append;
};

class Emulator {
 public:
  // Ends the emulator process (SIGKILL) and reaps it; nothing of it remains.
  virtual ~Emulator() = default;
  // A connected, non-blocking stream socket to the agent inside.
  virtual const Fd& channel() const = 0;
  // Nothing while the emulator lives; then how it ended and the last lines it wrote, one sentence.
  virtual std::optional<std::string> death() = 0;
  // The last lines that the lab's kernel wrote to its console, for messages about a lab that lives
  // but is silent; empty when it wrote none.
  virtual std::string console_tail() { return {}; }
  // A lab nobody uses takes no processor time (SIGSTOP, SIGCONT).
  virtual void pause() = 0;
  virtual void resume() = 0;
  // Writes the state of the machine into `file`; the machine goes on after. Errors of kind Lab,
  // after which it perhaps stands still: it was not started with `savable`, or QEMU failed.
  virtual Result<void> save(const Fd& /*file*/) {
    return fail(Error::lab("this emulator cannot be saved"));
  }
};

// Where a QEMU begins.
struct QemuStart {
  std::uint32_t tsc_khz = 0;  // the rate of this machine's TSC
  int state = -1;             // a file that save() wrote, instead of the boot
  bool savable = false;       // it has a monitor for save()
};

// Each boots `image` at once and returns without waiting for it. Errors: NoLab (the emulator
// is not installed, with the apt command as hint), Lab (it could not be started).
Result<std::unique_ptr<Emulator>> start_qemu(const LabSpec& spec, const LabImage& image,
                                             const QemuStart& start);
Result<std::unique_ptr<Emulator>> start_bochs(const LabSpec& spec, const LabImage& image);

}  // namespace vmm
