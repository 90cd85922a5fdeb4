// System calls that remain to us once the guest runs: one allow-list for the vCPU threads, one for
// the main thread and one for the thread that serves disks. Anything else ends the process with the
// name of the call.
#pragma once

#include <span>
#include <string_view>

#include "vmm/base/result.h"

namespace vmm {

// Share: the thread that serves disks where one is a shared directory, whose files it opens.
// Sockets: the main thread where it has bound the file of a socket, which it removes.
// WriteBack: the main thread where it brings a shared directory back at the end.
// Reset: the main thread where the machine may start anew (--on-reset reboot, --gdb, --ctl).
// Flash: a vCPU thread and the main thread where a file holds the firmware's variables.
// Tracing: the main thread where KVM's events have an instance of tracefs.
enum class SeccompThread { Main, Vcpu, Disk, Share, Sockets, WriteBack, Flash, Tracing, Reset };

// One allowed system call and why it is needed; what Disk may, Share may as well, and
// what Main may, Sockets. A test takes each
// rule away in turn and sees a run die of it.
struct SeccompRule {
  SeccompThread thread;
  const char* syscall;
  const char* reason;
};

std::span<const SeccompRule> seccomp_rules();

// Loads the filter of `thread`, with the rules of those in `also`, for the calling thread, for
// good. The environment variable VMM_SECCOMP_OMIT ("main:write", or several with commas between)
// leaves rules out: stricter, never laxer; for tests.
Result<void> enter_seccomp(SeccompThread thread, std::span<const SeccompThread> also = {});

}  // namespace vmm
