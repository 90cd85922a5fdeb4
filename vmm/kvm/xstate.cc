#include "vmm/kvm/xstate.h"

#include <fmt/format.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

namespace vmm {
namespace {

// <asm/prctl.h> of Linux 5.17.
constexpr int kReqXcompGuestPerm = 0x1025;

const char* reason_of(int errno_value) {
  switch (errno_value) {
    case EOPNOTSUPP:
      return "this host's silicon, or its kernel, has no such state";
    case EINVAL:
      return "this host's kernel is older than 5.17, or was built without it";
    case EBUSY:
      return "a vCPU of this process has been made already";
    case ENOSPC:
      return "a signal stack of this process is too small for it";
    default:
      return "the host's kernel refuses it";
  }
}

}  // namespace

Error guest_xstate_refused(unsigned component, int errno_value) {
  return Error::system(ErrorKind::Host, "arch_prctl ARCH_REQ_XCOMP_GUEST_PERM", errno_value,
                       fmt::format("component={}: {}", component, reason_of(errno_value)));
}

Result<void> permit_guest_xstate(unsigned component) {
  if (syscall(SYS_arch_prctl, kReqXcompGuestPerm, component) == 0) return {};
  return fail(guest_xstate_refused(component, errno));
}

}  // namespace vmm
