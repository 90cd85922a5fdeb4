#include "vmm/lab/bochs.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <thread>

#include "loader/bzimage.h"
#include "vmm/base/descriptors.h"
#include "vmm/base/fd.h"
#include "vmm/base/guarded.h"
#include "vmm/base/output_tail.h"
#include "vmm/base/process.h"
#include "vmm/base/units.h"
#include "vmm/lab/backends.h"
#include "vmm/lab/bochs_screen.h"
#include "vmm/lab/boot_disk.h"
#include "vmm/lab/lab_log.h"
#include "vmm/lab/mailbox.h"

namespace vmm {
namespace {

// How many instructions are a second of the lab's time: some two to four seconds of this machine's.
constexpr unsigned kInstructionsPerSecond = 100'000'000;

// Each word was found to be needed; docs/lab.md has the figures.
//
// clearcpuid: Bochs' XSAVE area has no room for these two; Linux would do without XSAVE altogether.
//
// tsc_early_khz: Bochs' TSC counts instructions, but its CPUID leaves 15h and 16h are those of the
// processor that it copies. Linux believes them, and its seconds would be 35 times as long.
//
// initcall_blacklist: trace_eval_init looks for names in all trace events.
//
// cryptomgr.notests: the ciphers are tested one by one.
//
// mitigations=off: there are no caches to leak from, and guarding them costs time at each exit.
//
// GLIBC_TUNABLES: the environment of /init. XSAVEC and XSAVES of Bochs 2.7 lose the upper halves of
// the YMM registers, so that programs that use AVX see them cleared when the kernel switches
// between threads: memcpy(), for one. Taking XSAVES away from Linux would take it away from KVM's
// guests.
constexpr const char* kCommandLine =
    "console=ttyS0 panic=-1 quiet clearcpuid=avx512f,pku tsc_early_khz={} "
    "initcall_blacklist=trace_eval_init cryptomgr.notests mitigations=off "
    "GLIBC_TUNABLES=glibc.cpu.hwcaps=-AVX512F,-AVX2,-AVX,-AVX_Fast_Unaligned_Load,-XSAVEC,-XSAVE";

// The emulator's side of a pseudo-terminal, which Bochs' text display wants for its screen.
struct Terminal {
  Fd ours;
  Fd theirs;
};

Result<Terminal> open_terminal() {
  Terminal terminal;
  terminal.ours = Fd(::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC));
  if (!terminal.ours) return fail(Error::system(ErrorKind::Lab, "posix_openpt", errno));
  std::array<char, 64> name{};
  if (::grantpt(terminal.ours.get()) != 0 || ::unlockpt(terminal.ours.get()) != 0 ||
      ::ptsname_r(terminal.ours.get(), name.data(), name.size()) != 0)
    return fail(Error::system(ErrorKind::Lab, "a pseudo-terminal for Bochs", errno));
  terminal.theirs = VMM_TRY(Fd::open(name.data(), O_RDWR | O_NOCTTY, ErrorKind::Lab));
  return terminal;
}

Result<Fd> text_file(const char* name, std::string_view text) {
  return memory_file(name, {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()});
}

Result<Mapping> map_whole(const Fd& fd) {
  const off_t size = ::lseek(fd.get(), 0, SEEK_END);
  if (size <= 0) return fail(Error::system(ErrorKind::Lab, "a memfd's size", errno));
  return Mapping::shared(fd, static_cast<std::size_t>(size));
}

// How often the terminal that Bochs makes is looked for, in milliseconds.
constexpr int kLookForVga = 200;

// What Bochs writes: standard output (with the message it ends with), its log, the lab's console,
// and the guest's VGA on a terminal that it makes itself.
struct Outputs {
  OutputTail screen;
  OutputTail log;
  OutputTail console;
  OutputTail vga;
  Fd vga_log;  // until the terminal is there
};

class Bochs final : public Emulator {
 public:
  Bochs(ChildProcess process, Fd channel, Fd relay_end, Mapping disk, Outputs outputs, Fd stop)
      : process_(std::move(process)),
        channel_(std::move(channel)),
        relay_end_(std::move(relay_end)),
        mapping_(std::move(disk)),
        outputs_(std::move(outputs)),
        stop_(std::move(stop)) {}

  ~Bochs() override {
    const std::uint64_t one = 1;
    [[maybe_unused]] const ssize_t n = ::write(stop_.get(), &one, sizeof one);
    ::shutdown(channel_.get(), SHUT_RDWR);
    if (relay_.joinable()) relay_.join();
    if (drain_.joinable()) drain_.join();
  }

  void start_threads() {
    relay_ = std::thread([this] {
      MappedMailboxDisk disk(mapping_.bytes());
      if (const auto result = relay_mailbox(MailboxSide::Host, disk, relay_end_); !result)
        *failure_.lock() = result.error().text();
      ::shutdown(relay_end_.get(), SHUT_RDWR);
    });
    drain_ = std::thread([this] { drain(); });
  }

  const Fd& channel() const override { return channel_; }

  std::optional<std::string> death() override {
    if (const auto failure = failure_.lock(); !failure->empty()) return *failure;
    auto text = process_.death();
    if (!text) return std::nullopt;
    const auto outputs = outputs_.lock();
    if (const std::string lines = outputs->screen.tail().last(4); !lines.empty())
      *text += fmt::format("; its last lines: {}", lines);
    if (const std::string lines = outputs->console.tail().last(3); !lines.empty())
      *text += fmt::format("; the lab's console ended with: {}", lines);
    return text;
  }

  std::string console_tail() override { return outputs_.lock()->console.tail().last(5); }

  void pause() override { process_.pause(); }
  void resume() override { process_.resume(); }

 private:
  // An emulator whose output nobody takes stands still.
  void drain() {
    bool stopped = false, sees_vga = false;
    while (!stopped) {
      std::array<pollfd, 5> polled{};
      polled[0] = {.fd = stop_.get(), .events = POLLIN, .revents = 0};
      {
        const auto outputs = outputs_.lock();
        polled[1] = {.fd = outputs->screen.fd(), .events = POLLIN, .revents = 0};
        polled[2] = {.fd = outputs->log.fd(), .events = POLLIN, .revents = 0};
        polled[3] = {.fd = outputs->console.fd(), .events = POLLIN, .revents = 0};
        polled[4] = {.fd = outputs->vga.fd(), .events = POLLIN, .revents = 0};
      }
      ::poll(polled.data(), polled.size(), sees_vga ? -1 : kLookForVga);
      stopped = polled[0].revents != 0;
      const auto outputs = outputs_.lock();
      outputs->screen.drain();
      outputs->log.drain();
      outputs->console.drain();
      if (!sees_vga) sees_vga = open_vga(*outputs);
      outputs->vga.drain();
    }
  }

  bool open_vga(Outputs& outputs) const {
    auto terminal = open_terminal_of(process_.pid());
    if (!terminal) return false;
    outputs.vga = OutputTail(*std::move(terminal), std::move(outputs.vga_log));
    return true;
  }

  ChildProcess process_;
  Fd channel_;
  Fd relay_end_;
  Mapping mapping_;
  Guarded<Outputs> outputs_;
  Guarded<std::string> failure_;
  Fd stop_;
  std::thread relay_;
  std::thread drain_;
};

}  // namespace

std::string bochs_configuration(const LabSpec& spec, const BochsDescriptors& descriptors) {
  const auto file = [](int fd) { return fmt::format("/proc/self/fd/{}", fd); };
  const std::uint64_t mebibytes = spec.memory / 1_MiB;
  std::string text;
  const auto line = [&text](std::string words) { text += std::move(words) + "\n"; };
  // `unmapped` has the shutdown port 8900h.
  line("plugin_ctrl: unmapped=1, biosdev=1, speaker=0");
  line("display_library: term");
  line("romimage: file=/usr/share/bochs/BIOS-bochs-latest");
  line("vgaromimage: file=/usr/share/vgabios/vgabios.bin");
  line(fmt::format("cpu: model={}, count={}, ips={}, reset_on_triple_fault=0, ignore_bad_msrs=1",
                   spec.cpu.empty() ? "corei7_skylake_x" : spec.cpu, spec.cpus,
                   kInstructionsPerSecond));
  line(fmt::format("memory: guest={}, host={}", mebibytes, mebibytes));
  line("ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14");
  line(fmt::format("ata0-master: type=disk, path={}, mode=flat", file(descriptors.disk)));
  line("boot: disk");
  line(fmt::format("com1: enabled=1, mode=file, dev={}", file(descriptors.console)));
  line("clock: sync=none");
  line("pci: enabled=1, chipset=i440fx");
  line("panic: action=fatal");
  line(fmt::format("log: {}", file(descriptors.log)));
  return text;
}

std::string bochs_command_line(const std::string& append) {
  std::string words = fmt::format(kCommandLine, kInstructionsPerSecond / 1000);
  if (!append.empty()) words += " " + append;
  return words;
}

Result<std::unique_ptr<Emulator>> start_bochs(const LabSpec& spec, const LabImage& image) {
  VMM_TRY(require_backend(LabBackend::Vmx));
  constexpr std::uint64_t kMostMemory = 2_GiB;
  if (spec.memory > kMostMemory)
    return fail(Error::usage(fmt::format("--lab-mem {} MiB: Bochs takes at most {} MiB",
                                         spec.memory / 1_MiB, kMostMemory / 1_MiB)));
  if (spec.icount)
    return fail(
        Error::usage("--icount is for the svm lab: the clock of Bochs always counts "
                     "instructions"));
  const Mapping kernel_file = VMM_TRY(map_whole(image.kernel));
  const Mapping initramfs = VMM_TRY(map_whole(image.initramfs));
  LoadedImage kernel;
  kernel.bytes.assign(kernel_file.bytes().begin(), kernel_file.bytes().end());
  VMM_TRY_CONTEXT(parse_unpacked_bzimage(kernel), "the lab's kernel");
  const Fd disk = VMM_TRY(
      make_boot_disk(kernel, initramfs.bytes(), bochs_command_line(image.append), spec.memory));
  Mapping disk_memory = VMM_TRY(map_whole(disk));

  SocketEnds channel = VMM_TRY(make_socket_pair(SOCK_STREAM | SOCK_NONBLOCK));
  Pipe console = VMM_TRY(make_pipe());
  Pipe log = VMM_TRY(make_pipe());
  Terminal terminal = VMM_TRY(open_terminal());
  Fd stop(::eventfd(0, EFD_CLOEXEC));
  if (!stop) return fail(Error::system(ErrorKind::Lab, "eventfd", errno));

  const std::string configuration = bochs_configuration(
      spec, {.disk = disk.get(), .console = console.write.get(), .log = log.write.get()});
  VMM_TRY(keep_log(spec, "bochsrc", configuration));
  const Fd rc = VMM_TRY(text_file("bochsrc", configuration));
  // Debian's build stops at its debugger's prompt.
  const Fd commands = VMM_TRY(text_file("bochs-commands", "continue\n"));
  Fd screen_log = VMM_TRY(open_log(spec, "bochs-screen.log"));
  Fd bochs_log = VMM_TRY(open_log(spec, "bochs.log"));
  Fd console_log = VMM_TRY(open_log(spec, "console.log"));
  Fd vga_log = VMM_TRY(open_log(spec, "bochs-vga.log"));
  Outputs outputs = {.screen = OutputTail(std::move(terminal.ours), std::move(screen_log)),
                     .log = OutputTail(std::move(log.read), std::move(bochs_log)),
                     .console = OutputTail(std::move(console.read), std::move(console_log)),
                     .vga = {},
                     .vga_log = std::move(vga_log)};
  ChildProcess process = VMM_TRY(ChildProcess::start(
      {.argv = {kBochsProgram, "-q", "-f", fmt::format("/proc/self/fd/{}", rc.get()), "-rc",
                fmt::format("/proc/self/fd/{}", commands.get())},
       .environment = {"TERM=linux"},
       .directory = {},
       .inherit = {disk.get(), console.write.get(), log.write.get(), rc.get(), commands.get()},
       .output = terminal.theirs.get(),
       .log = {}}));
  auto bochs = std::make_unique<Bochs>(std::move(process), std::move(channel.ours),
                                       std::move(channel.theirs), std::move(disk_memory),
                                       std::move(outputs), std::move(stop));
  bochs->start_threads();
  return bochs;
}

}  // namespace vmm
