#include "vmm/machine/seccomp.h"

#include <fmt/format.h>
#include <seccomp.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <string>

#include "vmm/base/text.h"
#include "vmm/machine/terminal.h"

namespace vmm {
namespace {

constexpr SeccompThread kMain = SeccompThread::Main;
constexpr SeccompThread kVcpu = SeccompThread::Vcpu;
constexpr SeccompThread kDisk = SeccompThread::Disk;
constexpr SeccompThread kShare = SeccompThread::Share;
constexpr SeccompThread kSockets = SeccompThread::Sockets;
constexpr SeccompThread kWriteBack = SeccompThread::WriteBack;
constexpr SeccompThread kFlash = SeccompThread::Flash;
constexpr SeccompThread kTracing = SeccompThread::Tracing;
constexpr SeccompThread kReset = SeccompThread::Reset;

constexpr SeccompRule kRules[] = {
    // A vCPU thread runs the guest, takes the board's lock, wakes the event loop and its siblings.
    {kVcpu, "ioctl", "KVM_RUN; interrupts of devices; registers at INIT"},
    {kVcpu, "futex", "the board's lock; waiting while parked or halted"},
    {kVcpu, "write", "the eventfd that wakes the event loop"},
    {kVcpu, "tgkill", "kicking the other vCPUs out of the guest"},
    {kVcpu, "rt_sigreturn", "leaving the handler of the kick signal"},
    {kVcpu, "rt_sigprocmask", "glibc blocks signals while a thread ends"},
    {kVcpu, "getpid", "a failed check: abort() names the process"},
    {kVcpu, "madvise", "glibc gives back the stack when the thread ends"},
    {kVcpu, "exit", "the thread ends"},
    {kVcpu, "exit_group", "a failed check, or the handler of a forbidden call, ends the process"},
    {kVcpu, "brk", "memory for the addresses and MSRs that are counted; for an error's text"},
    // The thread of the disks moves bytes, takes the board's lock and raises interrupts.
    {kDisk, "pread64", "a guest reads from its disk"},
    {kDisk, "pwrite64", "a guest writes to its disk"},
    {kShare, "openat2", "a file that the guest reads, beneath the directory"},
    {kShare, "close", "of many files only some stay open"},
    {kDisk, "fdatasync", "a guest flushes its disk"},
    {kDisk, "futex", "the board's lock; waiting for work"},
    {kDisk, "ioctl", "interrupts, where the controllers are KVM's"},
    {kDisk, "write", "--trace: the eventfd that wakes the event loop"},
    {kDisk, "tgkill", "interrupts, where they are ours: kicking a vCPU out of the guest"},
    {kDisk, "rt_sigreturn", "leaving the handler of a fatal signal, which goes to the main thread"},
    {kDisk, "rt_sigprocmask", "glibc blocks signals while a thread ends"},
    {kDisk, "madvise", "glibc gives back the stack when the thread ends"},
    {kDisk, "exit", "the thread ends"},
    {kDisk, "exit_group", "a failed check, or the handler of a forbidden call, ends the process"},
    {kDisk, "getpid", "a failed check: abort() names the process"},
    // The main thread serves descriptors that are already open, then reports.
    {kMain, "ppoll", "the event loop; waiting until the console or the report is taken"},
    {kMain, "read", "console input, the eventfd, the signalfd; KVM's statistics at the end"},
    {kMain, "write", "console output, the report on stderr, files that are already open"},
    {kMain, "futex", "the board's lock; waiting for vCPUs to park"},
    {kMain, "ioctl", "all the state of parked vCPUs and of KVM's chips; the terminal's mode"},
    {kMain, "tgkill", "kicking vCPUs"},
    {kMain, "getpid", "a failed check: abort() names the process"},
    {kMain, "close", "the end"},
    {kMain, "accept4", "--gdb, --ctl: a debugger or `vmm ctl` connects"},
    {kMain, "munmap", "the end: guest memory goes"},
    {kMain, "mmap", "memory for the report"},
    {kMain, "brk", "memory for the report"},
    {kMain, "ftruncate", "--outcome-json and --vga png replace what was in the file"},
    {kMain, "lseek", "stdio closes its streams"},
    {kMain, "exit_group", "the end"},
    {kSockets, "newfstatat", "whether the file of --gdb, --ctl is still that of our socket"},
    {kSockets, "unlink", "the end: it goes"},
    {kWriteBack, "openat2", "--share DIR,rw: what is written and what it is compared with"},
    {kWriteBack, "newfstatat", "whether a file changed on the host meanwhile"},
    {kWriteBack, "pread64", "the parts of a file that the guest left alone"},
    {kWriteBack, "pwrite64", "a file that the guest wrote"},
    {kWriteBack, "fchmod", "it gets the mode that it had"},
    {kWriteBack, "utimensat", "and the guest's time"},
    {kWriteBack, "fdatasync", "its bytes are there before its name is"},
    {kWriteBack, "fsync", "and the names at the end"},
    {kWriteBack, "mkdirat", "directories that the guest made, and the one for what is not ready"},
    {kWriteBack, "renameat2", "files that are ready, or have another name"},
    {kWriteBack, "unlinkat", "files and directories that the guest removed"},
    {kFlash, "pwrite64", "--vars: what the guest programs is in the file at once"},
    {kFlash, "fdatasync", "and in order"},
    {kTracing, "rmdir", "--kvm-trace, the end: the instance of tracefs goes"},
    {kReset, "madvise", "RAM is empty again"},
};

// The clock on any thread, where the host's clock source (HPET, ACPI PM) is none that the vDSO can
// read: then each reading is a system call.
constexpr std::array kClock = {"clock_gettime"};

// What the sanitizers' run-time libraries call on any thread at any time.
#if defined(VMM_ASAN) || defined(VMM_TSAN)
constexpr std::array kSanitizer = {"gettid",
                                   "mmap",
                                   "munmap",
                                   "mremap",
                                   "mprotect",
                                   "madvise",
                                   "sigaltstack",
                                   "openat",
                                   "open",
                                   "read",
                                   "close",
                                   "readlink",
                                   "readlinkat",
                                   "newfstatat",
                                   "fstat",
                                   "stat",
                                   "getpid",
                                   "clone",
                                   "clone3",
                                   "wait4",
                                   "prctl",
                                   "sched_yield",
                                   "futex",
                                   "rt_sigaction",
                                   "rt_sigprocmask",
                                   "ptrace",
                                   "getrlimit",
                                   "prlimit64",
                                   "set_robust_list",
                                   "rseq",
                                   "process_vm_readv",
                                   "getdents64",
                                   "lseek",
                                   "pipe2",
                                   "nanosleep",
                                   "clock_nanosleep",
                                   "sched_getaffinity",
                                   "sysinfo",
                                   "uname",
                                   "arch_prctl",
                                   "kill",
                                   "tgkill",
                                   "write",
                                   "unlink",
                                   "access",
                                   "fcntl",
                                   "exit",
                                   "brk",
                                   "gettimeofday",
                                   "getuid",
                                   "getppid",
                                   "personality",
                                   "setrlimit",
                                   "pread64",
                                   "sched_setaffinity",
                                   "ioctl",
                                   "msync",
                                   "mincore"};
#else
constexpr std::array<const char*, 0> kSanitizer{};
#endif

// Runs in the thread that made the call; only async-signal-safe functions.
void on_forbidden(int, siginfo_t* info, void*) {
  restore_terminal();
  char text[128] = "vmm: error: seccomp stopped system call ";
  std::size_t length = std::strlen(text);
  char digits[16];
  int count = 0;
  unsigned number = static_cast<unsigned>(info->si_syscall);
  do {
    digits[count++] = static_cast<char>('0' + number % 10);
    number /= 10;
  } while (number != 0);
  while (count > 0) text[length++] = digits[--count];
  constexpr char kTail[] = ", which no part of the monitor needs: this is a fault of vmm's\n";
  std::memcpy(text + length, kTail, sizeof kTail - 1);
  length += sizeof kTail - 1;
  [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, text, length);
  _exit(70);
}

std::string_view thread_name(SeccompThread thread) {
  constexpr std::array<std::string_view, 9> kNames = {
      "main", "vcpu", "disk", "share", "sockets", "writeback", "flash", "tracing", "reset"};
  return kNames[static_cast<std::size_t>(thread)];
}

}  // namespace

std::span<const SeccompRule> seccomp_rules() { return kRules; }

Result<void> enter_seccomp(SeccompThread thread, std::span<const SeccompThread> also) {
  const char* omit_text = std::getenv("VMM_SECCOMP_OMIT");
  const auto omitted = split(omit_text != nullptr ? omit_text : "", ',');
  struct sigaction action {};
  action.sa_sigaction = on_forbidden;
  action.sa_flags = SA_SIGINFO;
  sigaction(SIGSYS, &action, nullptr);

  const scmp_filter_ctx filter = seccomp_init(SCMP_ACT_TRAP);
  if (filter == nullptr) return fail(Error::internal("seccomp_init: no memory"));
  int result = 0;
  const auto allow = [&](SeccompThread of, const char* name) {
    const std::string rule = fmt::format("{}:{}", thread_name(of), name);
    if (std::ranges::find(omitted, rule) != omitted.end()) return;
    const int number = seccomp_syscall_resolve_name(name);
    if (number != __NR_SCMP_ERROR && result == 0)
      result = seccomp_rule_add(filter, SCMP_ACT_ALLOW, number, 0);
    if (result == -EEXIST) result = 0;
  };
  for (const SeccompRule& rule : kRules)
    if (rule.thread == thread || (rule.thread == kDisk && thread == kShare) ||
        (rule.thread == kMain && thread == kSockets) ||
        std::ranges::find(also, rule.thread) != also.end())
      allow(rule.thread, rule.syscall);
  for (const char* name : kClock) allow(thread, name);
  for (const char* name : kSanitizer) allow(thread, name);
  // The call every exit makes comes first in the filter.
  if (result == 0)
    result = seccomp_syscall_priority(filter, seccomp_syscall_resolve_name("ioctl"), 255);
  if (result == 0) result = seccomp_load(filter);
  seccomp_release(filter);
  if (result != 0)
    return fail(Error::system(ErrorKind::Host,
                              fmt::format("seccomp filter of the {} thread", thread_name(thread)),
                              -result));
  return {};
}

}  // namespace vmm
