#include "vmm/lab/agent/init.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/random.h>
#include <sys/io.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <termios.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <ctime>
#include <thread>

#include "vmm/base/descriptors.h"
#include "vmm/base/text.h"
#include "vmm/lab/mailbox.h"

namespace vmm {

namespace {

using std::chrono::milliseconds;

// MODULE_INIT_COMPRESSED_FILE of linux/module.h (kernel 5.17).
constexpr int kCompressedModule = 4;
constexpr auto kDeviceStep = milliseconds(20);
constexpr int kDeviceSteps = 1000;

struct Mount {
  const char* type;
  const char* path;
  const char* options;
};
constexpr Mount kMounts[] = {
    {"proc", "/proc", ""},          {"sysfs", "/sys", ""},
    {"devtmpfs", "/dev", ""},       {"devpts", "/dev/pts", "mode=0620,ptmxmode=0666"},
    {"tmpfs", "/dev/shm", ""},      {"tmpfs", "/run", "mode=0755"},
    {"tmpfs", "/tmp", "mode=1777"},
};
// Not every kernel has it, and only --kvm-trace wants it.
constexpr Mount kOptionalMount = {"tracefs", "/sys/kernel/tracing", ""};

bool is_compressed(const std::string& path) {
  return path.ends_with(".xz") || path.ends_with(".gz") || path.ends_with(".zst");
}

Result<void> load_module(const AgentModule& module) {
  const Fd file = VMM_TRY(Fd::open(module.path, O_RDONLY, ErrorKind::Lab));
  const long result = ::syscall(SYS_finit_module, file.get(), module.parameters.c_str(),
                                is_compressed(module.path) ? kCompressedModule : 0);
  if (result == 0 || errno == EEXIST) return {};
  return fail(Error::system(ErrorKind::Lab,
                            fmt::format("load {} {}", module.path, module.parameters), errno));
}

// Waits for a driver that is still probing its device.
Result<Fd> open_device(const std::string& path, int flags) {
  int fd = -1;
  for (int step = 0; step < kDeviceSteps; ++step) {
    fd = ::open(path.c_str(), O_RDWR | O_CLOEXEC | flags);
    if (fd >= 0 || (errno != ENOENT && errno != ENXIO && errno != ENODEV && errno != EBUSY)) break;
    std::this_thread::sleep_for(kDeviceStep);
  }
  if (fd < 0)
    return fail(Error::system(ErrorKind::Lab, fmt::format("open the channel {}", path), errno));
  return Fd(fd);
}

Result<Fd> open_mailbox(const AgentConfig& config) {
  Fd device = VMM_TRY(open_device(config.channel_device, O_DIRECT));
  SocketEnds ends = VMM_TRY(make_socket_pair(SOCK_STREAM | SOCK_NONBLOCK));
  auto disk = VMM_TRY(DeviceMailboxDisk::adopt(std::move(device)));
  // A signal that this thread took would not reach the agent's signalfd: SIGCHLD above all.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  ::pthread_sigmask(SIG_BLOCK, &all, &before);
  std::thread([disk = std::move(disk), theirs = std::move(ends.theirs),
               port = config.shutdown_port] {
    if (const auto result = relay_mailbox(MailboxSide::Lab, *disk, theirs); !result) {
      say(result.error().text());
      power_off_machine(port);
    }
  }).detach();
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return std::move(ends.ours);
}

}  // namespace

Result<void> mount_what_is_needed() {
  for (const Mount& mount : kMounts) {
    ::mkdir(mount.path, 0755);
    const int result = ::mount(mount.type, mount.path, mount.type, MS_NOSUID, mount.options);
    // EBUSY: the kernel has mounted devtmpfs itself.
    if (result != 0 && errno != EBUSY)
      return fail(Error::system(ErrorKind::Lab, fmt::format("mount {}", mount.path), errno));
  }
  (void)::mount(kOptionalMount.type, kOptionalMount.path, kOptionalMount.type, MS_NOSUID,
                kOptionalMount.options);
  // The kernel opens the console for its first program only if the initramfs has one.
  for (int fd = 0; fd <= 2;) {
    fd = ::open("/dev/console", O_RDWR | O_NOCTTY);
    if (fd < 0) fd = ::open("/dev/null", O_RDWR);
    if (fd < 0) return fail(Error::system(ErrorKind::Lab, "open /dev/null", errno));
    if (fd > 2) ::close(fd);
  }
  return {};
}

Result<void> load_modules(const AgentConfig& config) {
  for (const AgentModule& module : config.modules) {
    auto loaded = load_module(module);
    if (loaded) continue;
    if (!module.optional) return loaded;
    say(loaded.error().text());
  }
  return {};
}

std::string loaded_backend() {
  struct stat status {};
  if (::stat("/sys/module/kvm_amd", &status) == 0) return "svm";
  if (::stat("/sys/module/kvm_intel", &status) == 0) return "vmx";
  return "";
}

Result<Fd> open_channel(const AgentConfig& config) {
  if (config.channel_kind == "mailbox") return open_mailbox(config);
  if (config.channel_kind != "tty")
    return fail(Error::lab(
        fmt::format("a channel of kind '{}' is not known here", printable(config.channel_kind))));
  Fd fd = VMM_TRY(open_device(config.channel_device, O_NONBLOCK | O_NOCTTY));
  termios settings{};
  if (::tcgetattr(fd.get(), &settings) == 0) {
    ::cfmakeraw(&settings);
    ::cfsetspeed(&settings, B115200);
    settings.c_cflag |= CLOCAL | CREAD;
    ::tcsetattr(fd.get(), TCSANOW, &settings);
  }
  return fd;
}

void live_with(const HostGreeting& greeting) {
  constexpr std::uint64_t kSecond = 1'000'000'000;
  const timespec now{static_cast<time_t>(greeting.time_ns / kSecond),
                     static_cast<long>(greeting.time_ns % kSecond)};
  if (::clock_settime(CLOCK_REALTIME, &now) != 0)
    say(Error::system(ErrorKind::Lab, "clock_settime", errno).text());
  const Fd random(::open("/dev/urandom", O_WRONLY | O_CLOEXEC));
  if (!random || ::write(random.get(), greeting.nonce.data(), greeting.nonce.size()) < 0 ||
      ::ioctl(random.get(), RNDRESEEDCRNG) != 0)
    say(Error::system(ErrorKind::Lab, "/dev/urandom", errno).text());
}

void say(std::string_view text) {
  const std::string line = fmt::format("vmm-lab: {}\n", text);
  const int console = ::open("/dev/console", O_WRONLY | O_NOCTTY | O_CLOEXEC);
  const int fd = console >= 0 ? console : 2;
  if (::write(fd, line.data(), line.size()) < 0) {
    // There is nobody left to tell.
  }
  if (console >= 0) ::close(console);
}

void power_off_machine(std::uint16_t shutdown_port) {
  ::sync();
  if (shutdown_port != 0 && ::ioperm(shutdown_port, 1, 1) == 0)
    for (const char letter : std::string_view("Shutdown"))
      ::outb(static_cast<unsigned char>(letter), shutdown_port);
  ::reboot(RB_POWER_OFF);
  // Not a machine that can be switched off: it at least costs no more time.
  for (;;) ::pause();
}

}  // namespace vmm
