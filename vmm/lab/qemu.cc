#include "vmm/lab/qemu.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>

#include "vmm/base/descriptors.h"
#include "vmm/base/fd.h"
#include "vmm/base/output_tail.h"
#include "vmm/base/process.h"
#include "vmm/base/sha256.h"
#include "vmm/base/text.h"
#include "vmm/base/units.h"
#include "vmm/lab/backends.h"
#include "vmm/lab/lab_log.h"
#include "vmm/lab/qemu_lock_image.h"
#include "vmm/lab/qmp.h"

namespace vmm {
namespace {

// docs/lab.md has the figures. Without these words the kernel tests its own cryptography, measures
// its timers against each other, looks for serial ports that are not there, moves itself to a
// random address and guards against faults of its processor that an emulator does not have.
//
// tsc_early_khz, pmtmr=0: the TSC's rate as it is, and no timer to measure it again by. Linux would
// otherwise correct its first measurement in the background, and where that comes after KVM was
// loaded, KVM 6.1 takes the rate of every guest for another than the processor's, finds no TSC
// scaling and leaves its factor at 0: in its books (KVM_GET_MSRS of 10h, LAPIC timers, kvmclock)
// the TSC of a guest stands still.
constexpr const char* kQuickBoot =
    "cryptomgr.notests nokaslr mitigations=off tsc=reliable tsc_early_khz={} pmtmr=0 "
    "no_timer_check 8250.nr_uarts=1";

// An instruction takes 2^5 ns. With "auto" QEMU changes that while it runs, to keep up with the
// host's clock, and the lab's time hangs on the machine's load again; docs/lab.md has what other
// values cost.
constexpr const char* kInstructionTime = "shift=5";
// The TSC counts nanoseconds then.
constexpr std::uint32_t kInstructionTscKhz = 1'000'000;

// How long a machine may take to be saved: some tenths of a second, if nothing else runs.
constexpr std::chrono::seconds kSavePatience{30};
constexpr int kSaveStep = 10;  // ms

class Qemu final : public Emulator {
 public:
  Qemu(ChildProcess process, Fd channel, OutputTail console, Fd monitor)
      : process_(std::move(process)),
        channel_(std::move(channel)),
        console_(std::move(console)),
        monitor_(std::move(monitor)) {}

  const Fd& channel() const override { return channel_; }

  std::optional<std::string> death() override {
    console_.drain();
    auto text = process_.death();
    if (!text) return std::nullopt;
    if (const std::string lines = console_.tail().last(3); !lines.empty())
      *text += fmt::format("; the lab's console ended with: {}", lines);
    return text;
  }

  std::string console_tail() override {
    console_.drain();
    return console_.tail().last(5);
  }

  void pause() override { process_.pause(); }
  void resume() override { process_.resume(); }

  // QEMU's migration, which stops the machine at its end.
  Result<void> save(const Fd& file) override {
    if (!monitor_) return Emulator::save(file);
    Qmp monitor(std::move(monitor_), kSavePatience);
    VMM_TRY(monitor.execute("migrate-set-parameters", {{"max-bandwidth", std::uint64_t{1} << 40}}));
    VMM_TRY(monitor.execute("getfd", {{"fdname", "state"}}, file.get()));
    VMM_TRY(monitor.execute("migrate", {{"uri", "fd:state"}}));
    const auto deadline = std::chrono::steady_clock::now() + kSavePatience;
    std::string status;
    while (status != "completed") {
      const auto answer = VMM_TRY(monitor.execute("query-migrate"));
      status = answer.value("status", "");
      if (status == "failed" || status == "cancelled")
        return fail(Error::lab(fmt::format("QEMU's migration {}: {}", status,
                                           printable(answer.value("error-desc", ""), 300))));
      if (std::chrono::steady_clock::now() > deadline)
        return fail(Error::lab(fmt::format("QEMU's migration is '{}' after {} s",
                                           printable(status, 40), kSavePatience.count())));
      ::poll(nullptr, 0, kSaveStep);
    }
    VMM_TRY(monitor.execute("cont"));
    return {};
  }

 private:
  ChildProcess process_;
  Fd channel_;
  OutputTail console_;
  Fd monitor_;
};

Result<std::string> digest_of(const Fd& file) {
  const off_t size = ::lseek(file.get(), 0, SEEK_END);
  if (size <= 0) return fail(Error::system(ErrorKind::Lab, "the size of what a lab boots", errno));
  const Mapping mapping = VMM_TRY(Mapping::shared(file, static_cast<std::size_t>(size)));
  return sha256_hex(mapping.bytes());
}

// What is preloaded into QEMU, as a file of its own.
Result<Fd> qemu_lock_file() {
  Fd file(::memfd_create("vmm-qemu-lock.so", MFD_CLOEXEC));
  if (!file) return fail(Error::system(ErrorKind::Lab, "memfd_create for QEMU's library", errno));
  VMM_TRY(replace_contents(file, qemu_lock_library(), "QEMU's library"));
  return file;
}

// One word of a shell's command line, so that the kept configuration can be pasted.
std::string quoted(const std::string& word) {
  constexpr std::string_view kPlain =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=,./:@";
  if (!word.empty() && word.find_first_not_of(kPlain) == word.npos) return word;
  std::string text = "'";
  for (const char c : word) {
    if (c == '\'')
      text += "'\\''";
    else
      text += c;
  }
  return text + "'";
}

std::string shell_line(const std::vector<std::string>& argv) {
  std::string text;
  for (const std::string& word : argv) text += quoted(word) + (&word == &argv.back() ? "\n" : " ");
  return text;
}

}  // namespace

std::vector<std::string> qemu_arguments(const LabSpec& spec, const QemuDescriptors& descriptors,
                                        std::uint32_t tsc_khz, const std::string& append) {
  const auto file = [](int fd) { return fmt::format("/proc/self/fd/{}", fd); };
  std::string words = "console=ttyS0 panic=-1 quiet ";
  words += fmt::format(kQuickBoot, spec.icount ? kInstructionTscKhz : tsc_khz);
  if (!append.empty()) words += " " + append;
  std::vector<std::string> argv = {
      kQemuProgram,
      "-no-user-config",
      "-nodefaults",
      "-no-reboot",
      "-display",
      "none",
      "-accel",
      // Instruction counting runs all processors in one thread.
      spec.icount ? "tcg,thread=single" : "tcg,thread=multi",
      "-machine",
      "q35,hpet=off,smbus=off,sata=off,usb=off",
      "-cpu",
      spec.cpu.empty() ? "max,+svm,+npt" : spec.cpu,
      "-smp",
      fmt::format("{}", spec.cpus),
      "-m",
      fmt::format("{}M", spec.memory / 1_MiB),
  };
  if (spec.icount) argv.insert(argv.end(), {"-icount", kInstructionTime});
  argv.insert(argv.end(), {"-kernel", file(descriptors.kernel), "-initrd",
                           file(descriptors.initramfs), "-append", words, "-chardev",
                           fmt::format("file,id=console,path={}", file(descriptors.console)),
                           "-serial", "chardev:console", "-device", "virtio-serial-pci,max_ports=2",
                           "-chardev", fmt::format("socket,id=channel,fd={}", descriptors.channel),
                           "-device", "virtserialport,chardev=channel,name=org.vmm.lab"});
  if (descriptors.monitor >= 0)
    argv.insert(argv.end(),
                {"-chardev", fmt::format("socket,id=monitor,fd={}", descriptors.monitor), "-mon",
                 "chardev=monitor,mode=control"});
  if (descriptors.state >= 0)
    argv.insert(argv.end(), {"-incoming", fmt::format("fd:{}", descriptors.state)});
  return argv;
}

Result<StateKey> qemu_state_key(const LabSpec& spec, const LabImage& image, std::uint32_t tsc_khz) {
  std::string text = "2\n";  // raised when what is saved changes otherwise
  struct stat program {};
  const std::string path = find_program(kQemuProgram).value_or("");
  if (::stat(path.c_str(), &program) != 0)
    return fail(Error::system(ErrorKind::NoLab, fmt::format("stat {}", printable(path)), errno));
  text += fmt::format("{} {} {}.{}\n", path, program.st_size, program.st_mtim.tv_sec,
                      program.st_mtim.tv_nsec);
  // The rate has a place of its own in the key: two measurements are never quite the same.
  text += shell_line(qemu_arguments(spec, {}, 0, image.append));
  for (const Fd* file : {&image.kernel, &image.initramfs}) text += VMM_TRY(digest_of(*file)) + "\n";
  return StateKey{sha256_hex(text), tsc_khz};
}

Result<std::unique_ptr<Emulator>> start_qemu(const LabSpec& spec, const LabImage& image,
                                             const QemuStart& start) {
  VMM_TRY(require_backend(LabBackend::Svm));
  SocketEnds channel = VMM_TRY(make_socket_pair(SOCK_STREAM));
  VMM_TRY(set_nonblocking(channel.ours.get()));
  Pipe console = VMM_TRY(make_pipe());
  SocketEnds monitor;
  if (start.savable) monitor = VMM_TRY(make_socket_pair(SOCK_STREAM));

  const QemuDescriptors descriptors = {.kernel = image.kernel.get(),
                                       .initramfs = image.initramfs.get(),
                                       .channel = channel.theirs.get(),
                                       .console = console.write.get(),
                                       .monitor = monitor.theirs.get(),
                                       .state = start.state};
  const std::vector<std::string> argv =
      qemu_arguments(spec, descriptors, start.tsc_khz, image.append);
  VMM_TRY(keep_log(spec, "qemu-command", shell_line(argv)));
  Fd console_log = VMM_TRY(open_log(spec, "console.log"));
  OutputTail console_tail(std::move(console.read), std::move(console_log));
  std::vector<int> inherited = {descriptors.kernel, descriptors.initramfs, descriptors.channel,
                                descriptors.console};
  for (const int fd : {descriptors.monitor, descriptors.state})
    if (fd >= 0) inherited.push_back(fd);
  const Fd lock = VMM_TRY(qemu_lock_file());
  inherited.push_back(lock.get());
  ChildProcess process = VMM_TRY(ChildProcess::start(
      {.argv = argv,
       .environment = {fmt::format("LD_PRELOAD=/proc/self/fd/{}", lock.get())},
       .directory = {},
       .inherit = inherited,
       .output = -1,
       .log = spec.log_dir.empty() ? std::string() : fmt::format("{}/qemu.log", spec.log_dir)}));
  return std::make_unique<Qemu>(std::move(process), std::move(channel.ours),
                                std::move(console_tail), std::move(monitor.ours));
}

}  // namespace vmm
